//! Layer normalisation in one pass over rows, and its gradient in another.

use crate::rows::sum;
use crate::values::{Values, slice};
use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor};

/// y = (x - mean) / sqrt(variance + epsilon) * scale + shift, row by row.
pub(super) struct LayerNorm {
    pub(super) epsilon: f32,
}

/// The gradient of one row, added to the gradients of scale and shift. With x̂ the normalised row and g = dy · scale:
/// dx = (g - mean(g) - x̂ mean(g x̂)) / sqrt(variance + epsilon); dscale = Σ dy x̂, dshift = Σ dy.
///
/// `scratch` has three times the width of a row.
#[allow(clippy::too_many_arguments)] // Operands, results and their scratch memory.
#[inline(always)]
pub(crate) fn row_gradient(
    x: &[f32],
    dy: &[f32],
    scale: &[f32],
    epsilon: f32,
    dx: &mut [f32],
    d_scale: &mut [f32],
    d_shift: &mut [f32],
    scratch: &mut [f32],
) {
    let width = x.len();
    let (normalised, scratch) = scratch.split_at_mut(width);
    let (scaled, both) = scratch.split_at_mut(width);
    let (dy, scale, dx, both) = (&dy[..width], &scale[..width], &mut dx[..width], &mut both[..width]);
    let (d_scale, d_shift) = (&mut d_scale[..width], &mut d_shift[..width]);
    let (mean, inverse) = moments(x, epsilon);
    for i in 0..width {
        normalised[i] = (x[i] - mean) * inverse;
        scaled[i] = dy[i] * scale[i];
        both[i] = scaled[i] * normalised[i];
        d_scale[i] += dy[i] * normalised[i];
        d_shift[i] += dy[i];
    }
    let mean_scaled = sum(scaled, |x| x) / width as f32;
    let mean_both = sum(both, |x| x) / width as f32;
    for i in 0..width {
        dx[i] = (scaled[i] - mean_scaled - normalised[i] * mean_both) * inverse;
    }
}

/// Mean and 1 / sqrt(variance + epsilon) of a row.
#[inline(always)]
pub(crate) fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let width = x.len() as f32;
    let mean = sum(x, |x| x) / width;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / width;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

impl CustomOp2 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        packed: &CpuStorage,
        of_packed: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, packed) = (slice(x, of_x)?, slice(packed, of_packed)?);
        let (scale, shift) = packed.split_at(packed.len() / 2);
        let mut y = vec![0f32; x.len()];
        vectorized!({
            for (x, y) in x.chunks_exact(scale.len()).zip(y.chunks_exact_mut(scale.len())) {
                let (mean, inverse) = moments(x, self.epsilon);
                for (((y, x), scale), shift) in y.iter_mut().zip(x).zip(scale).zip(shift) {
                    *y = (x - mean) * inverse * scale + shift;
                }
            }
        });
        Ok((CpuStorage::F32(y), of_x.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        packed: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (x_values, packed_values, gradient_values) = (Values::of(x)?, Values::of(packed)?, Values::of(&gradient)?);
        let (x_all, dy_all) = (&*x_values, &*gradient_values);
        let width = packed_values.len() / 2;
        let scale = &packed_values[..width];
        let mut dx_all = vec![0f32; x_all.len()];
        let mut d_packed = vec![0f32; 2 * width];
        let (d_scale, d_shift) = d_packed.split_at_mut(width);
        vectorized!({
            let mut scratch = vec![0f32; 3 * width];
            let rows = x_all
                .chunks_exact(width)
                .zip(dy_all.chunks_exact(width))
                .zip(dx_all.chunks_exact_mut(width));
            for ((x, dy), dx) in rows {
                row_gradient(x, dy, scale, self.epsilon, dx, d_scale, d_shift, &mut scratch);
            }
        });
        let dx = Tensor::from_vec(dx_all, x.shape(), &Device::Cpu)?;
        Ok((
            Some(dx),
            Some(Tensor::from_vec(d_packed, packed.shape(), &Device::Cpu)?),
        ))
    }
}
