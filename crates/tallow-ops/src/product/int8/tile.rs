//! The part of a product that a kernel computes at a time.

use super::{BLOCK, PANEL, STEP};
use std::mem::MaybeUninit;

/// Neighbouring values of a row. Their bytes begin at a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Block<T>(pub(super) [T; BLOCK]);

/// A step of a panel: [`STEP`] neighbouring weights of each column.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Step(pub(super) [i8; PANEL * STEP]);

/// The weights of [`PANEL`] columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel<'a> {
    /// The inner dimension, padded with zeros to whole steps.
    pub(super) steps: &'a [Step],
    pub(super) scales: &'a [f32; PANEL],
    /// The sums of the columns, times 128: what is too much in a sum if 128 has been added to every activation.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "only kernels in vectors need it")
    )]
    pub(super) excess: &'a [i32; PANEL],
}

/// Rows and a panel, and the place for their product.
#[derive(Debug)]
pub(super) struct Tile<'a, T> {
    /// The first block of every row, then the second of every row, and so on.
    rows: &'a [Block<T>],
    row_scales: &'a [f32],
    panel: Panel<'a>,
    bias: Option<&'a [f32]>,
    output: &'a mut [MaybeUninit<f32>],
    stride: usize,
    width: usize,
}

impl<'a, T> Tile<'a, T> {
    /// A tile of as many rows as there are `row_scales`, and of `width` columns. The bias has a value for each of them.
    pub(super) fn new(
        rows: &'a [Block<T>],
        row_scales: &'a [f32],
        panel: Panel<'a>,
        bias: Option<&'a [f32]>,
        (output, stride): (&'a mut [MaybeUninit<f32>], usize),
        width: usize,
    ) -> Self {
        let height = row_scales.len();
        assert!(
            height > 0 && width > 0 && width <= PANEL,
            "a tile of {height} x {width}"
        );
        assert_eq!(
            rows.len(),
            height * (panel.steps.len() * STEP).div_ceil(BLOCK),
            "blocks of {height} rows"
        );
        assert!(
            bias.is_none_or(|bias| bias.len() == width),
            "a bias for {width} columns"
        );
        assert!((height - 1) * stride + width <= output.len(), "room for a tile");
        Self {
            rows,
            row_scales,
            panel,
            bias,
            output,
            stride,
            width,
        }
    }

    /// Its number of rows, at least one.
    pub(super) fn height(&self) -> usize {
        self.row_scales.len()
    }

    /// Its number of columns, from one to [`PANEL`].
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The number of steps of the inner dimension.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "only kernels in vectors need it")
    )]
    pub(super) fn steps(&self) -> usize {
        self.panel.steps.len()
    }

    /// The blocks of its rows, of which every row has enough for all steps: the first of every row, then the second of
    /// every row, and so on.
    pub(super) fn rows(&self) -> &'a [Block<T>] {
        self.rows
    }

    /// The scales of its rows.
    pub(super) fn row_scales(&self) -> &'a [f32] {
        self.row_scales
    }

    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "only kernels in vectors need it")
    )]
    pub(super) fn row_scale(&self, row: usize) -> f32 {
        self.row_scales[row]
    }

    pub(super) fn panel(&self) -> Panel<'a> {
        self.panel
    }

    pub(super) fn bias(&self) -> Option<&'a [f32]> {
        self.bias
    }

    /// The place for its result: a pointer to the first value, and the distance between rows. Every value of the tile
    /// lies inside the output.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "only kernels in vectors need it")
    )]
    pub(super) fn place(&mut self) -> (*mut f32, usize) {
        (self.output.as_mut_ptr().cast(), self.stride)
    }

    /// The place for part of a row of the result.
    pub(super) fn output(&mut self, row: usize, columns: std::ops::Range<usize>) -> &mut [MaybeUninit<f32>] {
        assert!(row < self.height() && columns.end <= self.width, "a part of the tile");
        let start = row * self.stride;
        &mut self.output[start + columns.start..start + columns.end]
    }
}
