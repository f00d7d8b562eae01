//! Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019).

mod cpu;
mod reference;

use crate::backend::Backend;
use candle_core::{DType, Result, Tensor, bail};

/// The settings of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamOptions {
    /// The learning rate of this update.
    pub learning_rate: f64,
    /// Decay of the running mean of gradients.
    pub beta1: f64,
    /// Decay of the running mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Weight decay: added to the gradient (Adam), or subtracted from the weight directly if `decoupled` (AdamW).
    pub weight_decay: f64,
    /// Whether the weight decay is AdamW's.
    pub decoupled: bool,
    /// The factor of the gradient, which combines clipping and the division by the number of tokens.
    pub gradient_scale: f64,
    /// The number of this update, from 1. It corrects the moments' bias towards zero.
    pub step: u64,
}

/// The moments of one parameter.
#[derive(Clone, Debug)]
pub struct AdamState {
    /// Means of gradients (row 0) and of squared gradients (row 1): f32 `[2, elements]`.
    moments: Tensor,
}

impl AdamState {
    /// Zero moments for a parameter, or for a part of one.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn new(parameter: &Tensor) -> Result<Self> {
        let moments = Tensor::zeros((2, parameter.elem_count()), DType::F32, parameter.device())?;
        Ok(Self { moments })
    }

    /// Moments from a checkpoint: f32 `[2, elements]`.
    ///
    /// # Errors
    /// When the shape or the type differs.
    pub fn from_tensor(moments: Tensor, parameter: &Tensor) -> Result<Self> {
        if moments.dims() != [2, parameter.elem_count()] || moments.dtype() != DType::F32 {
            bail!(
                "adam: moments {:?} ({:?}) do not belong to a parameter {:?}",
                moments.dims(),
                moments.dtype(),
                parameter.dims()
            );
        }
        Ok(Self {
            moments: moments.to_device(parameter.device())?.copy()?,
        })
    }

    /// The moments, to be saved.
    pub fn as_tensor(&self) -> &Tensor {
        &self.moments
    }
}

/// Updates a parameter and its moments in place. The parameter may be a view of a part of a variable.
///
/// # Shapes
/// `gradient` has the shape of `parameter`; both are f32, and `parameter` is contiguous.
///
/// # Errors
/// When shapes or types do not fit.
pub fn adam_update_no_grad(
    parameter: &Tensor,
    gradient: &Tensor,
    state: &mut AdamState,
    options: &AdamOptions,
) -> Result<()> {
    if parameter.dims() != gradient.dims() || state.moments.dims() != [2, parameter.elem_count()] {
        bail!(
            "adam: parameter {:?}, gradient {:?} and moments {:?} do not fit",
            parameter.dims(),
            gradient.dims(),
            state.moments.dims()
        );
    }
    if parameter.dtype() != DType::F32 || gradient.dtype() != DType::F32 {
        bail!(
            "adam: parameter and gradient must be f32, not {:?} and {:?}",
            parameter.dtype(),
            gradient.dtype()
        );
    }
    // A copy would be updated instead.
    if !parameter.is_contiguous() {
        bail!("adam: a strided parameter cannot be updated");
    }
    match Backend::of(&[parameter]) {
        Backend::Cpu => cpu::update(parameter, gradient, state, options),
        Backend::Reference => reference::update(parameter, gradient, state, options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// Compares both implementations over twelve updates; the trainer's tests compare with PyTorch.
    #[test]
    fn cpu_equals_reference() -> Result<()> {
        let random = |seed: u64| -> Result<Tensor> {
            let key = crate::Key::new(seed, crate::Purpose::Initialisation);
            Tensor::from_vec(
                key.normal(35).into_iter().map(|x| x as f32).collect::<Vec<_>>(),
                (5, 7),
                &Device::Cpu,
            )
        };
        for decoupled in [false, true] {
            let (fast, slow) = (Var::from_tensor(&random(1)?)?, Var::from_tensor(&random(1)?)?);
            let (mut fast_state, mut slow_state) = (AdamState::new(&fast)?, AdamState::new(&slow)?);
            for step in 1..=12 {
                let gradient = random(100 + step)?.t()?.contiguous()?.reshape((5, 7))?;
                let options = AdamOptions {
                    learning_rate: 0.01,
                    beta1: 0.9,
                    beta2: 0.98,
                    epsilon: 1e-8,
                    weight_decay: 0.1,
                    decoupled,
                    gradient_scale: 0.5,
                    step,
                };
                cpu::update(&fast, &gradient, &mut fast_state, &options)?;
                reference::update(&slow, &gradient, &mut slow_state, &options)?;
            }
            let difference = (fast.as_tensor() - slow.as_tensor())?
                .abs()?
                .flatten_all()?
                .max(0)?
                .to_scalar::<f32>()?;
            assert!(difference < 1e-6, "{difference}");
            let moved = (fast.as_tensor() - random(1)?)?
                .abs()?
                .flatten_all()?
                .min(0)?
                .to_scalar::<f32>()?;
            assert!(moved > 0.0, "a value never moved");
        }
        Ok(())
    }

    #[test]
    fn the_first_update_moves_by_the_learning_rate() -> Result<()> {
        let parameter = Var::new(&[1f32, 2.0, -3.0], &Device::Cpu)?;
        let gradient = Tensor::new(&[0.3f32, -20.0, 1e-3], &Device::Cpu)?;
        let options = AdamOptions {
            learning_rate: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-12,
            weight_decay: 0.0,
            decoupled: false,
            gradient_scale: 1.0,
            step: 1,
        };
        adam_update_no_grad(&parameter, &gradient, &mut AdamState::new(&parameter)?, &options)?;
        for (got, expected) in parameter.to_vec1::<f32>()?.into_iter().zip([0.9, 2.1, -3.1]) {
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        }
        Ok(())
    }
}
