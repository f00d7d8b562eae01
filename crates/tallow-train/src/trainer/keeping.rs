//! The results that a trainer keeps: validations, checkpoints, the best model.

use super::Trainer;
use super::ranks::share_values;
use crate::checkpoint::Checkpoint;
use crate::journal::Journal;
use crate::json_file::write_json;
use crate::{
    Ema, Event, Measure, Optimizer, RunDirectory, TrainError, TrainState, ValidCommand, Validation, ValidationLine,
    ValidationOptions, ValidationSet, average,
};
use serde_json::json;
use std::cell::RefCell;
use std::time::{Duration, Instant};
use tallow_model::{Params, Transformer};

/// Removes the checkpoints before the present update that the run need not keep.
pub(super) fn remove_others(run: &RunDirectory, state: &TrainState) -> Result<(), TrainError> {
    let is_kept = |update: u64| state.selection.checkpoints.iter().any(|(kept, _)| *kept == update);
    for update in run.saved_updates()? {
        if update < state.update && !is_kept(update) {
            run.remove_checkpoint(update)?;
        }
    }
    Ok(())
}

impl Trainer {
    /// Whether the present update has a checkpoint.
    pub(super) fn is_saved(&self) -> bool {
        let update = self.state.update;
        self.state
            .selection
            .checkpoints
            .iter()
            .any(|(saved, _)| *saved == update)
    }

    /// Ends a run after its last update. The last weights, or their average with earlier ones, may be the best.
    pub(super) fn finish(&mut self, journal: &mut Journal) -> Result<(), TrainError> {
        // If a finished run is resumed, all of this is done already.
        let validated = self.state.selection.is_validated(self.state.update);
        if !self.parts.valid.is_empty() && !validated {
            self.validate(journal)?;
            self.checkpoint(journal)?;
        } else if !self.is_saved() {
            self.checkpoint(journal)?;
        }
        if self.state.selection.best.is_none() {
            self.on_root(|root| root.save_last_as_best())?;
        }
        if self.average(journal)? {
            // The checkpoint must record this, or a resumed run would do it again.
            self.checkpoint(journal)?;
        }
        Ok(())
    }

    /// Keeps the last weights as the best model: no better ones are known.
    fn save_last_as_best(&self) -> Result<(), TrainError> {
        let weights = self.ema.as_ref().map_or(&self.parts.params, Ema::params);
        let why = match (self.parts.valid.is_empty(), self.state.selection.latest) {
            (true, _) => "nothing was validated",
            (_, Some((_, None))) if self.parts.train.metric == Measure::Command => {
                "the program of train.valid_command has chosen none"
            }
            // The files of the best model were missing when the run was resumed, so the selection forgot it.
            (_, Some((_, Some(_)))) => "the best ones were lost",
            _ => "no validation had a finite result of weights that had not exploded",
        };
        let told = format!("Weights: {}; {why}.", self.which_weights());
        self.writer().save_model(&self.parts.run.best(), weights, &told)
    }

    /// Validates the present weights (their average, if there is one), keeps them if they are the best so far, and
    /// returns whether they are.
    pub(super) fn validate(&mut self, journal: &mut Journal) -> Result<bool, TrainError> {
        if self.parts.valid.is_empty() {
            return Ok(false);
        }
        let begin = Instant::now();
        let weights = self.ema.as_ref().map_or(&self.parts.params, Ema::params);
        let validation = self.measure(weights, journal)?;
        self.on_root(|root| root.judge(validation.unwrap_or_default(), begin, journal))
    }

