//! The training loop.

mod divergence;
mod keeping;
mod ranks;
mod stages;

use crate::checkpoint::{Saved, read_state};
use crate::checksum;
use crate::finiteness::must_be_finite;
use crate::journal::Journal;
use crate::optimizer::Step;
use crate::reduction::Reduction;
use crate::{
    Ema, Event, Fingerprint, Measure, ModelCard, Observer, Optimizer, Profile, RunDirectory, TrainConfig, TrainError,
    TrainState, ValidationSet,
};
use candle_core::{Device, Tensor};
use keeping::remove_others;
pub use stages::StagePlace;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tallow_comm::Group;
use tallow_data::{BatchStream, Cursor, DataConfig, PairSource};
use tallow_decode::DecodeConfig;
use tallow_model::{Architecture, Params, Transformer};
use tallow_ops::profile::{self, Operation, span};
use tallow_text::Tokenizers;

/// The parts of a trainer.
#[derive(Debug)]
pub struct TrainerParts {
    /// The architecture of the model.
    pub architecture: Architecture,
    /// The initial weights; a resumed run uses those of the checkpoint.
    pub params: Params,
    /// A constant added to the logits, which is not trained; a resumed run uses that of the checkpoint.
    pub logits_bias: Option<Tensor>,
    /// The tokenizers.
    pub tokenizers: Tokenizers,
    /// The training text.
    pub corpus: Arc<dyn PairSource>,
    /// Texts to validate on.
    pub valid: Vec<ValidationSet>,
    /// The training configuration.
    pub train: TrainConfig,
    /// The configuration of data and batches.
    pub data: DataConfig,
    /// The configuration of translation with the finished model.
    pub decode: DecodeConfig,
    /// The card of the run's models.
    pub card: ModelCard,
    /// Seed, hashes, worker count: the properties that a resumed run must share.
    pub fingerprint: Fingerprint,
    /// The directory for all output.
    pub run: RunDirectory,
    /// The device of the tensors.
    pub device: Device,
    /// The processes that train together. They share the workers of the fingerprint, each the same number.
    pub group: Group,
}

/// The reason why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All updates or epochs are done.
    Finished,
    /// The metric has not improved for `patience` validations.
    Converged,
    /// A stop was requested. The run can be resumed.
    Interrupted,
}

/// The result of training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// The reason why it ended.
    pub ending: Ending,
    /// Total number of updates done.
    pub update: u64,
    /// The best validation: update, and value of the measure that decided.
    pub best: Option<(u64, f64)>,
    /// The measure that decided which validation is best: the metric of the config, or the loss if the metric's value
    /// is too low to decide.
    pub metric: Measure,
    /// Updates that were left out because their loss or gradient was not finite.
    pub skipped: u64,
    /// How often the run went back from divergence.
    pub setbacks: u64,
}

/// Trains a model.
#[derive(Debug)]
pub struct Trainer {
    parts: TrainerParts,
    model: Transformer,
    optimizer: Optimizer,
    ema: Option<Ema>,
    state: TrainState,
    reduction: Reduction,
    /// Whether all ranks know that one of them was asked to stop.
    is_stopping: bool,
    /// The threads of this process.
    workers: usize,
    profile: Option<Profile>,
}

impl Trainer {
    /// A new run. If several processes train together, this is for the root; the others [`join`](Self::join).
    ///
    /// # Errors
    /// When the parts do not match.
    pub fn new(parts: TrainerParts) -> Result<Self, TrainError> {
        must_be_finite(&parts.params)?;
        let state = TrainState::new(parts.fingerprint.clone());
        let optimizer = Optimizer::new(&parts.params)?;
        let ema = match parts.train.ema_decay {
            0.0 => None,
            decay => Some(Ema::new(&parts.params, decay)?),
        };
        Self::lead(parts, optimizer, ema, state)
    }

