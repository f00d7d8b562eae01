//! Products of the small matrices of attention. Packing the operands, as for a general product, would take longer than
//! the product.

use crate::path::arch;
use pulp::{Simd, WithSimd};

/// The rows and vectors of the output that are summed in registers.
const TILE_ROWS: usize = 6;
const TILE_VECTORS: usize = 2;

/// The left operand: element (i, p) is `values[i * row_stride + p * column_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

/// The right operand: element (p, j) is `values[p * row_stride + j]`.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) row_stride: usize,
}

impl<'a> Left<'a> {
    /// Rows that begin `stride` values apart.
    pub(crate) fn new(values: &'a [f32], stride: usize) -> Self {
        Self {
            values,
            row_stride: stride,
            column_stride: 1,
        }
    }

    /// The transpose of rows that begin `stride` values apart.
    pub(crate) fn transposed(values: &'a [f32], stride: usize) -> Self {
        Self {
            values,
            row_stride: 1,
            column_stride: stride,
        }
    }
}

impl<'a> Right<'a> {
    /// Rows that begin `stride` values apart.
    pub(crate) fn new(values: &'a [f32], stride: usize) -> Self {
        Self {
            values,
            row_stride: stride,
        }
    }
}

/// output = a b, or output += a b, where element (i, j) of the output is `output[i * stride + j]`. The sizes are the
/// numbers of rows, of summands and of columns.
///
/// Every element is summed one product after another, in the order of the inner dimension. It does not depend, to the
/// bit, on other rows and columns.
///
/// # Panics
/// When a matrix reaches beyond its slice.
pub(crate) fn small_product(
    output: &mut [f32],
    stride: usize,
    a: Left,
    b: Right,
    sizes: (usize, usize, usize),
    add: bool,
) {
    let (rows, inner, columns) = sizes;
    if rows == 0 || columns == 0 {
        return;
    }
    let reaches = |name: &str, reach: usize, length: usize| {
        assert!(reach <= length, "the {name} reaches over {reach} of {length} values");
    };
    reaches("output", (rows - 1) * stride + columns, output.len());
    if let Some(last) = inner.checked_sub(1) {
        let reach = (rows - 1) * a.row_stride + last * a.column_stride + 1;
        reaches("left operand", reach, a.values.len());
        reaches("right operand", last * b.row_stride + columns, b.values.len());
    }
    arch().dispatch(Product {
        output,
        stride,
        a,
        b,
        sizes,
        add,
    });
}

struct Product<'a> {
    output: &'a mut [f32],
    stride: usize,
    a: Left<'a>,
    b: Right<'a>,
    sizes: (usize, usize, usize),
    add: bool,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = S::F32_LANES;
        let mut column = 0;
        // SAFETY: only `small_product` makes such a value, after it has checked the operands; all strips lie inside the
        // columns.
        unsafe {
            while column + TILE_VECTORS * lanes <= self.sizes.2 {
                self.strip::<S, TILE_VECTORS, false>(simd, column, lanes);
                column += TILE_VECTORS * lanes;
            }
            while column + lanes <= self.sizes.2 {
                self.strip::<S, 1, false>(simd, column, lanes);
                column += lanes;
            }
            if column < self.sizes.2 {
                let rest = self.sizes.2 - column;
                self.strip::<S, 1, true>(simd, column, rest);
            }
        }
    }
}

