//! Comparison of every kernel with its reference, forward and backward, on odd shapes.

use crate::{
    Activation, AttentionMask, AttentionOptions, AttentionSublayerOptions, Compute, Connection, CrossEntropyOptions,
    DropoutStream, FeedForwardOptions, Key, NormPlace, Path, Purpose, Sentences, attend, cross_attention,
    cross_attention_sublayer, cross_entropy, dropout, feed_forward, layer_norm, linear, self_attention,
    self_attention_sublayer, with_path,
};
use candle_core::{DType, Device, Result, Tensor, Var};

/// Both kinds of products that are exact to f32.
const F32: [Compute; 2] = [Compute::F32, Compute::Bf16x3];

fn random(seed: u64, shape: &[usize]) -> Var {
    let key = Key::new(seed, Purpose::Initialisation);
    let values = key.normal(shape.iter().product());
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

/// Runs an operation in f64, where only references run, and in f32, where kernels run (with the machine's instructions,
/// with AVX2, and with the baseline's). Compares the results, and the gradients of a random weighting of them.
fn compare(inputs: &[Var], operation: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
    compare_to(3e-6, inputs, operation)
}

/// [`compare`] with another tolerance, relative to the greatest element.
fn compare_to(tolerance: f64, inputs: &[Var], operation: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
    let run = |dtype: DType| -> Result<Vec<Tensor>> {
        let vars = inputs
            .iter()
            .map(|x| Var::from_tensor(&x.to_dtype(dtype)?))
            .collect::<Result<Vec<_>>>()?;
        let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let y = operation(&tensors)?;
        let weighting = random(99, y.dims()).to_dtype(dtype)?;
        let gradients = (&y * weighting)?.sum_all()?.backward()?;
        let mut results = vec![y];
        for var in &vars {
            results.push(gradients.get(var).cloned().expect("a gradient reaches every input"));
        }
        results
            .iter()
            .map(|tensor| tensor.to_dtype(DType::F64)?.flatten_all())
            .collect()
    };
    let reference = run(DType::F64)?;
    for path in Path::KERNELS {
        for (reference, kernel) in reference.iter().zip(with_path(path, || run(DType::F32))?) {
            let scale = reference.abs()?.max(0)?.to_scalar::<f64>()?.max(1.0);
            let difference = (reference - kernel)?.abs()?.max(0)?.to_scalar::<f64>()?;
            assert!(
                difference <= tolerance * scale,
                "{difference} at a scale of {scale}, {path:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn linear_kernel() -> Result<()> {
    for (rows, inputs, outputs) in [(1, 1, 1), (1, 5, 3), (7, 17, 33), (40, 16, 64)] {
        let inputs = [
            random(1, &[rows, inputs]),
            random(2, &[outputs, inputs]),
            random(3, &[outputs]),
        ];
        for activation in [Activation::None, Activation::Relu, Activation::Gelu, Activation::Silu] {
            for compute in F32 {
                compare(&inputs, |x| linear(&x[0], &x[1], Some(&x[2]), activation, compute))?;
            }
        }
    }
    Ok(())
}

#[test]
fn layer_norm_kernel() -> Result<()> {
    for shape in [&[1, 1, 2][..], &[2, 3, 5], &[4, 33], &[1, 2, 64], &[3, 127]] {
        let width = *shape.last().unwrap();
        compare(&[random(1, shape), random(2, &[2, width])], |x| {
            layer_norm(&x[0], &x[1], 1e-5)
        })?;
    }
    Ok(())
}

#[test]
fn dropout_kernel() -> Result<()> {
    let stream = DropoutStream::new(1, 2, vec![7, 9]);
    for (shape, lengths) in [(&[2, 1][..], [1, 1]), (&[7, 17], [2, 5]), (&[2, 3, 5, 11], [5, 4])] {
        let drop = stream.at(3, 0.4, &Sentences::new(&lengths)?);
        compare(&[random(1, shape)], |x| dropout(&x[0], Some(&drop)))?;
    }
    Ok(())
}

/// Sentences of equal lengths, whose rectangle needs no padding, and of different lengths.
#[test]
fn attention_kernel() -> Result<()> {
    for (of_queries, of_keys, heads, width) in [
        ([1, 1, 1], [1, 1, 1], 1, 2),
        ([3, 1, 2], [5, 5, 1], 2, 6),
        ([17, 70, 1], [33, 16, 129], 3, 12),
    ] {
        let (queries, keys) = (Sentences::new(&of_queries)?, Sentences::new(&of_keys)?);
        let drop = DropoutStream::new(1, 2, vec![7, 9, 4]).at(3, 0.4, &queries);
        for dropout in [None, Some(&drop)] {
            let options = AttentionOptions {
                heads,
                scale: 0.7,
                dropout,
                record: false,
            };
            let (q, kv) = (
                random(1, &[queries.rows(), width]),
                random(2, &[keys.rows(), 2 * width]),
            );
            compare(&[q, kv], |x| {
                Ok(cross_attention(&x[0], &queries, &x[1], &keys, options)?.context_nd)
            })?;
            for causal in [false, true] {
                compare(&[random(1, &[queries.rows(), 3 * width])], |x| {
                    Ok(self_attention(&x[0], &queries, causal, options)?.context_nd)
                })?;
            }
        }
    }
    Ok(())
}

/// Every sublayer with normalisation before and after it, with and without dropout, at odd sizes.
#[test]
fn sublayer_kernels() -> Result<()> {
    let stream = DropoutStream::new(1, 2, vec![7, 9]);
    // A chain of operations has more rounding errors than one.
    for (heads, d, f, of_x, memory_lengths) in [
        (1, 8, 3, [1, 1], [1, 1]),
        (3, 12, 17, [5, 2], [4, 7]),
        (2, 32, 48, [70, 9], [19, 1]),
        // Several blocks of rows, on one side and on both.
        (1, 4, 5, [30, 29], [10, 90]),
        (1, 4, 5, [1, 100], [59, 1]),
    ] {
        let (sentences, memory_sentences) = (Sentences::new(&of_x)?, Sentences::new(&memory_lengths)?);
        let at = |site, rate| stream.at(site, rate, &sentences);
        let (output, weights, inner) = (at(1, 0.3), at(2, 0.2), at(3, 0.25));
        let x = random(1, &[sentences.rows(), d]);
        let memory = random(2, &[memory_sentences.rows(), d]);
        for (place, residual, drops) in [
            (NormPlace::Post, true, false),
            (NormPlace::Post, true, true),
            (NormPlace::Pre, true, true),
            (NormPlace::None, true, true),
            (NormPlace::Post, false, true),
            (NormPlace::Pre, false, false),
        ] {
            let of_norm = if place == NormPlace::None { 0 } else { 2 * d };
            let connection = Connection {
                place,
                residual,
                epsilon: 1e-5,
                dropout: drops.then_some(&output),
            };
            for compute in F32 {
                for activation in [Activation::Relu, Activation::None, Activation::Silu, Activation::Gelu] {
                    let packed = random(3, &[2 * f * d + f + d + of_norm]);
                    let options = FeedForwardOptions {
                        inner: f,
                        activation,
                        inner_dropout: drops.then_some(&inner),
                        connection,
                        compute,
                    };
                    compare_to(1e-5, &[x.clone(), packed], |x| feed_forward(&x[0], &x[1], options))?;
                }
                let options = AttentionSublayerOptions {
                    heads,
                    // Random projections give large scores, and weights close to 0 or 1 would amplify rounding errors.
                    scale: 0.05,
                    weights_dropout: drops.then_some(&weights),
                    connection,
                    compute,
                    record: None,
                };
                for causal in [false, true] {
                    compare_to(1e-5, &[x.clone(), random(4, &[4 * d * d + 4 * d + of_norm])], |x| {
                        self_attention_sublayer(&x[0], &sentences, causal, &x[1], options)
                    })?;
                }
                let inputs = [x.clone(), memory.clone(), random(5, &[4 * d * d + 4 * d + of_norm])];
                compare_to(1e-5, &inputs, |x| {
                    cross_attention_sublayer((&x[0], &sentences), (&x[1], &memory_sentences), &x[2], options)
                })?;
            }
        }
    }
    Ok(())
}

/// In every sublayer, a sentence does not depend, to the bit, on the other sentences, however few there are: in f32 and
/// in bf16, with and without a backward pass.
#[test]
fn rows_of_sublayers_are_alone() -> Result<()> {
    let tensor = |seed: u64, shape: &[usize]| random(seed, shape).to_dtype(DType::F32);
    for (d, f) in [(12, 20), (16, 24), (64, 96), (130, 70)] {
        // Sentences of one row, and of one to four.
        let memory_lengths: Vec<usize> = (0..50).map(|i| 1 + i * 7 % 4).collect();
        let rows = memory_lengths.iter().sum();
        let (x, memory) = (tensor(1, &[50, d])?, tensor(2, &[rows, d])?);
        let (inner, attention) = (tensor(3, &[2 * f * d + f + 3 * d])?, tensor(4, &[4 * d * d + 6 * d])?);
        let run = |count: usize, compute: Compute, tracked: bool| -> Result<[Vec<Vec<f32>>; 3]> {
            let connection = Connection {
                place: NormPlace::Post,
                residual: true,
                epsilon: 1e-5,
                dropout: None,
            };
            let feed = FeedForwardOptions {
                inner: f,
                activation: Activation::Relu,
                inner_dropout: None,
                connection,
                compute,
            };
            let attend = AttentionSublayerOptions {
                heads: 2,
                scale: 0.1,
                weights_dropout: None,
                connection,
                compute,
                record: None,
            };
            let own = |x: &Tensor| if tracked { x.clone() } else { x.detach() };
            let (single, several) = (
                Sentences::new(&vec![1; count])?,
                Sentences::new(&memory_lengths[..count])?,
            );
            let (x, memory) = (own(&x.narrow(0, 0, count)?), own(&memory.narrow(0, 0, several.rows())?));
            let (inner, attention) = (own(&inner), own(&attention));
            assert_eq!(x.track_op(), tracked);
            Ok([
                feed_forward(&x, &inner, feed)?.to_vec2()?,
                self_attention_sublayer(&memory, &several, true, &attention, attend)?.to_vec2()?,
                cross_attention_sublayer((&x, &single), (&memory, &several), &attention, attend)?.to_vec2()?,
            ])
        };
        for (path, compute) in [
            (Path::Fast, Compute::F32),
            (Path::Avx2, Compute::F32),
            (Path::Baseline, Compute::F32),
            (Path::Fast, Compute::Bf16x3),
            (Path::Fast, Compute::Bf16),
        ] {
            let all = with_path(path, || run(50, compute, true))?;
            for (count, tracked) in [(1, true), (2, true), (8, false), (24, true), (50, false)] {
                let some = with_path(path, || run(count, compute, tracked))?;
                for (what, (some, all)) in some.iter().zip(&all).enumerate() {
                    let what = format!("sublayer {what} in {compute:?}, {path:?}, {count} sentences of width {d}");
                    assert_eq!(some[..], all[..some.len()], "{what}");
                }
            }
        }
    }
    Ok(())
}

/// Units for bf16 train in blocks: the gradient of a batch of several blocks is the sum of its sentences' gradients.
#[test]
fn gradients_of_blocks_add_up() -> Result<()> {
    let (d, f) = (32, 48);
    let lengths = [30, 33, 7];
    let tensor = |seed: u64, shape: &[usize]| random(seed, shape).to_dtype(DType::F32)?.affine(0.3, 0.0);
    let (x, memory) = (tensor(1, &[70, d])?.detach(), tensor(2, &[70, d])?.detach());
    let weighting = tensor(9, &[70, d])?.detach();
    let feed = Var::from_tensor(&tensor(3, &[2 * f * d + f + 3 * d])?)?;
    let attention = Var::from_tensor(&tensor(4, &[4 * d * d + 6 * d])?)?;
    let settings =
        [Compute::Bf16, Compute::Bf16x3].map(|compute| [NormPlace::Post, NormPlace::Pre].map(|place| (compute, place)));
    for (compute, place) in settings.into_iter().flatten() {
        let connection = Connection {
            place,
            residual: true,
            epsilon: 1e-5,
            dropout: None,
        };
        let options = FeedForwardOptions {
            inner: f,
            activation: Activation::Gelu,
            inner_dropout: None,
            connection,
            compute,
        };
        let attend = AttentionSublayerOptions {
            heads: 2,
            scale: 0.2,
            weights_dropout: None,
            connection,
            compute,
            record: None,
        };
        // The gradients of both parameters, for a batch of some of the sentences.
        let run = |first: usize, lengths: &[usize]| -> Result<[Tensor; 2]> {
            let sentences = Sentences::new(lengths)?;
            let rows = |x: &Tensor| x.narrow(0, first, sentences.rows());
            let own = (&rows(&x)?, &sentences);
            let y = feed_forward(own.0, &feed, options)?;
            let y = (y + self_attention_sublayer(own.0, own.1, true, &attention, attend)?)?;
            let memory = rows(&memory)?;
            let y = (y + cross_attention_sublayer(own, (&memory, &sentences), &attention, attend)?)?;
            let store = (y * rows(&weighting)?)?.sum_all()?.backward()?;
            Ok([&feed, &attention].map(|var| store.get(var).expect("a gradient").clone()))
        };
        let whole = run(0, &lengths)?;
        let parts = [
            run(0, &lengths[..1])?,
            run(30, &lengths[1..2])?,
            run(63, &lengths[2..])?,
        ];
        for (i, whole) in whole.iter().enumerate() {
            let sum = ((&parts[0][i] + &parts[1][i])? + &parts[2][i])?;
            let scale = sum.abs()?.max(0)?.to_scalar::<f32>()?;
            let difference = (whole - &sum)?.abs()?.max(0)?.to_scalar::<f32>()?;
            assert!(difference <= 1e-5 * scale, "{difference} at a scale of {scale}");
        }
    }
    Ok(())
}

/// Values kept for the backward pass are used once; a second backward pass computes them again.
#[test]
fn a_second_backward_pass() -> Result<()> {
    let (x, packed) = (
        random(1, &[59, 4]).to_dtype(DType::F32)?,
        random(2, &[88]).to_dtype(DType::F32)?,
    );
    let packed = Var::from_tensor(&packed)?;
    let options = AttentionSublayerOptions {
        heads: 2,
        scale: 0.7,
        weights_dropout: None,
        connection: Connection {
            place: NormPlace::Post,
            residual: true,
            epsilon: 1e-5,
            dropout: None,
        },
        compute: Compute::F32,
        record: None,
    };
    let y = self_attention_sublayer(&x, &Sentences::new(&[30, 29])?, false, &packed, options)?;
    let y = (y * random(3, &[59, 4]).to_dtype(DType::F32)?)?.sum_all()?;
    let gradient = || -> Result<Vec<f32>> { y.backward()?.get(&packed).expect("a gradient").to_vec1() };
    let (first, second) = (gradient()?, gradient()?);
    assert!(first.iter().any(|g| *g != 0.0));
    assert_eq!(first, second);
    Ok(())
}

/// Attention without a graph gives the same result as with one, also on slices of longer buffers. Other sentences and
/// more padding do not change a bit.
#[test]
fn attention_without_a_graph() -> Result<()> {
    let (heads, k, keys, queries) = (2, 20, 9, 3);
    let tensor =
        |seed: u64, shape: &[usize]| Ok::<_, candle_core::Error>(random(seed, shape).to_dtype(DType::F32)?.detach());
    let (q, buffer) = (tensor(1, &[3, heads, queries, k])?, tensor(2, &[3, heads, 14, k])?);
    let (keys_buffer, values_buffer) = (buffer.clone(), (&buffer * 0.5)?);
    let run = |q: &Tensor, keys_buffer: &Tensor, lengths: &[usize], keys: usize| -> Result<Vec<Vec<f32>>> {
        let mask = AttentionMask::padding(lengths, keys, DType::F32, &Device::Cpu)?;
        let options = AttentionOptions {
            heads,
            scale: 0.3,
            dropout: None,
            record: false,
        };
        let values = values_buffer.narrow(0, 0, q.dim(0)?)?.narrow(2, 0, keys)?;
        attend(q, &keys_buffer.narrow(2, 0, keys)?, &values, Some(&mask), options)?
            .context_nd
            .to_vec2()
    };
    let all = run(&q, &keys_buffer, &[9, 4, 1], keys)?;
    let tracked = Var::from_tensor(&keys_buffer)?;
    let with_graph = run(&q, tracked.as_tensor(), &[9, 4, 1], keys)?;
    for (a, b) in all.iter().flatten().zip(with_graph.iter().flatten()) {
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }
    let first = |x: &Tensor, count| x.narrow(0, 0, count)?.contiguous();
    assert_eq!(
        run(&first(&q, 2)?, &first(&keys_buffer, 2)?, &[9, 4], 13)?,
        all[..2 * queries]
    );
    Ok(())
}

#[test]
fn cross_entropy_kernel() -> Result<()> {
    for (rows, width, pieces) in [(1, 2, 3), (5, 4, 17), (9, 8, 100)] {
        let classes = pieces - 1;
        let labels: Vec<u32> = (0..rows as u32).map(|i| i * 7 % classes as u32).collect();
        for smoothing in [0.0, 0.1] {
            let options = CrossEntropyOptions {
                r_drop: None,
                smoothing,
                classes,
                compute: Compute::F32,
            };
            for compute in F32 {
                compare(&[random(1, &[rows, width]), random(2, &[pieces, width])], |x| {
                    cross_entropy(&x[0], &x[1], None, &labels, CrossEntropyOptions { compute, ..options })
                })?;
            }
        }
    }
    Ok(())
}

#[test]
fn cross_entropy_kernel_of_two_passes() -> Result<()> {
    for (tokens, width, pieces) in [(1, 2, 3), (5, 4, 17), (9, 8, 100), (300, 3, 33)] {
        let classes = pieces - 1;
        let labels: Vec<u32> = (0..tokens as u32).map(|i| i * 7 % classes as u32).collect();
        let labels = [labels.clone(), labels].concat();
        for (smoothing, weight) in [(0.0, 0.0), (0.1, 5.0)] {
            let options = CrossEntropyOptions {
                smoothing,
                r_drop: Some(weight),
                classes,
                compute: Compute::F32,
            };
            for compute in F32 {
                compare(&[random(1, &[2 * tokens, width]), random(2, &[pieces, width])], |x| {
                    cross_entropy(&x[0], &x[1], None, &labels, CrossEntropyOptions { compute, ..options })
                })?;
            }
        }
    }
    Ok(())
}

/// Two equal passes have the loss of one. Rows that do not form two passes are rejected.
#[test]
fn passes_that_agree() -> Result<()> {
    let small = |seed, rows| random(seed, &[rows, 3]).to_dtype(DType::F32);
    let (hidden, weight) = (small(1, 4)?, small(2, 9)?);
    let options = |r_drop| CrossEntropyOptions {
        smoothing: 0.1,
        r_drop,
        classes: 8,
        compute: Compute::F32,
    };
    let twice = Tensor::cat(&[&hidden, &hidden], 0)?;
    let labels = [1, 7, 0, 3];
    let one = cross_entropy(&hidden, &weight, None, &labels, options(None))?.to_scalar::<f32>()?;
    let labels = [labels, labels].concat();
    let two = cross_entropy(&twice, &weight, None, &labels, options(Some(5.0)))?.to_scalar::<f32>()?;
    assert!((one - two).abs() < 1e-5, "{one} {two}");
    for labels in [&labels[..7], &[1, 7, 0, 3, 1, 7, 0, 4]] {
        let hidden = twice.narrow(0, 0, labels.len())?;
        let error = cross_entropy(&hidden, &weight, None, labels, options(Some(1.0))).unwrap_err();
        assert!(error.to_string().contains("not two passes"), "{error}");
    }
    let error = cross_entropy(&twice, &weight, None, &labels, options(Some(f64::NAN))).unwrap_err();
    assert!(error.to_string().contains("R-Drop"), "{error}");
    Ok(())
}

/// A row of huge, equal or tiny logits causes neither overflow nor division by zero.
#[test]
fn extreme_logits() -> Result<()> {
    for value in [-1e4, 0.0, 1e4] {
        let hidden = Var::from_tensor(&Tensor::full(value as f32, (2, 1), &Device::Cpu)?)?;
        let weight = Tensor::new(&[[1f32], [-1.0], [0.5], [0.0]], &Device::Cpu)?;
        let options = CrossEntropyOptions {
            r_drop: None,
            smoothing: 0.1,
            classes: 3,
            compute: Compute::F32,
        };
        let loss = cross_entropy(&hidden, &weight, None, &[0, 1], options)?;
        let gradient = loss
            .backward()?
            .get(&hidden)
            .cloned()
            .expect("a gradient")
            .sum_all()?
            .to_scalar::<f32>()?;
        assert!(loss.to_scalar::<f32>()?.is_finite() && gradient.is_finite());
    }
    Ok(())
}
