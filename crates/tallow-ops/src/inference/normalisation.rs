//! Residual connections and layer normalisation in place.

use crate::layer_norm::moments;

/// x = (x - mean) / sqrt(variance + epsilon) * scale + shift, for every row of `x`.
///
/// # Shapes
/// `x`: `[n, d]`; `scale_shift`: `[2, d]`.
pub fn normalise_rows(x: &mut [f32], scale_shift: &[f32], epsilon: f32) {
    let (scale, shift) = scale_shift.split_at(scale_shift.len() / 2);
    vectorized!({
        for row in x.chunks_exact_mut(scale.len().max(1)) {
            normalise(row, scale, shift, epsilon);
        }
    });
}

/// x = x + y, for every row.
pub fn add(x: &mut [f32], y: &[f32]) {
    vectorized!({ x.iter_mut().zip(y).for_each(|(x, y)| *x += y) });
}

/// x = norm(x + y), for every row: the end of a post-norm sublayer.
///
/// # Shapes
/// `x` and `y`: `[n, d]`; `scale_shift`: `[2, d]`.
pub fn add_and_normalise(x: &mut [f32], y: &[f32], scale_shift: &[f32], epsilon: f32) {
    let (scale, shift) = scale_shift.split_at(scale_shift.len() / 2);
    let width = scale.len().max(1);
    vectorized!({
        for (row, y) in x.chunks_exact_mut(width).zip(y.chunks_exact(width)) {
            row.iter_mut().zip(y).for_each(|(x, y)| *x += y);
            normalise(row, scale, shift, epsilon);
        }
    });
}

#[inline(always)]
fn normalise(row: &mut [f32], scale: &[f32], shift: &[f32], epsilon: f32) {
    let (mean, inverse) = moments(row, epsilon);
    for ((x, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
        *x = (*x - mean) * inverse * scale + shift;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer_norm;
    use candle_core::{Device, Result, Tensor};

    #[test]
    fn equals_the_operation_of_training() -> Result<()> {
        let (rows, width) = (5, 40);
        let values = |seed: u64, count: usize| -> Vec<f32> {
            let key = crate::Key::new(seed, crate::Purpose::Initialisation);
            key.normal(count).into_iter().map(|x| x as f32).collect()
        };
        let (x, y, norm) = (values(1, rows * width), values(2, rows * width), values(3, 2 * width));
        let tensor = |values: &[f32], rows: usize| Tensor::from_slice(values, (rows, width), &Device::Cpu);
        let sum = (tensor(&x, rows)? + tensor(&y, rows)?)?;
        let expected = layer_norm(&sum, &tensor(&norm, 2)?, 1e-5)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let mut at_once = x.clone();
        add_and_normalise(&mut at_once, &y, &norm, 1e-5);
        let mut apart = x;
        add(&mut apart, &y);
        normalise_rows(&mut apart, &norm, 1e-5);
        assert_eq!(at_once, apart);
        for (got, expected) in at_once.iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        }
        Ok(())
    }
}
