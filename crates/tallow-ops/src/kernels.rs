//! Every kernel against its reference, forward and backward, on odd shapes.

use crate::{
    Activation, AttentionMask, AttentionOptions, Compute, CrossEntropyOptions, DropoutStream, Key, Purpose,
    cross_attention, cross_entropy, dropout, layer_norm, linear, self_attention,
};
use candle_core::{DType, Device, Result, Tensor, Var};

fn random(seed: u64, shape: &[usize]) -> Var {
    let key = Key::new(seed, Purpose::Initialisation);
    let values = key.normal(shape.iter().product());
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

/// Runs an operation in f64, where only references run, and in f32, where kernels do, and compares the results and the
/// gradients of a random weighting of them.
fn compare(inputs: &[Var], operation: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
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
    for (reference, kernel) in run(DType::F64)?.iter().zip(run(DType::F32)?) {
        let scale = reference.abs()?.max(0)?.to_scalar::<f64>()?.max(1.0);
        let difference = (reference - kernel)?.abs()?.max(0)?.to_scalar::<f64>()?;
        assert!(difference <= 3e-6 * scale, "{difference} at a scale of {scale}");
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
            compare(&inputs, |x| linear(&x[0], &x[1], Some(&x[2]), activation, Compute::F32))?;
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
    for shape in [&[2, 1, 1][..], &[2, 3, 17], &[2, 3, 5, 11]] {
        compare(&[random(1, shape)], |x| dropout(&x[0], Some(&stream.at(3, 0.4))))?;
    }
    Ok(())
}

#[test]
fn attention_kernel() -> Result<()> {
    for (queries, keys, heads, width) in [(1, 1usize, 1, 2), (3, 5, 2, 6), (17, 33, 3, 12)] {
        let lengths = [keys, keys.div_ceil(2)];
        for dtype_masked in [false, true] {
            compare(
                &[random(1, &[2, queries, width]), random(2, &[2, keys, 2 * width])],
                |x| {
                    let mask = AttentionMask::padding(&lengths, keys, x[0].dtype(), &Device::Cpu)?;
                    let mask = dtype_masked.then_some(&mask);
                    let options = AttentionOptions {
                        heads,
                        scale: 0.7,
                        mask,
                        dropout: None,
                        record: false,
                    };
                    Ok(cross_attention(&x[0], &x[1], options)?.context_btd)
                },
            )?;
        }
        compare(&[random(1, &[2, queries, 3 * width])], |x| {
            let mask = AttentionMask::causal(queries, x[0].dtype(), &Device::Cpu)?;
            let options = AttentionOptions {
                heads,
                scale: 0.7,
                mask: Some(&mask),
                dropout: None,
                record: false,
            };
            Ok(self_attention(&x[0], options)?.context_btd)
        })?;
    }
    Ok(())
}

#[test]
fn cross_entropy_kernel() -> Result<()> {
    for (rows, width, pieces) in [(1, 2, 3), (5, 4, 17), (9, 8, 100)] {
        let classes = pieces - 1;
        let labels: Vec<u32> = (0..rows as u32)
            .map(|i| if i == 3 { classes as u32 } else { i * 7 % classes as u32 })
            .collect();
        for smoothing in [0.0, 0.1] {
            let options = CrossEntropyOptions {
                smoothing,
                classes,
                ignored_label: classes as u32,
                compute: Compute::F32,
            };
            compare(&[random(1, &[rows, width]), random(2, &[pieces, width])], |x| {
                cross_entropy(&x[0], &x[1], None, &labels, options)
            })?;
        }
    }
    Ok(())
}

/// A row of huge, equal or tiny logits neither overflows nor divides by zero.
#[test]
fn extreme_logits() -> Result<()> {
    for value in [-1e4, 0.0, 1e4] {
        let hidden = Var::from_tensor(&Tensor::full(value as f32, (2, 1), &Device::Cpu)?)?;
        let weight = Tensor::new(&[[1f32], [-1.0], [0.5], [0.0]], &Device::Cpu)?;
        let options = CrossEntropyOptions {
            smoothing: 0.1,
            classes: 3,
            ignored_label: 3,
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
