//! Matrix products in main memory, with checked slices. Products in f32 use Tallow's kernels for AVX-512 or AVX2,
//! and the crate `gemm` on other processors. Products with factors in bf16 use the processor's units for bf16.

pub(crate) mod int8;
#[cfg_attr(not(target_arch = "x86_64"), path = "panels/absent.rs")]
mod panels;
mod small;
#[cfg_attr(not(target_arch = "x86_64"), path = "tiles/absent.rs")]
mod tiles;
mod transpose;

use crate::path::{Path, path};
use crate::profile::{Operation, Span, span_of};
use gemm::Parallelism;
use std::sync::OnceLock;

pub(crate) use small::{Left, Right, small_product};
pub(crate) use transpose::transpose;

/// The arithmetic of matrix products. Values, sums and gradients are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compute {
    /// 32-bit floating point.
    #[default]
    F32,
    /// Each factor is split into three parts of bfloat16, as exact as f32, if the processor has AMX; f32 otherwise. It
    /// pays with many rows and if AMX is many times as fast as vectors, which is not so on every virtual machine.
    Bf16x3,
    /// Factors rounded to bfloat16, if the processor has a unit for it; f32 otherwise.
    Bf16,
}

impl Compute {
    /// The engine for such products on this machine.
    pub(crate) fn engine(self) -> Engine {
        /// One engine for each kind of arithmetic.
        static DETECTED: OnceLock<[Engine; 3]> = OnceLock::new();
        let panels = |processor: Option<panels::Processor>| processor.map_or(Engine::Gemm, Engine::Panels);
        match path() {
            Path::Baseline => return Engine::Gemm,
            Path::Avx2 => return panels(panels::Processor::avx2()),
            Path::Fast | Path::Reference => {}
        }
        let [f32, parts, bf16] = DETECTED.get_or_init(|| {
            let f32 = panels(panels::Processor::detect());
            let tiles = |factors| tiles::Unit::detect(factors).map_or(f32, Engine::Tiles);
            [f32, tiles(tiles::Factors::Parts), tiles(tiles::Factors::Rounded)]
        });
        match self {
            Self::F32 => *f32,
            Self::Bf16x3 => *parts,
            Self::Bf16 => *bf16,
        }
    }

    /// The name of the unit for such products; `None` if they are computed in vectors of f32.
    pub fn unit_name(self) -> Option<&'static str> {
        match self.engine() {
            Engine::Gemm | Engine::Panels(_) => None,
            Engine::Tiles(unit) => Some(unit.name()),
        }
    }
}

/// The implementation of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    /// The crate `gemm`, in f32.
    Gemm,
    /// Tallow's kernels, in f32.
    Panels(panels::Processor),
    /// Tiles of bf16.
    Tiles(tiles::Unit),
}

/// A matrix of f32 values whose rows or columns are contiguous.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    /// The distance from one row to the next, and from one column to the next.
    strides: (usize, usize),
}

impl<'a> Matrix<'a> {
    /// A matrix whose rows follow each other without gaps.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::with_stride(values, rows, columns, columns)
    }

    /// A matrix whose rows begin `stride` values apart.
    pub(crate) fn with_stride(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(
            reach(rows, columns, stride) <= values.len(),
            "a matrix of {rows} x {columns} with a row stride of {stride} in {} values",
            values.len()
        );
        Self {
            values,
            rows,
            columns,
            strides: (stride, 1),
        }
    }

    /// A profiler span for the product of this matrix with one of `columns` columns.
    pub(crate) fn span(self, operation: Operation, columns: usize) -> Span {
        span_of(operation, 2 * (self.rows * self.columns * columns) as u64)
    }

    /// `count` rows starting at `first`, or all that are left.
    fn some_rows(self, first: usize, count: usize) -> Self {
        Self {
            values: self.values.get(first * self.strides.0..).unwrap_or(&[]),
            rows: count.min(self.rows - first),
            ..self
        }
    }

    /// The transposed matrix, on the same values.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            strides: (self.strides.1, self.strides.0),
            ..self
        }
    }
}

