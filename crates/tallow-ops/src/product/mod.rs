//! Products of matrices in main memory: `gemm` for f32 and kernels of our own for bf16, behind checked slices.

mod small;
#[cfg_attr(not(target_arch = "x86_64"), path = "tiles/absent.rs")]
mod tiles;

use crate::path::{Path, path};
use crate::profile::{Operation, Span, span_of};
use gemm::Parallelism;
use std::sync::OnceLock;

pub(crate) use small::{Left, Right, small_product};

/// What the products of matrices are computed in. Values, sums and gradients are f32 in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compute {
    /// 32-bit floating point.
    #[default]
    F32,
    /// Factors rounded to bfloat16, where the processor has a unit for it; f32 otherwise.
    Bf16,
}

impl Compute {
    /// What computes such products on this machine.
    pub(crate) fn engine(self) -> Engine {
        static DETECTED: OnceLock<Engine> = OnceLock::new();
        if self == Self::F32 || path() == Path::Baseline {
            return Engine::Gemm;
        }
        *DETECTED.get_or_init(|| tiles::Unit::detect().map_or(Engine::Gemm, Engine::Tiles))
    }

    /// The name of the unit that computes such products; `None` if products are computed in f32.
    pub fn unit_name(self) -> Option<&'static str> {
        match self.engine() {
            Engine::Gemm => None,
            Engine::Tiles(unit) => Some(unit.name()),
        }
    }
}

/// What computes a product.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    /// The crate `gemm`, in f32.
    Gemm,
    /// Tiles of bf16.
    Tiles(tiles::Unit),
}

/// A matrix of f32 values, of which rows or columns lie side by side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    /// Distance from a row to the next, and from a column to the next.
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

    /// A span for the product of this matrix with one of `columns` columns.
    pub(crate) fn span(self, operation: Operation, columns: usize) -> Span {
        span_of(operation, 2 * (self.rows * self.columns * columns) as u64)
    }

    /// The transposed matrix, of the same values.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            strides: (self.strides.1, self.strides.0),
            ..self
        }
    }
}

/// A matrix of f32 values to write to, whose rows begin `stride` values apart.
pub(crate) struct Output<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) stride: usize,
}

/// What a product is added to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Into<'a> {
    /// Nothing: it replaces the values of the output.
    Set,
    /// The values of the output.
    Add,
    /// A row of values, the same for every row of the output, which are replaced.
    Bias(&'a [f32]),
}

/// How many values a matrix reaches over.
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

/// A right operand that is made ready once and used in several products.
pub(crate) enum Prepared<'a> {
    Gemm(Matrix<'a>),
    Tiles(tiles::Packed),
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(engine: Engine, b: Matrix<'a>) -> Self {
        match engine {
            Engine::Tiles(unit) => Self::Tiles(tiles::Packed::new(unit, b)),
            Engine::Gemm => Self::Gemm(b),
        }
    }

    fn operand(&self) -> Operand<'_> {
        match self {
            Self::Gemm(b) => Operand::Gemm(*b),
            Self::Tiles(packed) => Operand::Tiles(tiles::Right::Packed(packed)),
        }
    }
}

