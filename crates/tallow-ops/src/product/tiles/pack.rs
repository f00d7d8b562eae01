//! Packing of f32 matrices into tiles of bf16 words, with AVX-512.

use super::{BLOCK, TILE, Tile};
use crate::product::Matrix;
use crate::product::panels::transpose_lines;
use crate::profile::{Operation, span};
use std::arch::x86_64::{
    __m256i, __m512, __m512bh, __m512i, _mm512_castsi512_ps, _mm512_castsi512_si256, _mm512_cvtepu16_epi32,
    _mm512_cvtne2ps_pbh, _mm512_extracti64x4_epi64, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_permutexvar_epi16,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
};
use std::mem::transmute;
use std::ops::Range;

/// Whether the processor has the instructions for packing.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

/// The direction of a strip of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strip {
    /// Rows of a left operand: the words of a row lie side by side.
    Rows,
    /// Columns of a right operand: the words of a step lie side by side.
    Columns,
}

/// Parts of bf16 that make up an element of f32.
pub(super) const PARTS: usize = 3;

/// Packs rows of a matrix, starting at `first`, by a piece of the inner dimension into as many strips of tiles as
/// `into` holds. The columns of a right operand are passed as the rows of its transpose. Each tile has `parts` parts.
/// Elements beyond the matrix are zero.
///
/// # Panics
/// When the processor lacks the instructions, or `parts` is neither 1 nor [`PARTS`].
pub(super) fn pack(parts: usize, m: Matrix, first: usize, depth: Range<usize>, strip: Strip, into: &mut [Tile]) {
    assert!(is_available(), "this machine has no AVX-512 BF16");
    let _span = span(Operation::Packing);
    assert!(parts == 1 || parts == PARTS, "elements have no {parts} parts");
    // SAFETY: the instructions exist.
    unsafe {
        match parts {
            1 => pack_strips::<1>(m, first, depth, strip, into),
            _ => pack_strips::<PARTS>(m, first, depth, strip, into),
        }
    }
}

/// # Safety
/// [`is_available`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_strips<const N: usize>(m: Matrix, first: usize, depth: Range<usize>, strip: Strip, into: &mut [Tile]) {
    let steps = depth.len().div_ceil(BLOCK);
    let strips = into.len() / (steps * N);
    let mut tile = |index: usize, step: usize| {
        let into = &mut into[(index * steps + step) * N..][..N];
        let low = depth.start + step * BLOCK;
        // SAFETY: the instructions exist.
        unsafe { pack_tile::<N>(m, first + index * TILE, low..depth.end.min(low + BLOCK), strip, into) };
    };
    // The matrix is read along its contiguous dimension, because processors prefetch in this order.
    if m.strides.1 == 1 {
        for index in 0..strips {
            (0..steps).for_each(|step| tile(index, step));
        }
    } else {
        for step in 0..steps {
            (0..strips).for_each(|index| tile(index, step));
        }
    }
}

/// Packs one tile of each part.
///
/// # Safety
/// [`is_available`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_tile<const N: usize>(m: Matrix, start: usize, depth: Range<usize>, strip: Strip, into: &mut [Tile]) {
    let (stride, step_stride) = m.strides;
    let width = TILE.min(m.rows.saturating_sub(start));
    let (low, length) = (depth.start, depth.len());
    // If the inner dimension is contiguous, a register holds the words of a row, otherwise those of a step.
    let by_rows = step_stride == 1;
    // Whether lines of memory become lines of tiles.
    let straight = by_rows == (strip == Strip::Rows);
    if width == TILE && length == BLOCK && (by_rows || stride == 1) {
        let corner = &m.values[start * stride + low * step_stride..];
        let reach = if by_rows {
            (TILE - 1) * stride + BLOCK
        } else {
            (BLOCK - 1) * step_stride + TILE
        };
        assert!(reach <= corner.len(), "a tile reaches beyond its matrix");
        if N > 1 && !by_rows && strip == Strip::Rows {
            // SAFETY: the 32 steps of 16 values lie inside the slice (asserted).
            unsafe { pack_turned::<N>(corner.as_ptr(), step_stride, into) };
            return;
        }
        for line in 0..TILE {
            // SAFETY: the last of the 16 rows, or of the 32 steps, ends inside the slice (asserted).
            let words: [_; N] = unsafe {
                if by_rows {
                    words_of_row(corner.as_ptr().add(line * stride))
                } else {
                    words_of_step(corner.as_ptr().add(2 * line * step_stride), step_stride)
                }
            };
            for (tile, words) in into.iter_mut().zip(words) {
                tile.set_line(line, words);
            }
        }
    } else {
        let mut values = [[0f32; BLOCK]; TILE];
        for (r, row) in values.iter_mut().enumerate().take(width) {
            for (k, value) in row.iter_mut().enumerate().take(length) {
                *value = m.values[(start + r) * stride + (low + k) * step_stride];
            }
        }
        for (line, row) in values.iter().enumerate() {
            // SAFETY: a row has 32 values.
            let words: [_; N] = unsafe { words_of_row(row.as_ptr()) };
            for (tile, words) in into.iter_mut().zip(words) {
                tile.set_line(line, words);
            }
        }
        if strip == Strip::Columns {
            into.iter_mut().for_each(|tile| tile.transpose());
        }
        return;
    }
    if !straight {
        into.iter_mut().for_each(|tile| tile.transpose());
    }
}