    /// Decides whether the weights of a validation are the best so far, and keeps them if so.
    fn judge(&mut self, validation: Validation, begin: Instant, journal: &mut Journal) -> Result<bool, TrainError> {
        let (update, metric) = (self.state.update, self.parts.train.metric);
        let before = self.decides();
        // Exploded weights must not replace the best model, whatever their score.
        let standing = match self.has_exploded(validation.loss) {
            true => f64::NAN,
            false => metric.standing(&validation),
        };
        // The user's program must not end a run by its faults, so these are not validations without improvement.
        let is_unknown = metric == Measure::Command && validation.value(metric).is_nan() && validation.loss.is_finite();
        let is_best = match is_unknown {
            true => self.state.selection.not_measured(update),
            false => self.state.selection.validated(update, standing, metric),
        };
        let by = self.decides();
        // Sent when the loss decides from the first validation on, or when the metric takes over.
        if by != before {
            journal.tell(&Event::Decides { update, metric, by })?;
        }
        if is_best {
            let weights = self.ema.as_ref().map_or(&self.parts.params, Ema::params);
            let told = format!("Weights: {}; {}", self.which_weights(), self.summary(&validation));
            self.writer().save_model(&self.parts.run.best(), weights, &told)?;
        }
        journal.tell(&Event::Validated {
            update,
            validation,
            metric: by,
            is_best,
            seconds: begin.elapsed().as_secs_f64(),
        })?;
        Ok(is_best)
    }

    /// The measure that decides at present which model is best: the metric of the config, or the loss if the metric's
    /// value is too low to decide.
    fn decides(&self) -> Measure {
        let metric = self.parts.train.metric;
        let best = self.state.selection.best;
        best.map_or(metric, |(_, standing)| metric.of_standing(standing).0)
    }

    /// Measures weights. The ranks share the work, and the root gets the result.
    fn measure(&self, weights: &Params, journal: &mut Journal) -> Result<Option<Validation>, TrainError> {
        let parts = &self.parts;
        let model = Transformer::for_inference(&parts.architecture, weights, parts.logits_bias.clone())?;
        let decode = self.parts.train.valid_search(&self.parts.decode);
        let folder = parts.run.validation();
        let faults = RefCell::new(Vec::new());
        let on_fault = |fault| faults.borrow_mut().push(fault);
        let options = ValidationOptions {
            samples: parts.train.samples,
            workers: self.workers,
            command: (!parts.train.valid_command.is_empty()).then_some(ValidCommand {
                command: &parts.train.valid_command,
                limit: Duration::from_secs(parts.train.valid_command_seconds),
                folder: &folder,
            }),
            on_fault: &on_fault,
        };
        let validate = |set: &ValidationSet| {
            set.validate_together(&parts.group, &model, &parts.tokenizers, &decode, options, &parts.device)
        };
        let validation = match parts.valid.as_slice() {
            [] => return Err(TrainError::Average("there is no validation set".into())),
            [one] => validate(one)?,
            several => {
                let name = |set: &ValidationSet| set.name.clone().unwrap_or_default();
                // All sets, before the ranks without results part from the root.
                let results = several
                    .iter()
                    .map(|set| Ok(validate(set)?.map(|result| (name(set), result))));
                let results = results.collect::<Result<Vec<Option<_>>, TrainError>>()?;
                let results: Option<Vec<_>> = results.into_iter().collect();
                results.map(|results| Validation::of_sets(results, parts.train.chosen_valid_set()))
            }
        };
        for reason in faults.into_inner() {
            let update = self.state.update;
            journal.tell(&Event::CommandFailed { update, reason })?;
        }
        Ok(validation)
    }

    /// A description of the present weights for a model card.
    fn which_weights(&self) -> String {
        let update = self.state.update;
        match self.ema {
            Some(_) => format!(
                "the exponential average (`ema_decay` {}) of those up to update {update}",
                self.parts.train.ema_decay
            ),
            None => format!("those after update {update}"),
        }
    }

    /// A description of a validation for a model card.
    fn summary(&self, validation: &Validation) -> String {
        match self.parts.valid.is_empty() {
            false => validation.summary(&self.parts.train.valid_search(&self.parts.decode)),
            true => String::new(),
        }
    }

    pub(super) fn checkpoint(&mut self, journal: &mut Journal) -> Result<(), TrainError> {
        let optimizer = self.whole_optimizer()?;
        self.on_root(|root| {
            let train = &root.parts.train;
            root.state
                .selection
                .saved(root.state.update, train.metric, train.keep_best, train.keep_last);
            root.write(optimizer, journal)?;
            // The new checkpoint is complete, so others may be removed now.
            remove_others(&root.parts.run, &root.state)
        })
    }

