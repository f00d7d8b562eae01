//! The affine map y = activation(x Wᵀ + b).

mod cpu;
mod reference;

use crate::backend::Backend;
use crate::product::least_rows;
use crate::{Activation, Compute};
use candle_core::{Result, Tensor, bail};

/// y = activation(x Wᵀ + b), applied to the last dimension.
///
/// Without a bias, products are computed in f32: inference computes its logits in this way.
///
/// On the CPU, the result of a row does not depend, to the bit, on the other rows.
///
/// # Shapes
/// `x`: `[.., i]`; `weight`: `[o, i]`; `bias`: `[o]`; the result: `[.., o]`.
///
/// # Errors
/// When the widths do not fit.
pub fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
    compute: Compute,
) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let dims = x.dims();
    if dims.last() != Some(&inputs) {
        bail!(
            "linear: x {dims:?} does not end in the {inputs} inputs of the weight {:?}",
            weight.dims()
        );
    }
    if let Some(bias) = bias
        && bias.dims() != [outputs]
    {
        bail!(
            "linear: the bias {:?} does not have the {outputs} outputs of the weight",
            bias.dims()
        );
    }
    let x_ni = x.reshape((x.elem_count() / inputs, inputs))?;
    let y_no = affine(&x_ni, weight, bias, activation, compute)?;
    let mut shape = dims.to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    y_no.reshape(shape)
}

/// The map on rows, by the kernel if it supports the operands.
fn affine(
    x_ni: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
    compute: Compute,
) -> Result<Tensor> {
    let operands: Vec<&Tensor> = [Some(x_ni), Some(weight), bias].into_iter().flatten().collect();
    match (Backend::of(&operands), bias) {
        (Backend::Cpu, Some(bias)) => {
            let relu = activation == Activation::Relu;
            let y = x_ni.apply_op3(weight, bias, cpu::Linear { relu, compute })?;
            if relu { Ok(y) } else { activation.forward(&y) }
        }
        (Backend::Cpu | Backend::Reference, _) => {
            // The kernel handles this itself.
            let (rows, least) = (x_ni.dim(0)?, least_rows(weight.dim(0)?));
            if rows >= least || !x_ni.device().is_cpu() {
                return reference::linear(x_ni, weight, bias, activation);
            }
            let padding = Tensor::zeros((least - rows, x_ni.dim(1)?), x_ni.dtype(), x_ni.device())?;
            let padded = Tensor::cat(&[x_ni, &padding], 0)?;
            reference::linear(&padded, weight, bias, activation)?.narrow(0, 0, rows)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn literal() -> Result<()> {
        let device = &Device::Cpu;
        let x = Tensor::new(&[[[1f32, 2.], [3., -4.]]], device)?;
        let weight = Tensor::new(&[[1f32, 0.], [0., 1.], [1., 1.]], device)?;
        let bias = Tensor::new(&[0.5f32, 0., -1.], device)?;
        let y = linear(&x, &weight, Some(&bias), Activation::Relu, Compute::F32)?;
        assert_eq!(y.to_vec3::<f32>()?, [[[1.5, 2., 2.], [3.5, 0., 0.]]]);
        let y = linear(&x, &weight, None, Activation::None, Compute::F32)?;
        assert_eq!(y.to_vec3::<f32>()?, [[[1., 2., 3.], [3., -4., -1.]]]);
        Ok(())
    }

    #[test]
    fn a_row_does_not_depend_on_the_rows_beside_it() -> Result<()> {
        let key = crate::Key::new(1, crate::Purpose::Initialisation);
        let random = |key: crate::Key, shape: (usize, usize)| -> Result<Tensor> {
            let values: Vec<f32> = key.normal(shape.0 * shape.1).into_iter().map(|x| x as f32).collect();
            Tensor::from_vec(values, shape, &Device::Cpu)
        };
        for (rows, inputs, outputs) in [
            (300, 96, 50),
            (40, 16, 7),
            (70, 128, 384),
            (33, 256, 1024),
            (20, 64, 3000),
            (24, 12, 36),
            (24, 12, 18),
            (30, 16, 30),
            (24, 12, 12),
            (24, 20, 12),
        ] {
            let (x, weight) = (
                random(key.fold(1), (rows, inputs))?,
                random(key.fold(2), (outputs, inputs))?,
            );
            let bias = random(key.fold(3), (1, outputs))?.squeeze(0)?;
            for (bias, activation) in [(None, Activation::None), (Some(&bias), Activation::Relu)] {
                for path in crate::Path::KERNELS {
                    let run = |x: &Tensor| {
                        let y = crate::with_path(path, || linear(x, &weight, bias, activation, Compute::F32));
                        y?.to_vec2::<f32>()
                    };
                    let all = run(&x)?;
                    for count in [1, 2, 3, 5, 8, 17] {
                        let some = run(&x.narrow(0, 1, count)?)?;
                        let what = format!("{count} of {rows} rows, {inputs} to {outputs}, {path:?}");
                        assert_eq!(some, all[1..1 + count], "{what}");
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn misfits_are_named() -> Result<()> {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu);
        let error = linear(&zeros(&[2, 3])?, &zeros(&[4, 5])?, None, Activation::None, Compute::F32)
            .unwrap_err()
            .to_string();
        assert!(error.contains("[2, 3]") && error.contains("[4, 5]"), "{error}");
        let error = linear(
            &zeros(&[2, 5])?,
            &zeros(&[4, 5])?,
            Some(&zeros(&[3])?),
            Activation::None,
            Compute::F32,
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("[3]"), "{error}");
        Ok(())
    }
}
