//! The lines of `timing.jsonl`. They differ when a run is repeated.

use crate::Event;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A line of `timing.jsonl`. Times are seconds of wall-clock time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TimingLine {
    /// Belongs to a training line of `metrics.jsonl`.
    Training {
        /// The update.
        update: u64,
        /// Duration of this update.
        seconds: f64,
        /// Its target tokens, without padding, divided by its duration.
        target_tokens_per_second: f64,
        /// The time since this process began to train, at the end of the update.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        elapsed_seconds: Option<f64>,
    },
    /// Belongs to a validation.
    Validation {
        /// The update before the validation.
        update: u64,
        /// Duration, including the writing of the best model.
        validation_seconds: f64,
    },
    /// A process begins to train. Written by the caller of the trainer.
    ProcessBegan {
        /// The update after which the process begins.
        process_began_at_update: u64,
    },
    /// A process has finished training and was not killed. Written by the caller of the trainer.
    ProcessEnded {
        /// Time from the start of the process to the end of training.
        process_seconds: f64,
        /// The peak memory of the process, if the system reports it.
        peak_bytes: Option<u64>,
    },
}

impl TimingLine {
    /// The line for an event, if the event has one; `elapsed` is the time since the process began to train.
    pub(super) fn of(event: &Event, elapsed: Duration) -> Option<Self> {
        Some(match event {
            Event::Updated {
                update,
                target_tokens,
                seconds,
                ..
            } => TimingLine::Training {
                update: *update,
                seconds: *seconds,
                target_tokens_per_second: *target_tokens as f64 / seconds,
                elapsed_seconds: Some(elapsed.as_secs_f64()),
            },
            Event::Validated { update, seconds, .. } => TimingLine::Validation {
                update: *update,
                validation_seconds: *seconds,
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_and_read_as_documented() {
        for text in [
            r#"{"update":10,"seconds":0.25,"target_tokens_per_second":7544.0,"elapsed_seconds":3.5}"#,
            // As versions before wrote it.
            r#"{"update":10,"seconds":0.25,"target_tokens_per_second":7544.0}"#,
            r#"{"update":50,"validation_seconds":1.5}"#,
            r#"{"process_began_at_update":0}"#,
            r#"{"process_seconds":61.0,"peak_bytes":123456789}"#,
            r#"{"process_seconds":61.0,"peak_bytes":null}"#,
        ] {
            let line: TimingLine = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&line).unwrap(), text, "{line:?}");
        }
    }
}
