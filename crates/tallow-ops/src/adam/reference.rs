use super::{AdamOptions, AdamState};
use candle_core::{Result, Tensor};

/// The update in plain tensor operations, on any device.
pub(super) fn update(
    parameter: &Tensor,
    gradient: &Tensor,
    state: &mut AdamState,
    options: &AdamOptions,
) -> Result<()> {
    let place = parameter.detach().flatten_all()?;
    let theta = place.copy()?;
    let mut gradient = (gradient.detach().flatten_all()? * options.gradient_scale)?;
    if !options.decoupled && options.weight_decay != 0.0 {
        gradient = (gradient + (&theta * options.weight_decay)?)?;
    }
    let mean = ((state.moments.get(0)? * options.beta1)? + (&gradient * (1.0 - options.beta1))?)?;
    let square = ((state.moments.get(1)? * options.beta2)? + (gradient.sqr()? * (1.0 - options.beta2))?)?;
    let mean_hat = (&mean / (1.0 - options.beta1.powf(options.step as f64)))?;
    let square_hat = (&square / (1.0 - options.beta2.powf(options.step as f64)))?;
    let kept = if options.decoupled {
        (&theta * (1.0 - options.learning_rate * options.weight_decay))?
    } else {
        theta
    };
    let next = (kept - ((mean_hat * options.learning_rate)? / (square_hat.sqrt()? + options.epsilon)?)?)?;
    state.moments = Tensor::stack(&[mean, square], 0)?;
    place.slice_set(&next, 0, 0)
}
