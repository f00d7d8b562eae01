//! The course of a run, from its logs.

use super::PlotPoint;
use crate::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use tallow_train::{MetricsLine, RunDirectory, TimingLine, ValidationLine, read_log};

/// Something that happened to a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunEvent {
    /// The update.
    pub update: u64,
    /// What happened, in words.
    pub what: String,
}

/// Some lines of the validation set as a run translated them after an update.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sampled {
    /// The update.
    pub update: u64,
    /// Source, translation and reference of each line.
    pub samples: Vec<[String; 3]>,
}

/// The course of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    training: Vec<TrainingLine>,
    validations: Vec<(u64, ValidationLine, bool)>,
    pub(super) events: Vec<RunEvent>,
    pub(super) samples: Vec<Sampled>,
    /// Seconds of training until each logged update.
    clock: BTreeMap<u64, f64>,
    pub(super) speed: Vec<PlotPoint>,
    pub(super) peak_bytes: Option<u64>,
}

/// The values of a logged update.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrainingLine {
    update: u64,
    pub(super) loss: f64,
    pub(super) alignment_loss: Option<f64>,
    pub(super) learning_rate: f64,
    pub(super) gradient_norm: f64,
}

/// Reads the logs of a run.
pub(super) fn read(run: &RunDirectory) -> Result<Course> {
    let mut course = Course::default();
    // Without times, everything is drawn over updates.
    if run.timing().is_file() {
        let mut watch = Watch::default();
        for line in read_log::<TimingLine>(&run.timing())? {
            watch.add(line?, &mut course);
        }
        course.speed = watch.speed.into_values().collect();
        course.clock = watch.clock;
    }
    for line in read_log::<MetricsLine>(&run.metrics())? {
        course.add(line?);
    }
    if course.training.is_empty() {
        let path = run.metrics();
        return Err(Error::Other(format!("{}: nothing has been logged yet", path.display())));
    }
    Ok(course)
}

/// Adds up the time of the processes that trained a run. Updates that a resumed run repeats count in their last form.
#[derive(Default)]
struct Watch {
    clock: BTreeMap<u64, f64>,
    speed: BTreeMap<u64, PlotPoint>,
    /// Seconds before the present process, and the last update and seconds of it.
    before: f64,
    last: (u64, f64),
}

impl Watch {
    fn add(&mut self, line: TimingLine, course: &mut Course) {
        match line {
            TimingLine::ProcessBegan {
                process_began_at_update: update,
            } => {
                // What was done after the checkpoint is done again.
                self.clock.retain(|logged, _| *logged <= update);
                self.speed.retain(|logged, _| *logged <= update);
                self.before = self.clock.last_key_value().map_or(0.0, |(_, seconds)| *seconds);
                self.last = (update, self.before);
            }
            TimingLine::Training {
                update,
                seconds,
                target_tokens_per_second: value,
                elapsed_seconds,
            } => {
                // A run that went back from divergence does updates again.
                self.clock.retain(|logged, _| *logged < update);
                self.speed.retain(|logged, _| *logged < update);
                let gap = update.saturating_sub(self.last.0).max(1) as f64;
                let now = match elapsed_seconds {
                    Some(elapsed) => self.before + elapsed,
                    // Logs of earlier versions have the time of single updates only.
                    None => self.last.1 + gap * seconds,
                };
                self.last = (update, now);
                self.clock.insert(update, now);
                let point = PlotPoint {
                    update,
                    seconds: now,
                    value,
                };
                self.speed.insert(update, point);
            }
            TimingLine::Validation { validation_seconds, .. } => self.last.1 += validation_seconds,
            TimingLine::ProcessEnded { peak_bytes, .. } => course.peak_bytes = peak_bytes.max(course.peak_bytes),
        }
    }
}

impl Course {
    fn add(&mut self, line: MetricsLine) {
        let mut tell = |update: u64, what: String| self.events.push(RunEvent { update, what });
        match line {
            MetricsLine::Training {
                update,
                loss,
                alignment_loss,
                learning_rate,
                gradient_norm,
                ..
            } => self.training.push(TrainingLine {
                update,
                loss,
                alignment_loss,
                learning_rate,
                gradient_norm,
            }),
            MetricsLine::Skipped { update, loss, .. } => {
                tell(update, format!("the update was left out: its loss was {loss}"));
            }
            MetricsLine::WentBack {
                update,
                gone_back_to,
                learning_rate_factor,
            } => {
                tell(
                    update,
                    format!(
                        "the run diverged and went back to update {gone_back_to}, with the learning rate times \
                         {learning_rate_factor}"
                    ),
                );
                // What follows the checkpoint comes again.
                self.training.retain(|line| line.update <= gone_back_to);
                self.validations.retain(|(update, ..)| *update <= gone_back_to);
                self.samples.retain(|sampled| sampled.update <= gone_back_to);
            }
            MetricsLine::Spike {
                update, loss, usual, ..
            } => tell(
                update,
                format!("the loss jumped to {loss:.3}; before it was {usual:.3}"),
            ),
            MetricsLine::NotSaved { update, .. } => {
                tell(
                    update,
                    "no checkpoint was saved, because the loss did not come from sound weights".into(),
                );
            }
            MetricsLine::Stage { update, stage } => tell(update, format!("the stage {stage} begins")),
            MetricsLine::Decides { update, decides } => {
                tell(
                    update,
                    format!("from here on {} decides which model is best", decides.name()),
                );
            }
            MetricsLine::Validation {
                update,
                valid,
                is_best,
                samples,
            } => {
                self.validations.push((update, valid, is_best));
                if !samples.is_empty() {
                    self.samples.push(Sampled { update, samples });
                }
            }
        }
    }

