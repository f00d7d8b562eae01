//! The kernel in plain Rust, in loops that compilers can vectorise.

use super::tile::Tile;
use super::{BLOCK, PANEL, STEP};

/// Rows of a tile.
pub(super) const HEIGHT: usize = 1;

/// Columns that are summed at a time.
const COLUMNS: usize = 16;

/// Computes a tile.
pub(super) fn tile(tile: &mut Tile<i16>) {
    assert_eq!(tile.height(), HEIGHT, "the height of a tile");
    for first in (0..tile.width()).step_by(COLUMNS) {
        let sums = sums(tile, first);
        let (panel, row_scale, bias) = (tile.panel(), tile.row_scales()[0], tile.bias());
        let end = tile.width().min(first + COLUMNS);
        for (column, (y, sum)) in (first..end).zip(tile.output(0, first..end).iter_mut().zip(sums)) {
            let value = sum as f32 * (row_scale * panel.scales[column]);
            y.write(bias.map_or(value, |bias| value + bias[column]));
        }
    }
}

/// The sums of the columns from `first` on.
fn sums(tile: &Tile<i16>, first: usize) -> [i32; COLUMNS] {
    const { assert!(PANEL.is_multiple_of(COLUMNS) && BLOCK.is_multiple_of(STEP)) };
    // Every value of a step has its own sum, and the values of the row are repeated for every column, so that the
    // innermost loop is simple enough for vectors.
    let mut sums = [0i32; COLUMNS * STEP];
    for (block, steps) in tile.rows().iter().zip(tile.panel().steps.chunks(BLOCK / STEP)) {
        for (a, step) in block.0.as_chunks::<STEP>().0.iter().zip(steps) {
            let repeated = [*a; COLUMNS];
            let weights = &step.0[first * STEP..(first + COLUMNS) * STEP];
            for ((sum, a), b) in sums.iter_mut().zip(repeated.as_flattened()).zip(weights) {
                *sum += i32::from(*a) * i32::from(*b);
            }
        }
    }
    let mut totals = [0; COLUMNS];
    for (total, sums) in totals.iter_mut().zip(sums.as_chunks::<STEP>().0) {
        *total = sums.iter().sum();
    }
    totals
}