    /// Resumes a run from one of its checkpoints. Keys for which `may_change` is true may differ; the second result
    /// lists all changes. If several processes train together, this is for the root; the others
    /// [`join`](Self::join).
    ///
    /// # Errors
    /// When the checkpoint is damaged, or a difference is not allowed.
    pub fn resume(
        mut parts: TrainerParts,
        update: u64,
        may_change: impl Fn(&str) -> bool,
    ) -> Result<(Self, Vec<String>), TrainError> {
        let directory = parts.run.checkpoint(update);
        let mut state = read_state(&directory)?;
        let (fatal, harmless) = parts.fingerprint.differences(&state.fingerprint, may_change);
        if !fatal.is_empty() {
            return Err(TrainError::Resume(format!(
                "something differs that must be the same:\n  {}\nRestore it, or begin a new run with another `name` or \
                 `output`",
                fatal.join("\n  ")
            )));
        }
        let saved = Saved::open(&directory, &parts.architecture, parts.train.ema_decay, &parts.device)?;
        parts.params = saved.params;
        parts.logits_bias = saved.logits_bias;
        let mut changes = harmless;
        changes.extend(divergence::after_setbacks(&mut state, &changes));
        // The run would have removed these, had it not died after writing the checkpoint.
        remove_others(&parts.run, &state)?;
        let damage = |path: &Path| match checksum::check(path) {
            Err(faults) if !path.exists() || checksum::has(path) => Some(faults.join(", ")),
            _ => None,
        };
        changes.extend(divergence::best_before_divergence(&parts.run, &mut state)?);
        let of_measure = parts.fingerprint.other_measure(&state.fingerprint, parts.train.metric);
        state.fingerprint = parts.fingerprint.clone();
        if let Some(what) = of_measure {
            // Whether the average was chosen depended on the standings that it was compared with.
            state.averaged = None;
            if state.selection.forget_scores() {
                let until = match parts.valid.is_empty() {
                    false => "a validation chooses another one",
                    true => "the last weights take its place",
                };
                changes.push(format!(
                    "the scores of validations: those so far were found with {what} and are forgotten (best model, patience, \
                     checkpoints to keep); {} stays until {until}",
                    parts.run.best().display()
                ));
            }
        }
        // The run had continued beyond this checkpoint, to checkpoints that are not used: some have been removed since,
        // as planned.
        let went_on = parts.run.saved_updates()?.last() > Some(&update);
        state.selection.checkpoints.retain(|(kept, _)| {
            let path = parts.run.checkpoint(*kept);
            let fault = parts.run.divergence(*kept).or_else(|| damage(&path));
            changes.extend(
                fault
                    .iter()
                    .filter(|_| path.exists() || !went_on)
                    .map(|fault| format!("{} is not used any more: {fault}", path.display())),
            );
            fault.is_none()
        });
        if let (Some(_), Some(fault)) = (state.selection.best, damage(&parts.run.best())) {
            let path = parts.run.best();
            changes.push(format!("{} is not the best model any more: {fault}", path.display()));
            state.selection.best = None;
        }
        Ok((Self::lead(parts, saved.optimizer, saved.ema, state)?, changes))
    }

    /// Joins a run that the root has begun or resumed. The weights of `parts` are replaced by the root's; its run
    /// directory is not used.
    ///
    /// # Errors
    /// When the root does not answer, or has other parts.
    pub fn join(mut parts: TrainerParts) -> Result<Self, TrainError> {
        let reduction = ranks::reduction(&parts);
        let received = ranks::receive(&reduction, &parts)?;
        parts.logits_bias = received.logits_bias;
        Self::assemble(parts, reduction, received.optimizer, received.ema, received.state)
    }

    /// Begins as the root, with the moments of all parameters.
    fn lead(
        parts: TrainerParts,
        optimizer: Optimizer,
        ema: Option<Ema>,
        state: TrainState,
    ) -> Result<Self, TrainError> {
        let reduction = ranks::reduction(&parts);
        let optimizer = ranks::send(&reduction, &parts, &state, optimizer, ema.as_ref())?;
        Self::assemble(parts, reduction, optimizer, ema, state)
    }

    fn assemble(
        parts: TrainerParts,
        reduction: Reduction,
        optimizer: Optimizer,
        ema: Option<Ema>,
        state: TrainState,
    ) -> Result<Self, TrainError> {
        let model = Transformer::for_training(&parts.architecture, &parts.params, parts.logits_bias.clone())?;
        Ok(Self {
            parts,
            model,
            optimizer,
            ema,
            state,
            workers: reduction.slots().len(),
            reduction,
            is_stopping: false,
            profile: None,
        })
    }

    /// Measures how long the operations of updates take. [`Trainer::run`] reports it at its end as [`Event::Profiled`].
    /// Profiles cover the whole process, so measure one trainer at a time.
    pub fn profile(&mut self) {
        self.profile = Some(Profile {
            updates: 0,
            workers: self.workers,
            seconds: 0.0,
            shares: Vec::new(),
        });
    }

    /// Updates done so far.
    pub fn update(&self) -> u64 {
        self.state.update
    }

