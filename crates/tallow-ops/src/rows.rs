//! Sums over a row. The order of additions depends only on its length, and compilers can vectorise it.

/// The number of sums that are computed side by side.
pub(crate) const LANES: usize = 16;

/// The sum of f over a row.
#[inline(always)]
pub(crate) fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f(*x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += f(*x);
    }
    total(lanes)
}

/// The sum of the sums computed side by side. Halves are added to halves, which takes four consecutive additions
/// instead of sixteen.
#[inline(always)]
pub(crate) fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Adds every row to `sums`, which has the length of a row.
pub(crate) fn add_rows(rows: &[f32], sums: &mut [f32]) {
    vectorized!({
        for row in rows.chunks_exact(sums.len()) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
    });
}

/// The greatest element of a row; NaN is ignored. (NaN is not lost, because it appears in every sum over the row.)
#[inline(always)]
pub(crate) fn greatest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = if *x > *lane { *x } else { *lane };
    }
    lanes.iter().fold(f32::NEG_INFINITY, |g, x| if *x > g { *x } else { g })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_length() {
        for length in [0, 1, 15, 16, 17, 100] {
            let row: Vec<f32> = (0..length).map(|i| ((i * 7) % 13) as f32).collect();
            assert_eq!(sum(&row, |x| 2.0 * x), 2.0 * row.iter().sum::<f32>());
            assert_eq!(greatest(&row), row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
        let mut row = vec![1.0; 40];
        row[3] = f32::NAN;
        assert_eq!(greatest(&row), 1.0);
        assert!(sum(&row, |x| x).is_nan());
    }
}
