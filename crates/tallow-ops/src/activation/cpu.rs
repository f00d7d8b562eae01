//! The activations and their derivatives on plain values, without branches, so that loops over them are vectorised.

use super::Activation;
use crate::exponential::exp_nonpositive_fusing;
use std::f32::consts::{FRAC_1_SQRT_2, PI};

impl Activation {
    /// Whether the derivative needs the input of the function, because it does not follow from the output.
    pub(crate) fn needs_input(self) -> bool {
        matches!(self, Self::Gelu | Self::Silu)
    }

    /// Applies the function to every value.
    pub fn apply(self, values: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Relu => vectorized!({ values.iter_mut().for_each(|x| *x = relu(*x)) }),
            Self::Gelu => vectorized_fusing!(|FUSED| { values.iter_mut().for_each(|x| *x = gelu::<FUSED>(*x).0) }),
            Self::Silu => vectorized_fusing!(|FUSED| { values.iter_mut().for_each(|x| *x = silu::<FUSED>(*x).0) }),
        }
    }

    /// Multiplies gradients by the derivative at `x`. `x` holds the inputs of the function if it [`Self::needs_input`],
    /// else the outputs, some of which dropout may have set to zero.
    pub(crate) fn backward(self, gradient: &mut [f32], x: &[f32]) {
        let pairs = gradient.iter_mut().zip(x);
        match self {
            Self::None => {}
            Self::Relu => vectorized!({ pairs.for_each(|(d, y)| *d = if *y > 0.0 { *d } else { 0.0 }) }),
            Self::Gelu => vectorized_fusing!(|FUSED| { pairs.for_each(|(d, x)| *d *= gelu::<FUSED>(*x).1) }),
            Self::Silu => vectorized_fusing!(|FUSED| { pairs.for_each(|(d, x)| *d *= silu::<FUSED>(*x).1) }),
        }
    }
}

/// This does not use `max`, which would turn NaN into zero and hide that a run has diverged.
#[inline(always)]
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// x σ(x) and its derivative σ(x) (1 + x (1 - σ(x))).
#[inline(always)]
fn silu<const FUSED: bool>(x: f32) -> (f32, f32) {
    let e = exp_nonpositive_fusing::<FUSED>(-x.abs());
    let of_magnitude = 1.0 / (1.0 + e);
    let sigmoid = if x < 0.0 { e * of_magnitude } else { of_magnitude };
    (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid)))
}

/// x Φ(x) and its derivative Φ(x) + x φ(x), with the error function by Abramowitz and Stegun (1964), formula 7.1.26,
/// which is within 1.5e-7 of the true one.
#[inline(always)]
fn gelu<const FUSED: bool>(x: f32) -> (f32, f32) {
    let z = x.abs() * FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let polynomial = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6) * t;
    let e = exp_nonpositive_fusing::<FUSED>(-z * z);
    // Φ(-|x|) = (1 - erf(z)) / 2
    let below = 0.5 * polynomial * e;
    let phi = if x < 0.0 { below } else { 1.0 - below };
    (x * phi, phi + x * e / (2.0 * PI).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the definitions in f64: the error function as a sum of its Taylor series.
    #[test]
    fn equal_the_definitions() {
        let erf = |x: f64| {
            let (mut term, mut sum) = (x, x);
            for n in 1..200 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            sum * 2.0 / std::f64::consts::PI.sqrt()
        };
        for i in -4000..=4000 {
            let x = f64::from(i) / 1000.0;
            let sigmoid = 1.0 / (1.0 + (-x).exp());
            let normal = 0.5 * (1.0 + erf(x / 2f64.sqrt()));
            let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
            for (got, expected) in [
                (
                    silu::<false>(x as f32),
                    (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid))),
                ),
                (
                    silu::<true>(x as f32),
                    (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid))),
                ),
                (gelu::<false>(x as f32), (x * normal, normal + x * density)),
                (gelu::<true>(x as f32), (x * normal, normal + x * density)),
            ] {
                assert!((f64::from(got.0) - expected.0).abs() < 6e-7, "{x} {got:?} {expected:?}");
                assert!((f64::from(got.1) - expected.1).abs() < 6e-7, "{x} {got:?} {expected:?}");
            }
        }
        for x in [f32::MIN, -1e4, 1e4, f32::MAX] {
            for (y, slope) in [silu::<false>(x), silu::<true>(x), gelu::<false>(x), gelu::<true>(x)] {
                assert_eq!((y, slope), if x > 0.0 { (x, 1.0) } else { (0.0, 0.0) });
            }
        }
        assert!(silu::<true>(f32::NAN).0.is_nan() && gelu::<true>(f32::NAN).0.is_nan() && relu(f32::NAN).is_nan());
    }
}
