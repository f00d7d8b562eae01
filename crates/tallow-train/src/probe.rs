//! Measures how fast a run will be.

use crate::optimizer::Step;
use crate::proof::ModelSubject;
use crate::reduction::Reduction;
use crate::{Optimizer, TrainConfig, TrainError};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tallow_comm::Group;
use tallow_data::{DataConfig, PairSource, Sampler};

/// The timing of a few updates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// Number of timed updates: all except the first, which uses memory for the first time.
    pub updates: u64,
    /// Average duration of an update in seconds.
    pub seconds_per_update: f64,
    /// Target tokens trained on per second.
    pub target_tokens_per_second: f64,
    /// Updates, including the first, whose loss or gradient was not finite.
    pub not_finite: u64,
    /// Updates of a run of one epoch.
    pub updates_per_epoch: u64,
    /// Batches of an epoch; `train.accumulate` batches make an update.
    pub batches_per_epoch: u64,
}

impl Speed {
    /// The updates of a whole run. An update that begins in one epoch continues in the next; only the end of the last
    /// epoch cuts an update short.
    pub fn updates_of_run(&self, train: &TrainConfig) -> u64 {
        let of_epochs = || {
            train
                .max_epochs
                .saturating_mul(self.batches_per_epoch)
                .div_ceil(train.accumulate.max(1))
        };
        match train.max_epochs {
            0 => train.max_updates,
            _ => train.max_updates.min(of_epochs()),
        }
    }

    /// The number of epochs that these updates cover.
    pub fn epochs(&self, updates: u64, train: &TrainConfig) -> f64 {
        let epochs = updates as f64 * train.accumulate.max(1) as f64 / self.batches_per_epoch.max(1) as f64;
        match train.max_epochs {
            0 => epochs,
            // The last update may be short.
            most => epochs.min(most as f64),
        }
    }
}

/// Times updates of a copy of the model on its training data. They are the first updates of the run, at least two,
/// until `long` has passed.
///
/// # Errors
/// When the model fails.
pub fn measure_speed(
    subject: &ModelSubject,
    pairs: &Arc<dyn PairSource>,
    data: &DataConfig,
    long: Duration,
) -> Result<Speed, TrainError> {
    let (params, model) = subject.copy()?;
    let reduction = Reduction::new(Group::alone(), &params, subject.train, subject.workers, subject.device);
    let mut optimizer = Optimizer::of_pieces(&params, reduction.own_pieces())?;
    let sampler = Sampler::new(pairs.clone(), data, subject.seed);
    let batches = sampler.epoch(0)?;
    let accumulate = subject.train.accumulate.max(1);
    // The batches of the first window, which has joined pairs as in training.
    let window = sampler.window(0, 0)?;
    let mut next = (0..window.len()).cycle();
    let (mut begin, mut timed, mut tokens, mut not_finite) = (Instant::now(), 0, 0, 0);
    for update in 1.. {
        let options = subject.train.gradient_options(subject.seed, update, subject.workers);
        let batch = || {
            next.next()
                .map_or(Err(TrainError::Worker), |number| Ok(Some(window.batch(number))))
        };
        let sum = reduction.gradient((&model, &params), accumulate, options, batch, false)?;
        let norm = sum.norm;
        let rate = subject
            .train
            .learning_rate_at(update, subject.architecture.model.d_model);
        if norm.is_finite() && sum.loss.is_finite() {
            let step = Step {
                update,
                learning_rate: rate,
                norm,
                target_tokens: sum.target_tokens,
                workers: subject.workers,
            };
            optimizer.update_pieces(&params, &sum.gradients, step, subject.train)?;
        } else {
            not_finite += 1;
        }
        if update == 1 {
            begin = Instant::now();
        } else {
            timed += 1;
            tokens += sum.target_tokens;
            if begin.elapsed() >= long {
                break;
            }
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Speed {
        updates: timed,
        not_finite,
        seconds_per_update: seconds / timed as f64,
        target_tokens_per_second: tokens as f64 / seconds,
        updates_per_epoch: (batches.len() as u64).div_ceil(accumulate),
        batches_per_epoch: batches.len() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_reach_over_epochs() {
        let speed = Speed {
            updates: 1,
            seconds_per_update: 1.0,
            target_tokens_per_second: 1.0,
            not_finite: 0,
            updates_per_epoch: 3,
            batches_per_epoch: 10,
        };
        let train = |max_epochs, accumulate, max_updates| TrainConfig {
            max_epochs,
            accumulate,
            max_updates,
            ..TrainConfig::default()
        };
        for (train, updates, epochs) in [
            (train(0, 4, 100), 100, 40.0),
            (train(3, 1, 100), 30, 3.0),
            // 30 batches: seven updates of four and one of two, rather than three updates in each of three epochs.
            (train(3, 4, 100), 8, 3.0),
            (train(3, 4, 5), 5, 2.0),
        ] {
            assert_eq!(speed.updates_of_run(&train), updates, "{train:?}");
            assert_eq!(speed.epochs(updates, &train), epochs, "{train:?}");
        }
    }
}
