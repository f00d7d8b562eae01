use candle_core::{D, Result, Tensor};

/// The sum over rows of the label-smoothed cross-entropy of logits `[n, v]`, or the R-Drop loss of two passes.
pub(super) fn smoothed_loss(logits: &Tensor, labels: &[u32], smoothing: f64, r_drop: Option<f64>) -> Result<Tensor> {
    let log_probabilities = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    let labels = Tensor::new(labels, logits.device())?.unsqueeze(1)?;
    let sharp = log_probabilities.gather(&labels, 1)?.sum_all()?.neg()?;
    let smooth = (log_probabilities.sum_all()?.neg()? / logits.dim(1)? as f64)?;
    let loss = ((sharp * (1.0 - smoothing))? + (smooth * smoothing)?)?;
    let Some(weight) = r_drop else { return Ok(loss) };
    let count = logits.dim(0)? / 2;
    let (p, q) = (
        log_probabilities.narrow(0, 0, count)?,
        log_probabilities.narrow(0, count, count)?,
    );
    // Both divergences together: the sum of (p - q) (log p - log q).
    let apart = ((p.exp()? - q.exp()?)? * (p - q)?)?.sum_all()?;
    (loss * 0.5)? + (apart * (0.25 * weight))?
}
