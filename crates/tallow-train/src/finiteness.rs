//! Checks whether numbers are finite.

use crate::{Ema, Optimizer, TrainError};
use candle_core::{CpuStorage, DType, Storage, Tensor};
use tallow_model::Params;

/// How many numbers are checked together: enough for vector instructions, and few enough to stop early.
const CHUNK: usize = 4096;

/// The name of a tensor with a number that is not finite, if there is one.
///
/// # Errors
/// Errors of the tensor operations.
pub(crate) fn not_finite(params: &Params) -> Result<Option<&str>, TrainError> {
    for parameter in params.iter() {
        if !is_finite(parameter.var.as_tensor())? {
            return Ok(Some(&parameter.name));
        }
    }
    Ok(None)
}

/// Refuses weights with which training cannot begin.
///
/// # Errors
/// [`TrainError::NotFinite`] when a weight is not a finite number, and errors of the tensor operations.
pub fn must_be_finite(params: &Params) -> Result<(), TrainError> {
    match not_finite(params)? {
        Some(name) => Err(TrainError::NotFinite(name.to_string())),
        None => Ok(()),
    }
}

/// Says in words which numbers of a run are not finite, if there are any.
///
/// # Errors
/// Errors of the tensor operations.
pub(crate) fn not_finite_in_words(
    params: &Params,
    optimizer: &Optimizer,
    ema: Option<&Ema>,
) -> Result<Option<String>, TrainError> {
    if let Some(name) = not_finite(params)? {
        return Ok(Some(format!("weights of {name}")));
    }
    for (name, moments) in optimizer.moments(params) {
        if !is_finite(moments)? {
            return Ok(Some(format!("moments of {name}")));
        }
    }
    match ema.map(|ema| not_finite(ema.params())).transpose()?.flatten() {
        Some(name) => Ok(Some(format!("averaged weights of {name}"))),
        None => Ok(None),
    }
}

/// Whether every number of a tensor is finite.
fn is_finite(tensor: &Tensor) -> Result<bool, TrainError> {
    {
        let (storage, layout) = tensor.storage_and_layout();
        if let (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) = (&*storage, layout.contiguous_offsets()) {
            let are_finite = |chunk: &[f32]| chunk.iter().fold(true, |finite, value| finite & value.is_finite());
            return Ok(values[start..end].chunks(CHUNK).all(are_finite));
        }
    }
    // Zero times a number that is not finite is not finite.
    let zeros = (tensor.detach().to_dtype(DType::F32)? * 0.0)?;
    Ok(zeros.sum_all()?.to_scalar::<f32>()? == 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn one_number_among_many_is_found() {
        let count = 2 * CHUNK + 7;
        for (place, value) in [
            (0, f32::NAN),
            (CHUNK, f32::INFINITY),
            (count - 1, f32::NEG_INFINITY),
            (5, f32::MAX),
        ] {
            let mut values = vec![-0.5f32; count];
            values[place] = value;
            let tensor = Tensor::from_vec(values, count, &Device::Cpu).unwrap();
            assert_eq!(is_finite(&tensor).unwrap(), value.is_finite(), "{value}");
            // A tensor with gaps takes the other branch.
            let rows = Tensor::stack(&[&tensor, &tensor], 1).unwrap();
            let column = rows.narrow(1, 1, 1).unwrap();
            assert!(!column.is_contiguous());
            assert_eq!(is_finite(&column).unwrap(), value.is_finite(), "{value}");
        }
    }
}
