//! Dropout, addition and layer normalisation in one pass over rows, and the gradient in another.

use crate::Dropout;
use crate::layer_norm::{moments, row_gradient};
use crate::values::{Values, slice};
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor};
use pulp::Arch;

/// layer_norm(x + dropout(y)). The sum is computed again for the gradient instead of being kept.
pub(super) struct ResidualNorm {
    pub(super) dropout: Option<Dropout>,
    pub(super) epsilon: f32,
}

impl ResidualNorm {
    /// The sum of a row. Where there is dropout, `factors` holds the row's mask.
    #[inline(always)]
    fn sum_row(&self, x: &[f32], y: &[f32], factors: &[f32], sum: &mut [f32]) {
        if self.dropout.is_some() {
            for (((sum, x), y), factor) in sum.iter_mut().zip(x).zip(y).zip(factors) {
                *sum = x + y * factor;
            }
        } else {
            for ((sum, x), y) in sum.iter_mut().zip(x).zip(y) {
                *sum = x + y;
            }
        }
    }
}

impl CustomOp3 for ResidualNorm {
    fn name(&self) -> &'static str {
        "residual-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        y: &CpuStorage,
        of_y: &Layout,
        packed: &CpuStorage,
        of_packed: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, positions, width) = of_x.shape().dims3()?;
        let (x, y, packed) = (slice(x, of_x)?, slice(y, of_y)?, slice(packed, of_packed)?);
        let (scale, shift) = packed.split_at(width);
        let mut result = vec![0f32; x.len()];
        Arch::new().dispatch(|| {
            let (mut factors, mut sum) = (vec![0f32; width], vec![0f32; width]);
            let rows = x
                .chunks_exact(width)
                .zip(y.chunks_exact(width))
                .zip(result.chunks_exact_mut(width));
            for (index, ((x, y), result)) in rows.enumerate() {
                if let Some(dropout) = &self.dropout {
                    dropout.fill_row(index / positions, 0, index % positions, &mut factors);
                }
                self.sum_row(x, y, &factors, &mut sum);
                let (mean, inverse) = moments(&sum, self.epsilon);
                for (((result, sum), scale), shift) in result.iter_mut().zip(&sum).zip(scale).zip(shift) {
                    *result = (sum - mean) * inverse * scale + shift;
                }
            }
        });
        Ok((CpuStorage::F32(result), of_x.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        packed: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (_, positions, width) = x.dims3()?;
        let gradient = gradient.contiguous()?;
        let (x_values, y_values) = (Values::of(x)?, Values::of(y)?);
        let (packed_values, gradient_values) = (Values::of(packed)?, Values::of(&gradient)?);
        let (x_all, y_all, dz_all) = (&*x_values, &*y_values, &*gradient_values);
        let scale = &packed_values[..width];
        let mut dx_all = vec![0f32; x_all.len()];
        let mut dy_all = vec![0f32; if self.dropout.is_some() { x_all.len() } else { 0 }];
        let mut d_packed = vec![0f32; 2 * width];
        let (d_scale, d_shift) = d_packed.split_at_mut(width);
        Arch::new().dispatch(|| {
            let (mut factors, mut sum) = (vec![0f32; width], vec![0f32; width]);
            let mut scratch = vec![0f32; 3 * width];
            let rows = x_all
                .chunks_exact(width)
                .zip(y_all.chunks_exact(width))
                .zip(dz_all.chunks_exact(width))
                .zip(dx_all.chunks_exact_mut(width));
            for (index, (((x, y), dz), dx)) in rows.enumerate() {
                if let Some(dropout) = &self.dropout {
                    dropout.fill_row(index / positions, 0, index % positions, &mut factors);
                }
                self.sum_row(x, y, &factors, &mut sum);
                row_gradient(&sum, dz, scale, self.epsilon, dx, d_scale, d_shift, &mut scratch);
                if self.dropout.is_some() {
                    let dy = &mut dy_all[index * width..][..width];
                    for ((dy, dx), factor) in dy.iter_mut().zip(dx.iter()).zip(&factors) {
                        *dy = dx * factor;
                    }
                }
            }
        });
        let dx = Tensor::from_vec(dx_all, x.shape(), &Device::Cpu)?;
        let dy = if self.dropout.is_some() {
            Tensor::from_vec(dy_all, y.shape(), &Device::Cpu)?
        } else {
            dx.clone()
        };
        let d_packed = Tensor::from_vec(d_packed, packed.shape(), &Device::Cpu)?;
        Ok((Some(dx), Some(dy), Some(d_packed)))
    }
}
