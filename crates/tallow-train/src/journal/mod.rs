//! The outputs for the events of a run. The trainer reports each event once, and each sink handles it in its way: a
//! line of `metrics.jsonl`, a line of `timing.jsonl`, charts for TensorBoard, and the observer.

mod charts;
mod jsonl;
mod metrics;
mod timing;

pub use jsonl::{LogLines, read_log};
pub use metrics::{MetricsLine, ValidationLine};
pub use timing::TimingLine;

use crate::{Event, Observer, RunDirectory, TrainError};
use charts::Charts;
use jsonl::Appended;
use std::time::Instant;

/// The sinks of one session of a run. Of several processes, only the root has any.
pub(crate) struct Journal<'a>(Option<Sinks<'a>>);

struct Sinks<'a> {
    metrics: Appended,
    timing: Appended,
    charts: Charts,
    observer: &'a dyn Observer,
    log_every: u64,
    begin: Instant,
}

impl<'a> Journal<'a> {
    /// Opens the logs of a run. Metrics beyond `metrics_bytes` were logged after the checkpoint from which the run
    /// resumes, and will be logged again. Of the updates that succeeded, the first and every `log_every`th are logged.
    pub(crate) fn open(
        run: &RunDirectory,
        metrics_bytes: u64,
        log_every: u64,
        observer: &'a dyn Observer,
    ) -> Result<Self, TrainError> {
        Ok(Self(Some(Sinks {
            metrics: Appended::open(run.metrics(), Some(metrics_bytes))?,
            timing: Appended::open(run.timing(), None)?,
            charts: Charts::create(&run.events())?,
            observer,
            log_every,
            begin: Instant::now(),
        })))
    }

    /// A journal without sinks.
    pub(crate) fn silent() -> Self {
        Self(None)
    }

    /// Reports an event to every sink. The observer comes last, so it finds the event in the logs.
    pub(crate) fn tell(&mut self, event: &Event) -> Result<(), TrainError> {
        let Some(sinks) = &mut self.0 else {
            return Ok(());
        };
        if sinks.is_logged(event) {
            if let Some(line) = MetricsLine::of(event) {
                sinks.metrics.write(&line)?;
            }
            if let Some(line) = TimingLine::of(event, sinks.begin.elapsed()) {
                sinks.timing.write(&line)?;
            }
            sinks.charts.draw(event)?;
        }
        sinks.observer.observe(event);
        Ok(())
    }

    /// Passes the charts so far to the operating system. The lines of the logs are there already.
    pub(crate) fn flush(&mut self) -> Result<(), TrainError> {
        self.0.as_mut().map_or(Ok(()), |sinks| sinks.charts.flush())
    }

    /// Length of `metrics.jsonl` so far in bytes, after all of it has been written to disk.
    pub(crate) fn synced_metrics_bytes(&mut self) -> Result<u64, TrainError> {
        self.0.as_mut().map_or(Ok(0), |sinks| sinks.metrics.synced_bytes())
    }
}

impl Sinks<'_> {
    /// Whether an event also goes to the files.
    fn is_logged(&self, event: &Event) -> bool {
        match event {
            Event::Updated { update, .. } => update.is_multiple_of(self.log_every) || *update == 1,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// An observer that reads `metrics.jsonl` at every event.
    struct Reader<'a>(&'a RunDirectory, RefCell<Vec<usize>>);

    impl Observer for Reader<'_> {
        fn observe(&self, _: &Event) {
            let lines: Vec<MetricsLine> = read_log(&self.0.metrics()).unwrap().map(Result::unwrap).collect();
            self.1.borrow_mut().push(lines.len());
        }
    }

    #[test]
    fn an_event_is_told_once_and_the_files_know_first() {
        let place = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(place.path());
        let reader = Reader(&run, RefCell::default());
        let mut journal = Journal::open(&run, 0, 10, &reader).unwrap();
        let updated = |update| Event::Updated {
            update,
            epoch: 0,
            loss: 2.5,
            alignment_loss: None,
            target_tokens: 100,
            learning_rate: 1e-3,
            gradient_norm: 0.5,
            seconds: 0.25,
        };
        for update in [1, 2, 10] {
            journal.tell(&updated(update)).unwrap();
        }
        journal
            .tell(&Event::Saved {
                update: 10,
                path: run.checkpoint(10),
            })
            .unwrap();
        journal.flush().unwrap();
        assert_eq!(*reader.1.borrow(), [1, 1, 2, 2]);
        let timing: Vec<TimingLine> = read_log(&run.timing()).unwrap().map(Result::unwrap).collect();
        let mut before = 0.0;
        for (line, expected) in timing.iter().zip([1, 10]) {
            let TimingLine::Training {
                update,
                seconds: 0.25,
                target_tokens_per_second: 400.0,
                elapsed_seconds: Some(elapsed),
            } = line
            else {
                panic!("{line:?}")
            };
            assert!(*update == expected && *elapsed > before);
            before = *elapsed;
        }
        assert_eq!(timing.len(), 2);
        let events: Vec<_> = std::fs::read_dir(run.events()).unwrap().collect();
        let bytes = std::fs::read(events[0].as_ref().unwrap().path()).unwrap();
        for tag in [
            "train/loss",
            "train/learning_rate",
            "train/gradient_norm",
            "train/target_tokens_per_second",
        ] {
            let found = bytes
                .windows(tag.len())
                .filter(|window| *window == tag.as_bytes())
                .count();
            assert_eq!(found, 2, "{tag}");
        }
        // Events of a session that was killed after the checkpoint are reported again.
        let bytes = journal.synced_metrics_bytes().unwrap();
        journal.tell(&updated(20)).unwrap();
        Journal::open(&run, bytes, 10, &reader)
            .unwrap()
            .tell(&updated(20))
            .unwrap();
        let lines = std::fs::read_to_string(run.metrics()).unwrap();
        assert_eq!(lines.lines().count(), 3, "{lines}");
    }
}
