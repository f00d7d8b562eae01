//! What a trainer tells the world.

use crate::{Measure, Validation};
use std::path::PathBuf;
use tallow_ops::profile::Share;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Training begins, or goes on.
    Started {
        /// Updates already done.
        update: u64,
        /// Updates at which training ends.
        max_updates: u64,
        /// Threads that share an update.
        workers: usize,
        /// Trained numbers of the model.
        parameters: usize,
    },
    /// An update was done.
    Updated {
        /// Its number, from 1.
        update: u64,
        /// The epoch that it belongs to, from 0.
        epoch: u64,
        /// Label-smoothed cross-entropy in nats per target token.
        loss: f64,
        /// Its target tokens, padding not counted.
        target_tokens: usize,
        /// The learning rate.
        learning_rate: f64,
        /// The gradient's norm before clipping.
        gradient_norm: f64,
        /// How long it took, in seconds.
        seconds: f64,
    },
    /// An update was left out because loss or gradient were not finite.
    Skipped {
        /// Its number.
        update: u64,
        /// The loss.
        loss: f64,
        /// The gradient's norm.
        gradient_norm: f64,
    },
    /// The loss of an update is far above what is usual. Sent before the update itself.
    Spiked {
        /// Its number.
        update: u64,
        /// The loss.
        loss: f64,
        /// The average of those before.
        usual: f64,
    },
    /// The run diverged and goes on from an earlier checkpoint.
    WentBack {
        /// From which update.
        from: u64,
        /// After which one it goes on.
        to: u64,
        /// What the learning rate is multiplied by from now on.
        learning_rate_factor: f64,
    },
    /// A regular checkpoint was not written, because the loss is not finite or that of weights that have exploded. Sent
    /// for the first one since the last sound loss.
    NotSaved {
        /// After which update.
        update: u64,
        /// The last update whose loss was sound, if one was.
        last_sound: Option<u64>,
    },
    /// Something else decides from this validation on which model is best: the loss in place of a value of the metric
    /// that is too low for it, or the metric, which has reached what it takes.
    Decides {
        /// After which update.
        update: u64,
        /// The metric of the config.
        metric: Measure,
        /// What decides now.
        by: Measure,
    },
    /// The model was validated.
    Validated {
        /// After which update.
        update: u64,
        /// The results.
        validation: Validation,
        /// What decides.
        metric: Measure,
        /// Whether this is the best so far.
        is_best: bool,
        /// How long it took, in seconds.
        seconds: f64,
    },
    /// A checkpoint was written.
    Saved {
        /// After which update.
        update: u64,
        /// Where.
        path: PathBuf,
    },
    /// The average of the last checkpoints was validated.
    Averaged {
        /// Of how many checkpoints.
        checkpoints: usize,
        /// The results.
        validation: Validation,
        /// What decides.
        metric: Measure,
        /// Whether it is the best model now.
        is_best: bool,
    },
    /// The time of the updates was measured by operation; see [`Trainer::profile`](crate::Trainer::profile).
    Profiled(Profile),
}

/// Where the time of updates went.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Updates measured: all of this session but the first, which finds its memory untouched.
    pub updates: u64,
    /// Threads that shared them.
    pub workers: usize,
    /// How long they took, in seconds.
    pub seconds: f64,
    /// Time of every operation, summed over the workers.
    pub shares: Vec<Share>,
}

/// Somebody who wants to know. Called from the trainer's thread.
pub trait Observer {
    /// Something happened.
    fn observe(&self, event: &Event);
}

/// An observer who does not listen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _: &Event) {}
}
