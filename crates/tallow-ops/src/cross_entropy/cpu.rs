//! Softmax, label smoothing and loss in one pass over the logits, and the gradient in another.

use crate::exponential::exp_nonpositive;
use crate::values::{Values, slice};
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};
use pulp::Arch;

/// The sum over rows of the label-smoothed cross-entropy of logits `[n, v]`.
pub(super) struct SmoothedLoss {
    pub(super) labels: Vec<u32>,
    pub(super) smoothing: f32,
}

/// Numbers added up side by side.
const LANES: usize = 16;

/// The greatest logit of a row, and the sum of exponentials of the others' distance to it.
#[inline(always)]
fn log_sum_parts(row: &[f32]) -> (f32, f32) {
    let mut greatest = [f32::NEG_INFINITY; LANES];
    for chunk in row.chunks(LANES) {
        for (g, x) in greatest.iter_mut().zip(chunk) {
            // NaN must not be lost: it would hide that a run has diverged.
            *g = if *x <= *g { *g } else { *x };
        }
    }
    let greatest = greatest
        .iter()
        .fold(f32::NEG_INFINITY, |g, x| if *x <= g { g } else { *x });
    let mut sums = [0f32; LANES];
    for chunk in row.chunks(LANES) {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += exp_nonpositive(x - greatest);
        }
    }
    (greatest, sums.iter().sum())
}

impl CustomOp1 for SmoothedLoss {
    fn name(&self) -> &'static str {
        "smoothed-cross-entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, classes) = layout.shape().dims2()?;
        let logits = slice(logits, layout)?;
        let loss = Arch::new().dispatch(|| {
            let mut loss = 0f64;
            for (row, label) in logits.chunks_exact(classes).zip(&self.labels) {
                let (greatest, sum) = log_sum_parts(row);
                let log_sum = f64::from(sum).ln();
                let of_label = f64::from(row[*label as usize] - greatest);
                loss += (1.0 - f64::from(self.smoothing)) * (log_sum - of_label);
                if self.smoothing > 0.0 {
                    let mut sums = [0f32; LANES];
                    for chunk in row.chunks(LANES) {
                        sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x - greatest);
                    }
                    let mean = f64::from(sums.iter().sum::<f32>()) / classes as f64;
                    loss += f64::from(self.smoothing) * (log_sum - mean);
                }
            }
            loss
        });
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    /// The gradient of a row is softmax - target distribution.
    fn bwd(&self, logits: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (_, classes) = logits.dims2()?;
        let factor = gradient.to_scalar::<f32>()?;
        let values = Values::of(logits)?;
        let values = &*values;
        let mut result = vec![0f32; values.len()];
        let spread = factor * self.smoothing / classes as f32;
        Arch::new().dispatch(|| {
            let rows = values
                .chunks_exact(classes)
                .zip(result.chunks_exact_mut(classes))
                .zip(&self.labels);
            for ((row, result), label) in rows {
                let (greatest, sum) = log_sum_parts(row);
                let scale = factor / sum;
                for (d, x) in result.iter_mut().zip(row) {
                    *d = exp_nonpositive(x - greatest) * scale - spread;
                }
                result[*label as usize] -= factor * (1.0 - self.smoothing);
            }
        });
        Tensor::from_vec(result, logits.shape(), &Device::Cpu).map(Some)
    }
}
