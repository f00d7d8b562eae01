//! Sixteen blocks of the generator at a time, in vectors of 512 bits, converted to factors of a dropout mask. LLVM
//! compiles the portable form to four times as many instructions.
#![allow(unsafe_code)]

use super::{MULTIPLIERS, ROUNDS, WEYL, WIDE};
use std::arch::x86_64::{
    __m512i, _MM_PERM_CDAB, _mm512_add_epi32, _mm512_and_si512, _mm512_cmplt_epu32_mask, _mm512_mask_shuffle_epi32,
    _mm512_maskz_mov_ps, _mm512_mul_epu32, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setr_epi32, _mm512_shuffle_epi32,
    _mm512_srli_epi32, _mm512_storeu_ps, _mm512_ternarylogic_epi32,
};

/// Writes 0 if the 16 bits of a value are below the threshold, else `scale`; see `Dropout::fill_row` for the bits.
#[target_feature(enable = "avx512f")]
pub(super) fn fill(
    mut key: [u32; 2],
    (first, row, sentence): (u32, u32, u64),
    (threshold, scale): (u16, f32),
    factors: &mut [f32; 8 * WIDE],
) {
    let all = |word: u32| _mm512_set1_epi32(word.cast_signed());
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let mut counter = [
        _mm512_add_epi32(all(first), lanes),
        all(row),
        all(sentence as u32),
        all((sentence >> 32) as u32),
    ];
    for round in 0..ROUNDS {
        if round > 0 {
            key[0] = key[0].wrapping_add(WEYL[0]);
            key[1] = key[1].wrapping_add(WEYL[1]);
        }
        let [c0, c1, c2, c3] = counter;
        let (high0, low0) = product(c0, all(MULTIPLIERS[0]));
        let (high1, low1) = product(c2, all(MULTIPLIERS[1]));
        counter = [xor(high1, c1, all(key[0])), low1, xor(high0, c3, all(key[1])), low0];
    }
    let (threshold, scale) = (all(u32::from(threshold)), _mm512_set1_ps(scale));
    let halves = factors.chunks_exact_mut(2 * WIDE).map(|chunk| chunk.split_at_mut(WIDE));
    for (word, (of_low, of_high)) in counter.into_iter().zip(halves) {
        let low = _mm512_and_si512(word, all(0xffff));
        let high = _mm512_srli_epi32::<16>(word);
        for (bits, of_bits) in [(low, of_low), (high, of_high)] {
            let kept = !_mm512_cmplt_epu32_mask(bits, threshold);
            // SAFETY: the half of the chunk holds 16 values.
            unsafe { _mm512_storeu_ps(of_bits.as_mut_ptr(), _mm512_maskz_mov_ps(kept, scale)) };
        }
    }
}

/// The upper and lower words of sixteen products.
#[inline]
#[target_feature(enable = "avx512f")]
fn product(a: __m512i, b: __m512i) -> (__m512i, __m512i) {
    const ODD: u16 = 0xaaaa;
    let even = _mm512_mul_epu32(a, b);
    let odd = _mm512_mul_epu32(_mm512_shuffle_epi32::<_MM_PERM_CDAB>(a), b);
    let high = _mm512_mask_shuffle_epi32::<_MM_PERM_CDAB>(odd, !ODD, even);
    let low = _mm512_mask_shuffle_epi32::<_MM_PERM_CDAB>(even, ODD, odd);
    (high, low)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    const PARITY: i32 = 0x96;
    _mm512_ternarylogic_epi32::<PARITY>(a, b, c)
}
