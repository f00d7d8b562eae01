//! The innermost loops with AVX2 and FMA: the product of a slab and a panel in registers, and their packing.

use super::{Ahead, Kernel, Rows, Slab};
use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, _mm256_add_ps, _mm256_broadcast_ss, _mm256_fmadd_ps,
    _mm256_load_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_maskload_ps, _mm256_maskstore_ps,
    _mm256_permute2f128_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_store_ps, _mm256_storeu_ps,
    _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

/// Values of a register.
const LANES: usize = 8;
/// Rows of a slab. With two registers of sums for each row, they take 12 of the 16 registers.
const SLAB: usize = 6;
/// Columns of a panel: two registers.
const PANEL: usize = 2 * LANES;

/// The kernels for processors with AVX2 and FMA.
#[derive(Debug)]
pub(super) struct Avx2;

impl Kernel for Avx2 {
    const SLAB: usize = SLAB;
    const PANEL: usize = PANEL;
    const STEP: usize = LANES;
    // Many processors without AVX-512 have second-level caches of 256 or 512 KiB.
    const WIDTH: usize = 16 * PANEL;
    const GROUP: usize = 16;

    /// Fewer than eight sums wait for each other, so the last two slabs are of nearly equal height.
    fn height(rows: usize) -> usize {
        if rows < 2 * SLAB && rows > SLAB {
            rows.div_ceil(2)
        } else {
            SLAB.min(rows)
        }
    }

