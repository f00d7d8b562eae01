//! Going back after divergence.

use super::Trainer;
use super::ranks::{receive, send};
use crate::checkpoint::{Saved, read_state};
use crate::checksum;
use crate::error::MOST_SETBACKS;
use crate::finiteness::not_finite_in_words;
use crate::journal::Journal;
use crate::{Event, OnDivergence, OptimizerKind, RunDirectory, TrainConfig, TrainError, TrainState};

const LEARNING_RATE: &str = "train.learning_rate";
const WARMUP: &str = "train.warmup_updates";
const WEIGHT_DECAY: &str = "train.weight_decay";
const CLIP_NORM: &str = "train.clip_norm";
const EPSILON: &str = "train.epsilon";

/// Keys of the config that decide how far an update moves weights: those named in the advice after a divergence, and
/// keys with the same effect.
const OF_PACE: [&str; 8] = [
    LEARNING_RATE,
    WARMUP,
    WEIGHT_DECAY,
    CLIP_NORM,
    EPSILON,
    "train.min_learning_rate",
    "train.schedule",
    "train.back_off",
];

/// The message about setbacks for a resumed run. If a person has changed one of the keys above, the lowering of the
/// learning rate is cancelled, and the run may go back as often as a new one.
pub(super) fn after_setbacks(state: &mut TrainState, changes: &[String]) -> Option<String> {
    if state.setbacks == 0 {
        return None;
    }
    let (factor, setbacks) = (state.learning_rate_factor, state.setbacks);
    let is_of_pace = |change: &String| change.split_once(':').is_some_and(|(key, _)| OF_PACE.contains(&key));
    if changes.iter().any(is_of_pace) {
        state.learning_rate_factor = 1.0;
        state.setbacks = 0;
        state.gone_back_to = None;
        return Some(format!(
            "the learning rate is that of the config again, and not {factor} of it, as after {setbacks} setbacks"
        ));
    }
    Some(format!(
        "the learning rate is {factor} of that of the config, after {setbacks} setbacks"
    ))
}

