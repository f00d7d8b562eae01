//! Scale, mask and softmax in one pass over the scores.

use super::{AttentionMask, mask::seen_keys};
use crate::exponential::exp_nonpositive;
use crate::rows::{LANES, greatest, sum, total};
use crate::values::{Values, slice};
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};

/// softmax(scale · scores + mask) over the last dimension of `[b, h, t, s]`.
pub(super) struct MaskedSoftmax {
    pub(super) scale: f32,
    pub(super) mask: Option<AttentionMask>,
}

/// Turns a row of scores into weights: softmax(scale · scores) of the first `seen` keys, zero for the hidden ones.
#[inline(always)]
pub(super) fn softmax_row(row: &mut [f32], seen: usize, scale: f32) {
    let (seen, hidden) = row.split_at_mut(seen);
    let greatest = greatest(seen);
    for x in seen.iter_mut() {
        *x = exp_nonpositive((*x - greatest) * scale);
    }
    let total = sum(seen, |x| x);
    seen.iter_mut().for_each(|x| *x /= total);
    hidden.fill(0.0);
}

/// [`softmax_row`] for rows of whole vectors. It has no loops over partial vectors, which would take most of the time
/// in short sentences.
///
/// # Panics
/// When the length of the row is not a multiple of [`LANES`].
#[inline(always)]
pub(crate) fn softmax_vectors(row: &mut [f32], seen: usize, scale: f32) {
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    assert!(rest.is_empty(), "rows of scores are whole vectors");
    let mut most = [f32::NEG_INFINITY; LANES];
    for (c, chunk) in chunks.iter_mut().enumerate() {
        for (i, (x, most)) in chunk.iter_mut().zip(&mut most).enumerate() {
            *x = if c * LANES + i < seen { *x } else { f32::NEG_INFINITY };
            *most = if *x > *most { *x } else { *most };
        }
    }
    let greatest = most.iter().fold(f32::NEG_INFINITY, |g, x| if *x > g { *x } else { g });
    let mut sums = [0f32; LANES];
    for chunk in chunks.iter_mut() {
        for (x, sum) in chunk.iter_mut().zip(&mut sums) {
            *x = exp_nonpositive((*x - greatest) * scale);
            *sum += *x;
        }
    }
    let share = 1.0 / total(sums);
    for x in chunks.as_flattened_mut() {
        *x *= share;
    }
}

impl CustomOp1 for MaskedSoftmax {
    fn name(&self) -> &'static str {
        "masked-softmax"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, heads, queries, keys) = layout.shape().dims4()?;
        let scores = slice(scores, layout)?;
        let mut weights = vec![0f32; scores.len()];
        vectorized!({
            for (index, (x, y)) in scores
                .chunks_exact(keys)
                .zip(weights.chunks_exact_mut(keys))
                .enumerate()
            {
                // Hidden keys keep a weight of zero and are not in the sum.
                let seen = seen_keys(self.mask.as_ref(), index / (heads * queries), index % queries, keys);
                y.copy_from_slice(x);
                softmax_row(y, seen, self.scale);
            }
        });
        Ok((CpuStorage::F32(weights), layout.shape().clone()))
    }

    /// ds = scale · w (dw - Σ w dw).
    fn bwd(&self, scores: &Tensor, weights: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let keys = scores.dim(3)?;
        let gradient = gradient.contiguous()?;
        let (weights, dw) = (Values::of(weights)?, Values::of(&gradient)?);
        let (weights, dw) = (&*weights, &*dw);
        let mut ds = vec![0f32; dw.len()];
        vectorized!({
            for ((w, dw), ds) in weights
                .chunks_exact(keys)
                .zip(dw.chunks_exact(keys))
                .zip(ds.chunks_exact_mut(keys))
            {
                let dot = w.iter().zip(dw).fold(0.0, |sum, (w, dw)| sum + w * dw);
                for i in 0..keys {
                    ds[i] = self.scale * w[i] * (dw[i] - dot);
                }
            }
        });
        Tensor::from_vec(ds, scores.shape(), &Device::Cpu).map(Some)
    }
}
