//! The heads of the decoder that tell which tokens belong together.

use crate::{ModelConfig, ModelError};
use tallow_ops::inference::RecordedHeads;

/// Heads of the decoder's cross-attention whose mean weights align target tokens with source tokens. Hugging Face's
/// `alignment_heads` of speech models are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlignmentHeads {
    /// For each layer, its heads in ascending order.
    layers: Vec<Vec<usize>>,
    count: usize,
}

impl AlignmentHeads {
    /// The given heads as pairs of a layer and a head, both from 0. Without any: all heads of the last layer.
    ///
    /// # Errors
    /// When the model lacks one of them.
    pub fn new(heads: &[(usize, usize)], model: &ModelConfig) -> Result<Self, ModelError> {
        let (layers, of_layer) = (model.decoder_layers, model.decoder_heads());
        let mut of_layers = vec![Vec::new(); layers];
        for (layer, head) in heads {
            if *layer >= layers || *head >= of_layer {
                return Err(ModelError::NoHead {
                    layer: *layer,
                    head: *head,
                    layers,
                    heads: of_layer,
                });
            }
            of_layers[*layer].push(*head);
        }
        if let (true, Some(last)) = (heads.is_empty(), of_layers.last_mut()) {
            last.extend(0..of_layer);
        }
        for heads in &mut of_layers {
            heads.sort_unstable();
            heads.dedup();
        }
        Ok(Self {
            count: of_layers.iter().map(Vec::len).sum(),
            layers: of_layers,
        })
    }
}

/// The attention that a decoder's steps record.
#[derive(Clone, Debug)]
pub(crate) struct StepAttention {
    heads: AlignmentHeads,
    /// For each row, the mean weights of the heads for its newest token.
    pub(crate) weights: Vec<Vec<f32>>,
}

impl StepAttention {
    pub(crate) fn new(heads: &AlignmentHeads) -> Self {
        Self {
            heads: heads.clone(),
            weights: Vec::new(),
        }
    }

    /// Forgets the last step.
    pub(crate) fn clear(&mut self) {
        self.weights.clear();
    }

    /// The heads of a layer that are recorded; `None` if there are none.
    pub(crate) fn of_layer(&mut self, layer: usize) -> Option<RecordedHeads<'_>> {
        let heads = self.heads.layers.get(layer).filter(|heads| !heads.is_empty())?;
        Some(RecordedHeads {
            heads,
            divisor: self.heads.count,
            weights: &mut self.weights,
        })
    }
}