impl Product<'_> {
    /// Computes all rows of `VECTORS` vectors of columns. If the only vector is partial, it holds `width` columns.
    ///
    /// # Safety
    /// The operands reach over all rows and columns, and the strip lies inside the columns.
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn strip<S: Simd, const VECTORS: usize, const PARTIAL: bool>(
        &mut self,
        simd: S,
        column: usize,
        width: usize,
    ) {
        let mut row = 0;
        // SAFETY: the caller's promises; all tiles lie inside the rows.
        unsafe {
            // Twelve sums keep the units busy: six rows of two vectors, or twelve rows of one.
            while VECTORS == 1 && row + 2 * TILE_ROWS <= self.sizes.0 {
                self.tile::<S, { 2 * TILE_ROWS }, VECTORS, PARTIAL>(simd, row, column, width);
                row += 2 * TILE_ROWS;
            }
            while row + TILE_ROWS <= self.sizes.0 {
                self.tile::<S, TILE_ROWS, VECTORS, PARTIAL>(simd, row, column, width);
                row += TILE_ROWS;
            }
            match self.sizes.0 - row {
                5 => self.tile::<S, 5, VECTORS, PARTIAL>(simd, row, column, width),
                4 => self.tile::<S, 4, VECTORS, PARTIAL>(simd, row, column, width),
                3 => self.tile::<S, 3, VECTORS, PARTIAL>(simd, row, column, width),
                2 => self.tile::<S, 2, VECTORS, PARTIAL>(simd, row, column, width),
                1 => self.tile::<S, 1, VECTORS, PARTIAL>(simd, row, column, width),
                _ => {}
            }
        }
    }

    /// Computes `ROWS` rows of `VECTORS` vectors of columns. If the vectors are partial, `width` columns exist.
    ///
    /// # Safety
    /// The operands reach over all rows and columns, and the tile lies inside the output.
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn tile<S: Simd, const ROWS: usize, const VECTORS: usize, const PARTIAL: bool>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
        width: usize,
    ) {
        let lanes = S::F32_LANES;
        let span = if PARTIAL { width } else { VECTORS * lanes };
        let load = |values: &[f32], vector: usize| {
            if PARTIAL {
                simd.partial_load_f32s(values)
            } else {
                // This is not a partial load, which would be a function call.
                S::as_simd_f32s(&values[vector * lanes..(vector + 1) * lanes]).0[0]
            }
        };
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        if self.add {
            for (r, sums) in sums.iter_mut().enumerate() {
                let values = &self.output[(row + r) * self.stride + column..][..span];
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = load(values, v);
                }
            }
        }
        for p in 0..self.sizes.1 {
            // SAFETY: the operands reach over all rows and columns, and the tile's rows, columns and step p lie among
            // them. Checks of every element would cost as much as the sums.
            let (a, values) = unsafe {
                let a = self
                    .a
                    .values
                    .as_ptr()
                    .add(row * self.a.row_stride + p * self.a.column_stride);
                let start = p * self.b.row_stride + column;
                (a, self.b.values.get_unchecked(start..start + span))
            };
            let mut b = [simd.splat_f32s(0.0); VECTORS];
            for (v, b) in b.iter_mut().enumerate() {
                *b = load(values, v);
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as above.
                let a = simd.splat_f32s(unsafe { *a.add(r * self.a.row_stride) });
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = simd.mul_add_e_f32s(a, b, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let values = &mut self.output[(row + r) * self.stride + column..][..span];
            for (v, sum) in sums.iter().enumerate() {
                if PARTIAL {
                    simd.partial_store_f32s(values, *sum);
                } else {
                    S::as_mut_simd_f32s(&mut values[v * lanes..(v + 1) * lanes]).0[0] = *sum;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: u64) -> Vec<f32> {
        let key = crate::Key::new(seed, crate::Purpose::Initialisation);
        key.normal(count).into_iter().map(|x| x as f32).collect()
    }

    /// Both layouts of the left operand, with gaps, on shapes around the size of a tile.
    #[test]
    fn equals_the_definition() {
        for (rows, inner, columns) in [
            (1, 1, 1),
            (6, 3, 32),
            (7, 17, 33),
            (20, 64, 48),
            (13, 5, 7),
            (2, 0, 3),
            (29, 9, 16),
            (11, 2, 17),
        ] {
            let (a_gap, b_gap, y_gap) = (3, 1, 2);
            let sizes = (rows, inner, columns);
            for transposed in [false, true] {
                let (a_rows, a_columns) = if transposed { (inner, rows) } else { (rows, inner) };
                let (a_values, b_values) = (
                    values(a_rows * (a_columns + a_gap), 1),
                    values(inner * (columns + b_gap), 2),
                );
                let across = a_columns + a_gap;
                let a = if transposed {
                    Left::transposed(&a_values, across)
                } else {
                    Left::new(&a_values, across)
                };
                let b = Right::new(&b_values, columns + b_gap);
                let stride = columns + y_gap;
                for add in [false, true] {
                    let mut y = vec![0.5f32; rows * stride];
                    small_product(&mut y, stride, a, b, sizes, add);
                    for (index, y) in y.iter().enumerate() {
                        let (i, j) = (index / stride, index % stride);
                        let mut expected = if j >= columns || add { 0.5 } else { 0.0 };
                        for p in 0..if j < columns { inner } else { 0 } {
                            expected += f64::from(a_values[i * a.row_stride + p * a.column_stride])
                                * f64::from(b_values[p * b.row_stride + j]);
                        }
                        assert!((f64::from(*y) - expected).abs() < 1e-4, "{y} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "the left operand reaches over 7 of 6 values")]
    fn the_left_operand_stays_inside_its_values() {
        let (x, mut y) = ([0f32; 6], [0f32; 9]);
        small_product(&mut y, 3, Left::new(&x, 2), Right::new(&x, 3), (3, 3, 3), false);
    }

    #[test]
    #[should_panic(expected = "the right operand reaches over 9 of 8 values")]
    fn the_right_operand_stays_inside_its_values() {
        let (x, mut y) = ([0f32; 9], [0f32; 9]);
        small_product(&mut y, 3, Left::new(&x, 3), Right::new(&x[..8], 3), (3, 3, 3), false);
    }

    #[test]
    #[should_panic(expected = "the output reaches over 9 of 8 values")]
    fn the_output_stays_inside_its_values() {
        let (x, mut y) = ([0f32; 9], [0f32; 8]);
        small_product(&mut y, 3, Left::new(&x, 3), Right::new(&x, 3), (3, 3, 3), false);
    }

    #[test]
    fn an_element_does_not_depend_on_those_beside_it() {
        let (rows, inner, columns) = (23, 40, 50);
        let (a_values, b_values) = (values(rows * inner, 1), values(inner * columns, 2));
        let b = Right::new(&b_values, columns);
        let run = |first: usize, sizes: (usize, usize, usize)| {
            let mut y = vec![0f32; sizes.0 * columns];
            let a = Left::new(&a_values[first * inner..], inner);
            small_product(&mut y, columns, a, b, sizes, false);
            y
        };
        let all = run(0, (rows, inner, columns));
        for first in [0, 3, 22] {
            for columns_taken in [1, 16, 31, 50] {
                let one = run(first, (1, inner, columns_taken));
                assert_eq!(one[..columns_taken], all[first * columns..][..columns_taken]);
            }
        }
    }
}
