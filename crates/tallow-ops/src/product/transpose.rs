//! The transpose of small matrices, such as the keys and values of attention.

use super::Matrix;
use super::panels::Processor;
use crate::path::{Path, path};
use crate::rows::LANES;

/// Writes the columns of a matrix with contiguous rows as rows, padded with zeros to a multiple of [`LANES`], which is
/// a number of whole vectors on every machine.
pub(crate) fn transpose(m: Matrix, into: &mut Vec<f32>) {
    let padded = m.rows.next_multiple_of(LANES);
    into.resize(m.columns * padded, 0.0);
    let processor = match path() {
        Path::Baseline => None,
        Path::Avx2 => Processor::avx2(),
        Path::Fast | Path::Reference => Processor::detect(),
    };
    match processor {
        Some(processor) => processor.transpose(m, into, padded),
        None => by_blocks(m, into, padded),
    }
}

/// Transposes sixteen rows at a time, so that the written values are contiguous.
fn by_blocks(m: Matrix, into: &mut [f32], padded: usize) {
    vectorized!({
        for first in (0..m.rows).step_by(LANES) {
            let count = LANES.min(m.rows - first);
            let mut sources: [&[f32]; LANES] = [&[]; LANES];
            for (i, source) in sources.iter_mut().enumerate().take(count) {
                *source = &m.values[(first + i) * m.strides.0..][..m.columns];
            }
            for (column, line) in into.chunks_exact_mut(padded).enumerate() {
                let mut lanes = [0f32; LANES];
                for (lane, source) in lanes.iter_mut().zip(&sources[..count]) {
                    *lane = source[column];
                }
                line[first..first + LANES].copy_from_slice(&lanes);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::with_path;

    /// On every path, in memory that held other values before.
    #[test]
    fn equals_the_definition() {
        for (rows, columns, gap) in [
            (1, 1, 0),
            (14, 64, 5),
            (16, 16, 0),
            (17, 3, 1),
            (40, 33, 2),
            (0, 4, 0),
            (3, 0, 1),
        ] {
            let values: Vec<f32> = (0..rows * (columns + gap)).map(|i| i as f32 + 1.0).collect();
            for path in Path::KERNELS {
                let mut into = vec![7.0; 90];
                with_path(path, || {
                    transpose(Matrix::with_stride(&values, rows, columns, columns + gap), &mut into);
                });
                let padded = rows.next_multiple_of(LANES);
                assert_eq!(into.len(), columns * padded);
                for (index, value) in into.iter().enumerate() {
                    let (column, row) = (index / padded, index % padded);
                    let expected = if row < rows {
                        values[row * (columns + gap) + column]
                    } else {
                        0.0
                    };
                    assert_eq!(*value, expected, "{rows} x {columns}, {path:?}");
                }
            }
        }
    }
}
