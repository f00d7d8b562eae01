//! The loop.

use crate::checkpoint::{Checkpoint, Saved, read_state};
use crate::checksum;
use crate::gradient::{DropoutKey, GradientOptions, Gradients, gradients};
use crate::log::{Log, write_json};
use crate::tensorboard::EventWriter;
use crate::{
    Ema, Event, Fingerprint, Metric, Observer, Optimizer, Profile, RunDirectory, TrainConfig, TrainError, TrainState,
    Validation, ValidationSet, average,
};
use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tallow_data::{BatchStream, Corpus, Cursor, DataConfig, Sampler};
use tallow_decode::DecodeConfig;
use tallow_model::{Architecture, Params, Transformer};
use tallow_ops::profile::{self, Operation, span};
use tallow_text::Tokenizers;

/// Removes the checkpoints before the present update that the run does not keep.
fn remove_others(run: &RunDirectory, state: &TrainState) -> Result<(), TrainError> {
    let is_kept = |update: u64| state.selection.checkpoints.iter().any(|(kept, _)| *kept == update);
    for update in run.saved_updates()? {
        if update < state.update && !is_kept(update) {
            run.remove_checkpoint(update)?;
        }
    }
    Ok(())
}

/// How many updates in a row may be left out for a loss or gradient that is not finite.
const MOST_SKIPPED: u64 = 10;

/// What a trainer is put together from.
#[derive(Debug)]
pub struct TrainerParts {
    /// What the model is.
    pub architecture: Architecture,
    /// Its initial weights; a resumed run takes those of the checkpoint.
    pub params: Params,
    /// A constant added to the logits, which is not trained; a resumed run takes that of the checkpoint.
    pub logits_bias: Option<Tensor>,
    /// Its tokenizers.
    pub tokenizers: Tokenizers,
    /// The training text.
    pub corpus: Arc<Corpus>,
    /// Text to validate on.
    pub valid: Option<ValidationSet>,
    /// How to train.
    pub train: TrainConfig,
    /// How to cut batches.
    pub data: DataConfig,
    /// How to translate with the finished model.
    pub decode: DecodeConfig,
    /// Seed, hashes, worker count: what a resumed run must share.
    pub fingerprint: Fingerprint,
    /// Where everything is written.
    pub run: RunDirectory,
    /// Where tensors live.
    pub device: Device,
}

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All updates or epochs are done.
    Finished,
    /// The metric has not improved for `patience` validations.
    Converged,
    /// Somebody asked for it. The run can be resumed.
    Interrupted,
}

/// How training ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Why.
    pub ending: Ending,
    /// Updates done in all.
    pub update: u64,
    /// The best validation: update and value of the metric.
    pub best: Option<(u64, f64)>,
}

/// Trains a model.
#[derive(Debug)]
pub struct Trainer {
    parts: TrainerParts,
    model: Transformer,
    optimizer: Optimizer,
    ema: Option<Ema>,
    state: TrainState,
    workers: usize,
    profile: Option<Profile>,
}

impl Trainer {
    /// A run from its beginning.
    ///
    /// # Errors
    /// When the parts do not fit each other.
    pub fn new(parts: TrainerParts) -> Result<Self, TrainError> {
        let state = TrainState::new(parts.fingerprint.clone());
        let optimizer = Optimizer::new(&parts.params)?;
        let ema = match parts.train.ema_decay {
            0.0 => None,
            decay => Some(Ema::new(&parts.params, decay)?),
        };
        Self::assemble(parts, optimizer, ema, state)
    }

