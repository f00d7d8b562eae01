//! Matrix products in f32 with AVX-512, blocked as in Goto and van de Geijn, "Anatomy of High-Performance Matrix
//! Multiplication" (2008).
//!
//! The right operand is packed into panels of 32 columns. The left one is copied slab by slab, 14 rows at a time
//! (several slabs, if its columns are contiguous). A kernel multiplies a slab by a panel with all 14 x 32 sums in
//! registers. The inner dimension is cut into pieces of [`DEPTH`], so that a slab and a panel fit in the first-level
//! cache together, and the columns into parts of [`WIDTH`], so that their panels stay in the second-level cache.
//!
//! While it computes, the kernel prefetches the lines of the next output and of the next slab. In training, where
//! nothing is in a cache when a product begins, this saves a tenth of the time.
//!
//! An element of the result depends only on its row and its column, to the bit, not on other rows and columns.
#![allow(unsafe_code)]

mod kernel;

use super::{Into, Matrix};
use crate::profile::{Operation, span};
pub(super) use kernel::transpose_lines;
use kernel::{Ahead, LANES, Rows, Slab, copy_rows, cut_rows, tile, turn};
use std::cell::RefCell;
use std::ops::Range;

/// Rows of a slab. With two registers of sums for each row, they take 28 of the 32 registers.
const SLAB: usize = 14;
/// Columns of a panel: two registers.
const WIDTH_OF_PANEL: usize = 2 * LANES;
/// Steps of the inner dimension that are packed at a time.
const DEPTH: usize = 256;
/// Columns of the right operand that are packed at a time.
const WIDTH: usize = 16 * WIDTH_OF_PANEL;
/// The number of slabs that are packed at a time if the columns of the left operand are contiguous: a step of all of
/// them is then contiguous in memory.
const GROUP: usize = 18;

/// A processor with AVX-512F.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// This machine's processor, if it has AVX-512F.
    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }
}

/// Values aligned to a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// A right operand in panels: all panels of the first piece of the inner dimension, then those of the next.
#[derive(Debug)]
pub(crate) struct Packed {
    inner: usize,
    columns: usize,
    lines: Vec<Line>,
}

impl Packed {
    pub(crate) fn new(processor: Avx512, b: Matrix) -> Self {
        let mut lines = Vec::new();
        let width = b.columns.next_multiple_of(WIDTH_OF_PANEL);
        let room = grown(&mut lines, b.rows * width);
        for depth in pieces(b.rows) {
            pack(
                processor,
                b,
                depth.clone(),
                0..b.columns,
                &mut room[depth.start * width..],
            );
        }
        Self {
            inner: b.rows,
            columns: b.columns,
            lines,
        }
    }

    /// The panels of a piece of the inner dimension, starting at a column.
    fn panels(&self, depth: &Range<usize>, first: usize) -> *const f32 {
        let width = self.columns.next_multiple_of(WIDTH_OF_PANEL);
        values(&self.lines)[depth.start * width + first * depth.len()..].as_ptr()
    }
}

/// A right operand.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// It has been packed before.
    Packed(&'a Packed),
    /// It is packed piece by piece.
    Fresh(Avx512, Matrix<'a>),
}

impl Right<'_> {
    /// Its rows and columns.
    pub(crate) fn shape(self) -> (usize, usize) {
        match self {
            Self::Packed(packed) => (packed.inner, packed.columns),
            Self::Fresh(_, b) => (b.rows, b.columns),
        }
    }
}

impl Avx512 {
    /// Writes the columns of a matrix with contiguous rows as rows of `stride` values, padded with zeros. `stride` is a
    /// multiple of [`LANES`].
    pub(crate) fn transpose(self, m: Matrix, into: &mut [f32], stride: usize) {
        assert_eq!(m.strides.1, 1, "the rows of a matrix to transpose are contiguous");
        assert!(
            stride.is_multiple_of(LANES) && m.rows <= stride,
            "{} rows as a row of {stride}",
            m.rows
        );
        assert!(m.columns * stride <= into.len(), "room for the transpose");
        let from = (m.values.as_ptr(), m.strides.0);
        // SAFETY: `Avx512` exists where the instructions do; the elements of the matrix lie inside its values, and its
        // transpose inside its room (asserted).
        unsafe { turn(from, (into.as_mut_ptr(), stride), stride / LANES, m.rows, m.columns) };
    }
}

/// The pieces of the inner dimension; one empty piece if it is empty.
fn pieces(inner: usize) -> impl Iterator<Item = Range<usize>> {
    (0..inner.max(1))
        .step_by(DEPTH)
        .map(move |start| start..inner.min(start + DEPTH))
}

/// The values of lines.
fn values(lines: &[Line]) -> &[f32] {
    // SAFETY: a line is 16 values without padding.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LANES) }
}

