//! Products of matrices whose elements are rounded to bf16 on the way, with sums in f32.
//!
//! Operands are packed into tiles of 16 x 32 elements: 16 rows of the left one, or 16 columns of the right one, by 32
//! steps of the inner dimension. Two neighbouring steps share a 32-bit word, as the instructions of both kernels want
//! it: AMX (Intel, `amx.rs`), and AVX-512 BF16 (`avx512.rs`) on processors that run it at full speed.
#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
mod amx;
mod avx512;
mod pack;

use super::{Into, Matrix};
use pack::{Strip, pack};

/// Rows or columns of a tile, and words along the inner dimension.
const TILE: usize = 16;
/// Words of a tile.
const TILE_WORDS: usize = TILE * TILE;
/// Rows and columns of the output that a kernel computes at a time: two tiles each.
const BLOCK: usize = 2 * TILE;
/// Rows of the left operand that are packed at a time: while they stay in the cache, each strip of the right operand
/// comes from memory once.
const PANEL: usize = 4 * BLOCK;

/// Rows of f32 values: the first, and the distance from one to the next in values.
type Rows<P> = (P, usize);

/// Computes `BLOCK` x `BLOCK` values: the product of two pairs of packed strips of `steps` tiles each, added to initial
/// values. A distance of zero gives every row the same initial values.
type Kernel =
    unsafe fn(output: Rows<*mut f32>, initial: Rows<*const f32>, a: [*const u32; 2], b: [*const u32; 2], steps: usize);

/// The processor's units for bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Advanced Matrix Extensions: whole tiles.
    #[cfg(target_os = "linux")]
    Amx,
    /// Products of pairs in vectors of 512 bits.
    Avx512,
}

impl Unit {
    /// Every unit of this machine, the fastest first.
    fn all() -> Vec<Self> {
        let mut units = Vec::new();
        if pack::is_available() {
            #[cfg(target_os = "linux")]
            units.extend(amx::is_available().then_some(Self::Amx));
            units.push(Self::Avx512);
        }
        units
    }

    /// The fastest unit of this machine; `None` if f32 is faster than what it has.
    pub(crate) fn detect() -> Option<Self> {
        let fastest = Self::all().into_iter().next();
        fastest.filter(|unit| *unit != Self::Avx512 || avx512::is_fast())
    }

    /// Its name in records of runs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(target_os = "linux")]
            Self::Amx => "amx-bf16",
            Self::Avx512 => "avx512-bf16",
        }
    }

    fn kernel(self) -> Kernel {
        match self {
            #[cfg(target_os = "linux")]
            Self::Amx => amx::kernel,
            Self::Avx512 => avx512::kernel,
        }
    }
}

/// A right operand, packed for a unit. One that is used several times is packed once.
#[derive(Debug)]
pub(crate) struct Packed {
    unit: Unit,
    inner: usize,
    columns: usize,
    strips: Vec<u32>,
}

impl Packed {
    pub(crate) fn new(unit: Unit, b: Matrix) -> Self {
        let steps = b.rows.div_ceil(BLOCK);
        let mut strips = vec![0u32; b.columns.next_multiple_of(BLOCK) / TILE * steps * TILE_WORDS];
        if steps > 0 {
            pack(b.t(), 0, Strip::Columns, &mut strips);
        }
        Self {
            unit,
            inner: b.rows,
            columns: b.columns,
            strips,
        }
    }
}

/// A unit that is ready to compute: AMX has to be set up, and given back.
struct Session(Unit);

impl Session {
    fn begin(unit: Unit) -> Self {
        #[cfg(target_os = "linux")]
        if unit == Unit::Amx {
            amx::configure();
        }
        Self(unit)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        if self.0 == Unit::Amx {
            amx::release();
        }
    }
}