/// Corrects the best model in a checkpoint's state, if the run continued from there and diverged: a better model may
/// have replaced it since. The better model stays the best, unless it led to the divergence. In that case the result
/// says so.
pub(super) fn best_before_divergence(run: &RunDirectory, state: &mut TrainState) -> Result<Option<String>, TrainError> {
    let later = run.saved_updates()?.into_iter().rev();
    let mut diverged = later.filter(|update| *update > state.update && run.divergence(*update).is_some());
    let newest = diverged
        .next()
        .and_then(|update| read_state(&run.checkpoint(update)).ok());
    match newest.and_then(|newest| newest.selection.best) {
        Some((of, _)) if of > state.update && run.divergence(of).is_some() => {
            state.selection.best = None;
            Ok(Some(format!(
                "{} is not the best model any more: it is of update {of}, which led to divergence",
                run.best().display()
            )))
        }
        Some(best) if best.0 > state.update => {
            state.selection.best = Some(best);
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Weights have exploded if their loss is above this many times the loss of a model for which all pieces are equally
/// likely.
const EXPLODED: f64 = 16.0;
/// Learning rates above this are too high for Adam, whose steps have the size of the rate.
const HIGH_RATE: f64 = 1.0;
/// An epsilon below this does not prevent large steps of weights with tiny gradients.
const SMALL_EPSILON: f64 = 1e-20;
/// Gradients with a greater norm have squares near the limit of 32 bits.
const LARGE_NORM: f64 = 1e18;

/// The settings of an update that may explain why weights are no longer finite.
fn causes(train: &TrainConfig, learning_rate: f64) -> Vec<String> {
    let mut causes = Vec::new();
    if learning_rate > HIGH_RATE {
        causes.push(format!(
            "the learning rate was {learning_rate:e}, where Adam needs far less than 1: lower {LEARNING_RATE}"
        ));
    }
    let decay = train.weight_decay;
    match train.optimizer {
        OptimizerKind::AdamW if learning_rate * decay > 2.0 => causes.push(format!(
            "{WEIGHT_DECAY} ({decay:e}) times the learning rate ({learning_rate:e}) is more than 2, with which every update \
             enlarges all weights: lower {WEIGHT_DECAY}"
        )),
        OptimizerKind::Adam if decay > LARGE_NORM => causes.push(format!(
            "{WEIGHT_DECAY} ({decay:e}) times a weight is a gradient whose square is not finite: lower {WEIGHT_DECAY}"
        )),
        _ => {}
    }
    if train.clip_norm == 0.0 || train.clip_norm > LARGE_NORM {
        causes.push(format!(
            "{CLIP_NORM} ({}) lets gradients through whose squares are not finite: 1 is usual",
            train.clip_norm
        ));
    }
    if train.epsilon < SMALL_EPSILON {
        causes.push(format!(
            "{EPSILON} ({:e}) lets weights with tiny gradients make large steps: 1e-9 is usual",
            train.epsilon
        ));
    }
    causes
}

/// The changes needed before a diverged run continues.
fn remedy(train: &TrainConfig, learning_rate: f64) -> String {
    let causes = causes(train, learning_rate);
    match causes.is_empty() {
        true => format!("Lower {LEARNING_RATE}, raise {WARMUP} or lower {CLIP_NORM}"),
        false => format!("What may have caused it: {}. Mend that", causes.join("; ")),
    }
}

impl Trainer {
    /// Says in words which tensors to save after the present update are not finite, if any.
    pub(super) fn not_finite(&self) -> Result<Option<String>, TrainError> {
        not_finite_in_words(&self.parts.params, &self.optimizer, self.ema.as_ref())
    }

    /// Whether a loss is far above that of a model that knows nothing. Weights that have exploded but are still finite
    /// have such losses.
    pub(super) fn is_exploded(&self, loss: f64) -> bool {
        let pieces = self.parts.architecture.target_vocabulary as f64;
        loss > EXPLODED * pieces.ln() * (1.0 + self.parts.train.r_drop)
    }

    /// Whether the weights before the present update had not exploded, judging by its loss.
    pub(super) fn is_sound(&self) -> bool {
        self.state.skipped_in_a_row == 0 && self.state.last_sound.is_none_or(|update| update == self.state.update)
    }

    /// Whether a validation of the present weights tells nothing about the model, because they have exploded.
    pub(super) fn has_exploded(&self, valid_loss: f64) -> bool {
        !self.is_sound() || (self.state.last_sound.is_some() && self.is_exploded(valid_loss))
    }

    /// Whether the checkpoint that is left out after the present update is the first one since the last sound loss.
    pub(super) fn is_first_unsaved(&self) -> bool {
        let before = self.state.update.saturating_sub(self.parts.train.checkpoint_every);
        self.state.last_sound.is_none_or(|sound| sound >= before)
    }

    /// Whether all updates after a checkpoint were not finite or came from exploded weights. From there, the run would
    /// diverge in the same way again, with any learning rate.
    fn led_nowhere(&self, update: u64) -> bool {
        update >= self.led_nowhere_from()
    }

    /// The first update for which [`Self::led_nowhere`] holds.
    fn led_nowhere_from(&self) -> u64 {
        let finite = self.state.update.saturating_sub(self.state.skipped_in_a_row);
        self.state.last_sound.map_or(finite, |sound| sound.min(finite))
    }

    /// Ends a diverged run: marks the checkpoints that lead to the same divergence, and says what to do.
    pub(super) fn give_up(&self, fault: String) -> TrainError {
        if !self.parts.group.is_root() {
            return TrainError::EndedByRoot;
        }
        let (run, train, update) = (&self.parts.run, &self.parts.train, self.state.update);
        let mark = || -> Result<Option<u64>, TrainError> {
            for saved in run
                .saved_updates()?
                .into_iter()
                .filter(|saved| self.led_nowhere(*saved))
            {
                run.mark_diverged(saved, update)?;
            }
            Ok(run.intact_update()?.0)
        };
        let from = mark();
        let is_hopeless = self.is_hopeless();
        let again = match is_hopeless {
            true => " with what the config says, and may go back as often again",
            false => "",
        };
        let mut advice = remedy(train, self.learning_rate());
        advice += &match &from {
            Ok(Some(from)) => format!(", and resume: the run goes on from its checkpoint of update {from}{again}"),
            Ok(None) => {
                ", and begin anew in place of this run: no checkpoint is left that does not lead here".to_string()
            }
            // The disk may be full, for example. The divergence matters more than this error.
            Err(error) => format!(
                ", remove the checkpoints from update {} on, which lead here and could not be marked ({error}), and resume{again}",
                self.led_nowhere_from()
            ),
        };
        if train.on_divergence == OnDivergence::Stop && matches!(from, Ok(Some(_))) {
            advice += &format!(
                ". With train.on_divergence = \"go-back\" it would do so by itself, up to {MOST_SETBACKS} times"
            );
        }
        match is_hopeless {
            true => TrainError::Hopeless { update, fault, advice },
            false => TrainError::Diverged { update, fault, advice },
        }
    }

    /// Whether the run has gone back as often as allowed.
    fn is_hopeless(&self) -> bool {
        self.parts.train.on_divergence == OnDivergence::GoBack && self.state.setbacks >= MOST_SETBACKS
    }

    /// Whether the run may go back: the config asks for it, the limit is not reached, and some checkpoint leads
    /// elsewhere.
    pub(super) fn may_go_back(&self) -> bool {
        let mut updates = self.state.selection.checkpoints.iter().map(|kept| kept.0);
        self.parts.train.on_divergence == OnDivergence::GoBack
            && !self.is_hopeless()
            && updates.any(|update| !self.led_nowhere(update))
    }

    /// The most recent checkpoint that is intact and was followed by a finite update. If the run went back to that one
    /// and diverged again without getting further, the one before it.
    fn last_good(&self) -> Option<u64> {
        let kept = self.state.selection.checkpoints.iter().map(|kept| kept.0);
        let mut updates: Vec<u64> = kept.filter(|update| !self.led_nowhere(*update)).collect();
        updates.sort_unstable();
        if updates.len() > 1 && self.state.gone_back_to == updates.last().copied() {
            updates.pop();
        }
        let is_intact = |update: &u64| checksum::check(&self.parts.run.checkpoint(*update)).is_ok();
        updates.into_iter().rev().find(is_intact)
    }

    /// Continues from the last good checkpoint with a lower learning rate. If the process dies at any point here and
    /// the run is resumed, the result is the same. Weights, moments and cursor come from the checkpoint. Everything
    /// else comes from the diverged state, which a resumed run reaches again.
    pub(super) fn go_back(&mut self, journal: &mut Journal) -> Result<(), TrainError> {
        if !self.parts.group.is_root() {
            let received = receive(&self.reduction, &self.parts)?;
            self.state = received.state;
            self.optimizer = received.optimizer;
            self.ema = received.ema;
            return self.save(journal);
        }
        let Some(to) = self.last_good() else {
            return Err(TrainError::Resume(
                "it has diverged, and every checkpoint is damaged".into(),
            ));
        };
        let from = self.state.update;
        let directory = self.parts.run.checkpoint(to);
        let (parts, before) = (&self.parts, read_state(&directory)?);
        let saved = Saved::open(&directory, &parts.architecture, parts.train.ema_decay, &parts.device)?;
        parts.params.assign(&saved.params)?;
        self.ema = saved.ema;
        let state = &mut self.state;
        state.update = before.update;
        state.cursor = before.cursor;
        state.stage = before.stage;
        state.target_tokens = before.target_tokens;
        state.last_sound = before.last_sound;
        state.loss_watch = before.loss_watch;
        state.skipped_in_a_row = 0;
        state.learning_rate_factor *= parts.train.back_off;
        state.setbacks += 1;
        state.gone_back_to = Some(to);
        // Validations of exploded weights tell nothing about patience.
        state.selection.validations_without_improvement = 0;
        state.selection.checkpoints.retain(|(update, _)| *update <= to);
        let learning_rate_factor = state.learning_rate_factor;
        journal.tell(&Event::WentBack {
            from,
            to,
            learning_rate_factor,
        })?;
        self.optimizer = send(
            &self.reduction,
            &self.parts,
            &self.state,
            saved.optimizer,
            self.ema.as_ref(),
        )?;
        // The checkpoint now includes the setback. A resumed run would take later checkpoints for the newest, so they
        // are removed.
        self.save(journal)?;
        for update in self.parts.run.saved_updates()? {
            if update > to {
                self.parts.run.remove_checkpoint(update)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fingerprint;

    /// If an error names a key, a change of that key allows a run to go back again.
    #[test]
    fn what_the_advice_names_counts_as_a_change() {
        let train = TrainConfig::default();
        let worst = |optimizer| TrainConfig {
            optimizer,
            weight_decay: 1e38,
            clip_norm: 0.0,
            epsilon: 0.0,
            ..train.clone()
        };
        let told = [
            remedy(&train, 1e-3),
            remedy(&worst(OptimizerKind::AdamW), 100.0),
            remedy(&worst(OptimizerKind::Adam), 100.0),
        ]
        .join(" ");
        let is_of_key = |c: char| c.is_ascii_lowercase() || c == '_' || c == '.';
        let words = told.split(|c| !is_of_key(c)).map(|word| word.trim_matches('.'));
        let mut named: Vec<&str> = words.filter(|word| word.starts_with("train.")).collect();
        named.sort_unstable();
        named.dedup();
        assert_eq!(
            named,
            [CLIP_NORM, EPSILON, LEARNING_RATE, WARMUP, WEIGHT_DECAY],
            "{told}"
        );
        let after = |change: &str| {
            let mut state = TrainState::new(Fingerprint::default());
            (state.setbacks, state.learning_rate_factor) = (5, 0.03125);
            let said = after_setbacks(&mut state, &[change.to_owned()]);
            (state.setbacks, state.learning_rate_factor, said.is_some())
        };
        for key in named {
            assert_eq!(after(&format!("{key}: 1 instead of 2")), (0, 1.0, true), "{key}");
        }
        for other in ["train.epsilon_of_others: 1 instead of 2", "the validation corpus"] {
            assert_eq!(after(other), (5, 0.03125, true), "{other}");
        }
    }

    /// A run resumed from update 6. Its checkpoint of update 8 led to divergence, and the best model comes from update
    /// `best`.
    #[test]
    fn the_best_model_after_a_divergence() {
        for (best, expected, is_said) in [(8, None, true), (7, Some((7, 2.0)), false), (5, Some((4, 3.0)), false)] {
            let place = tempfile::tempdir().unwrap();
            let run = RunDirectory::new(place.path());
            let mut state = TrainState::new(Fingerprint::default());
            (state.update, state.selection.best) = (8, Some((best, 2.0)));
            let path = run.checkpoint(8).join("state");
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("state.json"), serde_json::to_string(&state).unwrap()).unwrap();
            let mut resumed = TrainState::new(Fingerprint::default());
            (resumed.update, resumed.selection.best) = (6, Some((4, 3.0)));
            // Without the mark, the run is about to repeat that checkpoint.
            let before = resumed.clone();
            assert_eq!(best_before_divergence(&run, &mut resumed).unwrap(), None);
            assert_eq!(resumed, before);
            run.mark_diverged(8, 21).unwrap();
            let said = best_before_divergence(&run, &mut resumed).unwrap();
            assert_eq!(
                (resumed.selection.best, said.is_some()),
                (expected, is_said),
                "{said:?}"
            );
        }
    }
}
