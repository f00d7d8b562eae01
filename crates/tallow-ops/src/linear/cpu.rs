//! Product, bias and ReLU in one operation, and its three gradients in another.

use crate::Activation;
use crate::product::{Compute, Into, Matrix, new_product};
use crate::rows::add_rows;
use crate::values::{Values, slice};
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor};

/// y = x Wᵀ + bias on every row, or max(0, x Wᵀ + bias).
pub(super) struct Linear {
    pub(super) relu: bool,
    pub(super) compute: Compute,
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
        bias: &CpuStorage,
        of_bias: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, bias) = (slice(x, of_x)?, slice(weight, of_weight)?, slice(bias, of_bias)?);
        let (rows, inputs) = of_x.shape().dims2()?;
        let outputs = bias.len();
        let (x, weight) = (Matrix::new(x, rows, inputs), Matrix::new(weight, outputs, inputs));
        let mut y = new_product(self.compute.engine(), x, weight.t(), Into::Bias(bias));
        if self.relu {
            Activation::Relu.apply(&mut y);
        }
        Ok((CpuStorage::F32(y), Shape::from((rows, outputs))))
    }

    /// dx = dy W, dW = dyᵀ x, dbias = Σ dy, where dy is zero wherever ReLU cut off.
    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (rows, inputs) = x.dims2()?;
        let outputs = bias.elem_count();
        let gradient = gradient.contiguous()?;
        let (x_values, weight_values, gradient) = (Values::of(x)?, Values::of(weight)?, Values::of(&gradient)?);
        let masked = match self.relu {
            true => {
                let mut dy = gradient.to_vec();
                Activation::Relu.backward(&mut dy, &Values::of(y)?);
                Some(dy)
            }
            false => None,
        };
        let dy = masked.as_deref().unwrap_or(&gradient);
        let mut d_bias = vec![0f32; outputs];
        add_rows(dy, &mut d_bias);
        let dy = Matrix::new(dy, rows, outputs);
        let weight_oi = Matrix::new(&weight_values, outputs, inputs);
        let dx = new_product(self.compute.engine(), dy, weight_oi, Into::Set);
        let d_weight = new_product(
            self.compute.engine(),
            dy.t(),
            Matrix::new(&x_values, rows, inputs),
            Into::Set,
        );
        let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), &Device::Cpu).map(Some);
        Ok((tensor(dx, x)?, tensor(d_weight, weight)?, tensor(d_bias, bias)?))
    }
}