/// output = a b, with a and b rounded to bf16, added to what `into` says.
///
/// # Safety
/// The output holds as many rows of as many values as the product, which begin `stride` values apart; unless it is
/// added to, its values need not be initialised. It overlaps no operand.
///
/// # Panics
/// When the inner dimensions of the operands differ.
pub(crate) unsafe fn product(output: *mut f32, stride: usize, a: Matrix, b: &Packed, into: Into) {
    const ZEROS: [f32; BLOCK] = [0.0; BLOCK];
    let (rows, columns) = (a.rows, b.columns);
    assert_eq!(a.columns, b.inner, "the inner dimensions of a product differ");
    let steps = b.inner.div_ceil(BLOCK);
    let strip = steps * TILE_WORDS;
    let kernel = b.unit.kernel();
    let _session = Session::begin(b.unit);
    let mut panel = vec![0u32; PANEL.min(rows.next_multiple_of(BLOCK)) / TILE * strip];
    for first in (0..rows).step_by(PANEL) {
        let blocks = PANEL.min(rows - first).div_ceil(BLOCK);
        if steps > 0 {
            pack(a, first, Strip::Rows, &mut panel[..2 * blocks * strip]);
        }
        for column in (0..columns).step_by(BLOCK) {
            let strips = &b.strips[column / TILE * strip..][..2 * strip];
            let of_b = [strips.as_ptr(), strips[strip..].as_ptr()];
            let width = BLOCK.min(columns - column);
            for block in 0..blocks {
                let strips = &panel[2 * block * strip..][..2 * strip];
                let of_a = [strips.as_ptr(), strips[strip..].as_ptr()];
                let row = first + block * BLOCK;
                let height = BLOCK.min(rows - row);
                // SAFETY: row and column lie inside the output.
                let place = unsafe { output.add(row * stride + column) };
                if width == BLOCK && height == BLOCK {
                    let initial = match into {
                        Into::Add => (place.cast_const(), stride),
                        Into::Set => (ZEROS.as_ptr(), 0),
                        Into::Bias(bias) => (bias[column..column + BLOCK].as_ptr(), 0),
                    };
                    // SAFETY: the strips hold `steps` tiles each (they are slices of that length), the output a whole
                    // block at this place, and the session has made the unit ready.
                    unsafe { kernel((place, stride), initial, of_a, of_b, steps) };
                    continue;
                }
                let mut sums = [0f32; BLOCK * BLOCK];
                let whole = sums.as_mut_ptr();
                // SAFETY: as above; the block of sums is whole.
                unsafe { kernel((whole, BLOCK), (ZEROS.as_ptr(), 0), of_a, of_b, steps) };
                for r in 0..height {
                    for c in 0..width {
                        let sum = sums[r * BLOCK + c];
                        // SAFETY: row + r and column + c lie inside the output; it is read only if it is added to.
                        unsafe {
                            let value = place.add(r * stride + c);
                            value.write(match into {
                                Into::Add => value.read() + sum,
                                Into::Set => sum,
                                Into::Bias(bias) => bias[column + c] + sum,
                            });
                        }
                    }
                }
            }
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

    /// The nearest bf16; of two that are equally near, the one that ends in a zero bit.
    fn rounded(x: f32) -> f64 {
        let bits = x.to_bits();
        f64::from(f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000))
    }

    /// Every unit of this machine, all layouts, shapes around the sizes of tiles, blocks and panels.
    #[test]
    fn equals_the_definition() {
        let units = Unit::all();
        if units.is_empty() {
            println!("skipped: this machine has no unit for bf16");
        }
        let shapes = [
            (1, 1, 1),
            (16, 32, 16),
            (32, 64, 32),
            (33, 31, 35),
            (130, 70, 47),
            (3, 100, 300),
            (5, 0, 3),
            (129, 33, 1),
            (64, 96, 64),
        ];
        for (unit, (rows, inner, columns)) in units.iter().flat_map(|unit| shapes.map(|shape| (*unit, shape))) {
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
                let bias = values(columns, 3);
                let a = Matrix::new(&a_values, a_rows, a_columns);
                let b = Matrix::with_stride(&b_values, b_rows, b_columns, b_columns + 3);
                let a = if transposed & 1 == 0 { a } else { a.t() };
                let b = if transposed & 2 == 0 { b } else { b.t() };
                let stride = columns + 2;
                for into in [Into::Set, Into::Add, Into::Bias(&bias)] {
                    let mut y = vec![0.5f32; rows * stride];
                    // SAFETY: the output has `rows` rows of `stride` values.
                    unsafe { product(y.as_mut_ptr(), stride, a, &Packed::new(unit, b), into) };
                    for (index, y) in y.iter().enumerate() {
                        let (i, j) = (index / stride, index % stride);
                        let mut expected = match into {
                            _ if j >= columns => 0.5,
                            Into::Add => 0.5,
                            Into::Set => 0.0,
                            Into::Bias(bias) => f64::from(bias[j]),
                        };
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
