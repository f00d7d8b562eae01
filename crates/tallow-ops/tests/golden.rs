//! Comparison of single operations with PyTorch's tables (`scripts/fixtures/operations.py`).
//!
//! The tables hold nine significant digits of float64 results. Results in f64 agree to these digits, and results in f32
//! to the accuracy of f32.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::{DType, Device, Tensor, Var};
use serde_json::Value;
use tallow_ops::{Activation, CrossEntropyOptions, cross_entropy, layer_norm};

/// Half a unit of the ninth digit, with room for rounding: relative to the value, and at least 1e-9.
const DIGITS: f64 = 1e-8;

fn table(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// All numbers of a nested list, row by row.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(parts) => parts.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

/// A list of rows as a matrix. The inputs are f32 numbers, which nine digits determine exactly.
fn matrix(value: &Value, dtype: DType) -> Tensor {
    let rows = value.as_array().unwrap().len();
    let all: Vec<f32> = numbers(value).into_iter().map(|x| x as f32).collect();
    let width = all.len() / rows;
    Tensor::from_vec(all, (rows, width), &Device::Cpu)
        .unwrap()
        .to_dtype(dtype)
        .unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    flat.to_vec1().unwrap()
}

/// Asserts that every number is within `relative` of its own size, or within `absolute` if it is small.
fn assert_near(what: &str, got: &[f64], expected: &[f64], relative: f64, absolute: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let allowed = absolute.max(relative * e.abs());
        assert!((g - e).abs() <= allowed, "{what}, element {i}: {g} instead of {e}");
    }
}

/// The sum and the gradient of cross-entropy with respect to the logits equal PyTorch's, with and without smoothing,
/// with and without an excluded class, and with a row whose exponentials overflow unless they are shifted. PyTorch
/// ignores rows of padding; here they are left out. The output layer's weight is the identity, so hidden states are
/// logits.
#[test]
fn label_smoothing() {
    let table = table("label_smoothing");
    let labels: Vec<u32> = numbers(&table["labels"]).iter().map(|label| *label as u32).collect();
    let padding = table["ignored_label"].as_u64().unwrap() as u32;
    let counts = |row: &u32| labels[*row as usize] != padding;
    let rows: Vec<u32> = (0..labels.len() as u32).filter(counts).collect();
    let labels: Vec<u32> = rows.iter().map(|row| labels[*row as usize]).collect();
    let rows = Tensor::new(rows, &Device::Cpu).unwrap();
    let cases = table["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for (dtype, relative, absolute) in [(DType::F64, DIGITS, 1e-9), (DType::F32, 1e-6, 2e-7)] {
        let logits = Var::from_tensor(&matrix(&table["logits"], dtype)).unwrap();
        let classes = logits.dim(1).unwrap();
        let identity = Tensor::eye(classes, dtype, &Device::Cpu).unwrap();
        for case in cases {
            let options = CrossEntropyOptions {
                r_drop: None,
                smoothing: case["smoothing"].as_f64().unwrap(),
                classes: case["excluded"].as_u64().map_or(classes, |excluded| excluded as usize),
                compute: tallow_ops::Compute::F32,
            };
            let what = format!("{dtype:?}, {options:?}");
            let counted = logits.index_select(&rows, 0).unwrap();
            let sum = cross_entropy(&counted, &identity, None, &labels, options).unwrap();
            assert_near(&what, &values(&sum), &numbers(&case["sum"]), relative, absolute);
            let gradients = sum.backward().unwrap();
            let gradient = gradients.get(&logits).unwrap();
            assert_near(
                &what,
                &values(gradient),
                &numbers(&case["gradient"]),
                relative,
                absolute,
            );
        }
    }
}

/// Layer normalisation and its three gradients equal PyTorch's for widths of 1, 7 and 16, and for rows far from zero,
/// of nearly equal numbers and of equal numbers.
#[test]
fn layer_normalisation() {
    let table = table("layer_norm");
    let cases = table["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for (dtype, relative, absolute) in [(DType::F64, DIGITS, 1e-8), (DType::F32, 1e-4, 2e-4)] {
        for case in cases {
            let x = Var::from_tensor(&matrix(&case["input"], dtype)).unwrap();
            let packed = Value::Array(vec![case["weight"].clone(), case["bias"].clone()]);
            let scale_shift = Var::from_tensor(&matrix(&packed, dtype)).unwrap();
            let y = layer_norm(&x, &scale_shift, case["epsilon"].as_f64().unwrap()).unwrap();
            let what = format!("{dtype:?}, width {}", x.dim(1).unwrap());
            assert_near(&what, &values(&y), &numbers(&case["output"]), relative, absolute);
            let upstream = matrix(&case["output_gradient"], dtype);
            let gradients = (y * upstream).unwrap().sum_all().unwrap().backward().unwrap();
            let of_x = values(gradients.get(&x).unwrap());
            let of_packed = values(gradients.get(&scale_shift).unwrap());
            let expected: Vec<f64> = [&case["weight_gradient"], &case["bias_gradient"]]
                .into_iter()
                .flat_map(numbers)
                .collect();
            let of_x_expected = numbers(&case["input_gradient"]);
            assert_near(
                &format!("{what}, gradient of x"),
                &of_x,
                &of_x_expected,
                relative,
                absolute,
            );
            assert_near(
                &format!("{what}, gradients of scale and shift"),
                &of_packed,
                &expected,
                relative,
                absolute,
            );
        }
    }
}

/// GELU and its derivative equal PyTorch's exact form (with erf), from the far left to the far right. Candle's
/// derivative writes 1/sqrt(2 pi) with six digits, 0.398942, in f64 too: its error is 2.8e-7 times |x| exp(-x²/2), at
/// most 1.8e-7.
#[test]
fn gelu() {
    let table = table("gelu");
    for (dtype, relative, absolute) in [(DType::F64, DIGITS, 1e-12), (DType::F32, 1e-6, 5e-7)] {
        let x = Var::from_tensor(&matrix(&Value::Array(vec![table["input"].clone()]), dtype)).unwrap();
        let y = Activation::Gelu.forward(&x).unwrap();
        let what = format!("{dtype:?}");
        assert_near(&what, &values(&y), &numbers(&table["output"]), relative, absolute);
        let gradients = y.sum_all().unwrap().backward().unwrap();
        let derivative = values(gradients.get(&x).unwrap());
        let expected = numbers(&table["derivative"]);
        assert_near(
            &format!("{what}, derivative"),
            &derivative,
            &expected,
            relative,
            absolute.max(1.8e-7),
        );
    }
}
