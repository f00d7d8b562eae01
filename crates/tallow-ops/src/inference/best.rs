//! The most probable pieces of every row: softmax, normalisation and selection in one pass over logits, which may come
//! in blocks of columns. Whole rows of a large vocabulary need not be stored.

use crate::exponential::{exp_nonpositive, exp_nonpositive_fusing};
use crate::rows::{LANES, greatest, sum};
use crate::values::Values;
use candle_core::{DType, Device, Result, Tensor};

/// A question about one row.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowRequest<'a> {
    /// Pieces that are not chosen. They keep their share of the probability.
    pub forbidden: &'a [u32],
    /// Pieces whose log-probabilities are wanted in any case.
    pub reported: &'a [u32],
}

/// The answer for one row.
#[derive(Clone, Debug, PartialEq)]
pub struct BestPieces {
    /// The most probable pieces and their log-probabilities, best first; among equals, the smaller id first. Pieces
    /// without probability are left out.
    pub best: Vec<(u32, f32)>,
    /// The log-probabilities of the reported pieces, in the order of the request.
    pub reported: Vec<f32>,
}

/// What has been seen of one row.
#[derive(Clone, Debug)]
struct Row {
    /// The greatest logit.
    greatest: f32,
    /// The sum of e^(logit - greatest).
    sum: f32,
    /// The best pieces and their logits, best first.
    best: Vec<(u32, f32)>,
    /// The logit that a piece must exceed to be among the best.
    threshold: f32,
    /// The logits of the reported pieces.
    reported: Vec<f32>,
}

/// Collects the best pieces of rows from blocks of logits.
#[derive(Debug)]
pub struct BestOfRows<'a> {
    requests: &'a [RowRequest<'a>],
    count: usize,
    rows: Vec<Row>,
}

impl<'a> BestOfRows<'a> {
    /// Begins to collect the `count` best pieces of each row.
    pub fn new(count: usize, requests: &'a [RowRequest<'a>]) -> Self {
        Self {
            requests,
            count,
            rows: requests.iter().map(|request| Row::new(count, request)).collect(),
        }
    }

    /// Takes the logits of the pieces from `first` on. Blocks must come in order.
    ///
    /// # Shapes
    /// `logits`: `[n, stride]`, of which the first `width` columns are pieces.
    pub fn add(&mut self, first: u32, logits: &[f32], (width, stride): (usize, usize)) {
        let count = self.count;
        vectorized_fusing!(|FUSED| {
            let rows = self.rows.iter_mut().zip(self.requests).zip(logits.chunks_exact(stride));
            for ((row, request), logits) in rows {
                row.add::<FUSED>(first, &logits[..width], request, count);
            }
        });
    }

    /// The answers; `None` for rows whose logits are not finite.
    pub fn finish(self) -> Vec<Option<BestPieces>> {
        self.rows.into_iter().map(Row::finish).collect()
    }
}

/// The `count` best of the first `classes` pieces of every row of logits; `None` for rows that are not finite.
///
/// # Shapes
/// `logits`: `[n, v]`, with one request for each row.
///
/// # Errors
/// Those of the tensor operations.
pub fn best_of_logits(
    logits: &Tensor,
    classes: usize,
    count: usize,
    requests: &[RowRequest],
) -> Result<Vec<Option<BestPieces>>> {
    let (_, pieces) = logits.dims2()?;
    let logits = logits.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?;
    let mut best = BestOfRows::new(count, requests);
    best.add(0, &Values::of(&logits)?, (classes, pieces));
    Ok(best.finish())
}

/// Replaces a row of logits by their softmax. Returns the logarithm of the sum of their exponentials; `None` if one of
/// them was neither finite nor minus infinity, or all were minus infinity.
pub fn softmax_row(row: &mut [f32]) -> Option<f64> {
    vectorized!({
        let greatest = greatest(row);
        let total = sum(row, |x| exp_nonpositive(x - greatest));
        let share = 1.0 / total;
        for x in row.iter_mut() {
            *x = exp_nonpositive(*x - greatest) * share;
        }
        let is_finite = greatest.is_finite() && total.is_finite();
        is_finite.then(|| f64::from(greatest) + f64::from(total).ln())
    })
}

