//! Going back when a run has diverged.

use super::Trainer;
use crate::checkpoint::{Saved, read_state};
use crate::error::MOST_SETBACKS;
use crate::log::Log;
use crate::{Event, Observer, OnDivergence, TrainError};
use serde_json::json;

impl Trainer {
    /// Whether the config asks for it, it has not been done too often, and there is a checkpoint.
    pub(super) fn may_go_back(&self) -> bool {
        self.parts.train.on_divergence == OnDivergence::GoBack
            && self.state.setbacks < MOST_SETBACKS
            && !self.state.selection.checkpoints.is_empty()
    }

    /// The most recent checkpoint; the one before it, if the run has diverged from that one without getting any further.
    fn last_good(&self) -> Option<u64> {
        let mut updates: Vec<u64> = self.state.selection.checkpoints.iter().map(|kept| kept.0).collect();
        updates.sort_unstable();
        let newest = updates.pop()?;
        if self.state.gone_back_to == Some(newest) {
            Some(updates.pop().unwrap_or(newest))
        } else {
            Some(newest)
        }
    }

    /// Goes on from the last good checkpoint with a lower learning rate. What comes out is the same if the process dies
    /// anywhere here and the run is resumed: weights, moments and cursor come from the checkpoint and everything else from
    /// the state that diverged, which a resumed run reaches again.
    pub(super) fn go_back(&mut self, log: &mut Log, observer: &dyn Observer) -> Result<(), TrainError> {
        let Some(to) = self.last_good() else {
            return Err(TrainError::Average("there is no checkpoint to go back to".into()));
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