/// Packs a tile of a left operand whose steps have contiguous elements and are `stride` values apart. Transposing the
/// elements once is faster than transposing the words of each part.
///
/// # Safety
/// [`is_available`]; at each of 32 steps there are 16 numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_turned<const N: usize>(corner: *const f32, stride: usize, into: &mut [Tile]) {
    let [low, high] = [0, TILE].map(|first| {
        let mut lines = [_mm512_setzero_ps(); TILE];
        for (step, line) in lines.iter_mut().enumerate() {
            // SAFETY: first + step is one of the 32 steps.
            *line = unsafe { _mm512_loadu_ps(corner.add((first + step) * stride)) };
        }
        transpose_lines(&mut lines);
        lines
    });
    for (line, (low, high)) in low.into_iter().zip(high).enumerate() {
        let words: [_; N] = words_of_parts(low, high);
        for (tile, words) in into.iter_mut().zip(words) {
            tile.set_line(line, words);
        }
    }
}

impl Tile {
    /// Writes a line of 16 words.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn set_line(&mut self, line: usize, words: __m512i) {
        let into = &mut self.0[line * TILE..][..TILE];
        // SAFETY: the slice holds 16 words.
        unsafe { _mm512_storeu_si512(into.as_mut_ptr().cast(), words) };
    }

    /// Transposes a tile. Words are moved as if they were floating-point numbers; the instructions do not depend on the
    /// values.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn transpose(&mut self) {
        let mut lines = [_mm512_setzero_ps(); TILE];
        for (line, words) in lines.iter_mut().zip(self.0.chunks_exact(TILE)) {
            // SAFETY: the chunk holds 16 words.
            *line = unsafe { _mm512_loadu_ps(words.as_ptr().cast()) };
        }
        transpose_lines(&mut lines);
        for (line, words) in lines.into_iter().zip(self.0.chunks_exact_mut(TILE)) {
            // SAFETY: the chunk holds 16 words.
            unsafe { _mm512_storeu_ps(words.as_mut_ptr().cast(), line) };
        }
    }
}

/// The parts of 32 numbers as words: the numbers rounded to bf16, then the remainders rounded to bf16, and so on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn words_of_parts<const N: usize>(mut low: __m512, mut high: __m512) -> [__m512i; N] {
    let mut words = [_mm512_setzero_si512(); N];
    for (part, words) in words.iter_mut().enumerate() {
        // SAFETY: both types are 512 bits, and every pattern is valid.
        *words = unsafe { transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) };
        if part + 1 < N {
            let value = |half: __m256i| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)));
            low = _mm512_sub_ps(low, value(_mm512_castsi512_si256(*words)));
            high = _mm512_sub_ps(high, value(_mm512_extracti64x4_epi64::<1>(*words)));
        }
    }
    words
}

/// Sixteen words of 32 contiguous values.
///
/// # Safety
/// [`is_available`]; `values` holds 32 numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn words_of_row<const N: usize>(values: *const f32) -> [__m512i; N] {
    // SAFETY: the caller vouches for the values.
    unsafe { words_of_parts(_mm512_loadu_ps(values), _mm512_loadu_ps(values.add(TILE))) }
}

/// Sixteen words of two steps: 16 values, and the 16 values that follow at a distance of `stride`.
///
/// # Safety
/// [`is_available`]; `values` holds 16 numbers, and 16 more at `stride`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn words_of_step<const N: usize>(values: *const f32, stride: usize) -> [__m512i; N] {
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
    let (words, index): ([__m512i; N], _) = unsafe {
        let words = words_of_parts(_mm512_loadu_ps(values), _mm512_loadu_ps(values.add(stride)));
        (words, _mm512_loadu_si512(INTERLEAVE.as_ptr().cast()))
    };
    words.map(|words| _mm512_permutexvar_epi16(index, words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::tiles::TILE_WORDS;

    /// Compares the words of each tile with their definition, in all layouts and at the edges.
    #[test]
    fn tiles_hold_the_right_words() {
        if !is_available() {
            println!("skipped: this machine has no AVX-512 BF16");
            return;
        }
        let round = |x: f32| (x.to_bits() + 0x7fff + (x.to_bits() >> 16 & 1)) >> 16;
        for (along, inner) in [(16, 32), (40, 70), (3, 5), (33, 64)] {
            let values: Vec<f32> = (0..along * inner).map(|i| ((i % 251) as f32 - 100.0) / 7.0).collect();
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
                for (strip, parts) in [
                    (Strip::Rows, 1),
                    (Strip::Columns, 1),
                    (Strip::Rows, PARTS),
                    (Strip::Columns, PARTS),
                ] {
                    // The second piece of the inner dimension, if there is one.
                    let depth = if inner > BLOCK { BLOCK..inner } else { 0..inner };
                    let steps = depth.len().div_ceil(BLOCK);
                    let mut into = vec![Tile([7; TILE_WORDS]); 2 * steps * parts];
                    pack(parts, m, 16, depth.clone(), strip, &mut into);
                    for (i, got) in into.iter().flat_map(|tile| &tile.0).enumerate() {
                        let (tile, x, y) = (i / TILE_WORDS, i / TILE % TILE, i % TILE);
                        let (row, step) = (
                            16 + tile / (steps * parts) * TILE,
                            depth.start + tile / parts % steps * BLOCK,
                        );
                        let (r, p) = if strip == Strip::Rows { (x, y) } else { (y, x) };
                        let part = |x: f32| {
                            let mut rest = x;
                            for _ in 0..tile % parts {
                                rest -= f32::from_bits(round(rest) << 16);
                            }
                            round(rest)
                        };
                        let expected = part(at(row + r, step + 2 * p)) | part(at(row + r, step + 2 * p + 1)) << 16;
                        assert_eq!(
                            *got, expected,
                            "{strip:?}, transposed {transposed}, {parts} parts, word {i}"
                        );
                    }
                }
            }
        }
    }
}
