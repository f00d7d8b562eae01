//! An exponential moving average of the weights (Polyak and Juditsky 1992).

use crate::TrainError;
use tallow_model::Params;

/// Averaged weights, kept beside the trained ones.
#[derive(Clone, Debug)]
pub struct Ema {
    params: Params,
    decay: f64,
}

impl Ema {
    /// An average that begins with the present weights.
    ///
    /// # Errors
    /// Errors of the tensor operations.
    pub fn new(params: &Params, decay: f64) -> Result<Self, TrainError> {
        Ok(Self {
            params: params.copy()?,
            decay,
        })
    }

    /// An average that was saved in a checkpoint.
    pub fn from_params(params: Params, decay: f64) -> Self {
        Self { params, decay }
    }

    /// Includes the weights after an update, counted from 1. Early on, the decay is (1 + update) / (10 + update), so
    /// that the initial weights are soon forgotten.
    ///
    /// # Errors
    /// When the parameters differ.
    pub fn update(&mut self, params: &Params, update: u64) -> Result<(), TrainError> {
        let decay = self.decay.min((1.0 + update as f64) / (10.0 + update as f64));
        for (average, parameter) in self.params.iter().zip(params.iter()) {
            let kept = (average.var.as_detached_tensor() * decay)?;
            let added = (parameter.var.as_detached_tensor() * (1.0 - decay))?;
            average.var.set(&(kept + added)?)?;
        }
        Ok(())
    }

    /// The averaged weights.
    pub fn params(&self) -> &Params {
        &self.params
    }
}
