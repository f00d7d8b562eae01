//! Layer normalisation (Ba, Kiros and Hinton 2016).

mod cpu;
mod reference;

use crate::backend::Backend;
use candle_core::{Result, Tensor, bail};
pub(crate) use cpu::{moments, normalise, normalise_backward, row_gradient};

/// y = (x - mean) / sqrt(variance + epsilon) * scale + shift, over the last dimension.
///
/// The variance is the biased one (divided by d). Scale and shift are the two rows of one parameter.
///
/// # Shapes
/// `x`: `[.., d]`; `scale_shift`: `[2, d]`; the result has the shape of `x`.
///
/// # Errors
/// When the widths do not fit.
pub fn layer_norm(x: &Tensor, scale_shift: &Tensor, epsilon: f64) -> Result<Tensor> {
    let width = x.dims().last().copied().unwrap_or(0);
    if width == 0 || scale_shift.dims() != [2, width] {
        bail!(
            "layer_norm: x {:?} needs a scale and shift of [2, {width}], got {:?}",
            x.dims(),
            scale_shift.dims()
        );
    }
    match Backend::of(&[x, scale_shift]) {
        Backend::Cpu => x.apply_op2(
            scale_shift,
            cpu::LayerNorm {
                epsilon: epsilon as f32,
            },
        ),
        Backend::Reference => {
            let x_nd = x.reshape((x.elem_count() / width, width))?;
            reference::layer_norm(&x_nd, scale_shift, epsilon)?.reshape(x.shape())
        }
    }
}
