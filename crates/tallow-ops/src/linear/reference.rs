use crate::Activation;
use candle_core::{Result, Tensor};

pub(super) fn linear(x_ni: &Tensor, weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Tensor> {
    let product = x_ni.matmul(&weight.t()?)?;
    let sum = match bias {
        Some(bias) => product.broadcast_add(bias)?,
        None => product,
    };
    activation.forward(&sum)
}
