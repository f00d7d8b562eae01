//! Every unit of the machine against the definition, to the bit.

use super::unit::Unit;
use super::values::Blocks;
use super::*;
use crate::{Path, with_path};

fn random(count: usize, seed: u64) -> Vec<f32> {
    let key = crate::Key::new(seed, crate::Purpose::Initialisation);
    key.normal(count).into_iter().map(|x| x as f32).collect()
}

/// A row's scale and whole numbers by their definition.
fn rounded(row: &[f32]) -> (f32, Vec<i64>) {
    let greatest = row.iter().fold(0f32, |greatest, x| greatest.max(x.abs()));
    if row.iter().any(|x| !x.is_finite()) {
        return (f32::NAN, vec![0; row.len()]);
    }
    let scale = greatest / 127.0;
    if !scale.is_normal() {
        return (0.0, vec![0; row.len()]);
    }
    (
        scale,
        row.iter()
            .map(|x| (x * (1.0 / scale)).round_ties_even() as i64)
            .collect(),
    )
}

/// The product by its definition, with sums in 64 bits.
fn by_definition(x: &[f32], weight: &[f32], inputs: usize, bias: Option<&[f32]>) -> Vec<f32> {
    let columns: Vec<(f32, Vec<i64>)> = weight.chunks_exact(inputs).map(rounded).collect();
    let mut product = Vec::new();
    for row in x.chunks_exact(inputs) {
        let (scale, row) = rounded(row);
        for (column, (of_column, weights)) in columns.iter().enumerate() {
            let sum: i64 = row.iter().zip(weights).map(|(a, b)| a * b).sum();
            let y = sum as f32 * (scale * of_column);
            product.push(bias.map_or(y, |bias| y + bias[column]));
        }
    }
    product
}

fn bits(values: &[f32]) -> Vec<u32> {
    // All NaNs are alike.
    let of = |x: &f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
    values.iter().map(of).collect()
}

fn compare(x: &[f32], weight: &[f32], inputs: usize, what: &str) {
    let (rows, outputs) = (x.len() / inputs, weight.len() / inputs);
    let weights = Weights::quantise(weight, outputs, inputs);
    let (values, scales) = weights.to_parts();
    let again = Weights::from_parts(&values, &scales, inputs);
    let bias = random(outputs, 5);
    for unit in Unit::all() {
        let mut quantised = Rows::new();
        quantised.quantise_for(unit, x, inputs);
        for bias in [None, Some(bias.as_slice())] {
            let expected = bits(&by_definition(x, weight, inputs, bias));
            let mut appended = vec![1.5];
            append_product(&mut appended, &quantised, &again, bias);
            let what = format!("{what}: {rows} x {inputs} x {outputs} by {}", unit.name());
            assert_eq!(bits(&appended[1..]), expected, "{what}");
        }
    }
}

#[test]
fn equals_the_definition() {
    for (rows, inputs, outputs) in [
        (0, 5, 7),
        (1, 1, 1),
        (2, 3, 15),
        (3, 4, 16),
        (4, 5, 17),
        (5, 63, 31),
        (6, 64, 32),
        (7, 65, 33),
        (8, 12, 48),
        (13, 257, 100),
        (14, 128, 64),
        (15, 100, 40),
        (29, 512, 33),
        (300, 8, 5),
        (1, 2048, 70),
    ] {
        compare(
            &random(rows * inputs, 1),
            &random(outputs * inputs, 2),
            inputs,
            "random",
        );
    }
}

/// Sums of the greatest products, of either sign. A kernel that adds in 16 bits would saturate.
#[test]
fn extremes() {
    for sign in [1.0, -1.0] {
        for inputs in [1, 4, 64, 200, 4096] {
            let x = vec![3.0 * sign; 15 * inputs];
            compare(&x, &vec![0.5; 33 * inputs], inputs, "the greatest products");
            let alternating: Vec<f32> = (0..33 * inputs).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
            compare(&x, &alternating, inputs, "alternating signs");
        }
    }
    // The longest rows that are allowed.
    compare(
        &vec![1.0; 2 * MOST_INPUTS],
        &vec![-1.0; 3 * MOST_INPUTS],
        MOST_INPUTS,
        "the longest rows",
    );
}

#[test]
fn numbers_that_cannot_be_rounded() {
    let inputs = 70;
    let mut x = random(9 * inputs, 1);
    x[..inputs].fill(0.0);
    x[inputs] = f32::NAN;
    x[2 * inputs + 69] = f32::INFINITY;
    x[3 * inputs + 3] = f32::NEG_INFINITY;
    x[4 * inputs..5 * inputs].fill(1e-40);
    x[5 * inputs..6 * inputs].fill(f32::MAX);
    let mut weight = random(20 * inputs, 2);
    weight[3 * inputs..4 * inputs].fill(0.0);
    compare(&x, &weight, inputs, "odd numbers");
    let y = by_definition(&x, &weight, inputs, None);
    let is_nan = |row: usize| y[row * 20..(row + 1) * 20].iter().all(|y| y.is_nan());
    assert_eq!(
        (0..9).map(is_nan).collect::<Vec<_>>(),
        [0, 1, 1, 1, 0, 0, 0, 0, 0].map(|nan| nan == 1)
    );
}

/// Halves are rounded to even numbers on every path.
#[test]
fn rounding() {
    let row: Vec<f32> = (-254..=254).map(|i| i as f32 / 2.0).collect();
    let (scale, expected) = rounded(&row);
    assert_eq!(scale, 1.0);
    for path in Path::KERNELS {
        let mut places = vec![[0i8; BLOCK]; row.len().div_ceil(BLOCK)];
        with_path(path, || {
            vectorized!({
                let values = Blocks::of(&row);
                assert_eq!(values.scale(), scale);
                values.round(scale, |q| q, places.iter_mut());
            });
        });
        let got: Vec<i64> = places.as_flattened()[..row.len()]
            .iter()
            .map(|q| i64::from(*q))
            .collect();
        assert_eq!(got, expected, "{path:?}");
    }
}

/// A thread's path chooses the unit; the bits do not depend on it, nor on the rows beside a row.
#[test]
fn paths_and_rows() {
    let (inputs, outputs) = (96, 40);
    let (x, weights) = (
        random(31 * inputs, 1),
        Weights::quantise(&random(outputs * inputs, 2), outputs, inputs),
    );
    let run = |x: &[f32]| {
        let (mut rows, mut y) = (Rows::default(), Vec::new());
        rows.quantise(x, inputs);
        append_product(&mut y, &rows, &weights, None);
        bits(&y)
    };
    let all = run(&x);
    for path in Path::KERNELS {
        assert_eq!(with_path(path, || run(&x)), all, "{path:?}");
    }
    for count in [1, 2, 5, 14, 17] {
        assert_eq!(
            run(&x[inputs..(count + 1) * inputs]),
            all[outputs..(count + 1) * outputs]
        );
    }
}
