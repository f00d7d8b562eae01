//! Matrix products in tiles of bf16, with sums in f32. Elements are rounded to bf16, or f32 elements are split into
//! three bf16 each.
//!
//! A number in f32 is the sum of three numbers in bf16, to all its 24 bits: x = h + m + l, where each part is the
//! remainder after the previous parts, rounded to bf16. The six greatest of the nine products of parts are summed; the
//! others are below the rounding of f32 (Henry, Tang, Heinecke 2019, "Leveraging the bfloat16 Artificial Intelligence
//! Datatype For Higher-Precision Computations"). This can be the fastest product in f32 if a processor multiplies bf16
//! more than six times as fast as f32; how much faster it has to be depends on the cost of packing
//! (docs/performance.md). Units for bf16 treat denormal numbers as zero, so parts of elements below 2^-103 are lost,
//! and elements above 3.39e38 round to infinity.
//!
//! Operands are packed into tiles of 16 x 32 elements: 16 rows of the left one, or 16 columns of the right one, by 32
//! steps of the inner dimension. Two neighbouring steps share a 32-bit word, as the instructions of both kernels
//! require: AMX (Intel, `amx.rs`), and AVX-512 BF16 (`avx512.rs`) on processors that run it at full speed. The parts of
//! a tile follow each other.
//!
//! The inner dimension is cut into pieces of [`DEPTH`]. Within a piece, the left operand is cut into panels of
//! [`PANEL`] rows and the right one into panels of [`WIDTH`] strips. Together they take 0.8 MiB, or 1.2 with three
//! parts, of the second-level cache, which has 2 MiB on processors with AMX.
//!
//! An element of the result depends only on its row and its column, to the bit, not on other rows and columns.
#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
mod amx;
mod avx512;
mod pack;

use super::{Into, Matrix};
use pack::{Strip, pack};
use std::cell::RefCell;
use std::ops::Range;

/// Rows or columns of a tile, and words along the inner dimension.
const TILE: usize = 16;
/// Words of a tile.
const TILE_WORDS: usize = TILE * TILE;
/// Rows and columns of the output that a kernel computes at a time: two tiles each.
const BLOCK: usize = 2 * TILE;
/// Steps of the inner dimension that are packed at a time.
const DEPTH: usize = 16 * BLOCK;
/// Rows of the left operand that are packed at a time.
const PANEL: usize = 8 * BLOCK;
/// The number of strips of the right operand (the strips of all parts count) that are used before the next rows. They
/// stay in the second-level cache.
const WIDTH: usize = 32;

/// The words of a tile, aligned to a cache line, so that no row of it takes two.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Tile([u32; TILE_WORDS]);

impl Tile {
    const ZERO: Self = Self([0; TILE_WORDS]);
}

/// Rows of f32 values: a pointer to the first, and the distance from one to the next in values.
type Rows<P> = (P, usize);

/// Computes `BLOCK` x `BLOCK` values: the product of two pairs of packed strips, added to initial values. Each strip
/// has `steps` tiles, times the number of parts. If the distance between rows of initial values is zero, all rows have
/// the same ones.
type Kernel = unsafe fn(
    output: Rows<*mut f32>,
    initial: Rows<*const f32>,
    a: [*const Tile; 2],
    b: [*const Tile; 2],
    steps: usize,
);

/// The conversion of a matrix's f32 elements for tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factors {
    /// They are rounded to bf16.
    Rounded,
    /// They are split into three bf16.
    Parts,
}

/// The units of a processor, with the factors that they multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Advanced Matrix Extensions: whole tiles of elements rounded to bf16.
    #[cfg(target_os = "linux")]
    Amx,
    /// Advanced Matrix Extensions with f32 elements in three parts.
    #[cfg(target_os = "linux")]
    AmxParts,
    /// Products of pairs in vectors of 512 bits, of elements rounded to bf16.
    Avx512,
}

impl Unit {
    /// Every unit of this machine, the fastest first.
    fn all() -> Vec<Self> {
        let mut units = Vec::new();
        if pack::is_available() {
            #[cfg(target_os = "linux")]
            if amx::is_available() {
                units.extend([Self::Amx, Self::AmxParts]);
            }
            units.push(Self::Avx512);
        }
        units
    }

    /// The fastest unit of this machine for such products; `None` if vectors of f32 are faster.
    pub(crate) fn detect(factors: Factors) -> Option<Self> {
        let suits = |unit: &Self| match unit {
            #[cfg(target_os = "linux")]
            Self::Amx => factors == Factors::Rounded,
            #[cfg(target_os = "linux")]
            Self::AmxParts => factors == Factors::Parts,
            Self::Avx512 => factors == Factors::Rounded && avx512::is_fast(),
        };
        Self::all().into_iter().find(suits)
    }

