//! The rounding of numbers to whole numbers from -127 to 127, times a scale.

use super::BLOCK;
use crate::rows::LANES;

/// The greatest number. -128 is not used, so that the range is symmetric.
const GREATEST: f32 = 127.0;

/// 1.5 · 2^23: adding it to a small number rounds that to the nearest whole number, or the even one of two equally near
/// ones, which is then in the low bits.
const ROUND: f32 = 12_582_912.0;

/// The blocks of a row, the last of which is padded with zeros.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a> {
    whole: &'a [[f32; BLOCK]],
    last: Option<[f32; BLOCK]>,
}

impl<'a> Blocks<'a> {
    #[inline(always)]
    pub(super) fn of(row: &'a [f32]) -> Self {
        let (whole, rest) = row.as_chunks();
        let mut last = [0.0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        Self {
            whole,
            last: (!rest.is_empty()).then_some(last),
        }
    }

    /// The scale of the row: its greatest absolute value divided by 127. It is NaN if a value is NaN or infinite, so
    /// that products show it. It is zero if the quotient is too small for a normal number; then all values count as
    /// zero.
    #[inline(always)]
    pub(super) fn scale(&self) -> f32 {
        const WITHOUT_SIGN: u32 = 0x7fff_ffff;
        // The bits of numbers without their signs are in the order of the numbers; those of infinity and NaN are
        // greater.
        let mut lanes = [0; LANES];
        for values in [self.whole, self.last.as_slice()] {
            for vector in values.as_flattened().as_chunks::<LANES>().0 {
                for (lane, x) in lanes.iter_mut().zip(vector) {
                    *lane = std::cmp::max(*lane, x.to_bits() & WITHOUT_SIGN);
                }
            }
        }
        let mut greatest = 0;
        for lane in lanes {
            greatest = std::cmp::max(greatest, lane);
        }
        let greatest = f32::from_bits(greatest);
        let scale = greatest / GREATEST;
        if !greatest.is_finite() {
            f32::NAN
        } else if scale.is_normal() {
            scale
        } else {
            0.0
        }
    }

    /// Rounds the quotients of the values and their scale, and stores `form` of each. Without a scale all are zero. The
    /// quotient is a product with the reciprocal of the scale, which is much faster than a division.
    #[inline(always)]
    pub(super) fn round<'b, T: 'b>(
        &self,
        scale: f32,
        form: impl Fn(i8) -> T,
        places: impl Iterator<Item = &'b mut [T; BLOCK]>,
    ) {
        let reciprocal = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        for (values, place) in self.whole.iter().chain(&self.last).zip(places) {
            for (place, x) in place.iter_mut().zip(values) {
                *place = form((x * reciprocal + ROUND).to_bits() as i8);
            }
        }
    }
}

/// Rounds a row of weights to whole numbers from -127 to 127, as products in 8-bit integers do, and returns them with
/// their scale: `number as f32 * scale` is near the weight. Rounding these products again gives the same numbers and
/// the same scale, up to rounding. The scale is NaN if a weight is not finite.
pub fn quantise_row(row: &[f32]) -> (Vec<i8>, f32) {
    let blocks = Blocks::of(row);
    let scale = blocks.scale();
    let mut rounded = vec![[0; BLOCK]; row.len().div_ceil(BLOCK)];
    blocks.round(scale, |number| number, rounded.iter_mut());
    let mut numbers = rounded.into_flattened();
    numbers.truncate(row.len());
    (numbers, scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_weights() {
        assert_eq!(quantise_row(&[1.27, -0.5, 0.0, 0.004]), (vec![127, -50, 0, 0], 0.01));
        assert_eq!(quantise_row(&[0.0; 3]), (vec![0; 3], 0.0));
        assert!(quantise_row(&[1.0, f32::NAN]).1.is_nan() && quantise_row(&[f32::NEG_INFINITY]).1.is_nan());
        // Rounding what was rounded changes nothing.
        let key = crate::Key::new(1, crate::Purpose::Initialisation);
        for width in [1, 63, 64, 200] {
            for row in 0..200 {
                let values: Vec<f32> = key
                    .fold(row)
                    .normal(width)
                    .into_iter()
                    .map(|x| x as f32 * 0.03)
                    .collect();
                let (numbers, scale) = quantise_row(&values);
                assert!(numbers.iter().any(|number| number.unsigned_abs() == 127));
                let products: Vec<f32> = numbers.iter().map(|number| f32::from(*number) * scale).collect();
                assert!(
                    values
                        .iter()
                        .zip(&products)
                        .all(|(a, b)| (a - b).abs() <= scale * 0.501)
                );
                let (again, other) = quantise_row(&products);
                assert_eq!(again, numbers);
                assert!((other - scale).abs() <= scale * 2e-7);
            }
        }
    }
}
