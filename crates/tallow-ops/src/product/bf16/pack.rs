//! Packing of f32 matrices into tiles of bf16 words, with AVX-512.

use super::{BLOCK, TILE, TILE_WORDS};
use crate::product::Matrix;
use crate::profile::{Operation, span};
use std::arch::x86_64::{
    __m512i, _mm512_cvtne2ps_pbh, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_permutex2var_epi32,
    _mm512_permutexvar_epi16, _mm512_setzero_si512, _mm512_storeu_si512,
};
use std::mem::transmute;

/// Whether the processor has the instructions.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

/// What a strip of tiles runs along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strip {
    /// Rows of a left operand: the words of a row lie side by side.
    Rows,
    /// Columns of a right operand: the words of a step lie side by side.
    Columns,
}

/// Packs rows of a matrix (columns of a right operand come as the rows of its transpose), from `first` on, by the
/// inner dimension into strips of tiles: as many as `into` holds. What lies beyond the matrix is zero.
///
/// # Panics
/// When the processor lacks the instructions.
pub(super) fn pack(m: Matrix, first: usize, strip: Strip, into: &mut [u32]) {
    assert!(is_available(), "this machine has no AVX-512 BF16");
    let _span = span(Operation::Packing);
    // SAFETY: the instructions exist.
    unsafe { pack_strips(m, first, strip, into) }
}

/// # Safety
/// [`is_available`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_strips(m: Matrix, first: usize, strip: Strip, into: &mut [u32]) {
    let (along, inner) = (m.rows, m.columns);
    let (stride, step_stride) = m.strides;
    let steps = inner.div_ceil(BLOCK);
    for (index, into) in into.chunks_exact_mut(steps * TILE_WORDS).enumerate() {
        let start = first + index * TILE;
        let width = TILE.min(along.saturating_sub(start));
        for (step, into) in into.chunks_exact_mut(TILE_WORDS).enumerate() {
            let low = step * BLOCK;
            let length = BLOCK.min(inner - low);
            // Where the inner dimension is contiguous, a register holds the words of a row; otherwise those of a step.
            let by_rows = step_stride == 1;
            let mut tile = [_mm512_setzero_si512(); TILE];
            if width == TILE && length == BLOCK && (by_rows || stride == 1) {
                let corner = &m.values[start * stride + low * step_stride..];
                if by_rows {
                    assert!(
                        (TILE - 1) * stride + BLOCK <= corner.len(),
                        "a tile reaches beyond its matrix"
                    );
                    for (r, words) in tile.iter_mut().enumerate() {
                        // SAFETY: the last of the 16 rows ends inside the slice (asserted).
                        *words = unsafe { words_of_row(corner.as_ptr().add(r * stride)) };
                    }
                } else {
                    assert!(
                        (BLOCK - 1) * step_stride + TILE <= corner.len(),
                        "a tile reaches beyond its matrix"
                    );
                    for (p, words) in tile.iter_mut().enumerate() {
                        // SAFETY: the last of the 32 steps ends inside the slice (asserted).
                        *words = unsafe { words_of_step(corner.as_ptr().add(2 * p * step_stride), step_stride) };
                    }
                }
            } else if width > 0 {
                let mut values = [[0f32; BLOCK]; TILE];
                for (r, row) in values.iter_mut().enumerate().take(width) {
                    for (k, value) in row.iter_mut().enumerate().take(length) {
                        *value = m.values[(start + r) * stride + (low + k) * step_stride];
                    }
                }
                for (words, row) in tile.iter_mut().zip(&values) {
                    // SAFETY: a row has 32 values.
                    *words = unsafe { words_of_row(row.as_ptr()) };
                }
                if !by_rows {
                    transpose(&mut tile);
                }
            }
            if by_rows != (strip == Strip::Rows) {
                transpose(&mut tile);
            }
            for (into, words) in into.chunks_exact_mut(TILE).zip(tile) {
                // SAFETY: the chunk holds 16 words.
                unsafe { _mm512_storeu_si512(into.as_mut_ptr().cast(), words) };
            }
        }
    }
}

/// Sixteen words of 32 values that lie side by side.
///
/// # Safety
/// [`is_available`]; `values` holds 32 numbers.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn words_of_row(values: *const f32) -> __m512i {
    // SAFETY: the caller vouches for the values; the types have the same size, and every pattern is valid.
    unsafe {
        transmute(_mm512_cvtne2ps_pbh(
            _mm512_loadu_ps(values.add(TILE)),
            _mm512_loadu_ps(values),
        ))
    }
}