/// A matrix of f32 values for output, whose rows begin `stride` values apart.
pub(crate) struct Output<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) stride: usize,
}

/// The values to which a product is added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Into<'a> {
    /// None: the product replaces the values of the output.
    Set,
    /// The values of the output.
    Add,
    /// The same row of values for every row of the output. The sums replace the values of the output.
    Bias(&'a [f32]),
}

/// The number of values that a matrix spans.
fn reach(rows: usize, columns: usize, stride: usize) -> usize {
    assert!(
        columns <= stride || rows <= 1,
        "rows of {columns} values overlap at a stride of {stride}"
    );
    if rows == 0 || columns == 0 {
        0
    } else {
        (rows - 1) * stride + columns
    }
}

/// A right operand that is prepared once and used in several products.
pub(crate) struct Prepared<'a>(State<'a>);

enum State<'a> {
    /// Not prepared.
    Fresh(Operand<'a>),
    Panels(panels::Packed),
    Tiles(tiles::Packed),
}

impl Prepared<'static> {
    /// A right operand in packed form; `None` if the engine uses matrices as they are.
    pub(crate) fn packed(engine: Engine, b: Matrix) -> Option<Self> {
        match engine {
            Engine::Gemm => None,
            Engine::Panels(processor) => Some(Self(State::Panels(panels::Packed::new(processor, b)))),
            Engine::Tiles(unit) => Some(Self(State::Tiles(tiles::Packed::new(unit, b)))),
        }
    }
}

impl<'a> Prepared<'a> {
    /// The size of the packed form in memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match &self.0 {
            State::Fresh(_) => 0,
            State::Panels(packed) => packed.bytes(),
            State::Tiles(packed) => packed.bytes(),
        }
    }

    pub(crate) fn new(engine: Engine, b: Matrix<'a>) -> Self {
        Self(match engine {
            Engine::Gemm => State::Fresh(Operand::Gemm(b)),
            Engine::Panels(processor) => State::Panels(panels::Packed::new(processor, b)),
            Engine::Tiles(unit) => State::Tiles(tiles::Packed::new(unit, b)),
        })
    }

    /// A right operand for this many products. For a single product it is packed piece by piece, in memory that is
    /// reused.
    pub(crate) fn for_uses(engine: Engine, b: Matrix<'a>, uses: usize) -> Self {
        if uses > 1 {
            Self::new(engine, b)
        } else {
            Self(State::Fresh(Operand::new(engine, b)))
        }
    }

    fn operand(&self) -> Operand<'_> {
        match &self.0 {
            State::Fresh(operand) => *operand,
            State::Panels(packed) => Operand::Panels(panels::Right::packed(packed)),
            State::Tiles(packed) => Operand::Tiles(tiles::Right::packed(packed)),
        }
    }
}

