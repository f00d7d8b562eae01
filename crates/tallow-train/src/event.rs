//! The events that a trainer reports.

use crate::{Measure, Validation};
use std::path::PathBuf;
use tallow_ops::profile::Share;

/// An event of a run.
#[derive(Clone, Debug)]
pub enum Event {
    /// Training begins or continues.
    Started {
        /// Updates already done.
        update: u64,
        /// The update after which training ends.
        max_updates: u64,
        /// Threads that share an update.
        workers: usize,
        /// Number of trained parameters of the model.
        parameters: usize,
    },
    /// A stage of `data.stage` begins, or continues when a run is resumed.
    Stage {
        /// Whether it begins.
        is_new: bool,
        /// Updates already done.
        update: u64,
        /// The number of the stage, from 0.
        number: usize,
        /// The number of all stages.
        of: usize,
        /// The name of the stage.
        name: String,
    },
    /// An update was done.
    Updated {
        /// The number of the update, from 1.
        update: u64,
        /// The epoch of the update, from 0.
        epoch: u64,
        /// Label-smoothed cross-entropy in nats per target token, and what R-Drop and guided alignment add to it.
        loss: f64,
        /// The loss of guided alignment, without its weight, in nats per target token that has links; `None` if none
        /// has.
        alignment_loss: Option<f64>,
        /// Target tokens of the update, without padding.
        target_tokens: usize,
        /// The learning rate.
        learning_rate: f64,
        /// The gradient's norm before clipping.
        gradient_norm: f64,
        /// Duration in seconds.
        seconds: f64,
    },
    /// An update was left out because its loss or gradient was not finite.
    Skipped {
        /// The number of the update.
        update: u64,
        /// The loss.
        loss: f64,
        /// The gradient's norm.
        gradient_norm: f64,
    },
    /// The loss of an update is far above the usual loss. Sent before the event of the update itself.
    Spiked {
        /// The number of the update.
        update: u64,
        /// The loss.
        loss: f64,
        /// The average of the losses before.
        usual: f64,
    },
    /// The run diverged and continues from an earlier checkpoint.
    WentBack {
        /// The update at which the run diverged.
        from: u64,
        /// The update after which it continues.
        to: u64,
        /// The factor that multiplies the learning rate from now on.
        learning_rate_factor: f64,
    },
    /// A regular checkpoint was not written, because the loss is not finite or comes from weights that have exploded.
    /// Sent only for the first one since the last sound loss.
    NotSaved {
        /// The update before the checkpoint.
        update: u64,
        /// The last update with a sound loss, if there was one.
        last_sound: Option<u64>,
    },
    /// From this validation on, something else decides which model is best. Either the loss decides because the
    /// metric's value is too low, or the metric decides because it has reached its threshold.
    Decides {
        /// The update before the validation.
        update: u64,
        /// The metric of the config.
        metric: Measure,
        /// The measure that decides now.
        by: Measure,
    },
    /// The model was validated.
    Validated {
        /// The update before the validation.
        update: u64,
        /// The results.
        validation: Validation,
        /// The measure that decides.
        metric: Measure,
        /// Whether this validation is the best so far.
        is_best: bool,
        /// Duration in seconds.
        seconds: f64,
    },
    /// The program of `train.valid_command` gave no number. Sent before the event of the validation.
    CommandFailed {
        /// The update before the validation.
        update: u64,
        /// The reason, in words.
        reason: String,
    },
    /// A checkpoint was written.
    Saved {
        /// The update before the checkpoint.
        update: u64,
        /// The directory of the checkpoint.
        path: PathBuf,
    },
    /// The average of the last checkpoints was validated.
    Averaged {
        /// Number of averaged checkpoints.
        checkpoints: usize,
        /// The results.
        validation: Validation,
        /// The measure that decides.
        metric: Measure,
        /// Whether the average is now the best model.
        is_best: bool,
    },
    /// The time of the updates by operation; see [`Trainer::profile`](crate::Trainer::profile).
    Profiled(Profile),
}

/// The time that updates took, by operation.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Number of measured updates: all of this session except the first, which uses memory for the first time.
    pub updates: u64,
    /// Threads that shared the updates.
    pub workers: usize,
    /// Duration of the updates in seconds.
    pub seconds: f64,
    /// Time of each operation, summed over the workers.
    pub shares: Vec<Share>,
}

/// Receives the events of a trainer. Called from the trainer's thread.
pub trait Observer {
    /// Receives one event.
    fn observe(&self, event: &Event);
}

/// An observer that ignores all events.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _: &Event) {}
}
