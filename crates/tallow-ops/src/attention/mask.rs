//! Masks: the keys that a query may see.

use candle_core::{DType, Device, Result, Tensor, bail};
use std::sync::Arc;

/// The number that is added to the score of a hidden key. The key's weight becomes exactly zero. Unlike minus infinity,
/// this number cannot turn a row into NaN.
const HIDDEN: f32 = -1e9;

/// The keys that a query may see: those of its own sentence, and in a decoder only keys up to its own position.
///
/// Used by attention on rectangles: in a decoder's step, and in attention by Candle's own operations.
#[derive(Clone, Debug)]
pub struct AttentionMask {
    additive: Tensor,
    key_lengths: Option<Arc<[usize]>>,
}

/// The number of keys, from the first, that a query may see.
pub(super) fn seen_keys(mask: Option<&AttentionMask>, sentence: usize, query: usize, keys: usize) -> usize {
    mask.map_or(keys, |mask| mask.seen(sentence, query, keys))
}

impl AttentionMask {
    /// Hides padding: sentence `b` has `key_lengths[b]` real keys among the `keys` of the padded batch.
    ///
    /// # Errors
    /// When a length is zero (the queries of that sentence would see nothing) or greater than `keys`.
    pub fn padding(key_lengths: &[usize], keys: usize, dtype: DType, device: &Device) -> Result<Self> {
        if let Some(length) = key_lengths.iter().find(|length| **length == 0 || **length > keys) {
            bail!("attention mask: a sentence of {length} keys in a batch of {keys}");
        }
        let values: Vec<f32> = key_lengths
            .iter()
            .flat_map(|length| (0..keys).map(move |key| if key < *length { 0.0 } else { HIDDEN }))
            .collect();
        let additive = Tensor::from_vec(values, (key_lengths.len(), 1, 1, keys), device)?.to_dtype(dtype)?;
        Ok(Self {
            additive,
            key_lengths: Some(key_lengths.into()),
        })
    }

    /// Hides every key later than the query, among `length` queries and keys.
    ///
    /// Padding is at the end of a sentence, so no real position sees it.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub(crate) fn causal(length: usize, dtype: DType, device: &Device) -> Result<Self> {
        let values: Vec<f32> = (0..length)
            .flat_map(|query| (0..length).map(move |key| if key <= query { 0.0 } else { HIDDEN }))
            .collect();
        let additive = Tensor::from_vec(values, (1, 1, length, length), device)?.to_dtype(dtype)?;
        Ok(Self {
            additive,
            key_lengths: None,
        })
    }

    /// The mask of some of the sentences, in the given order.
    ///
    /// # Errors
    /// When an index lies outside the batch. A causal mask is the same for all sentences and is returned unchanged.
    pub fn select(&self, sentences: &[u32]) -> Result<Self> {
        let Some(lengths) = &self.key_lengths else {
            return Ok(self.clone());
        };
        let chosen: Option<Vec<usize>> = sentences.iter().map(|i| lengths.get(*i as usize).copied()).collect();
        let Some(chosen) = chosen else {
            bail!("attention mask: {sentences:?} outside {} sentences", lengths.len())
        };
        let indices = Tensor::new(sentences, self.additive.device())?;
        Ok(Self {
            additive: self.additive.index_select(&indices, 0)?,
            key_lengths: Some(chosen.into()),
        })
    }

    /// The number of keys, from the first of `keys` keys, that a query of a sentence may see.
    pub(super) fn seen(&self, sentence: usize, query: usize, keys: usize) -> usize {
        match &self.key_lengths {
            Some(lengths) => lengths[sentence],
            None => (query + 1).min(keys),
        }
    }

    /// The mask as a tensor to add to the scores: `[b or 1, 1, t or 1, s]`.
    pub(super) fn additive(&self) -> &Tensor {
        &self.additive
    }
}
