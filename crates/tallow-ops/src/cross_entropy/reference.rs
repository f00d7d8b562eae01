use candle_core::{D, Result, Tensor};

/// The sum over rows of the label-smoothed cross-entropy of logits `[n, v]`.
pub(super) fn smoothed_loss(logits: &Tensor, labels: &[u32], smoothing: f64) -> Result<Tensor> {
    let log_probabilities = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    let labels = Tensor::new(labels, logits.device())?.unsqueeze(1)?;
    let sharp = log_probabilities.gather(&labels, 1)?.sum_all()?.neg()?;
    let smooth = (log_probabilities.sum_all()?.neg()? / logits.dim(1)? as f64)?;
    (sharp * (1.0 - smoothing))? + (smooth * smoothing)?
}
