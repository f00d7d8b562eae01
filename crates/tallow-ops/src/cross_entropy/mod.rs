//! Label-smoothed cross-entropy of an output layer.

mod cpu;
mod pair;
mod reference;

use crate::Compute;
use crate::backend::Backend;
use crate::saved::Saved;
use candle_core::{Result, Tensor, bail};

/// Options of cross-entropy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropyOptions {
    /// Share of the probability that the target distribution spreads evenly over all pieces (Szegedy et al. 2016). As
    /// in PyTorch, the label itself receives `1 - smoothing + smoothing / classes`.
    pub smoothing: f64,
    /// The weight of R-Drop (Liang et al. 2021; alpha in the paper). The second half of the rows is then another pass,
    /// with other dropout, over the tokens of the first half. The two rows of a token count as one token. Its loss is
    /// the mean of their cross-entropies, plus a quarter of the weight times the sum of the Kullback-Leibler
    /// divergences of their distributions in both directions. This is half the loss of the paper, which counts tokens
    /// twice.
    pub r_drop: Option<f64>,
    /// Only the first `classes` pieces can be predicted: one less than the vocabulary, whose last piece is `<pad>`.
    pub classes: usize,
    /// The arithmetic of the products.
    pub compute: Compute,
}

/// The sum over target tokens of the label-smoothed cross-entropy in nats, computed from hidden states.
///
/// Output layer and loss are one operation, so that an implementation need not hold the logits of all rows. The result
/// is a sum: the caller adds the sums of workers, micro-batches and devices, and divides once by the number of all
/// tokens.
///
/// # Shapes
/// `hidden`: `[n, d]`; `weight`: `[v, d]`; `bias`: `[1, v]`; `labels`: n ids; the result: a scalar.
///
/// # Errors
/// When the shapes do not fit, a label is not among the classes, or there is no row.
pub fn cross_entropy(
    hidden: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    labels: &[u32],
    options: CrossEntropyOptions,
) -> Result<Tensor> {
    let ((rows, width), (pieces, weight_width)) = (hidden.dims2()?, weight.dims2()?);
    if rows != labels.len() || width != weight_width {
        bail!(
            "cross_entropy: hidden {:?}, weight {:?} and {} labels do not fit",
            hidden.dims(),
            weight.dims(),
            labels.len()
        );
    }
    if let Some(bias) = bias
        && bias.dims() != [1, pieces]
    {
        bail!("cross_entropy: the bias {:?} is not [1, {pieces}]", bias.dims());
    }
    if options.classes == 0 || options.classes > pieces {
        bail!("cross_entropy: {} classes of {pieces} pieces", options.classes);
    }
    if !(0.0..1.0).contains(&options.smoothing) {
        bail!(
            "cross_entropy: a label smoothing of {} is not in [0, 1)",
            options.smoothing
        );
    }
    if let Some(weight) = options.r_drop {
        if !(weight.is_finite() && weight >= 0.0) {
            bail!("cross_entropy: a weight of {weight} for R-Drop is not a number of at least 0");
        }
        let (first, second) = labels.split_at(rows / 2);
        if first != second {
            bail!("cross_entropy: {rows} rows are not two passes over the same labels");
        }
    }
    if rows == 0 {
        bail!("cross_entropy: there is no row");
    }
    if let Some(label) = labels.iter().find(|label| **label as usize >= options.classes) {
        bail!(
            "cross_entropy: label {label} is not among the {} classes",
            options.classes
        );
    }
    // The kernel treats the bias as a constant. A trained bias needs the reference, or its gradient would be lost.
    let is_able = !bias.is_some_and(Tensor::track_op);
    match Backend::of(&[hidden, weight]).if_able(is_able) {
        Backend::Cpu => {
            let operation = cpu::SmoothedLoss {
                labels: labels.to_vec(),
                smoothing: options.smoothing as f32,
                r_drop: options.r_drop.map(|weight| weight as f32),
                classes: options.classes,
                compute: options.compute,
                bias: bias.map(|bias| bias.flatten_all()?.to_vec1()).transpose()?,
                with_gradient: hidden.track_op() || weight.track_op(),
                gradients: Saved::none(),
            };
            hidden.apply_op2(weight, operation)
        }
        Backend::Reference => {
            let logits = hidden.matmul(&weight.narrow(0, 0, options.classes)?.t()?)?;
            let logits = match bias {
                Some(bias) => logits.broadcast_add(&bias.narrow(1, 0, options.classes)?)?,
                None => logits,
            };
            reference::smoothed_loss(&logits, labels, options.smoothing, options.r_drop)
        }
    }
}
