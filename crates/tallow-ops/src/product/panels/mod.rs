//! Matrix products in f32 with AVX-512, or with AVX2 and FMA, blocked as in Goto and van de Geijn, "Anatomy of
//! High-Performance Matrix Multiplication" (2008).
//!
//! The right operand is packed into panels of two registers of columns (32 with AVX-512, 16 with AVX2). The left one is
//! copied slab by slab, 14 rows at a time, or 6 (several slabs, if its columns are contiguous). A kernel multiplies a
//! slab by a panel with all 14 x 32 or 6 x 16 sums in registers. The inner dimension is cut into pieces of [`DEPTH`],
//! so that a slab and a panel fit in the first-level cache together, and the columns into parts, so that their panels
//! stay in the second-level cache.
//!
//! While it computes, the kernel prefetches the lines of the next output and of the next slab. In training, where
//! nothing is in a cache when a product begins, this saves a tenth of the time.
//!
//! An element of the result depends only on its row and its column, to the bit, not on other rows and columns. All
//! kernels add its products in the same order, so it does not depend on the processor either.
#![allow(unsafe_code)]

mod avx2;
mod avx512;

use super::{Into, Matrix};
use crate::profile::{Operation, span};
use avx2::Avx2;
use avx512::Avx512;
pub(super) use avx512::transpose_lines;
use std::cell::RefCell;
use std::ops::Range;

/// Steps of the inner dimension that are packed at a time.
const DEPTH: usize = 256;
/// Values of a cache line.
const LINE: usize = 16;
/// Columns of the widest tiles.
const WIDEST: usize = 32;

/// Rows of f32 values: a pointer to the first, and the distance from one to the next in values.
type Rows<P> = (P, usize);

/// Memory that a tile prefetches, one line every few steps, so that there are never many requests at once. The
/// addresses may be invalid.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    /// The output of the next tile, whose rows lie as far apart as those of this one.
    output: *const f32,
    /// Two runs of [`DEPTH`] values of the left operand.
    runs: [*const f32; 2],
}

/// The layout of a slab of the left operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slab {
    /// The slab's rows follow each other. Their distance is one line more than [`DEPTH`], because otherwise they would
    /// compete for the same places in a cache.
    Rows,
    /// The slab's steps follow each other, [`Kernel::STEP`] values for each.
    Steps,
}

impl Slab {
    /// The distance between rows in [`Slab::Rows`].
    const ROW: usize = DEPTH + LINE;

    /// The distances between rows and between steps, if a step takes `step` values.
    const fn strides(self, step: usize) -> (usize, usize) {
        match self {
            Self::Rows => (Self::ROW, 1),
            Self::Steps => (1, step),
        }
    }
}

/// The innermost loops for a kind of processor, and the sizes that suit it.
///
/// # Safety
/// All functions may be called only on such a processor.
trait Kernel {
    /// Rows of a slab.
    const SLAB: usize;
    /// Columns of a panel.
    const PANEL: usize;
    /// The room for a step in [`Slab::Steps`], in values.
    const STEP: usize;
    /// Columns of the right operand that are packed at a time, a multiple of [`PANEL`](Self::PANEL).
    const WIDTH: usize;
    /// The number of slabs that are packed at a time if the columns of the left operand are contiguous: a step of all
    /// of them is then contiguous in memory.
    const GROUP: usize;
    /// The number of values of a slab, in either layout.
    const SIZE: usize = if Self::SLAB * Slab::ROW > DEPTH * Self::STEP {
        Self::SLAB * Slab::ROW
    } else {
        DEPTH * Self::STEP
    };

    /// The height of the next slab, of which at most [`SLAB`](Self::SLAB) rows exist, if `rows` are left.
    fn height(rows: usize) -> usize {
        Self::SLAB.min(rows)
    }

    /// The number of neighbouring panels in a tile of a slab in [`Slab::Rows`], of at most [`WIDEST`] columns.
    fn panels(_height: usize) -> usize {
        1
    }

    /// Computes a tile of `height` x `width` values, which fit in a slab and its [`panels`](Self::panels): the product
    /// of these over `steps` steps, added to initial values. If the distance between rows of initial values is zero,
    /// all rows have the same ones.
    ///
    /// Each value is summed one product after another, in the order of the steps, by fused multiply-adds that begin at
    /// zero. The initial value is added last.
    ///
    /// # Safety
    /// The operands are a slab in its form, whose memory is initialised up to an even number of rows, and the
    /// panels, aligned to a cache line; output and initial values hold the tile.
    unsafe fn tile(
        form: Slab,
        operands: (*const f32, *const f32),
        steps: usize,
        output: Rows<*mut f32>,
        initial: Rows<*const f32>,
        shape: (usize, usize),
        ahead: Ahead,
    );

