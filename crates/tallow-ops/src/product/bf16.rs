//! Products of matrices whose elements are rounded to bf16 on the way, with sums in f32.
//!
//! Operands are packed into tiles of 16 x 32 elements: 16 rows of the left one, or 16 columns of the right one, by 32
//! steps of the inner dimension. Two neighbouring steps share a 32-bit word, as the instructions of both kernels want
//! it: AMX (Intel, [`super::amx`]), and AVX-512 BF16 on processors that run it at full speed ([`super::avx512_bf16`]).

use super::{Into, Matrix, Output};
use pulp::Arch;

/// Rows or columns of a tile, and words along the inner dimension.
pub(super) const TILE: usize = 16;
/// Words of a tile.
pub(super) const TILE_WORDS: usize = TILE * TILE;
/// Rows and columns of the output that a kernel computes at a time: two tiles each.
pub(super) const BLOCK: usize = 2 * TILE;
/// Rows of the left operand that are packed at a time.
const PANEL: usize = 4 * BLOCK;

/// Computes `BLOCK` x `BLOCK` values of an output whose rows begin `stride` values apart: the product of two pairs of
/// packed strips of `steps` tiles each, added to what is there.
pub(super) type Kernel =
    unsafe fn(output: *mut f32, stride: usize, a: [*const u32; 2], b: [*const u32; 2], steps: usize);

/// The processor's units for bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Advanced Matrix Extensions: whole tiles.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx,
    /// Products of pairs in vectors of 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Unit {
    /// The fastest unit of this machine; `None` if f32 is faster than what it has.
    pub(crate) fn detect() -> Option<Self> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if super::amx::is_available() {
            return Some(Self::Amx);
        }
        #[cfg(target_arch = "x86_64")]
        if super::avx512_bf16::is_fast() {
            return Some(Self::Avx512);
        }
        None
    }

    /// Its name in records of runs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => "amx-bf16",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512-bf16",
        }
    }
}

/// The four strips of tiles that a kernel reads, and its output, of which `rows` x `columns` values count.
struct Job<'a> {
    a: [&'a [u32]; 2],
    b: [&'a [u32]; 2],
    steps: usize,
    rows: usize,
    columns: usize,
}

/// A word: bf16 of the even step in the low half, of the odd step in the high half.
#[inline(always)]
fn word(even: f32, odd: f32) -> u32 {
    round(even) >> 16 | (round(odd) & 0xffff_0000)
}

/// Rounds to the nearest bf16, ties to even, in the high half of the bits. NaN as processors make it stays NaN.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    bits.wrapping_add(0x7fff + (bits >> 16 & 1))
}

/// Packs one dimension of a matrix (`count` rows from `first` on, or columns of a transposed one) by the inner
/// dimension into strips of tiles. In a tile of rows a row's words lie side by side; in a tile of columns, a step's.
#[inline(always)]
fn pack(m: Matrix, first: usize, count: usize, rows: bool, into: &mut [u32]) {
    let (along, inner) = (m.rows, m.columns);
    let (stride, step_stride) = m.strides;
    let steps = inner.div_ceil(BLOCK);
    let mut tile = [[0u32; TILE]; TILE];
    for (strip, into) in into.chunks_exact_mut(steps * TILE_WORDS).take(count / TILE).enumerate() {
        let start = first + strip * TILE;
        let width = TILE.min(along.saturating_sub(start));
        for (step, into) in into.chunks_exact_mut(TILE_WORDS).enumerate() {
            let low = step * BLOCK;
            let length = BLOCK.min(inner - low);
            let full = width == TILE && length == BLOCK;
            // `tile[x][y]`: x runs along what is contiguous in memory last.
            let by_rows = step_stride == 1;
            if full && by_rows {
                for (r, words) in tile.iter_mut().enumerate() {
                    let values = &m.values[(start + r) * stride + low..][..BLOCK];
                    for (p, word_of) in words.iter_mut().enumerate() {
                        *word_of = word(values[2 * p], values[2 * p + 1]);
                    }
                }
            } else if full && stride == 1 {
                for (p, words) in tile.iter_mut().enumerate() {
                    let even = &m.values[(low + 2 * p) * step_stride + start..][..TILE];
                    let odd = &m.values[(low + 2 * p + 1) * step_stride + start..][..TILE];
                    for (r, word_of) in words.iter_mut().enumerate() {
                        *word_of = word(even[r], odd[r]);
                    }
                }
            } else {
                let at = |r: usize, k: usize| {
                    if r < width && k < length {
                        m.values[(start + r) * stride + (low + k) * step_stride]
                    } else {
                        0.0
                    }
                };
                for (x, words) in tile.iter_mut().enumerate() {
                    for (y, word_of) in words.iter_mut().enumerate() {
                        let (r, p) = if by_rows { (x, y) } else { (y, x) };
                        *word_of = word(at(r, 2 * p), at(r, 2 * p + 1));
                    }
                }
            }
            if by_rows == rows {
                for (into, words) in into.chunks_exact_mut(TILE).zip(&tile) {
                    into.copy_from_slice(words);
                }
            } else {
                for (y, into) in into.chunks_exact_mut(TILE).enumerate() {
                    for (x, into) in into.iter_mut().enumerate() {
                        *into = tile[x][y];
                    }
                }
            }
        }
    }
}