/// A slice of `count` values in memory that grows if necessary.
fn grown(lines: &mut Vec<Line>, count: usize) -> &mut [f32] {
    let needed = count.div_ceil(LANES);
    if lines.len() < needed {
        lines.resize(needed, Line([0.0; LANES]));
    }
    // SAFETY: a line is 16 values without padding.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), needed * LANES) }
}

/// Packs a piece of the inner dimension of some columns of a right operand into panels.
fn pack(_: Avx512, b: Matrix, depth: Range<usize>, columns: Range<usize>, into: &mut [f32]) {
    let _span = span(Operation::Packing);
    let (steps, width) = (depth.len(), columns.len());
    assert!(
        depth.end <= b.rows && columns.end <= b.columns,
        "a piece of the right operand"
    );
    assert!(
        steps * width.next_multiple_of(WIDTH_OF_PANEL) <= into.len(),
        "room for panels"
    );
    assert!(into.as_ptr().cast::<Line>().is_aligned(), "panels begin at cache lines");
    let from = b
        .values
        .as_ptr()
        .wrapping_add(depth.start * b.strides.0 + columns.start * b.strides.1);
    let to = into.as_mut_ptr();
    // SAFETY: `Avx512` exists where the instructions do. The piece lies inside the matrix, whose elements lie inside
    // its values, and its panels inside their room (asserted).
    unsafe {
        if b.strides.1 == 1 {
            cut_rows((from, b.strides.0), to, steps, width, (WIDTH_OF_PANEL, WIDTH_OF_PANEL));
        } else {
            for first in (0..width).step_by(WIDTH_OF_PANEL) {
                let runs = WIDTH_OF_PANEL.min(width - first);
                let from = (from.wrapping_add(first * b.strides.1), b.strides.1);
                let to = (to.add(first * steps), WIDTH_OF_PANEL);
                turn(from, to, WIDTH_OF_PANEL / LANES, runs, steps);
            }
        }
    }
}

thread_local! {
    /// Memory for slabs and for panels, reused by later products.
    static SCRATCH: RefCell<(Vec<Line>, Vec<Line>)> = const { RefCell::new((Vec::new(), Vec::new())) };
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
    assert_eq!(a.columns, inner, "the inner dimensions of a product differ");
    SCRATCH.with_borrow_mut(|(slabs, panels)| {
        let slabs = grown(slabs, GROUP * Slab::SIZE);
        for left in (0..columns).step_by(WIDTH) {
            let width = WIDTH.min(columns - left);
            for depth in pieces(inner) {
                let panels = match b {
                    Right::Packed(packed) => packed.panels(&depth, left),
                    Right::Fresh(processor, b) => {
                        let panels = grown(panels, depth.len() * width.next_multiple_of(WIDTH_OF_PANEL));
                        pack(processor, b, depth.clone(), left..left + width, panels);
                        panels.as_ptr()
                    }
                };
                let part = Part {
                    a,
                    steps: depth.len(),
                    panels,
                    output: (output.wrapping_add(left), stride),
                    width,
                    into: match into {
                        _ if depth.start > 0 => Into::Add,
                        Into::Bias(bias) => Into::Bias(&bias[left..left + width]),
                        into => into,
                    },
                    depth,
                };
                // SAFETY: the instructions exist, the panels hold the piece by these columns, and the caller vouches
                // for the output.
                unsafe {
                    if a.strides.1 == 1 {
                        part.by_rows(slabs);
                    } else {
                        part.by_steps(slabs);
                    }
                }
            }
        }
    });
}

/// Part of a product: a piece of the inner dimension, and at most [`WIDTH`] columns of the output.
struct Part<'a> {
    a: Matrix<'a>,
    depth: Range<usize>,
    steps: usize,
    panels: *const f32,
    output: Rows<*mut f32>,
    width: usize,
    into: Into<'a>,
}

