//! The backward pass of every operation, compared with finite differences, and in f32 with f64.
//!
//! The output of an operation is multiplied by fixed random numbers and summed. The gradient of that sum with respect
//! to every element of every floating-point input must equal the central difference quotient. In f64 with a step of
//! 1e-5, the error of the quotient is near 1e-10, so the two must agree to 1e-7 (with GELU to 2e-6: Candle's derivative
//! has a constant of six digits, and the errors add up in the sum). In f32, the same sum must give the same values and
//! gradients to f32's accuracy; kernels that only exist in f32 are tested in this way.
//!
//! A missing gradient fails too: no operation may cut the graph at a floating-point input.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::{DType, Device, Result, Tensor, Var};
use tallow_ops::{
    Activation, AttentionMask, AttentionOptions, Compute, CrossEntropyOptions, Dropout, DropoutStream, Key, Purpose,
    Sentences, attend, cross_attention, cross_entropy, dropout, embed, layer_norm, linear, residual, residual_norm,
    self_attention, split_heads,
};

const STEP: f64 = 1e-5;

/// Normal random numbers in f64.
fn random(seed: u64, shape: &[usize]) -> Tensor {
    let key = Key::new(seed, Purpose::Initialisation);
    Tensor::from_vec(key.normal(shape.iter().product()), shape, &Device::Cpu).unwrap()
}

/// The sum of an operation's output, weighted by fixed random numbers.
fn weighted_sum(y: &Tensor) -> Tensor {
    let weights = random(99, &[y.elem_count()]).to_dtype(y.dtype()).unwrap();
    (y.flatten_all().unwrap() * weights).unwrap().sum_all().unwrap()
}

fn values(x: &Tensor) -> Vec<f64> {
    let flat = x.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    flat.to_vec1().unwrap()
}

/// The gradients of the weighted sum of `operation` with respect to its inputs, in the given type; and its output.
fn gradients(
    what: &str,
    inputs: &[Tensor],
    dtype: DType,
    operation: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let variables: Vec<Var> = inputs
        .iter()
        .map(|x| Var::from_tensor(&x.to_dtype(dtype).unwrap()).unwrap())
        .collect();
    let tensors: Vec<Tensor> = variables.iter().map(|var| var.as_tensor().clone()).collect();
    let y = operation(&tensors).unwrap();
    assert_eq!(y.dtype(), dtype, "{what}");
    let store = weighted_sum(&y).backward().unwrap();
    let gradient = |(i, var): (usize, &Var)| {
        let gradient = store
            .get(var)
            .unwrap_or_else(|| panic!("{what}: no gradient reaches input {i}"));
        assert_eq!(gradient.dims(), var.dims(), "{what}, input {i}");
        let gradient = values(gradient);
        assert!(
            gradient.iter().all(|g| g.is_finite()) && gradient.iter().any(|g| *g != 0.0),
            "{what}: the gradient of input {i} is zero or not finite"
        );
        gradient
    };
    (values(&y), variables.iter().enumerate().map(gradient).collect())
}

/// Compares the backward pass of an operation with finite differences for every element of every input, and then f32
/// with f64.
fn check(what: &str, inputs: &[Tensor], operation: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let tolerance = if what.contains("Gelu") { 2e-6 } else { 1e-7 };
    let (_, exact) = gradients(what, inputs, DType::F64, &operation);
    for (i, input) in inputs.iter().enumerate() {
        let numbers = values(input);
        for (element, value) in numbers.iter().enumerate() {
            let sum_at = |x: f64| -> f64 {
                let mut moved = numbers.clone();
                moved[element] = x;
                let mut all = inputs.to_vec();
                all[i] = Tensor::from_vec(moved, input.shape(), &Device::Cpu).unwrap();
                weighted_sum(&operation(&all).unwrap()).to_scalar().unwrap()
            };
            let quotient = (sum_at(value + STEP) - sum_at(value - STEP)) / (2.0 * STEP);
            let gradient = exact[i][element];
            assert!(
                (gradient - quotient).abs() <= tolerance * (1.0 + quotient.abs()),
                "{what}, input {i}, element {element}: gradient {gradient}, finite difference {quotient}"
            );
        }
    }
    compare(what, inputs, operation);
}

