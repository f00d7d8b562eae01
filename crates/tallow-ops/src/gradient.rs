//! Measures of gradients.

use crate::values::Values;
use candle_core::{DType, Result, Tensor};

/// The sum of the squares of all elements, added up in f64 in the order of storage.
///
/// # Errors
/// Those of the tensor operations.
pub fn sum_of_squares_no_grad(x: &Tensor) -> Result<f64> {
    if !x.device().is_cpu() {
        return x.detach().sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar();
    }
    let values = x.to_dtype(DType::F32)?.contiguous()?;
    let values = Values::of(&values)?;
    // Eight running sums give a fixed order that the compiler can vectorise.
    let mut sums = [0f64; 8];
    let values = &*values;
    vectorized!({
        for chunk in values.chunks(8) {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(*value) * f64::from(*value);
            }
        }
    });
    Ok(sums.iter().sum())
}