    /// A run from one of its checkpoints. Changes of keys for which `may_change` is true are allowed; the second
    /// result lists everything that has changed.
    ///
    /// # Errors
    /// When the checkpoint is damaged, or something differs that must not.
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
        state.fingerprint = parts.fingerprint.clone();
        // What this run would have removed, had it not died after it wrote the checkpoint.
        remove_others(&parts.run, &state)?;
        let mut changes = harmless;
        let damage = |path: &Path| match checksum::check(path) {
            Err(faults) if !path.exists() || checksum::has(path) => Some(faults.join(", ")),
            _ => None,
        };
        state.selection.checkpoints.retain(|(kept, _)| {
            let path = parts.run.checkpoint(*kept);
            let fault = damage(&path);
            changes.extend(
                fault
                    .iter()
                    .map(|fault| format!("{} is not used any more: {fault}", path.display())),
            );
            fault.is_none()
        });
        if let (Some(_), Some(fault)) = (state.selection.best, damage(&parts.run.best())) {
            let path = parts.run.best();
            changes.push(format!("{} is not the best model any more: {fault}", path.display()));
            state.selection.best = None;
        }
        Ok((Self::assemble(parts, saved.optimizer, saved.ema, state)?, changes))
    }

    fn assemble(
        parts: TrainerParts,
        optimizer: Optimizer,
        ema: Option<Ema>,
        state: TrainState,
    ) -> Result<Self, TrainError> {
        let model = Transformer::for_training(&parts.architecture, &parts.params, parts.logits_bias.clone())?;
        let workers = parts.fingerprint.workers.max(1);
        Ok(Self {
            parts,
            model,
            optimizer,
            ema,
            state,
            workers,
            profile: None,
        })
    }

    /// Measures where the time of updates goes; [`Trainer::run`] reports it at its end by [`Event::Profiled`].
    /// Profiles are of the whole process: measure one trainer at a time.
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

    /// Trains until everything is done, nothing improves any more, or `stop` is set; then the update in progress is
    /// finished and a checkpoint written.
    ///
    /// # Errors
    /// When a file cannot be written, or the run diverged.
    pub fn run(&mut self, observer: &dyn Observer, stop: &AtomicBool) -> Result<Outcome, TrainError> {
        let mut log = Log::open(&self.parts.run, self.state.metrics_bytes)?;
        let path = self.parts.run.events();
        let mut events = EventWriter::create(&path, wall_time()).map_err(TrainError::file(&path))?;
        let sampler = Sampler::new(self.parts.corpus.clone(), &self.parts.data, self.parts.fingerprint.seed);
        let cursor = valid_cursor(&sampler, self.state.cursor);
        if self.profile.is_some() {
            profile::reset();
        }
        let mut stream = BatchStream::start(sampler, cursor, self.parts.data.prefetch_batches)?;
        observer.observe(&Event::Started {
            update: self.state.update,
            max_updates: self.parts.train.max_updates,
            workers: self.workers,
            parameters: self.parts.params.elements(),
        });
        let mut is_first = true;
        let ending = loop {
            if let Some(ending) = self.ending(stop) {
                break ending;
            }
            profile::set_running(self.profile.is_some() && !is_first);
            let begin = Instant::now();
            let done = self.one_update(&mut stream, &mut log, &mut events, observer);
            profile::set_running(false);
            done?;
            if let Some(profile) = self.profile.as_mut().filter(|_| !is_first) {
                profile.updates += 1;
                profile.seconds += begin.elapsed().as_secs_f64();
            }
            is_first = false;
            let update = self.state.update;
            if update.is_multiple_of(self.parts.train.validate_every) {
                self.validate(&mut log, &mut events, observer)?;
            }
            if update.is_multiple_of(self.parts.train.checkpoint_every) {
                self.checkpoint(&mut log, observer)?;
            }
            events.flush().map_err(TrainError::file(events.path()))?;
        };
        if let Some(profile) = &mut self.profile {
            profile.shares = profile::shares();
            observer.observe(&Event::Profiled(profile.clone()));
        }
        if ending == Ending::Interrupted {
            if !self.is_saved() {
                // Not one of those that are kept: which these are must not depend on when somebody stopped the run.
                self.save(&mut log, observer)?;
            }
        } else {
            self.finish(&mut log, &mut events, observer)?;
        }
        let update = self.state.update;
        Ok(Outcome {
            ending,
            update,
            best: self.state.selection.best,
        })
    }

    /// Whether there is a checkpoint of the present update.
    fn is_saved(&self) -> bool {
        let update = self.state.update;
        self.state
            .selection
            .checkpoints
            .iter()
            .any(|(saved, _)| *saved == update)
    }

    /// Ends a run whose updates are done: the last weights, and their average with those before, may be the best.
    fn finish(&mut self, log: &mut Log, events: &mut EventWriter, observer: &dyn Observer) -> Result<(), TrainError> {
        // A finished run that is resumed has done all this.
        let validated = self.state.selection.is_validated(self.state.update);
        if self.parts.valid.is_some() && !validated {
            self.validate(log, events, observer)?;
            self.checkpoint(log, observer)?;
        } else if !self.is_saved() {
            self.checkpoint(log, observer)?;
        }
        if self.state.selection.best.is_none() {
            // Nothing was validated, or never to a finite value: the last weights are the best there are.
            let weights = self.ema.as_ref().map_or(&self.parts.params, Ema::params);
            self.writer().save_model(&self.parts.run.best(), weights)?;
        }
        if self.average(observer)? {
            // The checkpoint must know the better score, or a resumed run would replace it by a worse one.
            self.checkpoint(log, observer)?;
        }
        Ok(())
    }

    /// Whether it is time to end.
    fn ending(&self, stop: &AtomicBool) -> Option<Ending> {
        let (train, state) = (&self.parts.train, &self.state);
        if state.update >= train.max_updates || (train.max_epochs > 0 && state.cursor.epoch >= train.max_epochs) {
            Some(Ending::Finished)
        } else if train.patience > 0 && state.selection.validations_without_improvement >= train.patience {
            Some(Ending::Converged)
        } else if stop.load(Ordering::Relaxed) {
            Some(Ending::Interrupted)
        } else {
            None
        }
    }

    /// One update: gradients of `accumulate` batches, clipped, applied, logged.
    fn one_update(
        &mut self,
        stream: &mut BatchStream,
        log: &mut Log,
        events: &mut EventWriter,
        observer: &dyn Observer,
    ) -> Result<(), TrainError> {
        let begin = Instant::now();
        let train = &self.parts.train;
        let update = self.state.update + 1;
        let mut sum: Option<Gradients> = None;
        let (epoch, mut cursor) = (self.state.cursor.epoch, self.state.cursor);
        for micro_batch in 0..train.accumulate {
            let of_batching = span(Operation::Batching);
            let Some(next) = stream.next() else {
                return Err(TrainError::Worker);
            };
            drop(of_batching);
            let (batch, after) = next?;
            cursor = after;
            let key = DropoutKey {
                seed: self.parts.fingerprint.seed,
                update,
                micro_batch,
            };
            let options = GradientOptions {
                label_smoothing: train.label_smoothing,
                dropout: Some(key),
                compute: train.compute.into(),
                workers: self.workers,
            };
            let gradient = gradients(&self.model, &self.parts.params, batch, options, &self.parts.device)?;
            match &mut sum {
                Some(sum) => sum.add(&gradient)?,
                None => sum = Some(gradient),
            }
        }
        let Some(sum) = sum else { return Err(TrainError::Worker) };
        let loss = sum.loss / sum.target_tokens as f64;
        let norm = sum.norm(self.workers)?;
        let learning_rate = train.learning_rate_at(update, self.parts.architecture.model.d_model);
        self.state.update = update;
        self.state.cursor = cursor;
        if loss.is_finite() && norm.is_finite() {
            self.optimizer.update(
                &self.parts.params,
                &sum,
                norm,
                (update, learning_rate),
                train,
                self.workers,
            )?;
            if let Some(ema) = &mut self.ema {
                ema.update(&self.parts.params, update)?;
            }
            self.state.target_tokens += sum.target_tokens as u64;
            self.state.skipped_in_a_row = 0;
        } else {
            self.state.skipped += 1;
            self.state.skipped_in_a_row += 1;
            observer.observe(&Event::Skipped {
                update,
                loss,
                gradient_norm: norm,
            });
            log.metric(&json!({ "update": update, "skipped": true, "loss": number(loss) }))?;
            if self.state.skipped_in_a_row >= MOST_SKIPPED {
                return Err(TrainError::Diverged {
                    update,
                    times: self.state.skipped_in_a_row,
                });
            }
            return Ok(());
        }
        let seconds = begin.elapsed().as_secs_f64();
        observer.observe(&Event::Updated {
            update,
            epoch,
            loss,
            target_tokens: sum.target_tokens,
            learning_rate,
            gradient_norm: norm,
            seconds,
        });
        if update.is_multiple_of(train.log_every) || update == 1 {
            log.metric(&json!({
                "update": update,
                "epoch": epoch,
                "loss": loss,
                "learning_rate": learning_rate,
                "gradient_norm": norm,
                "target_tokens": sum.target_tokens,
            }))?;
            let speed = sum.target_tokens as f64 / seconds;
            log.time(&json!({ "update": update, "seconds": seconds, "target_tokens_per_second": speed }))?;
            let scalars = [
                ("train/loss", loss),
                ("train/learning_rate", learning_rate),
                ("train/gradient_norm", norm),
                ("train/target_tokens_per_second", speed),
            ];
            self.scalars(events, &scalars)?;
        }
        Ok(())
    }

    /// Validates the present weights (their average, if there is one) and keeps them if they are the best so far.
    fn validate(&mut self, log: &mut Log, events: &mut EventWriter, observer: &dyn Observer) -> Result<(), TrainError> {
        if self.parts.valid.is_none() {
            return Ok(());
        }
        let begin = Instant::now();
        let weights = self.ema.as_ref().map_or(&self.parts.params, Ema::params);
        let validation = self.measure(weights)?;
        let (update, metric) = (self.state.update, self.parts.train.metric);
        let value = validation.value(metric);
        let is_best = self.state.selection.validated(update, value, metric);
        if is_best {
            let weights = self.ema.as_ref().map_or(&self.parts.params, Ema::params);
            self.writer().save_model(&self.parts.run.best(), weights)?;
        }
        log.metric(&json!({ "update": update, "valid": validation, "is_best": is_best }))?;
        let seconds = begin.elapsed().as_secs_f64();
        log.time(&json!({ "update": update, "validation_seconds": seconds }))?;
        let mut scalars = vec![
            ("valid/loss", validation.loss),
            ("valid/perplexity", validation.perplexity),
        ];
        scalars.extend(validation.bleu.map(|value| ("valid/bleu", value)));
        scalars.extend(validation.chrf.map(|value| ("valid/chrf", value)));
        scalars.extend(validation.exact_match.map(|value| ("valid/exact_match", value)));
        self.scalars(events, &scalars)?;
        for (i, [source, hypothesis, reference]) in validation.samples.iter().enumerate() {
            let text = format!("source: {source}\n\nhypothesis: {hypothesis}\n\nreference: {reference}");
            let tag = format!("sample/{i}");
            events
                .text(&tag, update as i64, &text, wall_time())
                .map_err(TrainError::file(events.path()))?;
        }
        observer.observe(&Event::Validated {
            update,
            validation,
            metric,
            is_best,
            seconds,
        });
        Ok(())
    }

    fn measure(&self, weights: &Params) -> Result<Validation, TrainError> {
        let parts = &self.parts;
        let model = Transformer::for_inference(&parts.architecture, weights, parts.logits_bias.clone())?;
        let decode = DecodeConfig {
            beam: parts.train.valid_beam,
            n_best: 1,
            sample: false,
            ..parts.decode.clone()
        };
        match &parts.valid {
            Some(valid) => {
                let samples = parts.train.samples;
                valid.validate(&model, &parts.tokenizers, &decode, samples, self.workers, &parts.device)
            }
            None => Err(TrainError::Average("there is no validation set".into())),
        }
    }

    fn checkpoint(&mut self, log: &mut Log, observer: &dyn Observer) -> Result<(), TrainError> {
        let train = &self.parts.train;
        let update = self.state.update;
        self.state
            .selection
            .saved(update, train.metric, train.keep_best, train.keep_last);
        self.save(log, observer)?;
        // Only now that the new checkpoint is complete may others go.
        remove_others(&self.parts.run, &self.state)
    }

    /// Writes the checkpoint of the present update.
    fn save(&mut self, log: &mut Log, observer: &dyn Observer) -> Result<(), TrainError> {
        // On disk before the checkpoint that counts on them.
        self.state.metrics_bytes = log.synced_metrics_bytes()?;
        let path = self
            .writer()
            .save(&self.parts.run, &self.state, &self.optimizer, self.ema.as_ref())?;
        let update = self.state.update;
        observer.observe(&Event::Saved { update, path });
        Ok(())
    }

    /// Tries the average of the last checkpoints, if the config asks for it, and says whether it became the best model.
    fn average(&mut self, observer: &dyn Observer) -> Result<bool, TrainError> {
        let wanted = self.parts.train.average_last;
        let checkpoints = &self.state.selection.checkpoints;
        let updates: Vec<u64> = checkpoints
            .iter()
            .rev()
            .take(wanted)
            .map(|(update, _)| *update)
            .collect();
        if updates.len() < 2 {
            return Ok(false);
        }
        let directories: Vec<_> = updates
            .iter()
            .map(|update| self.parts.run.checkpoint(*update))
            .collect();
        let params = average(&directories, &self.parts.device)?.params;
        let metric = self.parts.train.metric;
        let (is_best, validation) = if self.parts.valid.is_some() {
            let validation = self.measure(&params)?;
            let value = validation.value(metric);
            let is_best = self
                .state
                .selection
                .best
                .is_none_or(|(_, best)| metric.is_better(value, best));
            if is_best {
                self.state.selection.best = Some((self.state.update, value));
            }
            (is_best, Some(validation))
        } else {
            (true, None)
        };
        if is_best {
            self.writer().save_model(&self.parts.run.best(), &params)?;
        }
        if let Some(validation) = validation {
            let record = json!({ "averaged": updates, "valid": validation, "is_best": is_best });
            write_json(&self.parts.run.path().join("average.json"), &record)?;
            observer.observe(&Event::Averaged {
                checkpoints: updates.len(),
                validation,
                metric,
                is_best,
            });
        }
        Ok(is_best)
    }

    fn writer(&self) -> Checkpoint<'_> {
        Checkpoint {
            architecture: &self.parts.architecture,
            params: &self.parts.params,
            logits_bias: self.parts.logits_bias.as_ref(),
            tokenizers: &self.parts.tokenizers,
            search: (self.parts.decode.beam, self.parts.decode.max_length),
        }
    }

    fn scalars(&self, events: &mut EventWriter, values: &[(&str, f64)]) -> Result<(), TrainError> {
        for (tag, value) in values {
            let step = self.state.update as i64;
            events
                .scalar(tag, step, *value as f32, wall_time())
                .map_err(TrainError::file(events.path()))?;
        }
        Ok(())
    }

    /// The metric that decides.
    pub fn metric(&self) -> Metric {
        self.parts.train.metric
    }
}

/// A cursor at the end of an epoch stands for the beginning of the next.
fn valid_cursor(sampler: &Sampler, cursor: Cursor) -> Cursor {
    if cursor.batch > 0 && cursor.batch as usize >= sampler.epoch(cursor.epoch).len() {
        Cursor {
            epoch: cursor.epoch + 1,
            batch: 0,
        }
    } else {
        cursor
    }
}

/// A number as JSON knows it; what is not finite becomes text.
fn number(value: f64) -> Value {
    if value.is_finite() {
        json!(value)
    } else {
        json!(value.to_string())
    }
}

fn wall_time() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}
