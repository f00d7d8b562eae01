//! Stages: the mixture of corpora that the run is trained on at present.

use super::Trainer;
use crate::journal::Journal;
use crate::{Event, TrainError};
use serde::{Deserialize, Serialize};
use tallow_data::{BatchStream, Cursor, Sampler, Stage, StageEnd};

/// The place of a run in `data.stage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagePlace {
    /// The number of the stage, from 0.
    pub number: usize,
    /// Updates done when it began.
    pub began_at_update: u64,
    /// Its first epoch.
    pub first_epoch: u64,
}

impl StagePlace {
    /// Whether this is the beginning of a run, or one without stages.
    pub(crate) fn is_first(&self) -> bool {
        *self == Self::default()
    }
}

impl Trainer {
    /// The batches from the present position on.
    pub(super) fn batches(&self) -> Result<BatchStream, TrainError> {
        let data = &self.parts.data;
        let (seed, number) = (self.parts.fingerprint.seed, self.state.stage.number);
        let sampler = Sampler::of_stage(self.parts.corpus.clone(), data, seed, number).with_threads(self.workers);
        Ok(BatchStream::start(sampler, self.state.cursor, data.prefetch_batches)?)
    }

    /// The present stage, if the config has stages.
    fn stage(&self) -> Option<&Stage> {
        self.parts.data.stage.get(self.state.stage.number)
    }

    /// The epoch before which the present stage ends, if its length is given in epochs.
    pub(super) fn epoch_after_stage(&self) -> Option<u64> {
        match self.stage()?.end() {
            StageEnd::Epochs(epochs) => Some(self.state.stage.first_epoch.saturating_add(epochs)),
            StageEnd::Updates(_) | StageEnd::Never => None,
        }
    }

    /// Begins the next stage if the present one has come to its end. The next stage begins with an epoch of its own.
    /// Says whether it has begun: then other batches follow.
    pub(super) fn next_stage(&mut self, journal: &mut Journal) -> Result<bool, TrainError> {
        let Some(stage) = self.stage() else {
            return Ok(false);
        };
        let (state, place) = (&self.state, self.state.stage);
        let is_over = match stage.end() {
            StageEnd::Updates(updates) => state.update.saturating_sub(place.began_at_update) >= updates,
            StageEnd::Epochs(_) => self
                .epoch_after_stage()
                .is_some_and(|epoch| state.cursor.epoch >= epoch),
            StageEnd::Never => false,
        };
        if !is_over {
            return Ok(false);
        }
        let Cursor { epoch, window, batch } = state.cursor;
        let is_at_start = batch == 0 && window.unwrap_or(0) == 0;
        let first_epoch = if is_at_start { epoch } else { epoch + 1 };
        self.state.cursor = Cursor::epoch(first_epoch);
        self.state.stage = StagePlace {
            number: place.number + 1,
            began_at_update: self.state.update,
            first_epoch,
        };
        self.tell_stage(true, journal)?;
        Ok(true)
    }

    /// Reports the present stage, if the config has stages.
    pub(super) fn tell_stage(&self, is_new: bool, journal: &mut Journal) -> Result<(), TrainError> {
        let Some(stage) = self.stage() else {
            return Ok(());
        };
        let number = self.state.stage.number;
        journal.tell(&Event::Stage {
            is_new,
            update: self.state.update,
            number,
            of: self.parts.data.stage.len(),
            name: stage.name.clone().unwrap_or_else(|| (number + 1).to_string()),
        })
    }
}
