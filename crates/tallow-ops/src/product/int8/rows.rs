//! Activations, rounded row by row when they are needed.

use super::tile::Block;
use super::unit::{Kernel, Unit};
use super::values::Blocks;
use super::{BLOCK, MOST_INPUTS};
use std::ops::Range;

/// Rows of activations, in the form of the machine's kernel. The memory is reused.
#[derive(Debug)]
pub(crate) struct Rows {
    unit: Unit,
    count: usize,
    width: usize,
    scales: Vec<f32>,
    /// Values with 128 added, or values as words, as the kernel needs them.
    bytes: Vec<Block<u8>>,
    words: Vec<Block<i16>>,
}

impl Default for Rows {
    fn default() -> Self {
        Self::new()
    }
}

impl Rows {
    /// No rows.
    pub(crate) fn new() -> Self {
        Self {
            unit: Unit::Portable,
            count: 0,
            width: 0,
            scales: Vec::new(),
            bytes: Vec::new(),
            words: Vec::new(),
        }
    }

    /// Replaces the rows by those of `x`, of `width` values each.
    ///
    /// # Panics
    /// When `x` does not consist of such rows, or when they are longer than [`MOST_INPUTS`].
    pub(crate) fn quantise(&mut self, x: &[f32], width: usize) {
        self.quantise_for(Unit::current(), x, width);
    }

    pub(super) fn quantise_for(&mut self, unit: Unit, x: &[f32], width: usize) {
        assert!(width <= MOST_INPUTS, "rows of {width} values for products in bytes");
        assert!(
            x.len().is_multiple_of(width.max(1)) && (width > 0 || x.is_empty()),
            "{} values in rows of {width}",
            x.len()
        );
        (self.unit, self.count, self.width) = (unit, x.len() / width.max(1), width);
        let tiles = self.tiles();
        let scales = &mut self.scales;
        match unit.kernel() {
            Kernel::Bytes(_) => pack(
                x,
                width,
                tiles,
                scales,
                &mut self.bytes,
                #[inline(always)]
                |q| q.cast_unsigned() ^ 0x80,
            ),
            Kernel::Words(_) => pack(x, width, tiles, scales, &mut self.words, i16::from),
        }
    }

    pub(super) fn unit(&self) -> Unit {
        self.unit
    }

    /// The number of rows.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The number of values of a row.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn scales(&self) -> &[f32] {
        &self.scales
    }

    pub(super) fn bytes(&self) -> &[Block<u8>] {
        &self.bytes
    }

    pub(super) fn words(&self) -> &[Block<i16>] {
        &self.words
    }

    /// The tiles of the rows.
    pub(super) fn tiles(&self) -> Tiles {
        Tiles {
            rows: self.count,
            count: self.count.div_ceil(self.unit.height()),
        }
    }
}

/// Rows divided into as few tiles as possible, of nearly equal heights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles {
    rows: usize,
    count: usize,
}

impl Tiles {
    pub(super) fn count(self) -> usize {
        self.count
    }

    /// The rows of a tile.
    pub(super) fn rows(self, tile: usize) -> Range<usize> {
        let (height, higher) = (self.rows / self.count, self.rows % self.count);
        let first = |tile: usize| tile * height + tile.min(higher);
        first(tile)..first(tile + 1)
    }
}

/// Rounds rows and stores them in tiles.
fn pack<T: Copy + Default>(
    x: &[f32],
    width: usize,
    tiles: Tiles,
    scales: &mut Vec<f32>,
    blocks: &mut Vec<Block<T>>,
    form: impl Fn(i8) -> T + Copy,
) {
    let blocks_of_row = width.div_ceil(BLOCK);
    scales.clear();
    scales.resize(tiles.rows, 0.0);
    let needed = tiles.rows * blocks_of_row;
    if blocks.len() < needed {
        blocks.resize(needed, Block([T::default(); BLOCK]));
    }
    vectorized!({
        for tile in 0..tiles.count() {
            let rows = tiles.rows(tile);
            let blocks = &mut blocks[rows.start * blocks_of_row..rows.end * blocks_of_row];
            for (i, row) in rows.clone().enumerate() {
                let values = Blocks::of(&x[row * width..][..width]);
                scales[row] = values.scale();
                let places = blocks.iter_mut().skip(i).step_by(rows.len());
                values.round(
                    scales[row],
                    form,
                    places.map(
                        #[inline(always)]
                        |block| &mut block.0,
                    ),
                );
            }
        }
    });
}