/// output = a b, or output += a b, with a and b rounded to bf16.
///
/// # Panics
/// When the shapes do not fit.
pub(crate) fn product_bf16(unit: Unit, output: Output, a: Matrix, b: Matrix, into: Into) {
    let (rows, inner, columns) = (a.rows, a.columns, b.columns);
    super::check(&output, a, b);
    let Output { values, stride } = output;
    if into == Into::Set {
        for row in 0..rows {
            values[row * stride..row * stride + columns].fill(0.0);
        }
    }
    if rows == 0 || inner == 0 || columns == 0 {
        return;
    }
    let steps = inner.div_ceil(BLOCK);
    let strip = steps * TILE_WORDS;
    let padded = columns.next_multiple_of(BLOCK);
    let mut packed_b = vec![0u32; padded / TILE * strip];
    let mut packed_a = vec![0u32; PANEL.min(rows.next_multiple_of(BLOCK)) / TILE * strip];
    Arch::new().dispatch(|| pack(b.t(), 0, padded, false, &mut packed_b));
    let session = Session::begin(unit);
    for first in (0..rows).step_by(PANEL) {
        let count = PANEL.min(rows - first).next_multiple_of(BLOCK);
        Arch::new().dispatch(|| pack(a, first, count, true, &mut packed_a));
        for column in (0..columns).step_by(BLOCK) {
            let at_b = column / TILE * strip;
            for row in (0..count).step_by(BLOCK) {
                if first + row >= rows {
                    break;
                }
                let at_a = row / TILE * strip;
                let job = Job {
                    a: [&packed_a[at_a..][..strip], &packed_a[at_a + strip..][..strip]],
                    b: [&packed_b[at_b..][..strip], &packed_b[at_b + strip..][..strip]],
                    steps,
                    rows: BLOCK.min(rows - first - row),
                    columns: BLOCK.min(columns - column),
                };
                session.run(&mut values[(first + row) * stride + column..], stride, &job);
            }
        }
    }
}

/// A unit that is ready to compute; AMX has to be set up and torn down.
struct Session {
    unit: Unit,
}

impl Session {
    fn begin(unit: Unit) -> Self {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if unit == Unit::Amx {
            super::amx::configure();
        }
        Self { unit }
    }

