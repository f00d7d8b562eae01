//! AVX2: dot products of two words, in vectors of 256 bits.

use super::tile::{Block, Step, Tile};
use super::{BLOCK, PANEL, STEP};
use std::arch::x86_64::{
    __m128i, __m256i, _mm_load_si128, _mm256_add_epi32, _mm256_add_ps, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps,
    _mm256_hadd_epi32, _mm256_loadu_ps, _mm256_madd_epi16, _mm256_mul_ps, _mm256_permute4x64_epi64, _mm256_set1_epi64x,
    _mm256_set1_ps, _mm256_setzero_si256, _mm256_storeu_ps,
};
use std::mem::MaybeUninit;

/// Rows of a tile. With two registers of sums for each row, they take 12 of the 16 registers.
pub(super) const HEIGHT: usize = 6;

/// 32-bit lanes of a register.
pub(super) const LANES: usize = 8;

/// Computes a tile.
#[target_feature(enable = "avx2")]
pub(super) fn tile(tile: &mut Tile<i16>) {
    for column in (0..PANEL.min(tile.width())).step_by(LANES) {
        match tile.height() {
            1 => sums::<1>(tile, column),
            2 => sums::<2>(tile, column),
            3 => sums::<3>(tile, column),
            4 => sums::<4>(tile, column),
            5 => sums::<5>(tile, column),
            6 => sums::<6>(tile, column),
            height => unreachable!("a tile of {height} rows"),
        }
    }
}

/// Computes [`LANES`] columns of a tile of `HEIGHT` rows, starting at `column`.
#[target_feature(enable = "avx2")]
fn sums<const HEIGHT: usize>(tile: &mut Tile<i16>, column: usize) {
    /// Steps that are written out.
    const STEPS: usize = 4;
    const STEPS_OF_BLOCK: usize = BLOCK / STEP;
    assert_eq!(tile.height(), HEIGHT, "the height of a tile");
    assert!(column + LANES <= PANEL, "columns of a panel");
    // A step of four columns fills a register of words, and two neighbouring lanes of sums belong to a column.
    let mut sums = [[_mm256_setzero_si256(); 2]; HEIGHT];
    let mut a = tile.rows().as_ptr().cast::<i16>();
    let mut b = tile.panel().steps.as_ptr().cast::<i8>().wrapping_add(column * STEP);
    macro_rules! several_steps {
        ($count:expr) => {
            for step in 0..$count {
                // SAFETY: the tile holds all steps of its panel, aligned to cache lines, and blocks of all steps of its
                // rows.
                let (b0, b1) = unsafe {
                    let b = b.add(step * size_of::<Step>()).cast::<__m128i>();
                    (_mm_load_si128(b), _mm_load_si128(b.add(1)))
                };
                let (b0, b1) = (_mm256_cvtepi8_epi16(b0), _mm256_cvtepi8_epi16(b1));
                for (row, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: as above.
                    let a = unsafe { a.add(row * BLOCK + step * STEP).cast::<i64>().read_unaligned() };
                    let a = _mm256_set1_epi64x(a);
                    sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(a, b0));
                    sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(a, b1));
                }
            }
            a = a.wrapping_add($count * STEP);
            b = b.wrapping_add($count * size_of::<Step>());
        };
    }
    const { assert!(size_of::<Block<i16>>() == BLOCK * size_of::<i16>()) };
    for _ in 0..tile.steps() / STEPS_OF_BLOCK {
        for _ in 0..STEPS_OF_BLOCK / STEPS {
            several_steps!(STEPS);
        }
        a = a.wrapping_add((HEIGHT - 1) * BLOCK);
    }
    for _ in 0..tile.steps() % STEPS_OF_BLOCK {
        several_steps!(1);
    }
    for (row, sums) in sums.iter().enumerate() {
        // The sums of columns 0, 1, 4, 5 and 2, 3, 6, 7, in halves of the register.
        let pairs = _mm256_hadd_epi32(sums[0], sums[1]);
        finish(tile, row, column, _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs));
    }
}

/// Scales the sums of columns from `column` on, adds the bias, and writes those that the tile has.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn finish<T>(tile: &mut Tile<T>, row: usize, column: usize, sums: __m256i) {
    let count = tile.width().saturating_sub(column).min(LANES);
    let scales = &tile.panel().scales[column..column + LANES];
    // SAFETY: these are as many values as the register has.
    let scales = unsafe { _mm256_loadu_ps(scales.as_ptr()) };
    let scale = _mm256_mul_ps(_mm256_set1_ps(tile.row_scale(row)), scales);
    let mut y = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scale);
    if count == LANES {
        if let Some(bias) = tile.bias() {
            // SAFETY: these are as many values as the register has.
            y = _mm256_add_ps(y, unsafe { _mm256_loadu_ps(bias[column..column + LANES].as_ptr()) });
        }
        // SAFETY: these are as many values as the register has.
        unsafe { _mm256_storeu_ps(tile.output(row, column..column + LANES).as_mut_ptr().cast(), y) };
        return;
    }
    let mut values = [0f32; LANES];
    // SAFETY: these are as many values as the register has.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), y) };
    for (lane, value) in values.iter().enumerate().take(count) {
        let y = tile.bias().map_or(*value, |bias| value + bias[column + lane]);
        tile.output(row, column + lane..column + lane + 1)[0] = MaybeUninit::new(y);
    }
}
