//! A batch of token ids.

use crate::ModelError;
use candle_core::{Device, Tensor};
use tallow_ops::Sentences;

/// Sentences as ids, concatenated without padding.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The ids of all sentences: u32 `[n]`.
    pub ids: Tensor,
    /// The division of the ids into sentences.
    pub sentences: Sentences,
}

impl Tokens {
    /// Makes a batch of sentences of any lengths.
    ///
    /// # Errors
    /// When there is no sentence, or an empty one.
    pub fn new<S: AsRef<[u32]>>(sentences: &[S], device: &Device) -> Result<Self, ModelError> {
        let lengths: Vec<usize> = sentences.iter().map(|sentence| sentence.as_ref().len()).collect();
        let ids: Vec<u32> = sentences
            .iter()
            .flat_map(|sentence| sentence.as_ref())
            .copied()
            .collect();
        Self::from_flat(&ids, &lengths, device)
    }

    /// Makes a batch of ids that are already concatenated.
    ///
    /// # Errors
    /// When there is no sentence or an empty one, or the number of ids differs from the sum of the lengths.
    pub fn from_flat(ids: &[u32], lengths: &[usize], device: &Device) -> Result<Self, ModelError> {
        let sentences = Sentences::new(lengths)?;
        if ids.len() != sentences.rows() {
            return Err(ModelError::Batch(format!(
                "{} ids do not make {} sentences of {} tokens in all",
                ids.len(),
                sentences.count(),
                sentences.rows()
            )));
        }
        Ok(Self {
            ids: Tensor::from_slice(ids, ids.len(), device)?,
            sentences,
        })
    }
}
