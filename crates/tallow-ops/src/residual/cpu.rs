//! Dropout, addition and layer normalisation in one pass over rows, and the gradient in another.

use crate::sublayer::RowConnection;
use crate::values::{Values, slice};
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor};

/// layer_norm(x + dropout(y)): the connection of a post-norm sublayer as an operation.
pub(super) struct ResidualNorm(pub(super) RowConnection);

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
        norm: &CpuStorage,
        of_norm: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut result = Vec::new();
        let (x, y, norm) = (slice(x, of_x)?, slice(y, of_y)?, slice(norm, of_norm)?);
        self.0.leave(0, (x, y), norm, &mut result);
        Ok((CpuStorage::F32(result), of_x.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        norm: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let mut d_norm = vec![0f32; norm.elem_count()];
        let (mut dx, mut dy) = (Vec::new(), Vec::new());
        self.0.leave_backward(
            0,
            (&Values::of(x)?, &Values::of(y)?),
            &Values::of(&gradient)?,
            (&Values::of(norm)?, &mut d_norm),
            (&mut dx, &mut dy),
        );
        let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), &Device::Cpu).map(Some);
        Ok((tensor(dx, x)?, tensor(dy, y)?, tensor(d_norm, norm)?))
    }
}
