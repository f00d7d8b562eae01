//! The charts of a run in TensorBoard.

use crate::tensorboard::EventWriter;
use crate::{Event, TrainError, ValidationLine};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The event file of one session.
#[derive(Debug)]
pub(super) struct Charts(EventWriter);

impl Charts {
    /// Begins a new event file in the directory.
    pub(super) fn create(directory: &Path) -> Result<Self, TrainError> {
        let writer = EventWriter::create(directory, wall_time()).map_err(TrainError::file(directory))?;
        Ok(Self(writer))
    }

    /// Draws an event: updates under `train/`, validations under `valid/`, translations under `sample/`.
    pub(super) fn draw(&mut self, event: &Event) -> Result<(), TrainError> {
        match event {
            Event::Updated {
                update,
                loss,
                alignment_loss,
                target_tokens,
                learning_rate,
                gradient_norm,
                seconds,
                ..
            } => {
                self.scalar("train/loss", *update, *loss)?;
                if let Some(loss) = alignment_loss {
                    self.scalar("train/alignment_loss", *update, *loss)?;
                }
                self.scalar("train/learning_rate", *update, *learning_rate)?;
                self.scalar("train/gradient_norm", *update, *gradient_norm)?;
                self.scalar(
                    "train/target_tokens_per_second",
                    *update,
                    *target_tokens as f64 / seconds,
                )
            }
            Event::Validated { update, validation, .. } => {
                let line = ValidationLine::from(validation);
                self.validation("valid", *update, &line)?;
                for (name, set) in &line.sets {
                    self.validation(&format!("valid/{name}"), *update, set)?;
                }
                for (i, [source, hypothesis, reference]) in validation.samples.iter().enumerate() {
                    let text = format!("source: {source}\n\nhypothesis: {hypothesis}\n\nreference: {reference}");
                    let written = self.0.text(&format!("sample/{i}"), *update as i64, &text, wall_time());
                    written.map_err(TrainError::file(self.0.path()))?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn flush(&mut self) -> Result<(), TrainError> {
        let flushed = self.0.flush();
        flushed.map_err(TrainError::file(self.0.path()))
    }

    fn validation(&mut self, section: &str, update: u64, line: &ValidationLine) -> Result<(), TrainError> {
        self.scalar(&format!("{section}/loss"), update, line.loss)?;
        self.scalar(&format!("{section}/perplexity"), update, line.perplexity)?;
        for (key, score) in &line.scores {
            if let Some(score) = score {
                self.scalar(&format!("{section}/{key}"), update, *score)?;
            }
        }
        Ok(())
    }

    fn scalar(&mut self, tag: &str, update: u64, value: f64) -> Result<(), TrainError> {
        let written = self.0.scalar(tag, update as i64, value as f32, wall_time());
        written.map_err(TrainError::file(self.0.path()))
    }
}

/// Seconds since the Unix epoch.
fn wall_time() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}
