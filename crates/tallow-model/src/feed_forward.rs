//! The position-wise feed-forward sublayer (section 3.3 of the paper).

use crate::sublayer::{LayerPass, Rates, Site, Weights, connection};
use crate::{ModelConfig, ModelError, Norm};
use candle_core::Tensor;
use tallow_ops::{Activation, FeedForwardOptions, feed_forward};

/// x + W2 activation(W1 x + b1) + b2, with normalisation and dropout around it.
#[derive(Clone, Debug)]
pub(crate) struct FeedForward {
    pub(crate) packed: Tensor,
    pub(crate) inner: usize,
    pub(crate) norm: Norm,
    pub(crate) activation: Activation,
    rates: Rates,
}

impl FeedForward {
    /// `inner` is the width between the two maps.
    pub(crate) fn new(weights: &Weights, prefix: &str, config: &ModelConfig, inner: usize) -> Result<Self, ModelError> {
        Ok(Self {
            packed: weights.get(&format!("{prefix}.feed_forward"))?,
            inner,
            norm: config.norm,
            activation: config.activation.into(),
            rates: Rates::new(config),
        })
    }

    /// # Shapes
    /// `x` and the result: `[n, d]`.
    pub(crate) fn forward(&self, x: &Tensor, pass: LayerPass) -> Result<Tensor, ModelError> {
        let inner_dropout = pass.dropout(Site::FeedForwardInner, self.rates.activation);
        let output_dropout = pass.dropout(Site::FeedForwardOutput, self.rates.output);
        let options = FeedForwardOptions {
            inner: self.inner,
            activation: self.activation,
            inner_dropout: inner_dropout.as_ref(),
            connection: connection(self.norm, output_dropout.as_ref()),
            compute: pass.compute,
        };
        Ok(feed_forward(x, &self.packed, options)?)
    }
}