    /// A value of the logged updates.
    pub(super) fn training(&self, value: impl Fn(&TrainingLine) -> Option<f64>) -> Vec<PlotPoint> {
        let points = self.training.iter().map(|line| (line.update, value(line)));
        self.points(points)
    }

    /// A value of the validations.
    pub(super) fn validation(&self, value: impl Fn(&ValidationLine) -> Option<f64>) -> Vec<PlotPoint> {
        let points = self.validations.iter().map(|(update, line, _)| (*update, value(line)));
        self.points(points)
    }

    fn points(&self, points: impl Iterator<Item = (u64, Option<f64>)>) -> Vec<PlotPoint> {
        points
            .filter_map(|(update, value)| {
                Some(PlotPoint {
                    update,
                    seconds: self.seconds_at(update),
                    value: value.filter(|value| value.is_finite())?,
                })
            })
            .collect()
    }

    /// Seconds of training until an update: those of the last logged one before it.
    fn seconds_at(&self, update: u64) -> f64 {
        let before = self.clock.range(..=update).next_back();
        before.map_or(0.0, |(_, seconds)| *seconds)
    }

    /// Seconds of training until the last logged update.
    pub(super) fn seconds(&self) -> f64 {
        self.clock.last_key_value().map_or(0.0, |(_, seconds)| *seconds)
    }

    pub(super) fn last_update(&self) -> u64 {
        self.training.last().map_or(0, |line| line.update)
    }

    /// The update of the best validation, and its values in words.
    pub(super) fn best(&self) -> Option<(u64, String)> {
        let (update, line, _) = self.validations.iter().rev().find(|(.., is_best)| *is_best)?;
        let mut told = vec![
            format!("loss {:.3}", line.loss),
            format!("perplexity {:.2}", line.perplexity),
        ];
        let scores = line.scores.iter();
        told.extend(scores.filter_map(|(key, score)| Some(format!("{} {:.1}", label(key), (*score)?))));
        Some((*update, told.join(", ")))
    }
}

/// The label of the metric with a key.
fn label(key: &str) -> &str {
    let metric = tallow_score::METRICS.iter().find(|metric| metric.key() == key);
    metric.map_or(key, |metric| metric.label())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(lines: &[&str]) -> (Vec<(u64, f64)>, Course) {
        let (mut watch, mut course) = (Watch::default(), Course::default());
        for line in lines {
            watch.add(serde_json::from_str(line).unwrap(), &mut course);
        }
        (watch.clock.into_iter().collect(), course)
    }

    #[test]
    fn time_goes_on_after_a_kill() {
        let (clock, course) = watched(&[
            r#"{"process_began_at_update":0}"#,
            r#"{"update":1,"seconds":0.5,"target_tokens_per_second":8.0,"elapsed_seconds":1.0}"#,
            r#"{"update":10,"seconds":0.5,"target_tokens_per_second":8.0,"elapsed_seconds":6.0}"#,
            r#"{"update":20,"seconds":0.5,"target_tokens_per_second":8.0,"elapsed_seconds":12.0}"#,
            r#"{"process_began_at_update":10}"#,
            r#"{"update":20,"seconds":0.5,"target_tokens_per_second":8.0,"elapsed_seconds":7.0}"#,
            r#"{"process_seconds":9.0,"peak_bytes":100}"#,
        ]);
        assert_eq!(clock, [(1, 1.0), (10, 6.0), (20, 13.0)]);
        assert_eq!(course.peak_bytes, Some(100));
        // Logs without the time that has passed.
        let (clock, _) = watched(&[
            r#"{"update":1,"seconds":0.5,"target_tokens_per_second":8.0}"#,
            r#"{"update":10,"seconds":0.5,"target_tokens_per_second":8.0}"#,
            r#"{"update":10,"validation_seconds":2.0}"#,
            r#"{"update":20,"seconds":0.25,"target_tokens_per_second":8.0}"#,
        ]);
        assert_eq!(clock, [(1, 0.5), (10, 5.0), (20, 9.5)]);
    }

    #[test]
    fn what_was_undone_is_gone_and_told() {
        let mut course = Course::default();
        for line in [
            r#"{"update":1,"epoch":0,"loss":4.0,"learning_rate":0.1,"gradient_norm":1.0,"target_tokens":9}"#,
            r#"{"update":2,"valid":{"loss":3.0,"perplexity":20.0,"bleu":7.5,"chrf":null},"is_best":true,"samples":[["a","b","c"]]}"#,
            r#"{"update":3,"epoch":0,"loss":90.0,"learning_rate":0.1,"gradient_norm":1.0,"target_tokens":9}"#,
            r#"{"update":4,"valid":{"loss":2.0,"perplexity":7.0},"is_best":true,"samples":[["a","x","c"]]}"#,
            r#"{"update":4,"gone_back_to":2,"learning_rate_factor":0.5}"#,
        ] {
            course.add(serde_json::from_str(line).unwrap());
        }
        assert_eq!(course.last_update(), 1);
        assert_eq!(
            course.best(),
            Some((2, "loss 3.000, perplexity 20.00, BLEU 7.5".into()))
        );
        assert_eq!(course.samples.len(), 1);
        assert!(
            course.events[0].what.contains("went back to update 2"),
            "{:?}",
            course.events
        );
        let bleu = course.validation(|line| line.score("bleu"));
        assert_eq!((bleu.len(), bleu[0].value), (1, 7.5));
        assert!(course.validation(|line| line.score("chrf")).is_empty());
    }
}
