//! The values of tensors, without a copy.

use crate::values::Values;
use candle_core::{Result, Tensor};

/// Calls a function with the values of a contiguous f32 tensor in main memory.
///
/// # Errors
/// When the tensor is something else.
pub fn with_values<R>(x: &Tensor, with: impl FnOnce(&[f32]) -> R) -> Result<R> {
    Ok(with(&Values::of(x)?))
}
