//! A padded batch of token ids.

use crate::ModelError;
use candle_core::{Device, Tensor};

/// Sentences as ids, padded to one length.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The ids: u32 `[b, length]`.
    pub ids: Tensor,
    /// How many ids of each row are no padding.
    pub lengths: Vec<usize>,
}

impl Tokens {
    /// A batch from ids that are padded already: `lengths.len()` rows of equal length.
    ///
    /// # Errors
    /// When the ids do not divide into rows or a length does not fit.
    pub fn new(ids: &[u32], lengths: &[usize], device: &Device) -> Result<Self, ModelError> {
        let rows = lengths.len();
        if rows == 0 || !ids.len().is_multiple_of(rows) {
            return Err(ModelError::Batch(format!("{} ids do not make {rows} rows", ids.len())));
        }
        let length = ids.len() / rows;
        if let Some(odd) = lengths.iter().find(|l| **l == 0 || **l > length) {
            return Err(ModelError::Batch(format!(
                "a sentence of {odd} tokens in a batch of length {length}"
            )));
        }
        Ok(Self {
            ids: Tensor::from_slice(ids, (rows, length), device)?,
            lengths: lengths.to_vec(),
        })
    }

    /// A batch from sentences of any lengths.
    ///
    /// # Errors
    /// When there is no sentence, or an empty one.
    pub fn pad<S: AsRef<[u32]>>(sentences: &[S], pad_id: u32, device: &Device) -> Result<Self, ModelError> {
        let lengths: Vec<usize> = sentences.iter().map(|s| s.as_ref().len()).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut ids = vec![pad_id; longest * sentences.len()];
        for (row, sentence) in ids.chunks_mut(longest.max(1)).zip(sentences) {
            row[..sentence.as_ref().len()].copy_from_slice(sentence.as_ref());
        }
        Self::new(&ids, &lengths, device)
    }

    /// Rows and columns of the batch.
    pub fn shape(&self) -> (usize, usize) {
        (self.lengths.len(), self.ids.elem_count() / self.lengths.len())
    }
}
