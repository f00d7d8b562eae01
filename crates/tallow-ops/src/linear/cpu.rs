//! Bias and ReLU in one pass over the product.

use crate::values::{Values, slice};
use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor};
use pulp::Arch;

/// y = x + bias on every row, or max(0, x + bias).
pub(super) struct BiasRelu {
    pub(super) relu: bool,
}

impl CustomOp2 for BiasRelu {
    fn name(&self) -> &'static str {
        "bias-relu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        bias: &CpuStorage,
        of_bias: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, bias) = (slice(x, of_x)?, slice(bias, of_bias)?);
        let floor = if self.relu { 0.0 } else { f32::NEG_INFINITY };
        let mut y = Vec::with_capacity(x.len());
        Arch::new().dispatch(|| {
            for row in x.chunks_exact(bias.len()) {
                // Not `max`, which would turn NaN into zero and hide that a run has diverged.
                y.extend(
                    row.iter()
                        .zip(bias)
                        .map(|(x, b)| if x + b < floor { floor } else { x + b }),
                );
            }
        });
        Ok((CpuStorage::F32(y), of_x.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let width = bias.elem_count();
        let mut d_bias = vec![0f32; width];
        let dx = if self.relu {
            let (y, dy) = (Values::of(y)?, Values::of(&gradient)?);
            let (y, dy) = (&*y, &*dy);
            let mut dx = vec![0f32; dy.len()];
            Arch::new().dispatch(|| {
                let rows = y
                    .chunks_exact(width)
                    .zip(dy.chunks_exact(width))
                    .zip(dx.chunks_exact_mut(width));
                for ((y, dy), dx) in rows {
                    for i in 0..width {
                        dx[i] = if y[i] > 0.0 { dy[i] } else { 0.0 };
                        d_bias[i] += dx[i];
                    }
                }
            });
            Tensor::from_vec(dx, x.shape(), &Device::Cpu)?
        } else {
            let dy = Values::of(&gradient)?;
            let dy = &*dy;
            Arch::new().dispatch(|| {
                for row in dy.chunks_exact(width) {
                    d_bias.iter_mut().zip(row).for_each(|(sum, dy)| *sum += dy);
                }
            });
            gradient.clone()
        };
        Ok((Some(dx), Some(Tensor::from_vec(d_bias, bias.shape(), &Device::Cpu)?)))
    }
}