    /// The name in records of runs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(target_os = "linux")]
            Self::Amx => "amx-bf16",
            #[cfg(target_os = "linux")]
            Self::AmxParts => "amx-bf16x3",
            Self::Avx512 => "avx512-bf16",
        }
    }

    fn kernel(self) -> Kernel {
        match self {
            #[cfg(target_os = "linux")]
            Self::Amx => amx::kernel,
            #[cfg(target_os = "linux")]
            Self::AmxParts => amx::kernel_of_parts,
            Self::Avx512 => avx512::kernel,
        }
    }

    /// The number of tiles for one tile of elements.
    fn parts(self) -> usize {
        match self {
            #[cfg(target_os = "linux")]
            Self::AmxParts => pack::PARTS,
            #[cfg(target_os = "linux")]
            Self::Amx => 1,
            Self::Avx512 => 1,
        }
    }

    /// The number of columns of the right operand that make [`WIDTH`] strips, in whole blocks.
    fn width(self) -> usize {
        (WIDTH / self.parts()) * TILE / BLOCK * BLOCK
    }

    /// The number of tiles of a strip over a piece of the inner dimension, all parts counted.
    fn strip(self, depth: &Range<usize>) -> usize {
        depth.len().div_ceil(BLOCK) * self.parts()
    }

    /// Makes a unit ready to compute: AMX has to be configured, and released afterwards.
    fn begin(self) -> Session {
        #[cfg(target_os = "linux")]
        if self != Self::Avx512 {
            amx::configure();
        }
        Session(self)
    }
}

struct Session(Unit);

impl Drop for Session {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        if self.0 != Unit::Avx512 {
            amx::release();
        }
    }
}

/// A right operand, packed for a unit: all strips of the first piece of the inner dimension, then those of the next.
#[derive(Debug)]
pub(crate) struct Packed {
    unit: Unit,
    inner: usize,
    columns: usize,
    tiles: Vec<Tile>,
}

impl Packed {
    /// The size in memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.tiles.as_slice())
    }

    pub(crate) fn new(unit: Unit, b: Matrix) -> Self {
        let mut tiles = vec![Tile::ZERO; strips(b.columns) * unit.strip(&(0..b.rows))];
        let mut rest = &mut tiles[..];
        for depth in pieces(b.rows) {
            let (piece, others) = rest.split_at_mut(strips(b.columns) * unit.strip(&depth));
            pack(unit.parts(), b.t(), 0, depth, Strip::Columns, piece);
            rest = others;
        }
        Self {
            unit,
            inner: b.rows,
            columns: b.columns,
            tiles,
        }
    }

    /// The tiles of a piece of the inner dimension.
    fn piece(&self, depth: &Range<usize>) -> &[Tile] {
        &self.tiles[strips(self.columns) * self.unit.strip(&(0..depth.start))..]
    }
}

