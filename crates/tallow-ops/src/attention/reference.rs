use super::AttentionMask;
use candle_core::{D, Result, Tensor};

/// softmax(scale · scores + mask) over the last dimension of `[b, h, t, s]`.
pub(super) fn masked_softmax(scores: &Tensor, scale: f64, mask: Option<&AttentionMask>) -> Result<Tensor> {
    let scaled = (scores * scale)?;
    let masked = match mask {
        Some(mask) => scaled.broadcast_add(mask.additive())?,
        None => scaled,
    };
    candle_nn::ops::softmax(&masked, D::Minus1)
}
