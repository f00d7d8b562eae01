//! The loss of two passes over the same token (R-Drop).

use crate::rows::{LANES, greatest, total};

use super::cpu::exponentials;

/// The loss of the two rows of a token: the mean of their smoothed cross-entropies plus `weight / 4` times the sum of
/// the two Kullback-Leibler divergences of their distributions. With `with_gradient`, the gradients replace both rows
/// of logits. `scratch` has twice the length of a row.
#[inline(always)]
pub(super) fn row_pair(
    [first, second]: [&mut [f32]; 2],
    label: usize,
    (smoothing, weight): (f32, f32),
    scratch: &mut [f32],
    with_gradient: bool,
) -> f64 {
    let classes = first.len();
    let (p, q) = scratch.split_at_mut(classes);
    let (p, q) = (p, &mut q[..classes]);
    let (p_loss, p_log) = distribution(first, p, label, smoothing);
    let (q_loss, q_log) = distribution(second, q, label, smoothing);
    // log p - log q is first - second + between.
    let between = q_log - p_log;
    let (mut p_lanes, mut q_lanes) = ([0f32; LANES], [0f32; LANES]);
    let rows = first.chunks(LANES).zip(second.chunks(LANES));
    for ((x, y), (p, q)) in rows.zip(p.chunks(LANES).zip(q.chunks(LANES))) {
        for (i, ((x, y), (p, q))) in x.iter().zip(y).zip(p.iter().zip(q)).enumerate() {
            let difference = x - y + between;
            p_lanes[i] += p * difference;
            q_lanes[i] -= q * difference;
        }
    }
    let (p_from_q, q_from_p) = (total(p_lanes), total(q_lanes));
    if with_gradient {
        let (spread, quarter) = (smoothing / classes as f32, 0.25 * weight);
        for ((x, y), (p, q)) in first.iter_mut().zip(second.iter_mut()).zip(p.iter().zip(&*q)) {
            let (difference, apart) = (*x - *y + between, p - q);
            *x = 0.5 * (p - spread) + quarter * (p * (difference - p_from_q) + apart);
            *y = 0.5 * (q - spread) - quarter * (q * (difference + q_from_p) + apart);
        }
        first[label] -= 0.5 * (1.0 - smoothing);
        second[label] -= 0.5 * (1.0 - smoothing);
    }
    0.5 * (p_loss + q_loss) + 0.25 * f64::from(weight) * f64::from(p_from_q + q_from_p)
}

/// Writes the softmax of a row of logits, and returns its smoothed cross-entropy and the logarithm of the sum of its
/// exponentials.
#[inline(always)]
fn distribution(logits: &[f32], softmax: &mut [f32], label: usize, smoothing: f32) -> (f64, f32) {
    softmax.copy_from_slice(logits);
    let most = greatest(logits);
    let (sum, below) = exponentials(softmax, most);
    let scale = 1.0 / sum;
    softmax.iter_mut().for_each(|p| *p *= scale);
    let log_sum = f64::from(sum).ln();
    let (smoothing, mean) = (f64::from(smoothing), f64::from(below) / logits.len() as f64);
    let of_label = f64::from(logits[label] - most);
    let loss = (1.0 - smoothing) * (log_sum - of_label) + smoothing * (log_sum - mean);
    (loss, most + log_sum as f32)
}
