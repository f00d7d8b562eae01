//! The connection around every sublayer: dropout, addition and (after the sublayer) normalisation.

use crate::{Dropout, dropout, layer_norm};
use candle_core::{Result, Tensor};

/// x + dropout(y): the connection of a pre-norm Transformer.
///
/// # Shapes
/// `x`, `y` and the result: `[b, t, d]`.
///
/// # Errors
/// When the shapes differ.
pub fn residual(x: &Tensor, y: &Tensor, drop: Option<&Dropout>) -> Result<Tensor> {
    x + dropout(y, drop)?
}

/// layer_norm(x + dropout(y)): the connection of a post-norm Transformer (Vaswani et al. 2017, section 3.1).
///
/// # Shapes
/// `x`, `y` and the result: `[b, t, d]`; `scale_shift`: `[2, d]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn residual_norm(
    x: &Tensor,
    y: &Tensor,
    drop: Option<&Dropout>,
    scale_shift: &Tensor,
    epsilon: f64,
) -> Result<Tensor> {
    layer_norm(&residual(x, y, drop)?, scale_shift, epsilon)
}
