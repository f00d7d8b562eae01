use candle_core::{D, Result, Tensor};

pub(super) fn layer_norm(x_nd: &Tensor, scale_shift: &Tensor, epsilon: f64) -> Result<Tensor> {
    let width = x_nd.dim(1)? as f64;
    let mean = (x_nd.sum_keepdim(D::Minus1)? / width)?;
    let centred = x_nd.broadcast_sub(&mean)?;
    let variance = (centred.sqr()?.sum_keepdim(D::Minus1)? / width)?;
    let normalised = centred.broadcast_div(&(variance + epsilon)?.sqrt()?)?;
    normalised
        .broadcast_mul(&scale_shift.get(0)?)?
        .broadcast_add(&scale_shift.get(1)?)
}
