//! Going back when a run has diverged.

use super::Trainer;
use crate::checkpoint::{Saved, read_state};
use crate::checksum;
use crate::error::MOST_SETBACKS;
use crate::log::Log;
use crate::{Event, Observer, OnDivergence, TrainError, TrainState};
use serde_json::json;

/// Keys of the config that decide how fast weights change.
const OF_PACE: [&str; 6] = [
    "train.learning_rate:",
    "train.min_learning_rate:",
    "train.schedule:",
    "train.warmup_updates:",
    "train.clip_norm:",
    "train.back_off:",
];

/// What there is to say of setbacks when a run is resumed. If a person has changed what the run was told to lower by itself, it
/// begins with that and may go back as often as any other.
pub(super) fn after_setbacks(state: &mut TrainState, changes: &[String]) -> Option<String> {
    if state.setbacks == 0 {
        return None;
    }
    let (factor, setbacks) = (state.learning_rate_factor, state.setbacks);
    if changes
        .iter()
        .any(|change| OF_PACE.iter().any(|key| change.starts_with(key)))
    {
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

impl Trainer {
    /// Whether the run has gone back as often as it may.
    pub(super) fn is_hopeless(&self) -> bool {
        self.parts.train.on_divergence == OnDivergence::GoBack && self.state.setbacks >= MOST_SETBACKS
    }

    /// Whether the config asks for it, and there is a checkpoint.
    pub(super) fn may_go_back(&self) -> bool {
        self.parts.train.on_divergence == OnDivergence::GoBack && !self.state.selection.checkpoints.is_empty()
    }

    /// The most recent checkpoint that is intact; the one before it, if the run has diverged from that one without getting
    /// any further.
    fn last_good(&self) -> Option<u64> {
        let mut updates: Vec<u64> = self.state.selection.checkpoints.iter().map(|kept| kept.0).collect();
        updates.sort_unstable();
        if updates.len() > 1 && self.state.gone_back_to == updates.last().copied() {
            updates.pop();
        }
        let is_intact = |update: &u64| checksum::check(&self.parts.run.checkpoint(*update)).is_ok();
        updates.into_iter().rev().find(is_intact)
    }

    /// Goes on from the last good checkpoint with a lower learning rate. What comes out is the same if the process dies
    /// anywhere here and the run is resumed: weights, moments and cursor come from the checkpoint and everything else from
    /// the state that diverged, which a resumed run reaches again.
    pub(super) fn go_back(&mut self, log: &mut Log, observer: &dyn Observer) -> Result<(), TrainError> {
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
        self.optimizer = saved.optimizer;
        self.ema = saved.ema;
        let state = &mut self.state;
        state.update = before.update;
        state.cursor = before.cursor;
        state.target_tokens = before.target_tokens;
        state.loss_watch = before.loss_watch;
        state.skipped_in_a_row = 0;
        state.learning_rate_factor *= parts.train.back_off;
        state.setbacks += 1;
        state.gone_back_to = Some(to);
        // What came of exploded weights says nothing about patience.
        state.selection.validations_without_improvement = 0;
        state.selection.checkpoints.retain(|(update, _)| *update <= to);
        let learning_rate_factor = state.learning_rate_factor;
        log.metric(&json!({ "update": from, "gone_back_to": to, "learning_rate_factor": learning_rate_factor }))?;
        // The checkpoint now knows of the setback. Those after it would be taken for the newest when the run is resumed.
        self.save(log, observer)?;
        for update in self.parts.run.saved_updates()? {
            if update > to {
                self.parts.run.remove_checkpoint(update)?;
            }
        }
        observer.observe(&Event::WentBack {
            from,
            to,
            learning_rate_factor,
        });
        Ok(())
    }
}