/// The `count` best pieces of a row of probabilities, as [`BestOfRows`] gives them for logits.
pub fn best_of_probabilities(row: &[f32], count: usize, request: &RowRequest) -> BestPieces {
    let mut best = Row::new(count, request);
    best.select(0, row, request, count);
    let log = |(piece, probability): (u32, f32)| (piece, probability.ln());
    let reported = |piece: &u32| row.get(*piece as usize).copied().unwrap_or_default().ln();
    BestPieces {
        best: best.best.into_iter().filter(|(_, p)| *p > 0.0).map(log).collect(),
        reported: request.reported.iter().map(reported).collect(),
    }
}

impl Row {
    fn new(count: usize, request: &RowRequest) -> Self {
        Self {
            greatest: f32::NEG_INFINITY,
            sum: 0.0,
            best: Vec::with_capacity(count + 1),
            threshold: f32::NEG_INFINITY,
            reported: vec![f32::NEG_INFINITY; request.reported.len()],
        }
    }

    #[inline(always)]
    fn add<const FUSED: bool>(&mut self, first: u32, logits: &[f32], request: &RowRequest, count: usize) {
        let block = greatest(logits);
        for (reported, piece) in self.reported.iter_mut().zip(request.reported) {
            if let Some(logit) = piece.checked_sub(first).and_then(|piece| logits.get(piece as usize)) {
                *reported = *logit;
            }
        }
        if block > self.threshold {
            self.select(first, logits, request, count);
        }
        if block > self.greatest {
            self.sum *= (self.greatest - block).exp();
            self.greatest = block;
        }
        // Before the first finite logit there is nothing to add. (NaN is found by `finish`, because it enters the sum.)
        let greatest = if self.greatest == f32::NEG_INFINITY {
            0.0
        } else {
            self.greatest
        };
        self.sum += sum(logits, |x| exp_nonpositive_fusing::<FUSED>(x - greatest));
    }

    /// Takes the logits above the threshold, in vectors, most of which hold none.
    #[inline(always)]
    fn select(&mut self, first: u32, logits: &[f32], request: &RowRequest, count: usize) {
        for (number, chunk) in logits.chunks(LANES).enumerate() {
            let threshold = self.threshold;
            let above = chunk.iter().fold(false, |above, x| above | (*x > threshold));
            if !above {
                continue;
            }
            for (i, logit) in chunk.iter().enumerate() {
                let piece = first + (number * LANES + i) as u32;
                if *logit > self.threshold && !request.forbidden.contains(&piece) {
                    self.insert(piece, *logit, count);
                }
            }
        }
    }

    fn insert(&mut self, piece: u32, logit: f32, count: usize) {
        let place = self.best.partition_point(|(_, other)| *other >= logit);
        self.best.insert(place, (piece, logit));
        self.best.truncate(count);
        if self.best.len() == count {
            self.threshold = self.best.last().map_or(f32::NEG_INFINITY, |(_, logit)| *logit);
        }
    }

    fn finish(self) -> Option<BestPieces> {
        let total = f64::from(self.greatest) + f64::from(self.sum).ln();
        let log_probability = |logit: f32| (f64::from(logit) - total) as f32;
        let named = |(piece, logit)| (piece, log_probability(logit));
        total.is_finite().then(|| BestPieces {
            best: self.best.into_iter().map(named).collect(),
            reported: self.reported.into_iter().map(log_probability).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(count: usize, seed: u64) -> Vec<f32> {
        let key = crate::Key::new(seed, crate::Purpose::Initialisation);
        // Few different values, so that there are ties.
        key.normal(count)
            .into_iter()
            .map(|x| (x * 4.0).round() as f32 / 2.0 + 0.0)
            .collect()
    }

    /// The answer by sorting a whole row in f64.
    fn by_sorting(row: &[f32], count: usize, request: RowRequest) -> BestPieces {
        let total: f64 = row.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
        let log_probability = |x: f32| (f64::from(x) - total) as f32;
        let mut pieces: Vec<u32> = (0..row.len() as u32)
            .filter(|piece| !request.forbidden.contains(piece) && row[*piece as usize].is_finite())
            .collect();
        pieces.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b)));
        pieces.truncate(count);
        BestPieces {
            best: pieces
                .into_iter()
                .map(|piece| (piece, log_probability(row[piece as usize])))
                .collect(),
            reported: request
                .reported
                .iter()
                .map(|piece| log_probability(row[*piece as usize]))
                .collect(),
        }
    }

