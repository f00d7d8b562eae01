//! Log-probabilities of the next token.

use crate::DecodeError;
use candle_core::{DType, Tensor};

/// Turns the logits of a batch into log-probabilities over the pieces that can be predicted, one vector for each row.
///
/// # Shapes
/// `logits`: `[rows, v]`; every vector has the first `classes` pieces.
pub(crate) fn log_probabilities(logits: &Tensor, classes: usize) -> Result<Vec<Vec<f32>>, DecodeError> {
    let rows = logits.narrow(1, 0, classes)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    rows.into_iter().map(log_softmax).collect()
}

fn log_softmax(mut row: Vec<f32>) -> Result<Vec<f32>, DecodeError> {
    let maximum = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = row.iter().map(|x| f64::from((x - maximum).exp())).sum();
    if !maximum.is_finite() || !total.is_finite() {
        return Err(DecodeError::NotFinite);
    }
    let shift = maximum + total.ln() as f32;
    row.iter_mut().for_each(|x| *x -= shift);
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_to_one() {
        let row = log_softmax(vec![1.0, 2.0, -3.0, 1000.0]).unwrap();
        assert!((row.iter().map(|x| x.exp()).sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((log_softmax(vec![0.0, 0.0]).unwrap()[0] + std::f32::consts::LN_2).abs() < 1e-7);
        assert!(matches!(log_softmax(vec![f32::NAN, 0.0]), Err(DecodeError::NotFinite)));
        assert!(matches!(
            log_softmax(vec![f32::INFINITY, 0.0]),
            Err(DecodeError::NotFinite)
        ));
    }
}