    /// Saves the present update in a checkpoint.
    pub(super) fn save(&mut self, journal: &mut Journal) -> Result<(), TrainError> {
        let optimizer = self.whole_optimizer()?;
        self.on_root(|root| root.write(optimizer, journal))
    }

    /// Writes the checkpoint of the present update, with the moments of all parameters.
    fn write(&mut self, optimizer: Option<Optimizer>, journal: &mut Journal) -> Result<(), TrainError> {
        let optimizer = optimizer.ok_or(TrainError::Worker)?;
        // Must be on disk before the checkpoint that refers to it.
        self.state.metrics_bytes = journal.synced_metrics_bytes()?;
        let path = self
            .writer()
            .save(&self.parts.run, &self.state, &optimizer, self.ema.as_ref())?;
        let update = self.state.update;
        // Checkpoints that led to divergence before the run was resumed: the run takes another way now.
        let run = &self.parts.run;
        for saved in run.saved_updates()? {
            if saved > update && run.divergence(saved).is_some() {
                run.remove_checkpoint(saved)?;
            }
        }
        journal.tell(&Event::Saved { update, path })
    }

    /// Tries the average of the last checkpoints, if the config asks for it and it has not been done. Returns whether
    /// it has been done now.
    pub(super) fn average(&mut self, journal: &mut Journal) -> Result<bool, TrainError> {
        let wanted = self.parts.train.average_last;
        let checkpoints = &self.state.selection.checkpoints;
        let updates: Vec<u64> = checkpoints
            .iter()
            .rev()
            .take(wanted)
            .map(|(update, _)| *update)
            .collect();
        if updates.len() < 2 || self.state.averaged == Some(self.state.update) {
            return Ok(false);
        }
        self.state.averaged = Some(self.state.update);
        // Only the root has files; the others take its numbers into parameters of the same shapes.
        let params = match self.parts.group.is_root() {
            true => {
                let directories: Vec<_> = updates
                    .iter()
                    .map(|update| self.parts.run.checkpoint(*update))
                    .collect();
                average(&directories, &self.parts.device)?.params
            }
            false => self.parts.params.copy()?,
        };
        share_values(&self.parts.group, &params)?;
        let validation = match self.parts.valid.is_empty() {
            true => None,
            false => self.measure(&params, journal)?,
        };
        self.on_root(|root| root.judge_average(&updates, &params, validation, journal))?;
        Ok(true)
    }

    /// Decides whether the average of the checkpoints of some updates is the best model, and keeps it if so.
    fn judge_average(
        &mut self,
        updates: &[u64],
        params: &Params,
        validation: Option<Validation>,
        journal: &mut Journal,
    ) -> Result<(), TrainError> {
        let metric = self.parts.train.metric;
        let (is_best, validation) = if let Some(validation) = validation {
            let standing = metric.standing(&validation);
            let is_best = metric.beats(standing, self.state.selection.best.map(|best| best.1));
            if is_best {
                self.state.selection.best = Some((self.state.update, standing));
            }
            (is_best, Some(validation))
        } else {
            (true, None)
        };
        if is_best {
            let listed: Vec<String> = updates.iter().map(u64::to_string).collect();
            let scores = validation
                .as_ref()
                .map_or("nothing was validated.".into(), |validation| self.summary(validation));
            let told = format!(
                "Weights: the average of those after updates {}; {scores}",
                listed.join(", ")
            );
            self.writer().save_model(&self.parts.run.best(), params, &told)?;
        }
        if let Some(validation) = validation {
            let valid = ValidationLine::from(&validation);
            let record = json!({ "averaged": updates, "valid": valid, "is_best": is_best });
            write_json(&self.parts.run.path().join("average.json"), &record)?;
            journal.tell(&Event::Averaged {
                checkpoints: updates.len(),
                validation,
                metric: self.decides(),
                is_best,
            })?;
        }
        Ok(())
    }

    pub(super) fn writer(&self) -> Checkpoint<'_> {
        Checkpoint {
            architecture: &self.parts.architecture,
            params: &self.parts.params,
            logits_bias: self.parts.logits_bias.as_ref(),
            tokenizers: &self.parts.tokenizers,
            search: self.parts.decode.search_settings(),
            card: &self.parts.card,
        }
    }
}
