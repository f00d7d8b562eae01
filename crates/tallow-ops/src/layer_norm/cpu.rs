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

/// Appends every row, normalised, scaled and shifted; `norm` is scale and shift.
pub(crate) fn normalise(x: &[f32], norm: &[f32], epsilon: f32, y: &mut Vec<f32>) {
    let (scale, shift) = norm.split_at(norm.len() / 2);
    y.reserve(x.len());
    vectorized!({
        for x in x.chunks_exact(scale.len()) {
            let (mean, inverse) = moments(x, epsilon);
            let row = x.iter().zip(scale).zip(shift);
            y.extend(row.map(|((x, scale), shift)| (x - mean) * inverse * scale + shift));
        }
    });
}

/// Adds the gradients of [`normalise`] to `d_norm` and `dx`.
pub(crate) fn normalise_backward(
    x: &[f32],
    dy: &[f32],
    norm: &[f32],
    epsilon: f32,
    d_norm: &mut [f32],
    dx: &mut [f32],
) {
    let width = norm.len() / 2;
    let (scale, (d_scale, d_shift)) = (&norm[..width], d_norm.split_at_mut(width));
    vectorized!({
        let (mut scratch, mut row) = (vec![0f32; 3 * width], vec![0f32; width]);
        let rows = x
            .chunks_exact(width)
            .zip(dy.chunks_exact(width))
            .zip(dx.chunks_exact_mut(width));
        for ((x, dy), dx) in rows {
            row_gradient(x, dy, scale, epsilon, &mut row, d_scale, d_shift, &mut scratch);
            dx.iter_mut().zip(&row).for_each(|(dx, row)| *dx += row);
        }
    });
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
        let mut y = Vec::new();
        normalise(slice(x, of_x)?, slice(packed, of_packed)?, self.epsilon, &mut y);
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
        let (mut dx, mut d_packed) = (vec![0f32; x.elem_count()], vec![0f32; packed.elem_count()]);
        let (x_values, norm, dy) = (Values::of(x)?, Values::of(packed)?, Values::of(&gradient)?);
        normalise_backward(&x_values, &dy, &norm, self.epsilon, &mut d_packed, &mut dx);
        let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), &Device::Cpu).map(Some);
        Ok((tensor(dx, x)?, tensor(d_packed, packed)?))
    }
}
