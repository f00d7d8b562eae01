//! Matrix products in 8-bit integers, for inference.
//!
//! Weights are rounded to whole numbers from -127 to 127 with one scale for each output, and activations with one scale
//! for each row (`values.rs`). Products of these numbers are summed in 32 bits, exactly, so every instruction set gives
//! the same bits. An element of the result is `sum as f32 * (scale of the row * scale of the output)`, plus the bias;
//! it depends only on its row and its column.
//!
//! Weights are packed once, into panels of 32 columns, in steps of four values of the inner dimension, because the
//! instructions for 8-bit products (VNNI) sum four neighbouring products in each 32-bit lane. The layout is the same
//! for all instruction sets. Rows are packed into tiles as high as the kernel of the instruction set can hold in
//! registers (`unit.rs`); it multiplies a tile by a panel over the whole inner dimension. The inner dimension is not
//! cut into pieces: a kernel needs a step of the panel, two cache lines, in as many cycles as it has registers of sums,
//! which the second-level cache delivers in time.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;
mod rows;
#[cfg(test)]
mod tests;
mod tile;
mod unit;
mod values;
#[cfg(target_arch = "x86_64")]
mod vnni256;
#[cfg(target_arch = "x86_64")]
mod vnni512;
mod weights;

pub(crate) use rows::Rows;
use std::mem::MaybeUninit;
use tile::{Block, Tile};
use unit::Kernel;
pub(crate) use unit::unit_name;
pub use values::quantise_row;
pub(crate) use weights::Weights;

/// The longest inner dimension. Longer sums of products of bytes could exceed 32 bits.
pub(crate) const MOST_INPUTS: usize = 1 << 16;

/// Columns of a panel.
const PANEL: usize = 32;
/// Values of the inner dimension that the kernels multiply at a time, for each row and column.
const STEP: usize = 4;
/// Values of a row that lie side by side; the next values in memory are of the next row of its tile.
const BLOCK: usize = 64;
/// Rows that are multiplied by a panel before the next panel: they stay in the second-level cache.
const GROUP: usize = 280;

const _: () = {
    // The greatest sum that a kernel forms: activations are stored with 128 added, in the kernels of VNNI.
    assert!(255 * 127 * MOST_INPUTS as i64 <= i32::MAX as i64);
};

/// Appends the product of `rows` and `weights`, plus a bias for each column, to `values`; its memory is written once.
///
/// # Panics
/// When the shapes do not fit. The caller must check them first.
pub(crate) fn append_product(values: &mut Vec<f32>, rows: &Rows, weights: &Weights, bias: Option<&[f32]>) {
    let (so_far, count) = (values.len(), rows.count() * weights.outputs());
    values.reserve(count);
    write(&mut values.spare_capacity_mut()[..count], rows, weights, bias);
    // SAFETY: `write` has written every element of the product.
    unsafe { values.set_len(so_far + count) };
}

/// Writes every element of a product.
fn write(output: &mut [MaybeUninit<f32>], rows: &Rows, weights: &Weights, bias: Option<&[f32]>) {
    let (count, columns) = (rows.count(), weights.outputs());
    assert_eq!(
        rows.width(),
        weights.inputs(),
        "the product of {count} rows of {} values and weights for {} inputs",
        rows.width(),
        weights.inputs()
    );
    if let Some(bias) = bias {
        let given = bias.len();
        assert_eq!(given, columns, "a bias of {given} values for {columns} columns");
    }
    assert_eq!(output.len(), count * columns, "room for the product");
    match rows.unit().kernel() {
        Kernel::Bytes(kernel) => over_tiles((output, columns), rows, rows.bytes(), weights, bias, |tile| {
            // SAFETY: the machine has the instructions of the rows' unit.
            unsafe { kernel(tile) };
        }),
        Kernel::Words(kernel) => over_tiles((output, columns), rows, rows.words(), weights, bias, |tile| {
            // SAFETY: the machine has the instructions of the rows' unit.
            unsafe { kernel(tile) };
        }),
    }
}

/// Calls a kernel for every tile of the rows and every panel of the weights.
fn over_tiles<T>(
    (output, stride): (&mut [MaybeUninit<f32>], usize),
    rows: &Rows,
    blocks: &[Block<T>],
    weights: &Weights,
    bias: Option<&[f32]>,
    kernel: impl Fn(&mut Tile<T>),
) {
    let blocks_of_row = rows.width().div_ceil(BLOCK);
    let tiles = rows.tiles();
    let group = GROUP / rows.unit().height();
    for first in (0..tiles.count()).step_by(group) {
        for column in (0..weights.outputs()).step_by(PANEL) {
            let panel = weights.panel(column / PANEL);
            let width = PANEL.min(weights.outputs() - column);
            let bias = bias.map(|bias| &bias[column..column + width]);
            for tile in first..tiles.count().min(first + group) {
                let range = tiles.rows(tile);
                let mut tile = Tile::new(
                    &blocks[range.start * blocks_of_row..range.end * blocks_of_row],
                    &rows.scales()[range.clone()],
                    panel,
                    bias,
                    (&mut output[range.start * stride + column..], stride),
                    width,
                );
                kernel(&mut tile);
            }
        }
    }
}