    /// Trains until everything is done, nothing improves any more, or `stop` is set. After `stop`, the update in
    /// progress is finished and a checkpoint is written. If several processes train together, one whose `stop` is set
    /// stops them all, after at least one update; the root's `observer` gets the events.
    ///
    /// # Errors
    /// When a file cannot be written, or the run diverged.
    pub fn run(&mut self, observer: &dyn Observer, stop: &AtomicBool) -> Result<Outcome, TrainError> {
        let log_every = self.parts.train.log_every;
        let mut journal = match self.parts.group.is_root() {
            true => Journal::open(&self.parts.run, self.state.metrics_bytes, log_every, observer)?,
            false => Journal::silent(),
        };
        if self.profile.is_some() {
            profile::reset();
        }
        let mut stream = self.batches()?;
        journal.tell(&Event::Started {
            update: self.state.update,
            max_updates: self.parts.train.max_updates,
            workers: self.reduction.all_workers(),
            parameters: self.parts.params.elements(),
        })?;
        self.tell_stage(self.state.metrics_bytes == 0, &mut journal)?;
        let mut is_first = true;
        let ending = loop {
            if let Some(ending) = self.ending(stop) {
                break ending;
            }
            profile::set_running(self.profile.is_some() && !is_first);
            let begin = Instant::now();
            let done = self.one_update(&mut stream, &mut journal, stop);
            profile::set_running(false);
            let done = done.and_then(|divergence| match divergence {
                None if self.is_kept() => self.not_finite_fault(),
                other => Ok(other),
            });
            if let Some(fault) = done? {
                // Only the root looks at checkpoints.
                if !self.on_root(|root| Ok(root.may_go_back()))? {
                    return Err(self.give_up(fault));
                }
                self.go_back(&mut journal)?;
                stream = self.batches()?;
                continue;
            }
            if let Some(profile) = self.profile.as_mut().filter(|_| !is_first) {
                profile.updates += 1;
                profile.seconds += begin.elapsed().as_secs_f64();
            }
            is_first = false;
            let was_done = self.is_done();
            if self.next_stage(&mut journal)? {
                // The rest of the epoch counts as one, so this may have been the last update.
                if self.is_done()
                    && !was_done
                    && let Some(fault) = self.not_finite_fault()?
                {
                    return Err(self.give_up(fault));
                }
                stream = self.batches()?;
            }
            let update = self.state.update;
            let is_best = update.is_multiple_of(self.parts.train.validate_every) && self.validate(&mut journal)?;
            // If weights lead to no finite loss or have exploded, there is no use in going back to them. They must not
            // replace earlier checkpoints.
            let is_due = update.is_multiple_of(self.parts.train.checkpoint_every);
            if is_due && self.is_sound() {
                self.checkpoint(&mut journal)?;
            } else if is_due && !self.is_done() && self.is_first_unsaved() {
                let last_sound = self.state.last_sound;
                journal.tell(&Event::NotSaved { update, last_sound })?;
            } else if is_best {
                // The run's record of its best model must always agree with best/.
                self.save(&mut journal)?;
            }
            journal.flush()?;
        };
        if let Some(profile) = &mut self.profile {
            profile.shares = profile::shares();
            journal.tell(&Event::Profiled(profile.clone()))?;
        }
        if ending == Ending::Interrupted {
            if !self.is_saved() {
                if let Some(fault) = self.not_finite_fault()? {
                    return Err(self.give_up(fault));
                }
                // This checkpoint is not counted among those to keep, because they must not depend on the time of the
                // stop.
                self.save(&mut journal)?;
            }
        } else {
            self.finish(&mut journal)?;
        }
        let (update, metric) = (self.state.update, self.parts.train.metric);
        let best = self.state.selection.best;
        Ok(Outcome {
            ending,
            update,
            best: best.map(|(update, standing)| (update, metric.of_standing(standing).1)),
            metric: best.map_or(metric, |(_, standing)| metric.of_standing(standing).0),
            skipped: self.state.skipped,
            setbacks: self.state.setbacks,
        })
    }

    /// Whether all updates or epochs are done.
    fn is_done(&self) -> bool {
        let (train, state) = (&self.parts.train, &self.state);
        state.update >= train.max_updates || (train.max_epochs > 0 && state.cursor.epoch >= train.max_epochs)
    }

    /// Whether something is saved after the present update.
    fn is_kept(&self) -> bool {
        let (train, update) = (&self.parts.train, self.state.update);
        update.is_multiple_of(train.validate_every) || update.is_multiple_of(train.checkpoint_every) || self.is_done()
    }

