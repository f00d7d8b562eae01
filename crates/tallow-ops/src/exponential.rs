//! The exponential function in a form that compilers can vectorise.

/// e^x for x <= 0, accurate to about two units in the last place; below -87 the result is zero.
#[inline(always)]
pub(crate) fn exp_nonpositive(x: f32) -> f32 {
    exp_nonpositive_fusing::<false>(x)
}

/// [`exp_nonpositive`] with products and sums in one instruction, if `FUSED`; then it must run with instructions that
/// have these, inside [`vectorized_fusing!`].
///
/// e^x = 2^n · e^r with n = round(x / ln 2). The power of two is made from its bits, and e^r for |r| <= ln 2 / 2 is a
/// polynomial (Cephes' `expf`). There are no branches, so that loops over it are vectorised.
#[inline(always)]
pub(crate) fn exp_nonpositive_fusing<const FUSED: bool>(x: f32) -> f32 {
    const LOWEST: f32 = -87.0;
    /// 1.5 · 2^23: adding it rounds to a whole number, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x < LOWEST { LOWEST } else { x };
    let shifted = multiply_add::<FUSED>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = multiply_add::<FUSED>(n, -LN2_LOW, multiply_add::<FUSED>(n, -LN2_HIGH, clamped));
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = multiply_add::<FUSED>(p, r, coefficient);
    }
    let e_r = multiply_add::<FUSED>(p * r, r, r) + 1.0;
    // This uses the bits of n instead of a conversion, because a saturating conversion would prevent vectorisation.
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    if x < LOWEST { 0.0 } else { e_r * power }
}

#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_library() {
        for exp in [exp_nonpositive, exp_nonpositive_fusing::<true>] {
            let mut worst = 0f64;
            for i in 0..200_000 {
                let x = -87.0 * i as f32 / 200_000.0;
                let exact = f64::from(x).exp();
                worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
            }
            assert!(worst < 3e-7, "{worst}");
            assert_eq!(exp(0.0), 1.0);
            assert_eq!(exp(-1e9), 0.0);
            assert_eq!(exp(f32::NEG_INFINITY), 0.0);
            assert!(exp(f32::NAN).is_nan());
        }
    }
}
