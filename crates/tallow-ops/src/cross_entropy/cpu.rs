//! Output layer, softmax, label smoothing and loss in chunks of rows. The gradient of a chunk's logits replaces the
//! logits, and is used up before the next chunk, so the logits of the whole batch never exist at once.

use super::pair::row_pair;
use crate::exponential::exp_nonpositive;
use crate::gather::Gradient;
use crate::product::{Compute, Into, Matrix, Output, Prepared, product, product_prepared};
use crate::profile::{Operation, span};
use crate::rows::{LANES, greatest, total};
use crate::saved::Saved;
use crate::values::slice;
use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor};

/// The number of rows whose logits are held at a time. More rows would not fit in the caches; fewer would read and
/// write the gradient of the weight more often.
const CHUNK: usize = 512;

/// The gradients of the hidden states and of the weight.
type Gradients = (Vec<f32>, Vec<f32>);

/// The sum over rows of the label-smoothed cross-entropy of `hidden weightᵀ + bias`, over the first `classes` pieces.
pub(super) struct SmoothedLoss {
    /// The label of every row.
    pub(super) labels: Vec<u32>,
    pub(super) smoothing: f32,
    /// The weight of R-Drop, if it is used: the rows are then two passes over the same tokens, one after the other.
    pub(super) r_drop: Option<f32>,
    pub(super) classes: usize,
    pub(super) compute: Compute,
    /// A constant added to the logits.
    pub(super) bias: Option<Vec<f32>>,
    /// Whether a backward pass will follow. The gradient is cheapest to compute while the logits are in memory.
    pub(super) with_gradient: bool,
    pub(super) gradients: Saved<Gradients>,
}

impl SmoothedLoss {
    /// The sum of the losses of a chunk's rows. The rows of a second pass follow those of the first.
    fn rows(&self, logits: &mut [f32], labels: &[u32], scratch: &mut [f32]) -> f64 {
        let classes = self.classes;
        let mut loss = 0f64;
        match self.r_drop {
            None => vectorized!({
                for (row, label) in logits.chunks_exact_mut(classes).zip(labels) {
                    loss += self.row(row, *label as usize);
                }
            }),
            Some(weight) => vectorized!({
                let (first, second) = logits.split_at_mut(labels.len() * classes);
                let rows = first.chunks_exact_mut(classes).zip(second.chunks_exact_mut(classes));
                for ((first, second), label) in rows.zip(labels) {
                    let weights = (self.smoothing, weight);
                    loss += row_pair([first, second], *label as usize, weights, scratch, self.with_gradient);
                }
            }),
        }
        loss
    }

    /// The loss of a row. If the gradient is requested, it replaces the row: softmax - target distribution.
    #[inline(always)]
    fn row(&self, row: &mut [f32], label: usize) -> f64 {
        let smoothing = f64::from(self.smoothing);
        let most = greatest(row);
        let of_label = f64::from(row[label] - most);
        let (total, below) = exponentials(row, most);
        let mean = f64::from(below) / row.len() as f64;
        let log_sum = f64::from(total).ln();
        if self.with_gradient {
            let (scale, spread) = (1.0 / total, self.smoothing / row.len() as f32);
            row.iter_mut().for_each(|x| *x = *x * scale - spread);
            row[label] -= 1.0 - self.smoothing;
        }
        (1.0 - smoothing) * (log_sum - of_label) + smoothing * (log_sum - mean)
    }
}

/// Turns a row of x into e^(x - most), and returns the sum of these values and the sum of x - most.
#[inline(always)]
pub(super) fn exponentials(row: &mut [f32], most: f32) -> (f32, f32) {
    let (mut totals, mut belows) = ([0f32; LANES], [0f32; LANES]);
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for ((x, total), below) in chunk.iter_mut().zip(&mut totals).zip(&mut belows) {
            let difference = *x - most;
            *below += difference;
            *x = exp_nonpositive(difference);
            *total += *x;
        }
    }
    for ((x, total), below) in chunks.into_remainder().iter_mut().zip(&mut totals).zip(&mut belows) {
        let difference = *x - most;
        *below += difference;
        *x = exp_nonpositive(difference);
        *total += *x;
    }
    (total(totals), total(belows))
}

