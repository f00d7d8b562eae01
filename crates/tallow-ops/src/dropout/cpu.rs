//! Dropout in one pass. The mask is drawn again for the gradient instead of being kept.

use super::Dropout;
use crate::values::slice;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// Multiplication by the mask of a dropout.
#[derive(Clone)]
pub(super) struct Masked(pub(super) Dropout);

impl CustomOp1 for Masked {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let width = layout.dims().last().copied().unwrap_or(1).max(1);
        let mut y = vec![0f32; x.len()];
        vectorized!({
            for (index, (x, y)) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).enumerate() {
                self.0.fill_row_of(layout.dims(), index, y);
                y.iter_mut().zip(x).for_each(|(y, x)| *y *= x);
            }
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        // The map is linear and equal to its own transpose.
        gradient.contiguous()?.apply_op1_no_bwd(self).map(Some)
    }
}