/// Compares values and gradients in f32 with those in f64.
fn compare(what: &str, inputs: &[Tensor], operation: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let (output, exact) = gradients(what, inputs, DType::F64, &operation);
    let (single_output, single) = gradients(what, inputs, DType::F32, &operation);
    let pairs = std::iter::once((&single_output, &output)).chain(single.iter().zip(&exact));
    for (part, (single, exact)) in pairs.enumerate() {
        // Rounding errors of a sum are relative to its terms, not to its value.
        let size = exact.iter().fold(1.0f64, |size, x| size.max(x.abs()));
        for (s, e) in single.iter().zip(exact) {
            let part = part.checked_sub(1).map_or("output".into(), |i| format!("gradient {i}"));
            assert!((s - e).abs() <= 2e-6 * size, "{what}, {part}: f32 {s}, f64 {e}");
        }
    }
}

fn sentences(lengths: &[usize]) -> Sentences {
    Sentences::new(lengths).unwrap()
}

fn masks(rate: f32, sentences: &Sentences) -> Dropout {
    DropoutStream::new(5, 3, (10..10 + sentences.count() as u64).collect::<Vec<u64>>()).at(7, rate, sentences)
}

/// Few rows (which the operation pads with rows of zeros) and many, odd widths, with and without bias, all activations.
#[test]
fn affine_maps() {
    for activation in [Activation::None, Activation::Relu, Activation::Gelu, Activation::Silu] {
        for (shape, outputs) in [
            (vec![1, 1, 5], 3),
            (vec![3, 7], 5),
            (vec![2, 3, 4], 1),
            (vec![29, 3], 11),
        ] {
            let inputs = *shape.last().unwrap();
            let with_bias = [random(1, &shape), random(2, &[outputs, inputs]), random(3, &[outputs])];
            let what = format!("{activation:?} of {shape:?} to {outputs}");
            check(&what, &with_bias, |x| {
                linear(&x[0], &x[1], Some(&x[2]), activation, Compute::F32)
            });
            check(&what, &with_bias[..2], |x| {
                linear(&x[0], &x[1], None, activation, Compute::F32)
            });
        }
    }
}

/// Activations alone.
#[test]
fn activations() {
    for activation in [Activation::Relu, Activation::Gelu, Activation::Silu] {
        check(&format!("{activation:?}"), &[random(1, &[3, 11])], |x| {
            activation.forward(&x[0])
        });
    }
}

/// Layer normalisation, alone and after a residual addition with and without dropout.
#[test]
fn normalisation() {
    for shape in [vec![5, 3], vec![2, 3, 7], vec![1, 1, 2], vec![3, 17]] {
        let width = *shape.last().unwrap();
        let inputs = [random(1, &shape), random(2, &[2, width])];
        check(&format!("layer_norm of {shape:?}"), &inputs, |x| {
            layer_norm(&x[0], &x[1], 1e-5)
        });
    }
    let shape = [6, 7];
    let inputs = [random(1, &shape), random(2, &shape), random(3, &[2, 7])];
    for drop in [None, Some(masks(0.3, &sentences(&[2, 4])))] {
        let drop = drop.as_ref();
        check(&format!("residual_norm, {drop:?}"), &inputs, |x| {
            residual_norm(&x[0], &x[1], drop, &x[2], 1e-5)
        });
        check(&format!("residual, {drop:?}"), &inputs[..2], |x| {
            residual(&x[0], &x[1], drop)
        });
    }
}

/// Dropout of hidden states and of attention weights: the gradient has the same mask and scale as the values.
#[test]
fn masked_values() {
    for shape in [vec![8, 11], vec![3, 2, 4, 5]] {
        let drop = masks(0.4, &sentences(&[3, 1, 4]));
        check(&format!("dropout of {shape:?}"), &[random(1, &shape)], |x| {
            dropout(&x[0], Some(&drop))
        });
    }
}

fn options(heads: usize, dropout: Option<&Dropout>) -> AttentionOptions<'_> {
    AttentionOptions {
        heads,
        scale: 0.6,
        dropout,
        record: false,
    }
}

/// Self-attention: three heads of width two, sentences of different and of equal lengths, with and without a causal
/// mask and dropout on the weights.
#[test]
fn attention_to_itself() {
    let (width, heads) = (6, 3);
    for lengths in [[5, 2], [3, 3]] {
        let sentences = sentences(&lengths);
        let qkv = [random(1, &[sentences.rows(), 3 * width])];
        let drop = masks(0.3, &sentences);
        for causal in [false, true] {
            for drop in [None, Some(&drop)] {
                check(&format!("self_attention, {lengths:?}, {causal}, {drop:?}"), &qkv, |x| {
                    Ok(self_attention(&x[0], &sentences, causal, options(heads, drop))?.context_nd)
                });
            }
        }
    }
}

