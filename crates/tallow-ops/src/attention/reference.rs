use super::{Attended, AttentionOptions};
use crate::dropout;
use candle_core::{D, Result, Tensor};

pub(super) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, options: AttentionOptions) -> Result<Attended> {
    let (batch, heads, queries, width) = q.dims4()?;
    let scores = (q * options.scale)?.matmul(&k.t()?)?;
    let scores = match options.mask {
        Some(mask) => scores.broadcast_add(mask.additive())?,
        None => scores,
    };
    let weights = softmax(&scores)?;
    let weights_bhts = options.record.then(|| weights.detach());
    let context = dropout(&weights, options.dropout)?.matmul(v)?;
    let context_btd = context.transpose(1, 2)?.reshape((batch, queries, heads * width))?;
    Ok(Attended {
        context_btd,
        weights_bhts,
    })
}

/// Softmax over the last dimension. Its shift by the maximum changes no result, so it needs no gradient.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let exponentials = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    exponentials.broadcast_div(&exponentials.sum_keepdim(D::Minus1)?)
}