impl Part<'_> {
    /// Computes the part for a left operand with contiguous rows: each slab is copied before its use.
    ///
    /// # Safety
    /// The processor has AVX-512F; the panels hold this piece of these columns; the output holds its rows of `width`
    /// values.
    unsafe fn by_rows(&self, slab: &mut [f32]) {
        assert!(slab.len() >= Slab::SIZE, "room for a slab");
        let panels = self.width.div_ceil(WIDTH_OF_PANEL);
        for row in (0..self.a.rows).step_by(SLAB) {
            let height = SLAB.min(self.a.rows - row);
            // SAFETY: the rows lie inside the matrix, whose elements lie inside its values, and the slab has room for
            // them.
            unsafe {
                let from = (self.left(row, self.depth.start), self.a.strides.0);
                copy_rows(from, (slab.as_mut_ptr(), Slab::ROW), height, self.steps);
            }
            let next = self.after(row + SLAB);
            for panel in 0..panels {
                // The tiles of a slab share the prefetching of the next slab's rows.
                let run = |i: usize| {
                    if i < SLAB {
                        next.wrapping_add(i * self.a.strides.0)
                    } else {
                        next
                    }
                };
                let runs = [run(panel), run(panel + panels)];
                // SAFETY: the slab has been copied; the tile lies inside the part.
                unsafe { self.tile(Slab::Rows, slab.as_ptr(), (row, height), panel, runs) };
            }
        }
    }

    /// Computes the part for a left operand with contiguous columns: slabs are cut from its rows in memory, a group at
    /// a time.
    ///
    /// # Safety
    /// As for [`by_rows`](Self::by_rows).
    unsafe fn by_steps(&self, room: &mut [f32]) {
        let panels = self.width.div_ceil(WIDTH_OF_PANEL);
        let all = self.a.rows.div_ceil(SLAB);
        // Groups of nearly equal size.
        let group = all.div_ceil(all.div_ceil(GROUP).max(1));
        assert_eq!(self.a.strides.0, 1, "rows or columns of a matrix lie side by side");
        assert!(room.len() >= group * self.steps * LANES, "room for a group of slabs");
        for first in (0..self.a.rows).step_by((group * SLAB).max(1)) {
            let rows = (group * SLAB).min(self.a.rows - first);
            {
                let _span = span(Operation::Packing);
                // SAFETY: the steps of these rows lie inside the matrix, whose elements lie inside its values; the room
                // has been asserted.
                unsafe {
                    let from = (self.left(first, self.depth.start), self.a.strides.1);
                    cut_rows(from, room.as_mut_ptr(), self.steps, rows, (SLAB, LANES));
                }
            }
            let next = self.after(first + group * SLAB);
            let tiles = rows.div_ceil(SLAB) * panels;
            for (slab, start) in (0..rows).step_by(SLAB).enumerate() {
                let of_slab = room[slab * self.steps * LANES..].as_ptr();
                for panel in 0..panels {
                    // The tiles of a group share the prefetching of the next group's steps, up to two each.
                    let number = slab * panels + panel;
                    let runs = [2 * number, 2 * number + 1]
                        .map(|half| next.wrapping_add(half * self.steps / (2 * tiles) * self.a.strides.1));
                    let row = (first + start, SLAB.min(rows - start));
                    // SAFETY: the slab has been packed; the tile lies inside the part.
                    unsafe { self.tile(Slab::Steps, of_slab, row, panel, runs) };
                }
            }
        }
    }

    /// The address of an element of the left operand.
    fn left(&self, row: usize, step: usize) -> *const f32 {
        let (of_row, of_step) = self.a.strides;
        self.a.values.as_ptr().wrapping_add(row * of_row + step * of_step)
    }

    /// The address of the left operand's values that are needed next: the rows from `row` on, or the next piece.
    fn after(&self, row: usize) -> *const f32 {
        if row < self.a.rows {
            self.left(row, self.depth.start)
        } else {
            self.left(0, self.depth.end)
        }
    }

    /// Computes the tile of a slab, which holds `height` rows starting at `row`, and a panel.
    ///
    /// # Safety
    /// The processor has AVX-512F; slab and panel hold the steps of the piece; the output holds the tile.
    unsafe fn tile(
        &self,
        form: Slab,
        slab: *const f32,
        (row, height): (usize, usize),
        panel: usize,
        runs: [*const f32; 2],
    ) {
        const ZEROS: [f32; WIDTH_OF_PANEL] = [0.0; WIDTH_OF_PANEL];
        let column = panel * WIDTH_OF_PANEL;
        let (output, stride) = self.output;
        let place = output.wrapping_add(row * stride + column);
        let initial = match self.into {
            Into::Add => (place.cast_const(), stride),
            Into::Set => (ZEROS.as_ptr(), 0),
            Into::Bias(bias) => (bias[column..].as_ptr(), 0),
        };
        let next = if column + WIDTH_OF_PANEL < self.width {
            place.wrapping_add(WIDTH_OF_PANEL)
        } else {
            output.wrapping_add((row + SLAB) * stride)
        };
        let ahead = Ahead { output: next, runs };
        let width = WIDTH_OF_PANEL.min(self.width - column);
        // SAFETY: the caller vouches for the processor, for slab, panel and output; a bias has `width` values from
        // `column` on, of which no more are read.
        unsafe {
            let panel = self.panels.add(column * self.steps);
            tile(
                form,
                (slab, panel),
                self.steps,
                (place, stride),
                initial,
                (height, width),
                ahead,
            );
        }
    }
}