/// Cross-attention with more queries than keys and with fewer, for sentences of different lengths, with and without
/// dropout; and attention to keys and values that are slices of longer buffers, some of them hidden.
#[test]
fn attention_to_another_sequence() {
    let (width, heads) = (4, 2);
    for (of_queries, of_keys) in [([1, 1], [3, 1]), ([5, 2], [2, 3]), ([2, 3], [7, 4])] {
        let (queries, keys) = (sentences(&of_queries), sentences(&of_keys));
        let drop = masks(0.3, &queries);
        let inputs = [
            random(1, &[queries.rows(), width]),
            random(2, &[keys.rows(), 2 * width]),
        ];
        for drop in [None, Some(&drop)] {
            check(
                &format!("cross_attention {of_queries:?} x {of_keys:?}, {drop:?}"),
                &inputs,
                |x| Ok(cross_attention(&x[0], &queries, &x[1], &keys, options(heads, drop))?.context_nd),
            );
        }
    }
    let buffer = [2, 3, 8, 5];
    let inputs = [random(1, &[2, 3, 1, 5]), random(2, &buffer), random(3, &buffer)];
    check("attend to slices", &inputs, |x| {
        let (keys, values) = (x[1].narrow(2, 0, 6)?, x[2].narrow(2, 0, 6)?);
        let mask = AttentionMask::padding(&[4, 6], 6, x[0].dtype(), &Device::Cpu)?;
        Ok(attend(&x[0], &keys, &values, Some(&mask), options(3, None))?.context_nd)
    });
    check("split_heads", &[random(1, &[2, 5, 6])], |x| split_heads(&x[0], 3));
}

/// Hidden keys have no influence and receive no gradient, exactly.
#[test]
fn hidden_keys_receive_nothing() {
    let q = Var::from_tensor(&random(1, &[1, 2, 2, 4])).unwrap();
    let kv = Var::from_tensor(&random(2, &[1, 2, 5, 4])).unwrap();
    let mask = AttentionMask::padding(&[3], 5, DType::F64, &Device::Cpu).unwrap();
    let context = attend(&q, &kv, &kv, Some(&mask), options(2, None)).unwrap().context_nd;
    let store = weighted_sum(&context).backward().unwrap();
    for head in store.get(&kv).unwrap().get(0).unwrap().to_vec3::<f64>().unwrap() {
        assert!(head[..3].iter().flatten().all(|g| *g != 0.0));
        assert!(head[3..].iter().flatten().all(|g| *g == 0.0));
    }
}

/// Embedding: the table's gradient sums over repeated ids, and the positions' gradient over sentences.
#[test]
fn embedding() {
    let ids = Tensor::new(&[4u32, 0, 2, 2, 2, 1], &Device::Cpu).unwrap();
    let sentences = sentences(&[4, 2]);
    let inputs = [random(1, &[5, 3]), random(2, &[4, 3])];
    for drop in [None, Some(masks(0.4, &sentences))] {
        let drop = drop.as_ref();
        check(&format!("embed with positions, {drop:?}"), &inputs, |x| {
            embed(&ids, &x[0], 1.7, Some(&x[1]), &sentences, drop)
        });
        check(&format!("embed, {drop:?}"), &inputs[..1], |x| {
            embed(&ids, &x[0], 1.7, None, &sentences, drop)
        });
    }
}

/// Cross-entropy of hidden states, output layer and bias, with an excluded class and smoothing. The excluded class has
/// no influence: its weights receive no gradient, and its logit changes nothing.
#[test]
fn losses() {
    let (rows, width, pieces) = (5, 3, 7);
    let inputs = [
        random(1, &[rows, width]),
        random(2, &[pieces, width]),
        random(3, &[1, pieces]),
    ];
    let labels = [3, 5, 0, 3, 1];
    for smoothing in [0.0, 0.1, 0.5] {
        for classes in [pieces, pieces - 1] {
            let options = CrossEntropyOptions {
                r_drop: None,
                smoothing,
                classes,
                compute: Compute::F32,
            };
            let what = format!("{options:?}");
            check(&what, &inputs, |x| {
                cross_entropy(&x[0], &x[1], Some(&x[2]), &labels, options)
            });
            check(&what, &inputs[..2], |x| {
                cross_entropy(&x[0], &x[1], None, &labels, options)
            });
            let (_, exact) = gradients(&what, &inputs, DType::F64, |x| {
                cross_entropy(&x[0], &x[1], Some(&x[2]), &labels, options)
            });
            let of_last_class: Vec<f64> = exact[1][6 * width..].iter().chain(&exact[2][6..]).copied().collect();
            assert_eq!(of_last_class.iter().all(|g| *g == 0.0), classes < pieces, "{what}");
        }
    }
}

