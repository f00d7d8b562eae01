//! Numbers as bytes.

use half::bf16;

/// The form of numbers in messages between ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// As they are.
    #[default]
    F32,
    /// Rounded to bfloat16, to the nearest: half of the bytes, and eight significant bits.
    Bf16,
}

impl Wire {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Wire::F32 => 4,
            Wire::Bf16 => 2,
        }
    }

    /// Numbers as bytes.
    pub fn encode(self, numbers: &[f32]) -> Vec<u8> {
        match self {
            Wire::F32 => bytemuck::cast_slice(numbers).to_vec(),
            Wire::Bf16 => {
                let rounded: Vec<bf16> = numbers.iter().map(|number| bf16::from_f32(*number)).collect();
                rounded.iter().flat_map(|number| number.to_ne_bytes()).collect()
            }
        }
    }

    /// The numbers of bytes that [`Self::encode`] has made.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Wire::F32 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|bytes| f32::from_ne_bytes(*bytes))
                .collect(),
            Wire::Bf16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|bytes| bf16::from_ne_bytes(*bytes).to_f32())
                .collect(),
        }
    }

    /// What is left of numbers after their journey.
    pub(crate) fn rounded(self, numbers: &[f32]) -> Vec<f32> {
        match self {
            Wire::F32 => numbers.to_vec(),
            Wire::Bf16 => numbers.iter().map(|number| bf16::from_f32(*number).to_f32()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let numbers = [1.0, -0.0, 0.123_456_79, 1e-40, f32::INFINITY, f32::NAN, -7e30];
        for wire in [Wire::F32, Wire::Bf16] {
            let bytes = wire.encode(&numbers);
            assert_eq!(bytes.len(), numbers.len() * wire.bytes());
            let back = wire.decode(&bytes);
            let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&back), bits(&wire.rounded(&numbers)));
            for (number, back) in numbers.iter().zip(&back).filter(|(number, _)| number.is_normal()) {
                let limit = if wire == Wire::F32 { 0.0 } else { number.abs() / 256.0 };
                assert!((number - back).abs() <= limit, "{number} {back}");
            }
            assert!(back[5].is_nan() && back[4] == f32::INFINITY);
        }
        assert_eq!(bytemuck::cast_slice::<f32, u8>(&[1.0]).len(), 4);
    }
}