    #[allow(unsafe_code)]
    fn run(&self, output: &mut [f32], stride: usize, job: &Job) {
        let kernel: Kernel = match self.unit {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Unit::Amx => super::amx::kernel,
            #[cfg(target_arch = "x86_64")]
            Unit::Avx512 => super::avx512_bf16::kernel,
        };
        let (a, b) = (job.a.map(<[u32]>::as_ptr), job.b.map(<[u32]>::as_ptr));
        for strip in job.a.iter().chain(&job.b) {
            assert!(
                strip.len() >= job.steps * TILE_WORDS,
                "a strip is shorter than its steps"
            );
        }
        if job.rows == BLOCK && job.columns == BLOCK {
            assert!(
                output.len() >= (BLOCK - 1) * stride + BLOCK,
                "an output ends inside a block"
            );
            // SAFETY: the strips hold `steps` tiles and the output a whole block (asserted above), and a `Session` is
            // made only for units that `Unit::detect` or a test has found on this machine.
            unsafe { kernel(output.as_mut_ptr(), stride, a, b, job.steps) };
            return;
        }
        let mut block = [0f32; BLOCK * BLOCK];
        // SAFETY: as above; the block is whole.
        unsafe { kernel(block.as_mut_ptr(), BLOCK, a, b, job.steps) };
        for row in 0..job.rows {
            let values = &mut output[row * stride..][..job.columns];
            for (value, sum) in values.iter_mut().zip(&block[row * BLOCK..]) {
                *value += sum;
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self.unit == Unit::Amx {
            super::amx::release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: u64) -> Vec<f32> {
        let key = crate::Key::new(seed, crate::Purpose::Initialisation);
        key.normal(count).into_iter().map(|x| x as f32).collect()
    }

    fn rounded(x: f32) -> f64 {
        f64::from(f32::from_bits(round(x) & 0xffff_0000))
    }

    #[test]
    fn rounding_is_to_nearest_and_even() {
        for (x, expected) in [
            (1.0f32, 1.0f32),
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 1.0 / 64.0),
            (1.0 + 1.1 / 256.0, 1.0 + 1.0 / 128.0),
            (-2.5e-3, -0.002_502_441_4),
            (f32::INFINITY, f32::INFINITY),
            (0.0, 0.0),
        ] {
            assert_eq!(rounded(x), f64::from(expected), "{x}");
        }
        assert!(rounded(f32::NAN).is_nan());
        assert_eq!(word(1.0, -2.0), 0xc000_3f80);
    }

    /// Every unit of this machine, all layouts, shapes around the sizes of tiles, blocks and panels.
    #[test]
    fn equals_the_definition() {
        let units = units();
        if units.is_empty() {
            println!("skipped: this machine has no unit for bf16");
        }
        for unit in units {
            for (rows, inner, columns) in [
                (1, 1, 1),
                (16, 32, 16),
                (32, 64, 32),
                (33, 31, 35),
                (130, 70, 47),
                (3, 100, 300),
                (5, 0, 3),
                (129, 33, 1),
            ] {
                for transposed in 0..4 {
                    let (a_rows, a_columns) = if transposed & 1 == 0 {
                        (rows, inner)
                    } else {
                        (inner, rows)
                    };
                    let (b_rows, b_columns) = if transposed & 2 == 0 {
                        (inner, columns)
                    } else {
                        (columns, inner)
                    };
                    let (a_values, b_values) = (values(a_rows * a_columns, 1), values(b_rows * (b_columns + 3), 2));
                    let a = Matrix::new(&a_values, a_rows, a_columns);
                    let b = Matrix::with_stride(&b_values, b_rows, b_columns, b_columns + 3);
                    let a = if transposed & 1 == 0 { a } else { a.t() };
                    let b = if transposed & 2 == 0 { b } else { b.t() };
                    let stride = columns + 2;
                    for into in [Into::Set, Into::Add] {
                        let mut y = vec![0.5f32; rows * stride];
                        product_bf16(unit, Output { values: &mut y, stride }, a, b, into);
                        for (index, y) in y.iter().enumerate() {
                            let (i, j) = (index / stride, index % stride);
                            let mut expected = if j >= columns || into == Into::Add { 0.5 } else { 0.0 };
                            for k in 0..if j < columns { inner } else { 0 } {
                                let of_a = a.values[i * a.strides.0 + k * a.strides.1];
                                let of_b = b.values[k * b.strides.0 + j * b.strides.1];
                                expected += rounded(of_a) * rounded(of_b);
                            }
                            assert!((f64::from(*y) - expected).abs() < 1e-4, "{unit:?}: {y} {expected}");
                        }
                    }
                }
            }
        }
    }

    fn units() -> Vec<Unit> {
        let mut units = Vec::new();
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        units.extend(super::super::amx::is_available().then_some(Unit::Amx));
        #[cfg(target_arch = "x86_64")]
        units.extend(super::super::avx512_bf16::is_available().then_some(Unit::Avx512));
        units
    }
}