/// Cross-entropy of two passes with R-Drop.
#[test]
fn losses_of_two_passes() {
    let (rows, width, pieces) = (6, 3, 7);
    let inputs = [
        random(1, &[rows, width]),
        random(2, &[pieces, width]),
        random(3, &[1, pieces]),
    ];
    let labels = [3, 5, 0, 3, 5, 0];
    for weight in [0.0, 0.5, 5.0] {
        for (smoothing, classes) in [(0.0, pieces), (0.1, pieces - 1)] {
            let options = CrossEntropyOptions {
                smoothing,
                r_drop: Some(weight),
                classes,
                compute: Compute::F32,
            };
            let what = format!("{options:?}");
            check(&what, &inputs, |x| {
                cross_entropy(&x[0], &x[1], Some(&x[2]), &labels, options)
            });
            check(&what, &inputs[..2], |x| {
                cross_entropy(&x[0], &x[1], None, &labels, options)
            });
        }
    }
}

/// Compares f32 with f64 at sizes beyond any vector register, block or strip of a kernel, none of them a multiple of
/// another. Finite differences have tested the gradients at small sizes only.
#[test]
fn larger_sizes() {
    let (queries, keys) = (sentences(&[35, 2, 50]), sentences(&[67, 33, 1]));
    let drop = masks(0.3, &queries);
    for activation in [Activation::None, Activation::Relu, Activation::Gelu, Activation::Silu] {
        let inputs = [random(1, &[3, 43, 37]), random(2, &[101, 37]), random(3, &[101])];
        compare(&format!("large {activation:?}"), &inputs, |x| {
            linear(&x[0], &x[1], Some(&x[2]), activation, Compute::F32)
        });
    }
    let hidden = [random(1, &[87, 131]), random(2, &[87, 131]), random(3, &[2, 131])];
    compare("large residual_norm", &hidden, |x| {
        residual_norm(&x[0], &x[1], Some(&drop), &x[2], 1e-5)
    });
    let (heads, width) = (3, 51);
    for drop in [None, Some(&drop)] {
        compare(
            "large self_attention",
            &[random(1, &[queries.rows(), 3 * width])],
            |x| Ok(self_attention(&x[0], &queries, true, options(heads, drop))?.context_nd),
        );
        let inputs = [
            random(2, &[queries.rows(), width]),
            random(3, &[keys.rows(), 2 * width]),
        ];
        compare("large cross_attention", &inputs, |x| {
            Ok(cross_attention(&x[0], &queries, &x[1], &keys, options(heads, drop))?.context_nd)
        });
    }
    let (rows, pieces) = (139, 301);
    let labels: Vec<u32> = (0..rows).map(|row| row * 37 % (pieces - 1)).collect();
    let inputs = [
        random(1, &[rows as usize, 19]),
        random(2, &[pieces as usize, 19]),
        random(3, &[1, pieces as usize]),
    ];
    let options = CrossEntropyOptions {
        r_drop: None,
        smoothing: 0.1,
        classes: pieces as usize - 1,
        compute: Compute::F32,
    };
    compare("large cross_entropy", &inputs, |x| {
        cross_entropy(&x[0], &x[1], Some(&x[2]), &labels, options)
    });
    // Two passes over more rows than a chunk has.
    let labels: Vec<u32> = (0..347u32).map(|row| row * 37 % (pieces - 1)).collect();
    let labels = [labels.clone(), labels].concat();
    let inputs = [random(4, &[labels.len(), 19]), inputs[1].clone()];
    let options = CrossEntropyOptions {
        r_drop: Some(3.0),
        ..options
    };
    compare("large cross_entropy of two passes", &inputs, |x| {
        cross_entropy(&x[0], &x[1], None, &labels, options)
    });
}