impl CustomOp2 for SmoothedLoss {
    fn name(&self) -> &'static str {
        "smoothed-cross-entropy"
    }

    fn cpu_fwd(
        &self,
        hidden: &CpuStorage,
        of_hidden: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _span = span(Operation::Loss);
        let (rows, width) = of_hidden.shape().dims2()?;
        let (hidden, whole_weight) = (slice(hidden, of_hidden)?, slice(weight, of_weight)?);
        let classes = self.classes;
        let mut gradients = self
            .with_gradient
            .then(|| (vec![0f32; hidden.len()], vec![0f32; whole_weight.len()]));
        let mut loss = 0f64;
        let mut logits = vec![0f32; CHUNK.min(rows) * classes];
        let mut scratch = vec![0f32; self.r_drop.map_or(0, |_| 2 * classes)];
        let weight = Matrix::new(&whole_weight[..classes * width], classes, width);
        let (forward, backward) = (
            Prepared::new(self.compute.engine(), weight.t()),
            self.with_gradient.then(|| Prepared::new(self.compute.engine(), weight)),
        );
        // The distance from a row to its other pass, and the number of rows of one pass in a chunk.
        let passes = 1 + usize::from(self.r_drop.is_some());
        let (apart, count) = (rows / passes, CHUNK / passes);
        for (chunk, labels) in self.labels[..apart].chunks(count).enumerate() {
            let logits = &mut logits[..passes * labels.len() * classes];
            let values = |pass: usize| {
                let start = (pass * apart + chunk * count) * width;
                start..start + labels.len() * width
            };
            let states = |pass| Matrix::new(&hidden[values(pass)], labels.len(), width);
            for (pass, logits) in logits.chunks_exact_mut(labels.len() * classes).enumerate() {
                let into = self
                    .bias
                    .as_ref()
                    .map_or(Into::Set, |bias| Into::Bias(&bias[..classes]));
                let output = Output {
                    values: logits,
                    stride: classes,
                };
                let _span = states(pass).span(Operation::ForwardProduct, classes);
                product_prepared(output, states(pass), &forward, into);
            }
            loss += self.rows(logits, labels, &mut scratch);
            let (Some((d_hidden, d_weight)), Some(backward)) = (&mut gradients, &backward) else {
                continue;
            };
            for (pass, d_logits) in logits.chunks_exact(labels.len() * classes).enumerate() {
                let d_logits = Matrix::new(d_logits, labels.len(), classes);
                let output = Output {
                    values: &mut d_hidden[values(pass)],
                    stride: width,
                };
                {
                    let _span = d_logits.span(Operation::InputGradientProduct, width);
                    product_prepared(output, d_logits, backward, Into::Set);
                }
                let output = Output {
                    values: d_weight,
                    stride: width,
                };
                let _span = states(pass).span(Operation::WeightGradientProduct, classes);
                product(self.compute.engine(), output, d_logits.t(), states(pass), Into::Add);
            }
        }
        if let Some(gradients) = gradients {
            self.gradients.put(gradients);
        }
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (mut d_hidden, mut d_weight) = match self.gradients.take() {
            Some(gradients) => gradients,
            // This is a second backward pass through the same graph.
            None => {
                let again = Self {
                    labels: self.labels.clone(),
                    bias: self.bias.clone(),
                    with_gradient: true,
                    gradients: Saved::none(),
                    ..*self
                };
                let (hidden_storage, hidden_layout) = hidden.storage_and_layout();
                let (weight_storage, weight_layout) = weight.storage_and_layout();
                let (candle_core::Storage::Cpu(of_hidden), candle_core::Storage::Cpu(of_weight)) =
                    (&*hidden_storage, &*weight_storage)
                else {
                    candle_core::bail!("cross_entropy: the operands are no longer in main memory");
                };
                again.cpu_fwd(of_hidden, hidden_layout, of_weight, weight_layout)?;
                again
                    .gradients
                    .take()
                    .ok_or_else(|| candle_core::Error::msg("cross_entropy: no gradient was kept"))?
            }
        };
        let factor = gradient.to_scalar::<f32>()?;
        if factor != 1.0 {
            for values in [&mut d_hidden, &mut d_weight] {
                values.iter_mut().for_each(|x| *x *= factor);
            }
        }
        let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), &Device::Cpu).map(Some);
        let d_weight = Gradient::plus(weight, d_weight).finish(weight)?;
        Ok((tensor(d_hidden, hidden)?, d_weight))
    }
}
