//! AVX-512 BF16: dot products of pairs, in vectors of 512 bits.

use super::{BLOCK, Rows, TILE, TILE_WORDS, Tile};
use std::arch::x86_64::{
    __cpuid, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_storeu_ps,
};
use std::mem::transmute;

/// Rows that are summed in registers at a time.
const ROWS: usize = 8;

/// Whether the processor runs these dot products faster than the same number of products in f32. AMD's processors do.
/// Intel's, which also have AMX, do not.
pub(super) fn is_fast() -> bool {
    let vendor = __cpuid(0);
    // "AuthenticAMD"
    (vendor.ebx, vendor.edx, vendor.ecx) == (0x6874_7541, 0x6974_6e65, 0x444d_4163)
}

/// See [`super::Kernel`].
///
/// # Safety
/// The processor has AVX-512 BF16; each strip holds `steps` tiles; output and initial values hold `BLOCK` rows of
/// `BLOCK` values at their distances.
pub(super) unsafe fn kernel(
    output: Rows<*mut f32>,
    initial: Rows<*const f32>,
    a: [*const Tile; 2],
    b: [*const Tile; 2],
    steps: usize,
) {
    for first in (0..BLOCK).step_by(ROWS) {
        // SAFETY: the caller vouches for processor and memory; rows `first` to `first + ROWS` lie in one strip of a.
        unsafe {
            let strip = a[first / TILE].cast::<u32>().add(first % TILE * TILE);
            let output = (output.0.add(first * output.1), output.1);
            rows(
                output,
                (initial.0.add(first * initial.1), initial.1),
                strip,
                b.map(|b| b.cast()),
                steps,
            );
        }
    }
}

/// Computes `ROWS` rows of a block.
///
/// # Safety
/// As for [`kernel`].
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn rows(output: Rows<*mut f32>, initial: Rows<*const f32>, a: *const u32, b: [*const u32; 2], steps: usize) {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    for (row, sums) in sums.iter_mut().enumerate() {
        for (half, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller vouches for the initial values.
            *sum = unsafe { _mm512_loadu_ps(initial.0.add(row * initial.1 + half * TILE)) };
        }
    }
    for step in 0..steps {
        for pair in 0..TILE {
            // SAFETY: the caller vouches for the strips: step < steps, pair < TILE; both types are 512 bits, and every
            // pattern of them is valid.
            let load = |strip: *const u32| unsafe {
                let words = _mm512_loadu_si512(strip.add(step * TILE_WORDS + pair * TILE).cast());
                transmute::<__m512i, __m512bh>(words)
            };
            let (b0, b1) = (load(b[0]), load(b[1]));
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as above; row < ROWS rows of the tile remain.
                let of_a = unsafe {
                    let word = *a.add(step * TILE_WORDS + row * TILE + pair);
                    transmute::<__m512i, __m512bh>(_mm512_set1_epi32(word.cast_signed()))
                };
                sums[0] = _mm512_dpbf16_ps(sums[0], of_a, b0);
                sums[1] = _mm512_dpbf16_ps(sums[1], of_a, b1);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        for (half, sum) in sums.iter().enumerate() {
            // SAFETY: the caller vouches for the output.
            unsafe { _mm512_storeu_ps(output.0.add(row * output.1 + half * TILE), *sum) };
        }
    }
}