/// A right operand in the form of its engine.
#[derive(Clone, Copy)]
enum Operand<'a> {
    Gemm(Matrix<'a>),
    Panels(panels::Right<'a>),
    Tiles(tiles::Right<'a>),
}

impl<'a> Operand<'a> {
    /// Its rows and columns.
    fn shape(self) -> (usize, usize) {
        match self {
            Self::Gemm(b) => (b.rows, b.columns),
            Self::Panels(b) => b.shape(),
            Self::Tiles(b) => b.shape(),
        }
    }

    fn new(engine: Engine, b: Matrix<'a>) -> Self {
        match engine {
            Engine::Gemm => Self::Gemm(b),
            Engine::Panels(processor) => Self::Panels(panels::Right::Fresh(processor, b)),
            Engine::Tiles(unit) => Self::Tiles(tiles::Right::Fresh(unit, b)),
        }
    }
}

/// Computes the product of `a` and `b`, and adds it to the values that `into` names.
///
/// It runs on the calling thread. A large product also uses Rayon's threads, if the process has more than one.
///
/// # Panics
/// When the shapes do not fit. The caller must check them first.
pub(crate) fn product(engine: Engine, output: Output, a: Matrix, b: Matrix, into: Into) {
    product_of(output, a, Operand::new(engine, b), into);
}

/// [`product`] with a prepared right operand.
pub(crate) fn product_prepared(output: Output, a: Matrix, b: &Prepared, into: Into) {
    product_of(output, a, b.operand(), into);
}

#[allow(unsafe_code)]
fn product_of(output: Output, a: Matrix, b: Operand, into: Into) {
    let Output { values, stride } = output;
    let columns = check(a, b, into);
    assert!(
        reach(a.rows, columns, stride) <= values.len(),
        "a product of {} x {columns} at a row stride of {stride} in {} values",
        a.rows,
        values.len()
    );
    // SAFETY: the rows of the output lie inside its slice (asserted), which is borrowed mutably, so that it overlaps
    // neither operand, and is initialised.
    unsafe { product_raw(values.as_mut_ptr(), stride, a, b, into) };
}

/// The product of `a` and `b` in new memory, which is written once. `into` must not be [`Into::Add`].
pub(crate) fn new_product(engine: Engine, a: Matrix, b: Matrix, into: Into) -> Vec<f32> {
    let mut values = Vec::new();
    append(&mut values, a, Operand::new(engine, b), into);
    values
}

/// Appends the product of `a` and `b` to `values`; its memory is written once. `into` must not be [`Into::Add`].
pub(crate) fn append_product(values: &mut Vec<f32>, a: Matrix, b: &Prepared, into: Into) {
    append(values, a, b.operand(), into);
}

#[allow(unsafe_code)]
fn append(values: &mut Vec<f32>, a: Matrix, b: Operand, into: Into) {
    let columns = check(a, b, into);
    assert!(into != Into::Add, "new memory holds nothing to add to");
    let (so_far, count) = (values.len(), a.rows * columns);
    values.reserve(count);
    // SAFETY: behind its values the vector has room for all rows, and `product_raw` writes every element of them: only
    // then are they declared to be there.
    unsafe {
        product_raw(values.as_mut_ptr().add(so_far), columns, a, b, into);
        values.set_len(so_far + count);
    }
}

/// Asserts that the shapes of a product fit, and returns its number of columns.
fn check(a: Matrix, b: Operand, into: Into) -> usize {
    let (inner, columns) = b.shape();
    assert_eq!(
        a.columns, inner,
        "the product of {} x {} and {inner} x {columns}",
        a.rows, a.columns
    );
    if let Into::Bias(bias) = into {
        assert_eq!(
            bias.len(),
            columns,
            "a bias of {} values for {columns} columns",
            bias.len()
        );
    }
    columns
}

/// The minimum number of rows for `gemm`.
///
/// With one row, or with at most 256 results, `gemm` uses other code than its matrix kernels, with another order of
/// additions. Additional rows of zeros avoid that code, so that the result of a row does not depend, to the bit, on the
/// other rows.
pub(crate) fn least_rows(columns: usize) -> usize {
    const SMALL_PRODUCT: usize = 256;
    (SMALL_PRODUCT / columns.max(1) + 1).max(2)
}

/// Computes a product by rows: `part` gets a pointer to some rows of the output, and the same rows of the left operand.
/// Large products are divided among Rayon's threads, which changes no bit.
fn over_rows(output: *mut f32, stride: usize, a: Matrix, columns: usize, part: impl Fn(*mut f32, Matrix) + Sync) {
    /// With fewer multiply-adds than this, another thread does not pay.
    const LEAST_WORK: usize = 1 << 21;
    struct Place(*mut f32);
    // SAFETY: each thread writes to its own rows, which do not overlap, since they are no longer than their distance.
    #[allow(unsafe_code)]
    unsafe impl Sync for Place {}
    /// Threads get multiples of this number of rows: the rows that the kernels process together, or a multiple of them.
    const GRAIN: usize = 32;
    let threads = rayon::current_num_threads().min(a.rows * a.columns * columns / LEAST_WORK);
    let rows = a.rows.div_ceil(threads.max(1)).next_multiple_of(GRAIN);
    if rows >= a.rows {
        part(output, a);
        return;
    }
    let output = &Place(output);
    rayon::scope(|scope| {
        for first in (0..a.rows).step_by(rows) {
            let part = &part;
            scope.spawn(move |_| part(output.0.wrapping_add(first * stride), a.some_rows(first, rows)));
        }
    });
}

/// # Safety
/// The shapes fit ([`check`]). The output holds as many rows of as many values as the product, which begin `stride`
/// values apart; unless it is added to, its values need not be initialised. It overlaps no operand.
#[allow(unsafe_code)]
unsafe fn product_raw(output: *mut f32, stride: usize, a: Matrix, b: Operand, into: Into) {
    let columns = b.shape().1;
    let b = match b {
        Operand::Gemm(b) => b,
        Operand::Panels(b) => {
            over_rows(output, stride, a, columns, |output, a| {
                // SAFETY: the caller's promises, for these rows.
                unsafe { panels::product(output, stride, a, b, into) };
            });
            return;
        }
        Operand::Tiles(b) => {
            over_rows(output, stride, a, columns, |output, a| {
                // SAFETY: the caller's promises, for these rows.
                unsafe { tiles::product(output, stride, a, b, into) };
            });
            return;
        }
    };
    if a.rows == 0 || columns == 0 {
        return;
    }
    let least = least_rows(columns);
    if a.rows < least && a.strides.1 == 1 {
        let mut rows = vec![0f32; least * a.columns];
        for (row, values) in rows.chunks_exact_mut(a.columns.max(1)).take(a.rows).enumerate() {
            values.copy_from_slice(&a.values[row * a.strides.0..][..a.columns]);
        }
        let mut padded = vec![0f32; least * columns];
        for row in 0..if into == Into::Add { a.rows } else { 0 } {
            // SAFETY: the row lies inside the output, which is initialised, because it is added to.
            let values = unsafe { std::slice::from_raw_parts(output.add(row * stride), columns) };
            padded[row * columns..][..columns].copy_from_slice(values);
        }
        let rows = Matrix::new(&rows, least, a.columns);
        // SAFETY: the padded output has as many rows as its product, and now the fewest rows there can be.
        unsafe { product_raw(padded.as_mut_ptr(), columns, rows, Operand::Gemm(b), into) };
        for row in 0..a.rows {
            // SAFETY: the row lies inside the output.
            unsafe {
                let values = padded[row * columns..][..columns].as_ptr();
                output.add(row * stride).copy_from_nonoverlapping(values, columns);
            }
        }
        return;
    }
    if let Into::Bias(bias) = into {
        for row in 0..a.rows {
            // SAFETY: the row lies inside the output, and the bias fills it.
            unsafe {
                output
                    .add(row * stride)
                    .copy_from_nonoverlapping(bias.as_ptr(), columns)
            };
        }
    }
    // SAFETY: the constructors of `Matrix` have shown that every element of the operands lies inside its slice, the
    // caller vouches for the output, which is read only if it has been written; strides in memory fit isize.
    unsafe {
        gemm::gemm(
            a.rows,
            columns,
            a.columns,
            output,
            1,
            stride.cast_signed(),
            into != Into::Set,
            a.values.as_ptr(),
            a.strides.1.cast_signed(),
            a.strides.0.cast_signed(),
            b.values.as_ptr(),
            b.strides.1.cast_signed(),
            b.strides.0.cast_signed(),
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}

#[cfg(test)]
mod tests;
