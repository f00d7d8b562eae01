//! Tiles of bf16 against products of rounded factors.

use super::*;
use crate::product::{Engine, new_product};

fn values(count: usize, seed: u64) -> Vec<f32> {
    let key = crate::Key::new(seed, crate::Purpose::Initialisation);
    key.normal(count).into_iter().map(|x| x as f32).collect()
}

/// The nearest bf16; of two equally near ones, the one that ends in a zero bit.
fn rounded(x: f32) -> f64 {
    let bits = x.to_bits();
    f64::from(f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000))
}

/// Every unit of this machine, all layouts, shapes around the sizes of tiles, blocks, panels and pieces.
#[test]
fn equals_the_definition() {
    let units = Unit::all();
    if units.is_empty() {
        println!("skipped: this machine has no unit for bf16");
    }
    let shapes = [
        (1, 1, 1),
        (16, 32, 16),
        (32, 64, 32),
        (33, 31, 35),
        (130, 70, 47),
        (3, 100, 300),
        (5, 0, 3),
        (129, 33, 1),
        (64, 96, 64),
        (PANEL + 3, 20, 34),
        (7, 2 * DEPTH + 5, 33),
        (PANEL, DEPTH, 32),
    ];
    for (unit, (rows, inner, columns)) in units.iter().flat_map(|unit| shapes.map(|shape| (*unit, shape))) {
        let element = |x: f32| if unit.parts() == 1 { rounded(x) } else { f64::from(x) };
        for layout in 0..8 {
            let (a_turned, b_turned, prepared) = (layout & 1 != 0, layout & 2 != 0, layout & 4 != 0);
            let (a_rows, a_columns) = if a_turned { (inner, rows) } else { (rows, inner) };
            let (b_rows, b_columns) = if b_turned { (columns, inner) } else { (inner, columns) };
            let (a_values, b_values) = (values(a_rows * a_columns, 1), values(b_rows * (b_columns + 3), 2));
            let bias = values(columns, 3);
            let a = Matrix::new(&a_values, a_rows, a_columns);
            let b = Matrix::with_stride(&b_values, b_rows, b_columns, b_columns + 3);
            let a = if a_turned { a.t() } else { a };
            let b = if b_turned { b.t() } else { b };
            let stride = columns + 2;
            let packed = Packed::new(unit, b);
            let right = if prepared {
                Right::packed(&packed)
            } else {
                Right::Fresh(unit, b)
            };
            for into in [Into::Set, Into::Add, Into::Bias(&bias)] {
                let mut y = vec![0.5f32; rows * stride];
                // SAFETY: the output has `rows` rows of `stride` values.
                unsafe { product(y.as_mut_ptr(), stride, a, right, into) };
                for (index, y) in y.iter().enumerate() {
                    let (i, j) = (index / stride, index % stride);
                    let mut expected = match into {
                        _ if j >= columns => 0.5,
                        Into::Add => 0.5,
                        Into::Set => 0.0,
                        Into::Bias(bias) => f64::from(bias[j]),
                    };
                    let mut size = expected.abs();
                    for k in 0..if j < columns { inner } else { 0 } {
                        let of_a = a.values[i * a.strides.0 + k * a.strides.1];
                        let of_b = b.values[k * b.strides.0 + j * b.strides.1];
                        let term = element(of_a) * element(of_b);
                        expected += term;
                        size += term.abs();
                    }
                    let error = (f64::from(*y) - expected).abs();
                    assert!(error <= 1e-6 * size, "{unit:?}: {y} {expected}");
                }
            }
        }
    }
}

/// Products of elements in parts are as accurate as products in f32.
#[test]
fn parts_lose_nothing() {
    let Some(unit) = Unit::all().into_iter().find(|unit| unit.parts() > 1) else {
        println!("skipped: this machine has no unit that is fast enough for parts");
        return;
    };
    let (rows, inner, columns) = (64, 700, 64);
    let (a_values, b_values) = (values(rows * inner, 1), values(inner * columns, 2));
    let (a, b) = (
        Matrix::new(&a_values, rows, inner),
        Matrix::new(&b_values, inner, columns),
    );
    let error = |engine: Engine| {
        let y = new_product(engine, a, b, Into::Set);
        let squares = y.iter().enumerate().map(|(index, y)| {
            let (i, j) = (index / columns, index % columns);
            let terms = (0..inner).map(|k| f64::from(a_values[i * inner + k]) * f64::from(b_values[k * columns + j]));
            (f64::from(*y) - terms.sum::<f64>()).powi(2)
        });
        (squares.sum::<f64>() / y.len() as f64).sqrt()
    };
    let (parts, whole) = (error(Engine::Tiles(unit)), error(Engine::Gemm));
    assert!(parts < 1.5 * whole, "{parts} {whole}");
}

/// Other rows and columns do not change an element, to the bit.
#[test]
fn an_element_depends_on_its_row_and_column() {
    let (rows, inner, columns) = (PANEL + 40, DEPTH + 40, 70);
    let (a_values, b_values) = (values(rows * inner, 1), values(inner * columns, 2));
    let bias = values(columns, 3);
    for unit in Unit::all() {
        let run = |first: usize, rows: usize, columns_taken: usize| {
            let a = Matrix::new(&a_values[first * inner..], rows, inner);
            let b = Matrix::with_stride(&b_values, inner, columns_taken, columns);
            new_product(Engine::Tiles(unit), a, b, Into::Bias(&bias[..columns_taken]))
        };
        let all = run(0, rows, columns);
        for (first, count, taken) in [(0, 1, 70), (33, 1, 1), (PANEL - 1, 2, 32), (rows - 5, 5, 69)] {
            let some = run(first, count, taken);
            for (row, some) in some.chunks_exact(taken).enumerate() {
                assert_eq!(some, &all[(first + row) * columns..][..taken], "{unit:?}");
            }
        }
    }
}
