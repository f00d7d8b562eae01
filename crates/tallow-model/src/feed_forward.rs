//! The position-wise feed-forward sublayer (section 3.3 of the paper).

use crate::sublayer::{Around, LayerPass, Rates, Site, Weights, connection};
use crate::{ModelConfig, ModelError};
use candle_core::Tensor;
use tallow_ops::{Activation, FeedForwardOptions, feed_forward};

/// x + W2 activation(W1 x + b1) + b2, with normalisation and dropout around it.
#[derive(Clone, Debug)]
pub(crate) struct FeedForward {
    pub(crate) packed: Tensor,
    pub(crate) inner: usize,
    pub(crate) around: Around,
    pub(crate) activation: Activation,
    rates: Rates,
}

impl FeedForward {
    /// `inner` is the width between the two maps; without any, there is no sublayer.
    pub(crate) fn new(
        weights: &Weights,
        prefix: &str,
        config: &ModelConfig,
        inner: usize,
    ) -> Result<Option<Self>, ModelError> {
        if inner == 0 {
            return Ok(None);
        }
        Ok(Some(Self {
            packed: weights.get(&format!("{prefix}.feed_forward"))?,
            inner,
            around: Around::new(config),
            activation: config.activation.into(),
            rates: Rates::new(config),
        }))
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
            connection: connection(self.around, output_dropout.as_ref()),
            compute: pass.compute,
        };
        Ok(feed_forward(x, &self.packed, options)?)
    }
}