    /// A row or two have too few sums to hide the latency of additions, or to read panels at the speed of a cache.
    fn panels(height: usize) -> usize {
        if height <= 2 { 2 } else { 1 }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile(
        form: Slab,
        operands: (*const f32, *const f32),
        steps: usize,
        output: Rows<*mut f32>,
        initial: Rows<*const f32>,
        shape: (usize, usize),
        ahead: Ahead,
    ) {
        // Every height is a separate function, whose sums stay in registers.
        macro_rules! of_height {
            ($($form:ident $height:literal x $registers:literal)*) => {
                match (form, shape.0, if shape.1 > PANEL { 4 } else { 2 }) {
                    $(
                        (Slab::$form, $height, $registers) => {
                            const ROW: usize = Slab::$form.strides(LANES).0;
                            const STEP: usize = Slab::$form.strides(LANES).1;
                            // SAFETY: the caller's promises.
                            unsafe {
                                sums::<ROW, STEP, $height, $registers>(operands, steps, output, initial, shape.1, ahead);
                            }
                        }
                    )*
                    _ => unreachable!("a tile of {} x {}", shape.0, shape.1),
                }
            };
        }
        of_height!(
            Rows 1 x 2  Rows 2 x 2  Rows 3 x 2  Rows 4 x 2  Rows 5 x 2  Rows 6 x 2  Rows 1 x 4  Rows 2 x 4
            Steps 1 x 2  Steps 2 x 2  Steps 3 x 2  Steps 4 x 2  Steps 5 x 2  Steps 6 x 2
        );
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn copy_rows(from: Rows<*const f32>, to: Rows<*mut f32>, rows: usize, count: usize) {
        for row in 0..rows {
            for column in (0..count).step_by(LANES) {
                let lanes = count - column;
                // SAFETY: the lanes lie inside the runs.
                unsafe {
                    let values = load(from.0.add(row * from.1 + column), lanes);
                    store(to.0.add(row * to.1 + column), values, lanes);
                }
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn cut_rows(from: Rows<*const f32>, to: *mut f32, rows: usize, count: usize, (width, room): (usize, usize)) {
        // Two rows at a time, because pieces of one register fill only half a cache line.
        for pair in (0..rows).step_by(2) {
            for (piece, start) in (0..count).step_by(width).enumerate() {
                let width = width.min(count - start);
                for row in pair..rows.min(pair + 2) {
                    for line in (0..room).step_by(LANES) {
                        // SAFETY: the lanes lie inside the row, and the line inside the room.
                        unsafe {
                            let from = from.0.wrapping_add(row * from.1 + start + line);
                            let values = load(from, width.saturating_sub(line));
                            _mm256_store_ps(to.add((piece * rows + row) * room + line), values);
                        }
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn turn(from: Rows<*const f32>, to: Rows<*mut f32>, width: usize, runs: usize, count: usize) {
        for first in (0..width).step_by(LANES) {
            let runs = runs.saturating_sub(first).min(LANES);
            for start in (0..count).step_by(LANES) {
                let steps = LANES.min(count - start);
                let mut block = [_mm256_setzero_ps(); LANES];
                for (run, line) in block.iter_mut().enumerate().take(runs) {
                    // SAFETY: the lanes lie inside the run.
                    *line = unsafe { load(from.0.add((first + run) * from.1 + start), steps) };
                }
                transpose_lines(&mut block);
                for (step, line) in block.iter().enumerate().take(steps) {
                    // SAFETY: the line lies inside the room.
                    unsafe { _mm256_storeu_ps(to.0.add((start + step) * to.1 + first), *line) };
                }
            }
        }
    }
}

/// A mask of the first `count` lanes, of fewer than all.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn mask(count: usize) -> __m256i {
    const MASKS: [i32; 2 * LANES] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let lanes = &MASKS[LANES - count..][..LANES];
    // SAFETY: as many values as a register holds.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}

/// The first `count` values, or as many as a register holds; zeros in the other lanes.
///
/// # Safety
/// The values exist.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load(from: *const f32, count: usize) -> __m256 {
    // SAFETY: the caller's promise; a masked load does not touch the other lanes.
    unsafe {
        if count >= LANES {
            _mm256_loadu_ps(from)
        } else {
            _mm256_maskload_ps(from, mask(count))
        }
    }
}

/// Stores the first `count` lanes, or all.
///
/// # Safety
/// There is room for them.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store(to: *mut f32, values: __m256, count: usize) {
    // SAFETY: the caller's promise; a masked store does not touch the other lanes. (On some processors it is slow.)
    unsafe {
        if count >= LANES {
            _mm256_storeu_ps(to, values);
        } else {
            _mm256_maskstore_ps(to, mask(count), values);
        }
    }
}

/// [`Kernel::tile`] for slabs whose rows and steps are `ROW` and `STEP` values apart, in `REGISTERS` registers of sums
/// for each row.
///
/// # Safety
/// As for [`Kernel::tile`].
#[target_feature(enable = "avx2,fma")]
unsafe fn sums<const ROW: usize, const STEP: usize, const HEIGHT: usize, const REGISTERS: usize>(
    (mut a, mut b): (*const f32, *const f32),
    steps: usize,
    output: Rows<*mut f32>,
    initial: Rows<*const f32>,
    width: usize,
    mut ahead: Ahead,
) {
    /// Steps between two prefetches.
    const STEPS: usize = 8;
    /// Values of a cache line.
    const LINE: usize = 16;
    let mut sums = [[_mm256_setzero_ps(); REGISTERS]; HEIGHT];
    let of_panel = steps * PANEL;
    macro_rules! several_steps {
        ($count:expr) => {
            for step in 0..$count {
                // SAFETY: the caller vouches for slab and panel, which hold all steps; the panel is aligned.
                unsafe {
                    let mut of_b = [_mm256_setzero_ps(); REGISTERS];
                    for (i, of_b) in of_b.iter_mut().enumerate() {
                        *of_b = _mm256_load_ps(b.add(i / 2 * of_panel + step * PANEL + i % 2 * LANES));
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let a = _mm256_broadcast_ss(&*a.add(row * ROW + step * STEP));
                        for (sum, b) in sums.iter_mut().zip(of_b) {
                            *sum = _mm256_fmadd_ps(a, b, *sum);
                        }
                    }
                }
            }
            a = a.wrapping_add($count * STEP);
            b = b.wrapping_add($count * PANEL);
        };
    }
    for _ in 0..steps / (2 * LINE) {
        // Lines of the output go into the first-level cache. Lines of operands go into the second, because they are
        // copied first. A whole piece of the inner dimension has time for eight lines of the output, and needs six. If
        // these do not begin at cache lines, the tile before has touched the first ones.
        _mm_prefetch::<_MM_HINT_T0>(ahead.output.wrapping_add(PANEL - 1).cast());
        _mm_prefetch::<_MM_HINT_T1>(ahead.runs[0].cast());
        several_steps!(STEPS);
        _mm_prefetch::<_MM_HINT_T1>(ahead.runs[1].cast());
        several_steps!(STEPS);
        _mm_prefetch::<_MM_HINT_T1>(ahead.runs[0].wrapping_add(LINE).cast());
        several_steps!(STEPS);
        _mm_prefetch::<_MM_HINT_T1>(ahead.runs[1].wrapping_add(LINE).cast());
        several_steps!(STEPS);
        ahead.output = ahead.output.wrapping_add(output.1);
        ahead.runs = ahead.runs.map(|run| run.wrapping_add(2 * LINE));
    }
    for _ in 0..steps % (2 * LINE) {
        several_steps!(1);
    }
    for (row, sums) in sums.iter().enumerate() {
        for (i, sum) in sums.iter().enumerate() {
            let column = i * LANES;
            let lanes = width.saturating_sub(column);
            // SAFETY: the caller vouches for output and initial values; lanes beyond the tile are not touched.
            unsafe {
                let initial = load(initial.0.wrapping_add(row * initial.1 + column), lanes);
                let place = output.0.wrapping_add(row * output.1 + column);
                store(place, _mm256_add_ps(initial, *sum), lanes);
            }
        }
    }
}

/// Transposes 8 x 8 values: pairs, quadruples, then halves of registers.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn transpose_lines(lines: &mut [__m256; LANES]) {
    let mut pairs = *lines;
    for i in (0..LANES).step_by(2) {
        pairs[i] = _mm256_unpacklo_ps(lines[i], lines[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(lines[i], lines[i + 1]);
    }
    /// The lower pairs of both operands, and the upper ones.
    const LOWER: i32 = 0b01_00_01_00;
    const UPPER: i32 = 0b11_10_11_10;
    // Line 4 i + j now gets column j of each half of the four rows from 4 i on.
    let mut quads = pairs;
    for i in (0..LANES).step_by(4) {
        quads[i] = _mm256_shuffle_ps::<LOWER>(pairs[i], pairs[i + 2]);
        quads[i + 1] = _mm256_shuffle_ps::<UPPER>(pairs[i], pairs[i + 2]);
        quads[i + 2] = _mm256_shuffle_ps::<LOWER>(pairs[i + 1], pairs[i + 3]);
        quads[i + 3] = _mm256_shuffle_ps::<UPPER>(pairs[i + 1], pairs[i + 3]);
    }
    for j in 0..4 {
        lines[j] = _mm256_permute2f128_ps::<0x20>(quads[j], quads[4 + j]);
        lines[4 + j] = _mm256_permute2f128_ps::<0x31>(quads[j], quads[4 + j]);
    }
}