/// A right operand in the hands of what computes.
#[derive(Clone, Copy)]
enum Operand<'a> {
    Gemm(Matrix<'a>),
    Tiles(tiles::Right<'a>),
}

impl<'a> Operand<'a> {
    fn new(engine: Engine, b: Matrix<'a>) -> Self {
        match engine {
            Engine::Tiles(unit) => Self::Tiles(tiles::Right::Fresh(unit, b)),
            Engine::Gemm => Self::Gemm(b),
        }
    }
}

/// The product of `a` and `b`, added to what `into` says.
///
/// It runs on the calling thread, and in f32 on Rayon's threads too, if the process has left it more than one.
///
/// # Panics
/// When the shapes do not fit: an error of the caller, whose own checks come first.
pub(crate) fn product(engine: Engine, output: Output, a: Matrix, b: Matrix, into: Into) {
    check(a, b, into);
    product_of(output, a, Operand::new(engine, b), b.columns, into);
}

/// [`product`] with a right operand of `columns` columns that has been prepared.
pub(crate) fn product_prepared(output: Output, a: Matrix, b: &Prepared, columns: usize, into: Into) {
    product_of(output, a, b.operand(), columns, into);
}

#[allow(unsafe_code)]
fn product_of(output: Output, a: Matrix, b: Operand, columns: usize, into: Into) {
    let Output { values, stride } = output;
    assert!(
        reach(a.rows, columns, stride) <= values.len(),
        "a product of {} x {columns} at a row stride of {stride} in {} values",
        a.rows,
        values.len()
    );
    // SAFETY: the rows of the output lie inside its slice (asserted), which is borrowed mutably, so that it overlaps
    // neither operand, and is initialised.
    unsafe { product_raw(values.as_mut_ptr(), stride, a, b, columns, into) };
}

/// The product of `a` and `b` in new memory, which is written once. `into` is not [`Into::Add`].
#[allow(unsafe_code)]
pub(crate) fn new_product(engine: Engine, a: Matrix, b: Matrix, into: Into) -> Vec<f32> {
    check(a, b, into);
    assert!(into != Into::Add, "new memory holds nothing to add to");
    let count = a.rows * b.columns;
    let mut values = Vec::with_capacity(count);
    // SAFETY: the vector has room for all rows, and `product_raw` writes every element of them: only then are they
    // declared to be there.
    unsafe {
        product_raw(
            values.as_mut_ptr(),
            b.columns,
            a,
            Operand::new(engine, b),
            b.columns,
            into,
        );
        values.set_len(count);
    }
    values
}

/// Asserts that the shapes of a product fit.
fn check(a: Matrix, b: Matrix, into: Into) {
    let (rows, inner, columns) = (a.rows, a.columns, b.columns);
    assert_eq!(
        inner, b.rows,
        "the product of {rows} x {inner} and {} x {columns}",
        b.rows
    );
    if let Into::Bias(bias) = into {
        assert_eq!(
            bias.len(),
            columns,
            "a bias of {} values for {columns} columns",
            bias.len()
        );
    }
}

/// The fewest rows that a product in f32 is computed with.
///
/// Products of one row, and of at most 256 results, take other paths of the matrix kernels, with another order of
/// additions. Rows of zeros below the others keep them off these paths, so that a row's result does not depend, to the
/// bit, on the rows beside it.
pub(crate) fn least_rows(columns: usize) -> usize {
    const SMALL_PRODUCT: usize = 256;
    (SMALL_PRODUCT / columns.max(1) + 1).max(2)
}

/// # Safety
/// The output holds as many rows of as many values as the product, which begin `stride` values apart; unless it is
/// added to, its values need not be initialised. It overlaps no operand.
#[allow(unsafe_code)]
unsafe fn product_raw(output: *mut f32, stride: usize, a: Matrix, b: Operand, columns: usize, into: Into) {
    let b = match b {
        // SAFETY: the caller's promises are those of this function.
        Operand::Tiles(b) => return unsafe { tiles::product(output, stride, a, b, into) },
        Operand::Gemm(b) => b,
    };
    assert_eq!(
        (a.columns, columns),
        (b.rows, b.columns),
        "the shapes of a product differ"
    );
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
        unsafe { product_raw(padded.as_mut_ptr(), columns, rows, Operand::Gemm(b), columns, into) };
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
        assert_eq!(bias.len(), columns, "the bias has another width than the product");
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
mod tests {
    use super::*;

    fn values(count: usize, seed: u64) -> Vec<f32> {
        let key = crate::Key::new(seed, crate::Purpose::Initialisation);
        key.normal(count).into_iter().map(|x| x as f32).collect()
    }

    fn by_hand(a: Matrix, b: Matrix, i: usize, j: usize) -> f64 {
        let at = |m: &Matrix, i: usize, j: usize| f64::from(m.values[i * m.strides.0 + j * m.strides.1]);
        (0..a.columns).map(|k| at(&a, i, k) * at(&b, k, j)).sum()
    }

    /// All layouts, with gaps between rows, on odd shapes; what lies in the gaps stays as it was.
    #[test]
    fn equals_the_definition() {
        for (rows, inner, columns) in [(1, 1, 1), (3, 5, 2), (17, 33, 19), (40, 70, 130), (5, 0, 3)] {
            let (a_gap, b_gap, y_gap) = (3, 1, 2);
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
                let a_values = values(a_rows * (a_columns + a_gap) + 1, 1);
                let b_values = values(b_rows * (b_columns + b_gap) + 1, 2);
                let a = Matrix::with_stride(&a_values, a_rows, a_columns, a_columns + a_gap);
                let b = Matrix::with_stride(&b_values, b_rows, b_columns, b_columns + b_gap);
                let a = if transposed & 1 == 0 { a } else { a.t() };
                let b = if transposed & 2 == 0 { b } else { b.t() };
                let stride = columns + y_gap;
                let bias = values(columns, 3);
                for into in [Into::Set, Into::Add, Into::Bias(&bias)] {
                    let mut y = vec![0.5f32; rows * stride];
                    product(Engine::Gemm, Output { values: &mut y, stride }, a, b, into);
                    for (index, y) in y.iter().enumerate() {
                        let (i, j) = (index / stride, index % stride);
                        let kept = match into {
                            _ if j >= columns => 0.5,
                            Into::Add => 0.5,
                            Into::Set => 0.0,
                            Into::Bias(bias) => f64::from(bias[j]),
                        };
                        let expected = kept + if j < columns { by_hand(a, b, i, j) } else { 0.0 };
                        assert!((f64::from(*y) - expected).abs() < 1e-4, "{y} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "the product of 2 x 3 and 2 x 3")]
    fn misfits_are_named() {
        let x = [0f32; 6];
        let mut y = [0f32; 6];
        let output = Output {
            values: &mut y,
            stride: 3,
        };
        product(
            Engine::Gemm,
            output,
            Matrix::new(&x, 2, 3),
            Matrix::new(&x, 2, 3),
            Into::Set,
        );
    }

    #[test]
    #[should_panic(expected = "in 5 values")]
    fn a_matrix_stays_inside_its_values() {
        let _ = Matrix::new(&[0f32; 5], 2, 3);
    }
}
