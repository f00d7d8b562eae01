//! The position-wise feed-forward sublayer (section 3.3 of the paper).

use crate::sublayer::{Connection, LayerPass, Rates, Site, Weights};
use crate::{ActivationKind, ModelConfig, ModelError};
use candle_core::Tensor;
use tallow_ops::{Activation, dropout, linear};

/// x + W2 activation(W1 x + b1) + b2, with normalisation and dropout around it.
#[derive(Clone, Debug)]
pub(crate) struct FeedForward {
    inner: (Tensor, Tensor),
    outer: (Tensor, Tensor),
    connection: Connection,
    activation: Activation,
    rates: Rates,
}

impl FeedForward {
    pub(crate) fn new(weights: &Weights, prefix: &str, config: &ModelConfig) -> Result<Self, ModelError> {
        let pair = |name: &str| -> Result<(Tensor, Tensor), ModelError> {
            Ok((
                weights.get(&format!("{prefix}.{name}.weight"))?,
                weights.get(&format!("{prefix}.{name}.bias"))?,
            ))
        };
        let activation = match config.activation {
            ActivationKind::Relu => Activation::Relu,
            ActivationKind::Gelu => Activation::Gelu,
            ActivationKind::Silu => Activation::Silu,
        };
        Ok(Self {
            inner: pair("fc1")?,
            outer: pair("fc2")?,
            connection: Connection::new(weights, &format!("{prefix}.final_layer_norm"), config.norm)?,
            activation,
            rates: Rates::new(config),
        })
    }

    /// # Shapes
    /// `x` and the result: `[b, t, d]`.
    pub(crate) fn forward(&self, x: &Tensor, pass: LayerPass) -> Result<Tensor, ModelError> {
        let inner_btf = linear(
            &self.connection.enter(x)?,
            &self.inner.0,
            Some(&self.inner.1),
            self.activation,
            pass.compute,
        )?;
        let inner_btf = dropout(
            &inner_btf,
            pass.dropout(Site::FeedForwardInner, self.rates.activation).as_ref(),
        )?;
        let y = linear(
            &inner_btf,
            &self.outer.0,
            Some(&self.outer.1),
            Activation::None,
            pass.compute,
        )?;
        self.connection
            .leave(x, &y, pass.dropout(Site::FeedForwardOutput, self.rates.output).as_ref())
    }
}
