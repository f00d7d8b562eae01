//! Activation functions of the feed-forward layer.

mod cpu;

use candle_core::{Result, Tensor};

/// An element-wise non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Activation {
    /// The identity.
    #[default]
    None,
    /// max(0, x).
    Relu,
    /// x Φ(x), with the exact error function (Hendrycks and Gimpel 2016).
    Gelu,
    /// x sigmoid(x), also called swish (Ramachandran et al. 2017).
    Silu,
}

impl Activation {
    /// Applies the function to every element.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Activation::None => Ok(x.clone()),
            Activation::Relu => x.relu(),
            Activation::Gelu => x.gelu_erf(),
            Activation::Silu => x.silu(),
        }
    }
}
