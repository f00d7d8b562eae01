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