    #[test]
    fn equals_sorting_whole_rows() {
        for (pieces, count, block) in [(1, 1, 5), (7, 3, 100), (100, 10, 32), (1000, 4, 300), (50, 60, 17)] {
            let mut rows: Vec<Vec<f32>> = (0..4).map(|seed| logits(pieces, seed)).collect();
            rows[1][pieces / 2] = f32::NEG_INFINITY;
            let forbidden = [0, pieces as u32 / 2, 3];
            let reported = [pieces as u32 - 1, 0, pieces as u32 / 3];
            let requests = [0, 1, 2, 3].map(|i| RowRequest {
                forbidden: if i % 2 == 0 { &forbidden } else { &[] },
                reported: &reported[..i],
            });
            let mut best = BestOfRows::new(count, &requests);
            for first in (0..pieces).step_by(block) {
                let width = block.min(pieces - first);
                let stride = width + 3;
                let mut together = Vec::new();
                for row in &rows {
                    together.extend_from_slice(&row[first..first + width]);
                    together.extend([1e9; 3]);
                }
                best.add(first as u32, &together, (width, stride));
            }
            for ((got, row), request) in best.finish().into_iter().zip(&rows).zip(requests) {
                let expected = by_sorting(row, count, request);
                if row.iter().all(|x| *x == f32::NEG_INFINITY) {
                    assert_eq!(got, None);
                    continue;
                }
                let got = got.unwrap();
                assert_eq!(got.best.len(), expected.best.len(), "{pieces} {count}");
                for ((piece, p), (other, q)) in got.best.iter().zip(&expected.best) {
                    assert_eq!(piece, other, "{pieces} {count}");
                    assert!((p - q).abs() < 1e-5, "{p} {q}");
                }
                assert_eq!(got.reported.len(), expected.reported.len());
                for (p, q) in got.reported.iter().zip(expected.reported) {
                    assert!(*p == q || (p - q).abs() < 1e-5, "{p} {q}");
                }
            }
        }
    }

    /// From probabilities as from logits.
    #[test]
    fn probabilities_of_rows() {
        for pieces in [1, 15, 100, 1000] {
            let row = logits(pieces, 5);
            let mut probabilities = row.clone();
            let total: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            assert!((softmax_row(&mut probabilities).unwrap() - total.ln()).abs() < 1e-5);
            for (x, p) in row.iter().zip(&probabilities) {
                let expected = f64::from(*x).exp() / total;
                assert!(
                    (f64::from(*p) - expected).abs() < 1e-6 * expected.max(1e-3),
                    "{p} {expected}"
                );
            }
            let (forbidden, reported) = ([0, pieces as u32 / 2], [pieces as u32 - 1]);
            let request = RowRequest {
                forbidden: &forbidden,
                reported: &reported,
            };
            let (got, expected) = (
                best_of_probabilities(&probabilities, 4, &request),
                by_sorting(&row, 4, request),
            );
            assert_eq!(got.best.len(), expected.best.len());
            for ((piece, p), (other, q)) in got.best.iter().zip(&expected.best) {
                assert!(piece == other && (p - q).abs() < 1e-5);
            }
            assert!((got.reported[0] - expected.reported[0]).abs() < 1e-5);
        }
        for broken in [[1.0, f32::NAN], [f32::INFINITY, 0.0], [f32::NEG_INFINITY; 2]] {
            assert!(softmax_row(&mut broken.clone()).is_none(), "{broken:?}");
        }
    }

    #[test]
    fn numbers_that_are_not_finite() {
        for (row, is_finite) in [
            ([1.0, f32::NAN, 0.0], false),
            ([1.0, f32::INFINITY, 0.0], false),
            ([f32::NEG_INFINITY; 3], false),
            ([f32::NEG_INFINITY, 2.0, 1000.0], true),
        ] {
            for block in 1..=3 {
                let requests = [RowRequest::default()];
                let mut best = BestOfRows::new(2, &requests);
                for (number, part) in row.chunks(block).enumerate() {
                    best.add((number * block) as u32, part, (part.len(), part.len()));
                }
                assert_eq!(best.finish()[0].is_some(), is_finite, "{row:?}");
            }
        }
    }
}
