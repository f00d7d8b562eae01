//! Products of matrices in main memory: `gemm` for f32 and kernels of our own for bf16, behind checked slices.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
mod bf16;
mod small;

use gemm::Parallelism;
use std::sync::OnceLock;

pub(crate) use small::{Left, Right, Sizes, small_product};

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
    /// The unit that this machine computes such products with, where it is not the one for f32.
    fn unit(self) -> Option<bf16::Unit> {
        static DETECTED: OnceLock<Option<bf16::Unit>> = OnceLock::new();
        match self {
            Self::F32 => None,
            Self::Bf16 => *DETECTED.get_or_init(bf16::Unit::detect),
        }
    }

    /// The name of that unit; `None` if products are computed in f32.
    pub fn unit_name(self) -> Option<&'static str> {
        self.unit().map(bf16::Unit::name)
    }
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

/// What becomes of the values that the output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Into {
    /// They are replaced by the product.
    Set,
    /// The product is added to them.
    Add,
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

/// output = a b, or output += a b.
///
/// It runs on the calling thread, and on Rayon's if the process has left it more than one.
///
/// # Panics
/// When the shapes do not fit: an error of the caller, whose own checks come first.
pub(crate) fn product(compute: Compute, output: Output, a: Matrix, b: Matrix, into: Into) {
    match compute.unit() {
        Some(unit) => bf16::product_bf16(unit, output, a, b, into),
        None => product_f32(output, a, b, into),
    }
}

/// Asserts that the shapes of a product fit.
fn check(output: &Output, a: Matrix, b: Matrix) {
    let (rows, inner, columns) = (a.rows, a.columns, b.columns);
    assert_eq!(
        inner, b.rows,
        "the product of {rows} x {inner} and {} x {columns}",
        b.rows
    );
    assert!(
        reach(rows, columns, output.stride) <= output.values.len(),
        "a product of {rows} x {columns} at a row stride of {} in {} values",
        output.stride,
        output.values.len()
    );
}

#[allow(unsafe_code)]
fn product_f32(output: Output, a: Matrix, b: Matrix, into: Into) {
    let (rows, inner, columns) = (a.rows, a.columns, b.columns);
    check(&output, a, b);
    if rows == 0 || columns == 0 {
        return;
    }
    // SAFETY: the constructors of `Matrix` and the assertion above have shown that every element of the three matrices
    // lies inside its slice; strides of a slice in memory fit isize; the output is borrowed mutably, so that it
    // overlaps neither operand.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            output.values.as_mut_ptr(),
            1,
            output.stride.cast_signed(),
            into == Into::Add,
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
                for into in [Into::Set, Into::Add] {
                    let mut y = vec![0.5f32; rows * stride];
                    product(Compute::F32, Output { values: &mut y, stride }, a, b, into);
                    for (index, y) in y.iter().enumerate() {
                        let (i, j) = (index / stride, index % stride);
                        let kept = if j >= columns || into == Into::Add { 0.5 } else { 0.0 };
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
            Compute::F32,
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
