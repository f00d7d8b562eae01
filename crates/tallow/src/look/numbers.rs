//! Tensors as plain numbers.

use crate::Result;
use candle_core::{DType, Device, Tensor};
use serde::{Serialize, Serializer};

/// Rows of numbers. In JSON, they have four significant digits, and those below 0.00001 are zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix(pub Vec<Vec<f32>>);

impl Serialize for Matrix {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let rounded = |row: &Vec<f32>| row.iter().map(|x| rounded(*x)).collect::<Vec<f64>>();
        serializer.collect_seq(self.0.iter().map(rounded))
    }
}

/// Writes numbers as those of a [`Matrix`].
pub(super) fn short<S: Serializer>(numbers: &[f32], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(numbers.iter().map(|x| rounded(*x)))
}

/// A number with four significant digits: in 64 bits, because a number of 32 bits has more digits as one of 64.
fn rounded(x: f32) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return f64::from(x);
    }
    let digits = 3 - x.abs().log10().floor() as i32;
    // Numbers that are too small to see.
    if digits > 8 {
        return 0.0;
    }
    let factor = 10f64.powi(digits);
    (f64::from(x) * factor).round() / factor
}

/// The rows of a tensor `[n, m]`.
pub(super) fn rows(tensor: &Tensor) -> Result<Vec<Vec<f32>>> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.to_vec2()?)
}

/// A tensor `[n, m]` as a matrix.
pub(super) fn matrix(tensor: &Tensor) -> Result<Matrix> {
    rows(tensor).map(Matrix)
}

/// The Euclidean norm of every row of a tensor.
pub(super) fn norms(tensor: &Tensor) -> Result<Vec<f32>> {
    let norm = |row: &Vec<f32>| row.iter().map(|x| x * x).sum::<f32>().sqrt();
    Ok(rows(tensor)?.iter().map(norm).collect())
}

/// The entropy of a distribution, in nats.
pub(super) fn entropy(probabilities: &[f32]) -> f64 {
    let of = |p: &f32| {
        if *p > 0.0 {
            -f64::from(*p) * f64::from(*p).ln()
        } else {
            0.0
        }
    };
    probabilities.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let matrix = Matrix(vec![vec![0.123_456_78, -1234.567, 0.0, 1e-12, 0.000_123_456]]);
        assert_eq!(
            serde_json::to_string(&matrix).unwrap(),
            "[[0.1235,-1235.0,0.0,0.0,0.0001235]]"
        );
        assert_eq!(entropy(&[0.5, 0.5, 0.0]), 2f64.ln());
    }
}
