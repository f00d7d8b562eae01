//! The encoder: a stack of self-attention and feed-forward layers.

use crate::attention::SelfAttention;
use crate::feed_forward::FeedForward;
use crate::record::Block;
use crate::sublayer::{EPSILON, LayerPass, Weights};
use crate::{ModelConfig, ModelError, Pass};
use candle_core::Tensor;
use tallow_ops::{Sentences, layer_norm};

/// The encoder's layers.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    pub(crate) layers: Vec<(SelfAttention, Option<FeedForward>)>,
    pub(crate) last_norm: Option<Tensor>,
}

impl Encoder {
    pub(crate) fn new(weights: &Weights, config: &ModelConfig) -> Result<Self, ModelError> {
        let layer = |i: usize| {
            let prefix = format!("model.encoder.layers.{i}");
            Ok((
                SelfAttention::new(weights, &prefix, config, config.heads, Block::EncoderSelf)?,
                FeedForward::new(weights, &prefix, config, config.feed_forward)?,
            ))
        };
        Ok(Self {
            layers: (0..config.encoder_layers)
                .map(layer)
                .collect::<Result<_, ModelError>>()?,
            last_norm: last_norm(weights, config, "encoder")?,
        })
    }

    /// # Shapes
    /// `x` and the result: `[n, d]`, rows of `sentences`.
    pub(crate) fn forward(&self, x: Tensor, sentences: &Sentences, pass: Pass) -> Result<Tensor, ModelError> {
        let mut x = x;
        for (layer, (attention, feed_forward)) in self.layers.iter().enumerate() {
            let pass = LayerPass {
                sentences,
                dropout: pass.dropout,
                record: pass.record,
                compute: pass.compute,
                stack: 0,
                layer,
            };
            x = attention.forward(&x, pass)?;
            if let Some(feed_forward) = feed_forward {
                x = feed_forward.forward(&x, pass)?;
            }
        }
        finish(x, self.last_norm.as_ref())
    }
}

/// The normalisation after the last layer; only pre-norm models have one.
pub(crate) fn last_norm(weights: &Weights, config: &ModelConfig, stack: &str) -> Result<Option<Tensor>, ModelError> {
    match config.has_last_norm(stack) {
        true => weights.get(&format!("model.{stack}.layer_norm")).map(Some),
        false => Ok(None),
    }
}

pub(crate) fn finish(x: Tensor, last_norm: Option<&Tensor>) -> Result<Tensor, ModelError> {
    match last_norm {
        Some(scale_shift) => Ok(layer_norm(&x, scale_shift, EPSILON)?),
        None => Ok(x),
    }
}
