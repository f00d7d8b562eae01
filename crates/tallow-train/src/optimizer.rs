//! Adam over all parameters of a model.

use crate::parallel::share;
use crate::{Gradients, OptimizerKind, TrainConfig, TrainError};
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use tallow_model::{Parameter, Params};
use tallow_ops::profile::{Operation, span};
use tallow_ops::{AdamOptions, AdamState, adam_update_no_grad};

/// The moments of every parameter, in the order of the parameters.
#[derive(Clone, Debug)]
pub struct Optimizer {
    states: Vec<AdamState>,
}

/// Plain stochastic gradient descent: every parameter goes against its gradient, by the learning rate. There are no
/// moments; those of Adam stay zero.
fn sgd(params: &Params, gradients: &Gradients, learning_rate: f64, options: &AdamOptions) -> Result<(), TrainError> {
    for (parameter, gradient) in params.iter().zip(&gradients.tensors) {
        let step = (gradient * (learning_rate * options.gradient_scale))?;
        let kept = (parameter.var.as_tensor() * (1.0 - learning_rate * options.weight_decay))?;
        parameter.var.set(&kept.sub(&step)?)?;
    }
    Ok(())
}

/// The number that PyTorch adds to a norm before it divides by it.
const CLIP_EPSILON: f64 = 1e-6;

impl Optimizer {
    /// New moments, all zero.
    ///
    /// # Errors
    /// Errors of the tensor operations.
    pub fn new(params: &Params) -> Result<Self, TrainError> {
        let states = params.iter().map(|parameter| AdamState::new(parameter.var.as_tensor()));
        Ok(Self {
            states: states.collect::<Result<_, _>>()?,
        })
    }

    /// Updates the parameters by the mean gradient per target token, clipped to the configured norm.
    ///
    /// `update` counts from 1 and comes with its learning rate; `norm` is the result of [`Gradients::norm`]. The
    /// workers divide the parameters among them; their number does not change the result.
    ///
    /// # Errors
    /// When parameters and gradients do not match.
    pub fn update(
        &mut self,
        params: &Params,
        gradients: &Gradients,
        norm: f64,
        (update, learning_rate): (u64, f64),
        config: &TrainConfig,
        workers: usize,
    ) -> Result<(), TrainError> {
        let clip = if config.clip_norm > 0.0 {
            (config.clip_norm / (norm + CLIP_EPSILON)).min(1.0)
        } else {
            1.0
        };
        let options = AdamOptions {
            learning_rate,
            beta1: config.beta1,
            beta2: config.beta2,
            epsilon: config.epsilon,
            weight_decay: config.weight_decay,
            decoupled: config.optimizer == OptimizerKind::AdamW,
            gradient_scale: clip / gradients.target_tokens as f64,
            step: update,
        };
        if config.optimizer == OptimizerKind::Sgd {
            return sgd(params, gradients, learning_rate, &options);
        }
        let pieces: Vec<_> = params.iter().zip(&gradients.tensors).zip(&mut self.states).collect();
        let size = |((parameter, _), _): &((&Parameter, &Tensor), &mut AdamState)| parameter.var.elem_count();
        share(pieces, workers, size, |((parameter, gradient), state)| {
            let _span = span(Operation::Optimizer);
            Ok(adam_update_no_grad(&parameter.var, gradient, state, &options)?)
        })
    }

    /// The moments with the names of the parameters.
    pub(crate) fn moments<'a>(&'a self, params: &'a Params) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
        let states = self.states.iter().map(AdamState::as_tensor);
        params.iter().map(|parameter| parameter.name.as_str()).zip(states)
    }

    /// The moments by the names of the parameters, to be saved.
    pub fn tensors(&self, params: &Params) -> HashMap<String, Tensor> {
        self.moments(params)
            .map(|(name, moments)| (name.to_string(), moments.clone()))
            .collect()
    }

    /// Restores saved moments.
    ///
    /// # Errors
    /// When a moment is missing or has a wrong shape.
    pub fn from_tensors(
        params: &Params,
        mut tensors: HashMap<String, Tensor>,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let state = |parameter: &tallow_model::Parameter| {
            let name = &parameter.name;
            let moments = tensors
                .remove(name)
                .ok_or_else(|| TrainError::Resume(format!("the moments of {name} are missing")))?;
            AdamState::from_tensor(moments.to_device(device)?, parameter.var.as_tensor())
                .map_err(|error| TrainError::Resume(format!("the moments of {name} do not fit: {error}")))
        };
        Ok(Self {
            states: params.iter().map(state).collect::<Result<_, TrainError>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;
    use tallow_model::{Architecture, Initialisation, ModelConfig};

    /// w (1 - rate decay) - rate clip g / tokens, as PyTorch's SGD without momentum does it.
    #[test]
    fn gradient_descent_written_out() {
        let architecture = Architecture {
            model: ModelConfig {
                d_model: 4,
                feed_forward: 4,
                heads: 1,
                encoder_layers: 1,
                decoder_layers: 1,
                ..ModelConfig::default()
            },
            source_vocabulary: 5,
            target_vocabulary: 5,
            shared_vocabulary: true,
            eos_id: 0,
            unk_id: 1,
        };
        let params = Params::initialise(&architecture, Initialisation::Xavier, 1, DType::F32, &Device::Cpu).unwrap();
        let values = |params: &Params| -> Vec<f32> {
            let all = params
                .iter()
                .map(|p| p.var.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            all.flatten().collect()
        };
        let ramp = |parameter: &Parameter| {
            let numbers: Vec<f32> = (0..parameter.var.elem_count()).map(|i| i as f32 * 0.25 - 3.0).collect();
            Tensor::from_vec(numbers, parameter.var.shape(), &Device::Cpu).unwrap()
        };
        let gradients = Gradients {
            loss: 0.0,
            target_tokens: 8,
            alignment_loss: 0.0,
            linked_tokens: 0,
            tensors: params.iter().map(ramp).collect(),
        };
        let before = values(&params);
        let flat: Vec<f32> = gradients
            .tensors
            .iter()
            .flat_map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap())
            .collect();
        let config = TrainConfig {
            optimizer: OptimizerKind::Sgd,
            clip_norm: 2.0,
            weight_decay: 0.1,
            ..TrainConfig::default()
        };
        let mut optimizer = Optimizer::new(&params).unwrap();
        // A norm of 8 is clipped to 2: a quarter.
        optimizer
            .update(&params, &gradients, 8.0, (1, 0.5), &config, 1)
            .unwrap();
        for ((before, gradient), after) in before.iter().zip(&flat).zip(values(&params)) {
            let expected = before * (1.0 - 0.5 * 0.1) - 0.5 * 0.25 * gradient / 8.0;
            assert!(
                (after - expected).abs() < 1e-5 * expected.abs().max(1.0),
                "{after} {expected}"
            );
        }
    }
}
