//! Sinusoidal positions (section 3.5 of the paper), in MarianMT's layout.

use candle_core::{DType, Device, Result, Tensor};

/// Sinusoidal vectors of positions `start..start + length`: all sines, then all cosines, of position / 10000^(2i/d).
///
/// # Shapes
/// The result: `[length, width]`; `width` is even.
///
/// # Errors
/// Those of the tensor operations.
pub fn sinusoidal(start: usize, length: usize, width: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    table((start, length, width), width as f64 / 2.0, dtype, device)
}

/// Sinusoidal positions of the Marian toolkit: sines and cosines of position / 10000^(i / (d/2 - 1)), so that the last
/// frequency is 1/10000. Hugging Face's MarianMT has other frequencies, even for models converted from Marian.
///
/// # Shapes
/// As [`sinusoidal`].
///
/// # Errors
/// Those of the tensor operations.
pub fn sinusoidal_marian(start: usize, length: usize, width: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    table(
        (start, length, width),
        (width as f64 / 2.0 - 1.0).max(1.0),
        dtype,
        device,
    )
}

/// A table of sines and cosines whose frequencies fall from 1 by a factor of 10000 in `steps` steps.
fn table((start, length, width): (usize, usize, usize), steps: f64, dtype: DType, device: &Device) -> Result<Tensor> {
    let periods: Vec<f64> = (0..width / 2).map(|i| 10_000f64.powf(i as f64 / steps)).collect();
    let mut values = Vec::with_capacity(length * width);
    for position in start..start + length {
        let angle = |period: &f64| position as f64 / period;
        values.extend(periods.iter().map(|period| angle(period).sin() as f32));
        values.extend(periods.iter().map(|period| angle(period).cos() as f32));
    }
    Tensor::from_vec(values, (length, width), device)?.to_dtype(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of `MarianSinusoidalPositionalEmbedding(3, 4)` in Hugging Face transformers.
    #[test]
    fn literal() -> Result<()> {
        let table = sinusoidal(0, 3, 4, DType::F32, &Device::Cpu)?.to_vec2::<f32>()?;
        let expected = [
            [0.0, 0.0, 1.0, 1.0],
            [0.841_470_96, 0.009_999_833, 0.540_302_3, 0.999_95],
            [0.909_297_4, 0.019_998_667, -0.416_146_84, 0.999_8],
        ];
        for (got, expected) in table.iter().flatten().zip(expected.iter().flatten()) {
            assert!((got - expected).abs() < 1e-6, "{table:?}");
        }
        let later = sinusoidal(2, 1, 4, DType::F32, &Device::Cpu)?.to_vec2::<f32>()?;
        assert_eq!(later[0], table[2]);
        Ok(())
    }

    /// Numbers of `SinusoidalPositionEmbeddings` in Marian, by hand: frequencies 1, 1/100 and 1/10000.
    #[test]
    fn of_marian() -> Result<()> {
        let table = sinusoidal_marian(1, 2, 6, DType::F32, &Device::Cpu)?.to_vec2::<f32>()?;
        let expected = [
            [0.841_470_96, 0.009_999_833, 0.000_1, 0.540_302_3, 0.999_95, 1.0],
            [0.909_297_4, 0.019_998_667, 0.000_2, -0.416_146_84, 0.999_8, 1.0],
        ];
        for (got, expected) in table.iter().flatten().zip(expected.iter().flatten()) {
            assert!((got - expected).abs() < 1e-6, "{table:?}");
        }
        // A single frequency is 1.
        let narrow = sinusoidal_marian(1, 1, 2, DType::F32, &Device::Cpu)?.to_vec2::<f32>()?;
        assert!((narrow[0][0] - 0.841_470_96).abs() < 1e-6);
        Ok(())
    }
}
