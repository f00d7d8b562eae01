//! Which keys a query may see.

use candle_core::{DType, Device, Result, Tensor, bail};
use std::sync::Arc;

/// What is added to the score of a hidden key. Its weight becomes exactly zero, and unlike minus infinity it cannot
/// turn a row into NaN.
const HIDDEN: f32 = -1e9;

/// Which keys a query may see: those of its own sentence, and in a decoder none later than itself.
///
/// For attention on rectangles: in a decoder's step, and where Candle's own operations attend.
#[derive(Clone, Debug)]
pub struct AttentionMask {
    additive: Tensor,
    key_lengths: Option<Arc<[usize]>>,
}

/// How many keys, from the first, a query may see.
pub(super) fn seen_keys(mask: Option<&AttentionMask>, sentence: usize, query: usize, keys: usize) -> usize {
    mask.map_or(keys, |mask| mask.seen(sentence, query, keys))
}

impl AttentionMask {
    /// Hides padding: sentence `b` has `key_lengths[b]` keys, of `keys` in the padded batch.
    ///
    /// # Errors
    /// When a length is zero (its queries would see nothing) or greater than `keys`.
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
    /// Padding stands at the end of a sentence, so no real position sees it.
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
    /// When an index lies outside the batch. A causal mask belongs to no sentence and is returned as it is.
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

    /// How many of `keys` keys, from the first, a query of a sentence may see.
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
