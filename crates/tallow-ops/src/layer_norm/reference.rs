use crate::broadcast::repeat_rows;
use candle_core::{D, Result, Tensor};

pub(super) fn layer_norm(x_nd: &Tensor, scale_shift: &Tensor, epsilon: f64) -> Result<Tensor> {
    let (rows, width) = x_nd.dims2()?;
    let mean = (x_nd.sum_keepdim(D::Minus1)? / width as f64)?;
    let centred = x_nd.broadcast_sub(&mean)?;
    let variance = (centred.sqr()?.sum_keepdim(D::Minus1)? / width as f64)?;
    let normalised = centred.broadcast_div(&(variance + epsilon)?.sqrt()?)?;
    let scale = repeat_rows(&scale_shift.get(0)?, rows)?;
    let shift = repeat_rows(&scale_shift.get(1)?, rows)?;
    (normalised * scale)? + shift
}
