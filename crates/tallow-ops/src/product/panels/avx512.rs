//! The innermost loops with AVX-512: the product of a slab and a panel in registers, and their packing.

use super::{Ahead, Kernel, Rows, Slab};
use std::arch::x86_64::{
    __m512, __mmask16, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, _mm512_add_ps, _mm512_fmadd_ps, _mm512_load_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4,
    _mm512_store_ps, _mm512_storeu_ps, _mm512_unpackhi_ps, _mm512_unpacklo_ps,
};
use std::arch::x86_64::{_mm512_castpd_ps, _mm512_castps_pd, _mm512_unpackhi_pd, _mm512_unpacklo_pd};

/// Values of a register.
const LANES: usize = 16;
/// Rows of a slab. With two registers of sums for each row, they take 28 of the 32 registers.
const SLAB: usize = 14;
/// Columns of a panel: two registers.
const PANEL: usize = 2 * LANES;

/// The kernels for processors with AVX-512F.
#[derive(Debug)]
pub(super) struct Avx512;

impl Kernel for Avx512 {
    const SLAB: usize = SLAB;
    const PANEL: usize = PANEL;
    const STEP: usize = LANES;
    const WIDTH: usize = 16 * PANEL;
    const GROUP: usize = 18;

    #[target_feature(enable = "avx512f")]
    unsafe fn tile(
        form: Slab,
        operands: (*const f32, *const f32),
        steps: usize,
        output: Rows<*mut f32>,
        initial: Rows<*const f32>,
        shape: (usize, usize),
        ahead: Ahead,
    ) {
        // Only the existing rows are computed: every height is a separate function, whose sums stay in registers.
        macro_rules! of_height {
            ($($height:literal)*) => {
                match (form, shape.0.next_multiple_of(2)) {
                    $(
                        (Slab::Rows, $height) =>
                            // SAFETY: the caller's promises.
                            unsafe { sums::<{ Slab::ROW }, 1, $height>(operands, steps, output, initial, shape, ahead) },
                        (Slab::Steps, $height) =>
                            // SAFETY: the caller's promises.
                            unsafe { sums::<1, LANES, $height>(operands, steps, output, initial, shape, ahead) },
                    )*
                    _ => unreachable!("a tile of {} rows", shape.0),
                }
            };
        }
        of_height!(2 4 6 8 10 12 14);
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn copy_rows(from: Rows<*const f32>, to: Rows<*mut f32>, rows: usize, count: usize) {
        for row in 0..rows {
            for column in (0..count).step_by(LANES) {
                let lanes = mask(count - column);
                // SAFETY: the lanes lie inside the runs.
                unsafe {
                    let values = _mm512_maskz_loadu_ps(lanes, from.0.add(row * from.1 + column));
                    _mm512_mask_storeu_ps(to.0.add(row * to.1 + column), lanes, values);
                }
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn cut_rows(from: Rows<*const f32>, to: *mut f32, rows: usize, count: usize, (width, room): (usize, usize)) {
        for row in 0..rows {
            for (piece, start) in (0..count).step_by(width).enumerate() {
                let width = width.min(count - start);
                for line in (0..room).step_by(LANES) {
                    // SAFETY: the lanes lie inside the row, and the line inside the room.
                    unsafe {
                        let lanes = mask(width.saturating_sub(line));
                        let values = _mm512_maskz_loadu_ps(lanes, from.0.wrapping_add(row * from.1 + start + line));
                        _mm512_store_ps(to.add((piece * rows + row) * room + line), values);
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn turn(from: Rows<*const f32>, to: Rows<*mut f32>, width: usize, runs: usize, count: usize) {
        for first in (0..width).step_by(LANES) {
            let runs = runs.saturating_sub(first).min(LANES);
            for start in (0..count).step_by(LANES) {
                let steps = LANES.min(count - start);
                let mut block = [_mm512_setzero_ps(); LANES];
                for (run, line) in block.iter_mut().enumerate().take(runs) {
                    // SAFETY: the lanes lie inside the run.
                    *line = unsafe {
                        let at = from.0.add((first + run) * from.1 + start);
                        _mm512_maskz_loadu_ps(mask(steps), at)
                    };
                }
                transpose_lines(&mut block);
                for (step, line) in block.iter().enumerate().take(steps) {
                    // SAFETY: the line lies inside the room.
                    unsafe { _mm512_storeu_ps(to.0.add((start + step) * to.1 + first), *line) };
                }
            }
        }
    }
}

/// A mask of the first `count` lanes, or of all.
fn mask(count: usize) -> __mmask16 {
    ((1u32 << count.min(LANES)) - 1) as __mmask16
}

/// [`Kernel::tile`] for slabs whose rows and steps are `ROW` and `STEP` values apart.
///
/// # Safety
/// As for [`Kernel::tile`].
#[target_feature(enable = "avx512f")]
unsafe fn sums<const ROW: usize, const STEP: usize, const HEIGHT: usize>(
    (mut a, mut b): (*const f32, *const f32),
    steps: usize,
    output: Rows<*mut f32>,
    initial: Rows<*const f32>,
    (height, width): (usize, usize),
    mut ahead: Ahead,
) {
    const STEPS: usize = LANES / 4;
    let mut sums = [[_mm512_setzero_ps(); 2]; HEIGHT];
    macro_rules! several_steps {
        ($count:expr) => {
            for step in 0..$count {
                // SAFETY: the caller vouches for slab and panel, which hold all steps; the panel is aligned.
                unsafe {
                    let b0 = _mm512_load_ps(b.add(step * PANEL));
                    let b1 = _mm512_load_ps(b.add(step * PANEL + LANES));
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let a = _mm512_set1_ps(*a.add(row * ROW + step * STEP));
                        sums[0] = _mm512_fmadd_ps(a, b0, sums[0]);
                        sums[1] = _mm512_fmadd_ps(a, b1, sums[1]);
                    }
                }
            }
            a = a.wrapping_add($count * STEP);
            b = b.wrapping_add($count * PANEL);
        };
    }
    for _ in 0..steps / LANES {
        // Lines of the output go into the first-level cache. Lines of operands go into the second, because they are
        // copied first. If rows of the output do not begin at cache lines, the tile before has touched their first
        // ones.
        _mm_prefetch::<_MM_HINT_T0>(ahead.output.wrapping_add(LANES - 1).cast());
        several_steps!(STEPS);
        _mm_prefetch::<_MM_HINT_T0>(ahead.output.wrapping_add(PANEL - 1).cast());
        several_steps!(STEPS);
        _mm_prefetch::<_MM_HINT_T1>(ahead.runs[0].cast());
        several_steps!(STEPS);
        _mm_prefetch::<_MM_HINT_T1>(ahead.runs[1].cast());
        several_steps!(STEPS);
        ahead.output = ahead.output.wrapping_add(output.1);
        ahead.runs = ahead.runs.map(|run| run.wrapping_add(LANES));
    }
    for _ in 0..steps % LANES {
        several_steps!(1);
    }
    let masks = [mask(width), mask(width.saturating_sub(LANES))];
    for (row, sums) in sums.iter().enumerate().take(height) {
        for (half, sum) in sums.iter().enumerate() {
            let column = half * LANES;
            // SAFETY: the caller vouches for output and initial values; lanes beyond the tile are not touched.
            unsafe {
                let initial = initial.0.wrapping_add(row * initial.1 + column);
                let sum = _mm512_add_ps(_mm512_maskz_loadu_ps(masks[half], initial), *sum);
                _mm512_mask_storeu_ps(output.0.wrapping_add(row * output.1 + column), masks[half], sum);
            }
        }
    }
}

/// Transposes 16 x 16 values: pairs, quadruples, then quarters of registers.
#[inline]
#[target_feature(enable = "avx512f")]
pub(in crate::product) fn transpose_lines(lines: &mut [__m512; LANES]) {
    let mut pairs = *lines;
    for i in (0..LANES).step_by(2) {
        pairs[i] = _mm512_unpacklo_ps(lines[i], lines[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(lines[i], lines[i + 1]);
    }
    // Line 4 i + j now gets column j of each quarter of the four rows from 4 i on.
    let mut quads = pairs;
    for i in (0..LANES).step_by(4) {
        let (a, b) = (_mm512_castps_pd(pairs[i]), _mm512_castps_pd(pairs[i + 1]));
        let (c, d) = (_mm512_castps_pd(pairs[i + 2]), _mm512_castps_pd(pairs[i + 3]));
        quads[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        quads[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        quads[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        quads[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    /// The even quarters of both operands, and the odd ones.
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    for j in 0..4 {
        let (a, b, c, d) = (quads[j], quads[4 + j], quads[8 + j], quads[12 + j]);
        let (even, odd) = (_mm512_shuffle_f32x4::<EVEN>(a, b), _mm512_shuffle_f32x4::<ODD>(a, b));
        let (even_below, odd_below) = (_mm512_shuffle_f32x4::<EVEN>(c, d), _mm512_shuffle_f32x4::<ODD>(c, d));
        lines[j] = _mm512_shuffle_f32x4::<EVEN>(even, even_below);
        lines[8 + j] = _mm512_shuffle_f32x4::<ODD>(even, even_below);
        lines[4 + j] = _mm512_shuffle_f32x4::<EVEN>(odd, odd_below);
        lines[12 + j] = _mm512_shuffle_f32x4::<ODD>(odd, odd_below);
    }
}
