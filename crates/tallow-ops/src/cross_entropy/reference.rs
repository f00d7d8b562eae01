use super::CrossEntropyOptions;
use candle_core::{D, Result, Tensor};

pub(super) fn cross_entropy(
    hidden: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    rows: &[u32],
    labels: &[u32],
    options: CrossEntropyOptions,
) -> Result<Tensor> {
    let device = hidden.device();
    let hidden = hidden.index_select(&Tensor::new(rows, device)?, 0)?;
    let weight = weight.narrow(0, 0, options.classes)?;
    let logits = hidden.matmul(&weight.t()?)?;
    let logits = match bias {
        Some(bias) => logits.broadcast_add(&bias.narrow(1, 0, options.classes)?)?,
        None => logits,
    };
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let log_sum = shifted.exp()?.sum(D::Minus1)?.log()?;
    // -log p(label) = log_sum - shifted[label]; its mean over all classes = log_sum - mean(shifted).
    let of_label = shifted
        .gather(&Tensor::new(labels, device)?.unsqueeze(1)?, 1)?
        .squeeze(1)?;
    let sharp = (&log_sum - of_label)?.sum_all()?;
    if options.smoothing == 0.0 {
        return Ok(sharp);
    }
    let smooth = (log_sum - (shifted.sum(D::Minus1)? / options.classes as f64)?)?.sum_all()?;
    (sharp * (1.0 - options.smoothing))? + (smooth * options.smoothing)?
}
