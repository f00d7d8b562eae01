//! The update in two passes over memory, without temporary tensors.

use super::{AdamOptions, AdamState};
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};

pub(super) fn update(
    parameter: &Tensor,
    gradient: &Tensor,
    state: &mut AdamState,
    options: &AdamOptions,
) -> Result<()> {
    let mut gradient = gradient.contiguous()?;
    if !options.decoupled && options.weight_decay != 0.0 {
        // Adam's weight decay passes through the moments; the division undoes the scaling that follows.
        let decay = options.weight_decay / options.gradient_scale;
        gradient = (gradient + (parameter.detach() * decay)?)?;
    }
    state.moments.inplace_op2(&gradient, &Moments(options))?;
    parameter.inplace_op2(&state.moments, &Step(options))
}

/// moments <- decayed moments + gradient and its square.
struct Moments<'a>(&'a AdamOptions);

impl InplaceOp2 for Moments<'_> {
    fn name(&self) -> &'static str {
        "adam-moments"
    }

    fn cpu_fwd(&self, moments: &mut CpuStorage, layout: &Layout, gradient: &CpuStorage, of: &Layout) -> Result<()> {
        let (moments, gradient) = slices(moments, layout, (gradient, of))?;
        let (means, squares) = moments.split_at_mut(gradient.len());
        let (beta1, beta2) = (self.0.beta1 as f32, self.0.beta2 as f32);
        let (rest1, rest2) = ((1.0 - self.0.beta1) as f32, (1.0 - self.0.beta2) as f32);
        let scale = self.0.gradient_scale as f32;
        vectorized!({
            for ((mean, square), gradient) in means.iter_mut().zip(squares).zip(gradient) {
                let gradient = gradient * scale;
                *mean = beta1 * *mean + rest1 * gradient;
                *square = beta2 * *square + rest2 * gradient * gradient;
            }
        });
        Ok(())
    }
}

/// parameter <- parameter - step along the moments.
struct Step<'a>(&'a AdamOptions);

impl InplaceOp2 for Step<'_> {
    fn name(&self) -> &'static str {
        "adam-step"
    }

    fn cpu_fwd(&self, parameter: &mut CpuStorage, layout: &Layout, moments: &CpuStorage, of: &Layout) -> Result<()> {
        let (parameter, moments) = slices(parameter, layout, (moments, of))?;
        let (means, squares) = moments.split_at(parameter.len());
        let options = self.0;
        let rate = (options.learning_rate / (1.0 - options.beta1.powf(options.step as f64))) as f32;
        let correction = (1.0 / (1.0 - options.beta2.powf(options.step as f64))) as f32;
        let kept = if options.decoupled {
            (1.0 - options.learning_rate * options.weight_decay) as f32
        } else {
            1.0
        };
        let epsilon = options.epsilon as f32;
        vectorized!({
            for ((value, mean), square) in parameter.iter_mut().zip(means).zip(squares) {
                *value = *value * kept - rate * mean / ((square * correction).sqrt() + epsilon);
            }
        });
        Ok(())
    }
}

/// The two operands as slices of f32.
fn slices<'a>(
    destination: &'a mut CpuStorage,
    layout: &Layout,
    (source, source_layout): (&'a CpuStorage, &Layout),
) -> Result<(&'a mut [f32], &'a [f32])> {
    let (CpuStorage::F32(destination), CpuStorage::F32(source)) = (destination, source) else {
        bail!("adam: only f32 can be updated");
    };
    let (Some(to), Some(from)) = (layout.contiguous_offsets(), source_layout.contiguous_offsets()) else {
        bail!("adam: strided tensors cannot be updated");
    };
    Ok((&mut destination[to.0..to.1], &source[from.0..from.1]))
}