    /// Copies runs of `count` values, `from.1` apart, to runs that are `to.1` apart.
    ///
    /// # Safety
    /// All of these values exist.
    unsafe fn copy_rows(from: Rows<*const f32>, to: Rows<*mut f32>, rows: usize, count: usize);

    /// Cuts rows of `count` values into pieces of `width`. Piece `p` of row `r` goes to `to + (p * rows + r) * room`,
    /// and is padded with zeros to `room` values, which are whole registers.
    ///
    /// # Safety
    /// The values exist, and so does the room for them, aligned to a register; `width <= room`.
    unsafe fn cut_rows(from: Rows<*const f32>, to: *mut f32, rows: usize, count: usize, pieces: (usize, usize));

    /// Turns runs of `count` values into steps: each step has one value from every run and is padded with zeros to
    /// `width` values, which are whole registers.
    ///
    /// # Safety
    /// The values exist, and so does the room for `count` steps of this width.
    unsafe fn turn(from: Rows<*const f32>, to: Rows<*mut f32>, width: usize, runs: usize, count: usize);
}

/// A processor for which there are kernels. Only detection makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Processor(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Avx512,
    Avx2,
}

/// Runs an expression with a kind's kernels under the name of a type.
macro_rules! with_kernel {
    ($processor:expr, $kernel:ident => $run:expr) => {
        match $processor.0 {
            Kind::Avx512 => {
                type $kernel = Avx512;
                $run
            }
            Kind::Avx2 => {
                type $kernel = Avx2;
                $run
            }
        }
    };
}

impl Processor {
    /// This machine's processor, with the widest of its vectors.
    pub(crate) fn detect() -> Option<Self> {
        Self::avx512().or_else(Self::avx2)
    }

    /// This machine's processor, if it has AVX-512F.
    pub(crate) fn avx512() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(Kind::Avx512))
    }

    /// This machine's processor, if it has AVX2 and FMA.
    pub(crate) fn avx2() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(Kind::Avx2))
    }

    /// Columns of a panel.
    fn panel(self) -> usize {
        with_kernel!(self, K => K::PANEL)
    }

    /// Writes the columns of a matrix with contiguous rows as rows of `stride` values, padded with zeros. `stride` is a
    /// multiple of [`LINE`].
    pub(crate) fn transpose(self, m: Matrix, into: &mut [f32], stride: usize) {
        assert_eq!(m.strides.1, 1, "the rows of a matrix to transpose are contiguous");
        assert!(
            stride.is_multiple_of(LINE) && m.rows <= stride,
            "{} rows as a row of {stride}",
            m.rows
        );
        assert!(m.columns * stride <= into.len(), "room for the transpose");
        let from = (m.values.as_ptr(), m.strides.0);
        // SAFETY: the processor has been detected; the elements of the matrix lie inside its values, and its transpose
        // inside its room (asserted).
        unsafe { with_kernel!(self, K => K::turn(from, (into.as_mut_ptr(), stride), stride, m.rows, m.columns)) };
    }
}

/// Values aligned to a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// A right operand in panels: all panels of the first piece of the inner dimension, then those of the next.
#[derive(Debug)]
pub(crate) struct Packed {
    processor: Processor,
    inner: usize,
    columns: usize,
    lines: Vec<Line>,
}

impl Packed {
    /// The size in memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.lines.as_slice())
    }

    pub(crate) fn new(processor: Processor, b: Matrix) -> Self {
        let mut lines = Vec::new();
        let width = b.columns.next_multiple_of(processor.panel());
        let room = grown(&mut lines, b.rows * width);
        for depth in pieces(b.rows) {
            let room = &mut room[depth.start * width..];
            // SAFETY: the processor has been detected.
            unsafe { with_kernel!(processor, K => pack::<K>(b, depth, 0..b.columns, room)) };
        }
        Self {
            processor,
            inner: b.rows,
            columns: b.columns,
            lines,
        }
    }

    /// The panels of a piece of the inner dimension, starting at a column.
    fn panels(&self, depth: &Range<usize>, first: usize) -> *const f32 {
        let width = self.columns.next_multiple_of(self.processor.panel());
        values(&self.lines)[depth.start * width + first * depth.len()..].as_ptr()
    }
}

