//! Adam over all parameters of a model.

use crate::flat::Piece;
use crate::parallel::share;
use crate::{Gradients, OptimizerKind, TrainConfig, TrainError};
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use tallow_model::{Parameter, Params};
use tallow_ops::profile::{Operation, span};
use tallow_ops::{AdamOptions, AdamState, adam_update_no_grad};

/// The moments of every parameter, or of a rank's share of them.
#[derive(Clone, Debug)]
pub struct Optimizer {
    /// The parts of parameters that this updates, each with its moments.
    pieces: Vec<(Piece, AdamState)>,
}

/// Plain stochastic gradient descent: a parameter goes against its gradient, by the learning rate. There are no
/// moments; those of Adam stay zero.
fn sgd(parameter: &Tensor, gradient: &Tensor, options: &AdamOptions) -> Result<(), TrainError> {
    let step = (gradient * (options.learning_rate * options.gradient_scale))?;
    let kept = (parameter * (1.0 - options.learning_rate * options.weight_decay))?;
    Ok(parameter.slice_set(&kept.sub(&step)?, 0, 0)?)
}

/// The number that PyTorch adds to a norm before it divides by it.
const CLIP_EPSILON: f64 = 1e-6;

/// What an update depends on besides its gradient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// The number of the update, from 1.
    pub(crate) update: u64,
    pub(crate) learning_rate: f64,
    /// The norm of the whole gradient, per target token.
    pub(crate) norm: f64,
    /// Target tokens of the whole update.
    pub(crate) target_tokens: usize,
    /// Threads. Their number does not change the result.
    pub(crate) workers: usize,
}

impl Optimizer {
    /// New moments of all parameters, all zero.
    ///
    /// # Errors
    /// Errors of the tensor operations.
    pub fn new(params: &Params) -> Result<Self, TrainError> {
        Self::of_pieces(params, Piece::all(params))
    }

