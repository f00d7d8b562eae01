//! How fast a run will be.

use crate::gradient::accumulated;
use crate::proof::ModelSubject;
use crate::{Optimizer, TrainError};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tallow_data::{Corpus, DataConfig, Sampler};

/// What a few updates took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// Updates that were timed: all but the first, which finds its memory untouched.
    pub updates: u64,
    /// Seconds of one, on average.
    pub seconds_per_update: f64,
    /// Target tokens trained on in a second.
    pub target_tokens_per_second: f64,
    /// Updates, the first among them, whose loss or gradient was not finite.
    pub not_finite: u64,
    /// Updates of an epoch.
    pub updates_per_epoch: u64,
}

/// Times updates of a copy of the model on its training data: the first ones of the run, at least two and until `long` has
/// passed.
///
/// # Errors
/// When the model fails.
pub fn measure_speed(
    subject: &ModelSubject,
    corpus: &Arc<Corpus>,
    data: &DataConfig,
    long: Duration,
) -> Result<Speed, TrainError> {
    let (params, model) = subject.copy()?;
    let mut optimizer = Optimizer::new(&params)?;
    let sampler = Sampler::new(corpus.clone(), data, subject.seed);
    let batches = sampler.epoch(0);
    let accumulate = subject.train.accumulate.max(1);
    let mut next = batches.iter().cycle();
    let (mut begin, mut timed, mut tokens, mut not_finite) = (Instant::now(), 0, 0, 0);
    for update in 1.. {
        let options = subject.train.gradient_options(subject.seed, update, subject.workers);
        let batch = || {
            next.next()
                .map_or(Err(TrainError::Worker), |indices| Ok(Some(sampler.batch(0, indices))))
        };
        let sum = accumulated(&model, &params, accumulate, options, batch, subject.device)?;
        let norm = sum.norm(subject.workers)?;
        let rate = subject
            .train
            .learning_rate_at(update, subject.architecture.model.d_model);
        if norm.is_finite() && sum.loss.is_finite() {
            optimizer.update(&params, &sum, norm, (update, rate), subject.train, subject.workers)?;
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
    })
}