/// A right operand.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// It has been packed before.
    Packed(&'a Packed),
    /// It is packed piece by piece.
    Fresh(Processor, Matrix<'a>),
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

/// The pieces of the inner dimension; one empty piece if it is empty.
fn pieces(inner: usize) -> impl Iterator<Item = Range<usize>> {
    (0..inner.max(1))
        .step_by(DEPTH)
        .map(move |start| start..inner.min(start + DEPTH))
}

/// The values of lines.
fn values(lines: &[Line]) -> &[f32] {
    // SAFETY: a line is 16 values without padding.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LINE) }
}

/// A slice of `count` values in memory that grows if necessary.
fn grown(lines: &mut Vec<Line>, count: usize) -> &mut [f32] {
    let needed = count.div_ceil(LINE);
    if lines.len() < needed {
        lines.resize(needed, Line([0.0; LINE]));
    }
    // SAFETY: a line is 16 values without padding.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), needed * LINE) }
}

/// Packs a piece of the inner dimension of some columns of a right operand into panels.
///
/// # Safety
/// The processor is of the kernels' kind.
unsafe fn pack<K: Kernel>(b: Matrix, depth: Range<usize>, columns: Range<usize>, into: &mut [f32]) {
    let _span = span(Operation::Packing);
    let (steps, width) = (depth.len(), columns.len());
    assert!(
        depth.end <= b.rows && columns.end <= b.columns,
        "a piece of the right operand"
    );
    assert!(
        steps * width.next_multiple_of(K::PANEL) <= into.len(),
        "room for panels"
    );
    assert!(into.as_ptr().cast::<Line>().is_aligned(), "panels begin at cache lines");
    let from = b
        .values
        .as_ptr()
        .wrapping_add(depth.start * b.strides.0 + columns.start * b.strides.1);
    let to = into.as_mut_ptr();
    // SAFETY: the caller vouches for the processor. The piece lies inside the matrix, whose elements lie inside its
    // values, and its panels inside their room (asserted).
    unsafe {
        if b.strides.1 == 1 {
            K::cut_rows((from, b.strides.0), to, steps, width, (K::PANEL, K::PANEL));
        } else {
            for first in (0..width).step_by(K::PANEL) {
                let runs = K::PANEL.min(width - first);
                let from = (from.wrapping_add(first * b.strides.1), b.strides.1);
                K::turn(from, (to.add(first * steps), K::PANEL), K::PANEL, runs, steps);
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
    let processor = match b {
        Right::Packed(packed) => packed.processor,
        Right::Fresh(processor, _) => processor,
    };
    // SAFETY: the processor has been detected, and the caller vouches for the output.
    unsafe { with_kernel!(processor, K => blocks::<K>(output, stride, a, b, into)) };
}

/// [`product`] by the kernels of the right operand's processor.
///
/// # Safety
/// As for [`product`]; the processor is of the kernels' kind.
unsafe fn blocks<K: Kernel>(output: *mut f32, stride: usize, a: Matrix, b: Right, into: Into) {
    let (inner, columns) = b.shape();
    assert_eq!(a.columns, inner, "the inner dimensions of a product differ");
    SCRATCH.with_borrow_mut(|(slabs, panels)| {
        let slabs = grown(slabs, K::GROUP * K::SIZE);
        for left in (0..columns).step_by(K::WIDTH) {
            let width = K::WIDTH.min(columns - left);
            for depth in pieces(inner) {
                let panels = match b {
                    Right::Packed(packed) => packed.panels(&depth, left),
                    Right::Fresh(_, b) => {
                        let panels = grown(panels, depth.len() * width.next_multiple_of(K::PANEL));
                        // SAFETY: the caller vouches for the processor.
                        unsafe { pack::<K>(b, depth.clone(), left..left + width, panels) };
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
                        part.by_rows::<K>(slabs);
                    } else {
                        part.by_steps::<K>(slabs);
                    }
                }
            }
        }
    });
}

/// Part of a product: a piece of the inner dimension, and at most [`Kernel::WIDTH`] columns of the output.
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
    /// The processor is of the kernels' kind; the panels hold this piece of these columns; the output holds its rows of
    /// `width` values.
    unsafe fn by_rows<K: Kernel>(&self, slab: &mut [f32]) {
        assert!(slab.len() >= K::SIZE, "room for a slab");
        let panels = self.width.div_ceil(K::PANEL);
        let mut row = 0;
        while row < self.a.rows {
            let height = K::height(self.a.rows - row);
            // SAFETY: the rows lie inside the matrix, whose elements lie inside its values, and the slab has room for
            // them.
            unsafe {
                let from = (self.left(row, self.depth.start), self.a.strides.0);
                K::copy_rows(from, (slab.as_mut_ptr(), Slab::ROW), height, self.steps);
            }
            let next = self.after(row + height);
            let together = K::panels(height);
            for panel in (0..panels).step_by(together) {
                // The tiles of a slab share the prefetching of the next slab's rows.
                let run = |i: usize| {
                    if i < K::SLAB {
                        next.wrapping_add(i * self.a.strides.0)
                    } else {
                        next
                    }
                };
                let runs = [run(panel), run(panel + panels)];
                // SAFETY: the slab has been copied; the tile lies inside the part.
                unsafe { self.tile::<K>(Slab::Rows, slab.as_ptr(), (row, height), (panel, together), runs) };
            }
            row += height;
        }
    }

    /// Computes the part for a left operand with contiguous columns: slabs are cut from its rows in memory, a group at
    /// a time.
    ///
    /// # Safety
    /// As for [`by_rows`](Self::by_rows).
    unsafe fn by_steps<K: Kernel>(&self, room: &mut [f32]) {
        let panels = self.width.div_ceil(K::PANEL);
        let all = self.a.rows.div_ceil(K::SLAB);
        // Groups of nearly equal size.
        let group = all.div_ceil(all.div_ceil(K::GROUP).max(1));
        assert_eq!(self.a.strides.0, 1, "rows or columns of a matrix lie side by side");
        assert!(room.len() >= group * self.steps * K::STEP, "room for a group of slabs");
        for first in (0..self.a.rows).step_by((group * K::SLAB).max(1)) {
            let rows = (group * K::SLAB).min(self.a.rows - first);
            {
                let _span = span(Operation::Packing);
                // SAFETY: the steps of these rows lie inside the matrix, whose elements lie inside its values; the room
                // has been asserted.
                unsafe {
                    let from = (self.left(first, self.depth.start), self.a.strides.1);
                    K::cut_rows(from, room.as_mut_ptr(), self.steps, rows, (K::SLAB, K::STEP));
                }
            }
            let next = self.after(first + group * K::SLAB);
            let tiles = rows.div_ceil(K::SLAB) * panels;
            for (slab, start) in (0..rows).step_by(K::SLAB).enumerate() {
                let of_slab = room[slab * self.steps * K::STEP..].as_ptr();
                for panel in 0..panels {
                    // The tiles of a group share the prefetching of the next group's steps, up to two each.
                    let number = slab * panels + panel;
                    let runs = [2 * number, 2 * number + 1]
                        .map(|half| next.wrapping_add(half * self.steps / (2 * tiles) * self.a.strides.1));
                    let row = (first + start, K::SLAB.min(rows - start));
                    // SAFETY: the slab has been packed; the tile lies inside the part.
                    unsafe { self.tile::<K>(Slab::Steps, of_slab, row, (panel, 1), runs) };
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

    /// Computes the tile of a slab, which holds `height` rows starting at `row`, and a panel with those that are
    /// computed together with it.
    ///
    /// # Safety
    /// The processor is of the kernels' kind; slab and panels hold the steps of the piece; the output holds the tile.
    unsafe fn tile<K: Kernel>(
        &self,
        form: Slab,
        slab: *const f32,
        (row, height): (usize, usize),
        (panel, together): (usize, usize),
        runs: [*const f32; 2],
    ) {
        const ZEROS: [f32; WIDEST] = [0.0; WIDEST];
        let column = panel * K::PANEL;
        let (output, stride) = self.output;
        let place = output.wrapping_add(row * stride + column);
        let initial = match self.into {
            Into::Add => (place.cast_const(), stride),
            Into::Set => (ZEROS.as_ptr(), 0),
            Into::Bias(bias) => (bias[column..].as_ptr(), 0),
        };
        let most = together * K::PANEL;
        let next = if column + most < self.width {
            place.wrapping_add(most)
        } else {
            output.wrapping_add((row + height) * stride)
        };
        let ahead = Ahead { output: next, runs };
        let width = most.min(self.width - column);
        // SAFETY: the caller vouches for the processor, for slab, panel and output; a bias has `width` values from
        // `column` on, of which no more are read.
        unsafe {
            let panel = self.panels.add(column * self.steps);
            K::tile(
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