/// Sixteen words of two steps: 16 values, and 16 that lie `stride` behind them.
///
/// # Safety
/// [`is_available`]; `values` holds 16 numbers, and 16 more at `stride`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn words_of_step(values: *const f32, stride: usize) -> __m512i {
    const INTERLEAVE: [u16; BLOCK] = {
        let mut index = [0; BLOCK];
        let mut i = 0;
        while i < TILE {
            index[2 * i] = i as u16;
            index[2 * i + 1] = (TILE + i) as u16;
            i += 1;
        }
        index
    };
    // SAFETY: as above; the index has 64 bytes.
    unsafe {
        let halves = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(values.add(stride)), _mm512_loadu_ps(values));
        let index = _mm512_loadu_si512(INTERLEAVE.as_ptr().cast());
        _mm512_permutexvar_epi16(index, transmute::<std::arch::x86_64::__m512bh, __m512i>(halves))
    }
}

/// Transposes 16 x 16 words: swaps the off-diagonal halves of blocks of 2, 4, 8 and 16.
#[target_feature(enable = "avx512f")]
fn transpose(tile: &mut [__m512i; TILE]) {
    const fn indices(size: usize, lower: bool) -> [u32; TILE] {
        let mut index = [0; TILE];
        let mut j = 0;
        while j < TILE {
            let swapped = j & size != 0;
            index[j] = match (lower, swapped) {
                (false, false) => j,
                (false, true) => TILE + j - size,
                (true, false) => j + size,
                (true, true) => TILE + j,
            } as u32;
            j += 1;
        }
        index
    }
    const UPPER: [[u32; TILE]; 4] = [
        indices(1, false),
        indices(2, false),
        indices(4, false),
        indices(8, false),
    ];
    const LOWER: [[u32; TILE]; 4] = [indices(1, true), indices(2, true), indices(4, true), indices(8, true)];
    for stage in 0..4 {
        let size = 1 << stage;
        // SAFETY: both indices have 64 bytes.
        let (upper, lower) = unsafe {
            (
                _mm512_loadu_si512(UPPER[stage].as_ptr().cast()),
                _mm512_loadu_si512(LOWER[stage].as_ptr().cast()),
            )
        };
        for i in (0..TILE).filter(|i| i & size == 0) {
            let (a, b) = (tile[i], tile[i + size]);
            tile[i] = _mm512_permutex2var_epi32(a, upper, b);
            tile[i + size] = _mm512_permutex2var_epi32(a, lower, b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of each tile, against their definition, in all layouts and at the edges.
    #[test]
    fn tiles_hold_the_right_words() {
        if !is_available() {
            println!("skipped: this machine has no AVX-512 BF16");
            return;
        }
        let round = |x: f32| u32::from(x.to_bits().wrapping_add(0x8000) >> 16 != 0) * (x.to_bits() >> 16);
        for (along, inner) in [(16, 32), (40, 70), (3, 5), (33, 64)] {
            // Whole numbers below 256 are their own bf16.
            let values: Vec<f32> = (0..along * inner).map(|i| (i % 251) as f32).collect();
            for transposed in [false, true] {
                let m = if transposed {
                    Matrix::new(&values, inner, along).t()
                } else {
                    Matrix::new(&values, along, inner)
                };
                let at = |r: usize, k: usize| match (r < along && k < inner, transposed) {
                    (false, _) => 0.0,
                    (true, false) => values[r * inner + k],
                    (true, true) => values[k * along + r],
                };
                let steps = inner.div_ceil(BLOCK);
                for strip in [Strip::Rows, Strip::Columns] {
                    let mut into = vec![7u32; 2 * steps * TILE_WORDS];
                    pack(m, 16, strip, &mut into);
                    for (i, got) in into.iter().enumerate() {
                        let (tile, x, y) = (i / TILE_WORDS, i / TILE % TILE, i % TILE);
                        let (row, step) = (16 + tile / steps * TILE, tile % steps * BLOCK);
                        let (r, p) = if strip == Strip::Rows { (x, y) } else { (y, x) };
                        let expected = round(at(row + r, step + 2 * p)) | round(at(row + r, step + 2 * p + 1)) << 16;
                        assert_eq!(*got, expected, "{strip:?}, transposed {transposed}, word {i}");
                    }
                }
            }
        }
    }
}