    /// New moments of parts of the parameters, all zero.
    pub(crate) fn of_pieces(params: &Params, pieces: Vec<Piece>) -> Result<Self, TrainError> {
        let vars: Vec<&Tensor> = params.iter().map(|parameter| parameter.var.as_tensor()).collect();
        let with_state = |piece: Piece| {
            let state = AdamState::new(&piece.of(vars[piece.parameter])?)?;
            Ok((piece, state))
        };
        Ok(Self {
            pieces: pieces.into_iter().map(with_state).collect::<Result<_, TrainError>>()?,
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
        let of_piece = |(piece, _): &(Piece, AdamState)| piece.of(&gradients.tensors[piece.parameter]);
        let of_pieces = self.pieces.iter().map(of_piece).collect::<Result<Vec<_>, _>>()?;
        let step = Step {
            update,
            learning_rate,
            norm,
            target_tokens: gradients.target_tokens,
            workers,
        };
        self.update_pieces(params, &of_pieces, step, config)
    }

    /// Updates the pieces by their gradients, each `[elements]`, which are sums over the target tokens.
    pub(crate) fn update_pieces(
        &mut self,
        params: &Params,
        gradients: &[Tensor],
        step: Step,
        config: &TrainConfig,
    ) -> Result<(), TrainError> {
        let clip = if config.clip_norm > 0.0 {
            (config.clip_norm / (step.norm + CLIP_EPSILON)).min(1.0)
        } else {
            1.0
        };
        let options = AdamOptions {
            learning_rate: step.learning_rate,
            beta1: config.beta1,
            beta2: config.beta2,
            epsilon: config.epsilon,
            weight_decay: config.weight_decay,
            decoupled: config.optimizer == OptimizerKind::AdamW,
            gradient_scale: clip / step.target_tokens as f64,
            step: step.update,
        };
        let vars: Vec<&Tensor> = params.iter().map(|parameter| parameter.var.as_tensor()).collect();
        share(
            self.pieces.iter_mut().zip(gradients).collect(),
            step.workers,
            |((piece, _), _)| piece.len(),
            |((piece, state), gradient)| {
                let _span = span(Operation::Optimizer);
                let parameter = piece.of(vars[piece.parameter])?;
                match config.optimizer {
                    OptimizerKind::Sgd => sgd(&parameter, gradient, &options),
                    _ => Ok(adam_update_no_grad(&parameter, gradient, state, &options)?),
                }
            },
        )
    }

    /// The moments with the names of their parameters.
    pub(crate) fn moments<'a>(&'a self, params: &'a Params) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
        let names: Vec<&str> = params.iter().map(|parameter| parameter.name.as_str()).collect();
        self.pieces
            .iter()
            .map(move |(piece, state)| (names[piece.parameter], state.as_tensor()))
    }

    /// The moments by the names of the parameters, to be saved. They must be those of all parameters.
    pub fn tensors(&self, params: &Params) -> HashMap<String, Tensor> {
        self.moments(params)
            .map(|(name, moments)| (name.to_string(), moments.clone()))
            .collect()
    }

    /// Restores saved moments of all parameters.
    ///
    /// # Errors
    /// When a moment is missing or has a wrong shape.
    pub fn from_tensors(
        params: &Params,
        mut tensors: HashMap<String, Tensor>,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let state = |(piece, parameter): (Piece, &Parameter)| {
            let name = &parameter.name;
            let moments = tensors
                .remove(name)
                .ok_or_else(|| TrainError::Resume(format!("the moments of {name} are missing")))?;
            let state = AdamState::from_tensor(moments.to_device(device)?, parameter.var.as_tensor())
                .map_err(|error| TrainError::Resume(format!("the moments of {name} do not fit: {error}")))?;
            Ok((piece, state))
        };
        Ok(Self {
            pieces: Piece::all(params)
                .into_iter()
                .zip(params.iter())
                .map(state)
                .collect::<Result<_, TrainError>>()?,
        })
    }

    /// The moments of parts of the parameters, if these are those of all.
    pub(crate) fn part(&self, params: &Params, pieces: Vec<Piece>) -> Result<Self, TrainError> {
        let vars: Vec<&Tensor> = params.iter().map(|parameter| parameter.var.as_tensor()).collect();
        let of_piece = |piece: Piece| {
            let moments = self.pieces[piece.parameter].1.as_tensor();
            let moments = moments.narrow(1, piece.elements.start, piece.len())?.contiguous()?;
            let state = AdamState::from_tensor(moments, &piece.of(vars[piece.parameter])?)?;
            Ok((piece, state))
        };
        Ok(Self {
            pieces: pieces.into_iter().map(of_piece).collect::<Result<_, TrainError>>()?,
        })
    }

    /// The moments as numbers: for each piece its means, then its squares.
    pub(crate) fn numbers(&self) -> Result<Vec<f32>, TrainError> {
        let mut numbers = Vec::new();
        for (_, state) in &self.pieces {
            numbers.extend(state.as_tensor().flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(numbers)
    }

    /// Replaces the moments of some pieces, of which these are whole or parts, by numbers as of [`Self::numbers`].
    pub(crate) fn set_numbers(&mut self, pieces: &[Piece], numbers: &[f32]) -> Result<(), TrainError> {
        let mut rest = numbers;
        for piece in pieces {
            let (values, after) = rest.split_at_checked(2 * piece.len()).ok_or(TrainError::Worker)?;
            rest = after;
            let has_it = |(own, _): &&(Piece, AdamState)| own.contains(piece);
            let (own, state) = self.pieces.iter().find(has_it).ok_or(TrainError::Worker)?;
            let values = Tensor::from_slice(values, (2, piece.len()), &Device::Cpu)?;
            let offset = piece.elements.start - own.elements.start;
            state.as_tensor().slice_set(&values, 1, offset)?;
        }
        Ok(())
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