    /// The numbers that must not be saved because they are not finite, as the fault of a divergence.
    fn not_finite_fault(&self) -> Result<Option<String>, TrainError> {
        Ok(self
            .first_of_ranks(self.not_finite()?)?
            .map(|what| format!("its {what} are not finite numbers, and not saved")))
    }

    /// The learning rate of the present update.
    fn learning_rate(&self) -> f64 {
        let d_model = self.parts.architecture.model.d_model;
        self.parts.train.learning_rate_at(self.state.update, d_model) * self.state.learning_rate_factor
    }

    /// The reason to end now, if there is one.
    fn ending(&self, stop: &AtomicBool) -> Option<Ending> {
        let (train, state) = (&self.parts.train, &self.state);
        if self.is_done() {
            Some(Ending::Finished)
        } else if train.patience > 0 && state.selection.validations_without_improvement >= train.patience {
            Some(Ending::Converged)
        } else if self.is_stopping || (self.parts.group.is_alone() && stop.load(Ordering::Relaxed)) {
            Some(Ending::Interrupted)
        } else {
            None
        }
    }

    /// Does one update: gradients of `accumulate` batches, clipped, applied, logged. If the run has diverged, returns
    /// the fault.
    fn one_update(
        &mut self,
        stream: &mut BatchStream,
        journal: &mut Journal,
        stop: &AtomicBool,
    ) -> Result<Option<String>, TrainError> {
        let begin = Instant::now();
        let train = &self.parts.train;
        let update = self.state.update + 1;
        let (epoch, mut cursor) = (self.state.cursor.epoch, self.state.cursor);
        // The last update of the last epoch may be short: it must not use an epoch beyond `max_epochs`, or one of the
        // next stage.
        let after_stage = self.epoch_after_stage();
        let is_over = |cursor: Cursor| {
            (train.max_epochs > 0 && cursor.epoch >= train.max_epochs)
                || after_stage.is_some_and(|epoch| cursor.epoch >= epoch)
        };
        let next = || {
            if is_over(cursor) {
                return Ok(None);
            }
            let of_batching = span(Operation::Batching);
            let Some(next) = stream.next() else {
                return Err(TrainError::Worker);
            };
            drop(of_batching);
            let (batch, after) = next?;
            cursor = after;
            Ok(Some(batch))
        };
        let options = train.gradient_options(self.parts.fingerprint.seed, update, self.workers);
        let parts = &self.parts;
        let sum = self.reduction.gradient(
            (&self.model, &parts.params),
            train.accumulate,
            options,
            next,
            stop.load(Ordering::Relaxed),
        )?;
        self.is_stopping = sum.stop;
        let (loss, norm) = (sum.loss / sum.target_tokens as f64, sum.norm);
        self.state.update = update;
        self.state.cursor = cursor;
        let learning_rate = self.learning_rate();
        if loss.is_finite() && norm.is_finite() {
            let step = Step {
                update,
                learning_rate,
                norm,
                target_tokens: sum.target_tokens,
                workers: self.workers,
            };
            self.optimizer
                .update_pieces(&self.parts.params, &sum.gradients, step, train)?;
            self.reduction.collect(&self.parts.params)?;
            if let Some(ema) = &mut self.ema {
                ema.update(&self.parts.params, update)?;
            }
            self.state.target_tokens += sum.target_tokens as u64;
            self.state.skipped_in_a_row = 0;
            if !self.is_exploded(loss) {
                self.state.last_sound = Some(update);
            }
        } else {
            self.state.skipped += 1;
            self.state.skipped_in_a_row += 1;
            journal.tell(&Event::Skipped {
                update,
                loss,
                gradient_norm: norm,
            })?;
            let times = self.state.skipped_in_a_row;
            return Ok((times >= train.max_skipped)
                .then(|| format!("loss or gradient were not finite {times} times in a row (train.max_skipped)")));
        }
        let usual = self.state.loss_watch.take(loss);
        let seconds = begin.elapsed().as_secs_f64();
        if let Some(usual) = usual {
            journal.tell(&Event::Spiked { update, loss, usual })?;
        }
        journal.tell(&Event::Updated {
            update,
            epoch,
            loss,
            alignment_loss: (sum.linked_tokens > 0).then(|| sum.alignment_loss / sum.linked_tokens as f64),
            target_tokens: sum.target_tokens,
            learning_rate,
            gradient_norm: norm,
            seconds,
        })?;
        Ok(None)
    }
}
