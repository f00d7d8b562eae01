//! Sinusoidal positions (section 3.5 of the paper), in Marian's layout.

use candle_core::{DType, Device, Result, Tensor};

/// The vectors of positions `start..start + length`: all sines, then all cosines, of position / 10000^(2i/d).
///
/// # Shapes
/// The result: `[length, width]`; `width` is even.
///
/// # Errors
/// Those of the tensor operations.
pub fn sinusoidal(start: usize, length: usize, width: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let half = width / 2;
    let mut values = Vec::with_capacity(length * width);
    for position in start..start + length {
        let angle = |i: usize| position as f64 / 10_000f64.powf(2.0 * i as f64 / width as f64);
        values.extend((0..half).map(|i| angle(i).sin() as f32));
        values.extend((0..half).map(|i| angle(i).cos() as f32));
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
}