/// A right operand.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// It has been packed before.
    Packed(&'a Packed),
    /// It is packed piece by piece.
    Fresh(Unit, Matrix<'a>),
}

impl<'a> Right<'a> {
    /// All of a packed operand.
    pub(crate) fn packed(packed: &'a Packed) -> Self {
        Self::Packed(packed)
    }

    /// Its rows and columns.
    pub(crate) fn shape(self) -> (usize, usize) {
        match self {
            Self::Packed(packed) => (packed.inner, packed.columns),
            Self::Fresh(_, b) => (b.rows, b.columns),
        }
    }
}

/// The number of strips for `count` rows or columns, rounded up to an even number.
fn strips(count: usize) -> usize {
    count.next_multiple_of(BLOCK) / TILE
}

/// The pieces of the inner dimension.
fn pieces(inner: usize) -> impl Iterator<Item = Range<usize>> {
    (0..inner)
        .step_by(DEPTH)
        .map(move |start| start..inner.min(start + DEPTH))
}

thread_local! {
    /// Memory for the panel and for a piece of the right operand, reused by later products.
    static SCRATCH: RefCell<(Vec<Tile>, Vec<Tile>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// The first `count` tiles of memory that grows to hold them.
fn grown(tiles: &mut Vec<Tile>, count: usize) -> &mut [Tile] {
    if tiles.len() < count {
        tiles.resize(count, Tile::ZERO);
    }
    &mut tiles[..count]
}

/// output = a b, added to the values that `into` names.
///
/// # Safety
/// The output holds all rows of the product, which begin `stride` values apart. Its values need not be initialised,
/// unless the product is added to them. It overlaps no operand.
///
/// # Panics
/// When the inner dimensions of the operands differ.
pub(crate) unsafe fn product(output: *mut f32, stride: usize, a: Matrix, b: Right, into: Into) {
    let (inner, columns) = b.shape();
    let unit = match b {
        Right::Packed(packed) => packed.unit,
        Right::Fresh(unit, _) => unit,
    };
    assert_eq!(a.columns, inner, "the inner dimensions of a product differ");
    let into = Initial { into, unit };
    if inner == 0 {
        // SAFETY: the caller vouches for the output.
        unsafe { into.fill(output, stride, a.rows, columns) };
        return;
    }
    SCRATCH.with_borrow_mut(|(panel, of_b)| {
        let _session = unit.begin();
        let width = unit.width();
        for depth in pieces(inner) {
            let (strip, steps) = (unit.strip(&depth), depth.len().div_ceil(BLOCK));
            let into = if depth.start == 0 {
                into
            } else {
                Initial { into: Into::Add, unit }
            };
            let of_b = match b {
                Right::Packed(packed) => packed.piece(&depth),
                Right::Fresh(_, b) => {
                    let of_b = grown(of_b, strips(columns) * strip);
                    pack(unit.parts(), b.t(), 0, depth.clone(), Strip::Columns, of_b);
                    of_b
                }
            };
            for first in (0..a.rows).step_by(PANEL) {
                let rows = PANEL.min(a.rows - first);
                let panel = grown(panel, strips(rows) * strip);
                pack(unit.parts(), a, first, depth.clone(), Strip::Rows, panel);
                // Blocks are computed row by row, so that neighbouring memory is written at about the same time.
                for left in (0..columns).step_by(width) {
                    for row in (0..rows).step_by(BLOCK) {
                        let of_a = &panel[row / TILE * strip..][..2 * strip];
                        for column in (left..columns.min(left + width)).step_by(BLOCK) {
                            let of_b = &of_b[column / TILE * strip..][..2 * strip];
                            let shape = (BLOCK.min(rows - row), BLOCK.min(columns - column));
                            // SAFETY: row and column lie inside the output, and so does a block of this shape.
                            unsafe {
                                let place = output.add((first + row) * stride + column);
                                into.block((place, stride), column, shape, (of_a, of_b), steps);
                            }
                        }
                    }
                }
            }
        }
    });
}

/// The values to which a block is added, and the unit that computes it.
#[derive(Clone, Copy)]
struct Initial<'a> {
    into: Into<'a>,
    unit: Unit,
}

impl Initial<'_> {
    /// Computes the block of `height` x `width` values at `place`, whose first column is `column`.
    ///
    /// # Safety
    /// The block lies inside the output, and the session of the unit has begun. Each of the two pairs of strips holds
    /// twice `steps` tiles with all their parts.
    unsafe fn block(
        self,
        (place, stride): Rows<*mut f32>,
        column: usize,
        (height, width): (usize, usize),
        (a, b): (&[Tile], &[Tile]),
        steps: usize,
    ) {
        const ZEROS: [f32; BLOCK] = [0.0; BLOCK];
        let pair = |strips: &[Tile]| [strips.as_ptr(), strips[strips.len() / 2..].as_ptr()];
        let (of_a, of_b) = (pair(a), pair(b));
        let kernel = self.unit.kernel();
        if (height, width) == (BLOCK, BLOCK) {
            let initial = match self.into {
                Into::Add => (place.cast_const(), stride),
                Into::Set => (ZEROS.as_ptr(), 0),
                Into::Bias(bias) => (bias[column..column + BLOCK].as_ptr(), 0),
            };
            // SAFETY: the caller vouches for strips, output and unit.
            unsafe { kernel((place, stride), initial, of_a, of_b, steps) };
            return;
        }
        // At an edge, a whole block in separate memory goes through the same additions.
        let mut block = [0f32; BLOCK * BLOCK];
        let rows = block.chunks_exact_mut(BLOCK).take(height);
        for (r, row) in rows.enumerate() {
            match self.into {
                Into::Set => {}
                Into::Bias(bias) => row[..width].copy_from_slice(&bias[column..column + width]),
                // SAFETY: the row lies inside the output, which is initialised, because it is added to.
                Into::Add => unsafe {
                    row.as_mut_ptr().copy_from_nonoverlapping(place.add(r * stride), width);
                },
            }
        }
        let whole = block.as_mut_ptr();
        // SAFETY: as above; the block is whole, and its own initial value.
        unsafe {
            kernel((whole, BLOCK), (whole.cast_const(), BLOCK), of_a, of_b, steps);
            for r in 0..height {
                place
                    .add(r * stride)
                    .copy_from_nonoverlapping(whole.add(r * BLOCK), width);
            }
        }
    }

    /// Fills the output of a product without summands.
    ///
    /// # Safety
    /// The output holds these rows.
    unsafe fn fill(self, output: *mut f32, stride: usize, rows: usize, columns: usize) {
        for row in 0..rows {
            for column in 0..columns {
                let value = match self.into {
                    Into::Add => return,
                    Into::Set => 0.0,
                    Into::Bias(bias) => bias[column],
                };
                // SAFETY: inside the output.
                unsafe { output.add(row * stride + column).write(value) };
            }
        }
    }
}

#[cfg(test)]
mod tests;
