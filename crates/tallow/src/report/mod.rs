//! Runs as a page: their course, their settings, their translations and their faults.
//!
//! A [`Report`] reads what runs have written: `metrics.jsonl`, `timing.jsonl`, `config.toml`, `run.json` and the
//! translations of the test set. So it can be made while a run still trains, and on another machine.

mod course;
mod page;
mod test_set;

pub use crate::plot::{Plot, PlotLine, PlotPoint};

use crate::humanize::{duration, memory, thousands};
use crate::{Config, Error, Result, RunRecord};
use course::{Course, read};
pub use course::{RunEvent, Sampled};
use serde::Serialize;
use std::path::Path;
use tallow_score::METRICS;
use tallow_train::RunDirectory;
pub use test_set::{TestSet, WorstSentence};

/// Several runs side by side.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The runs.
    pub runs: Vec<RunReport>,
    /// The course of all runs, one plot for each value.
    pub plots: Vec<Plot>,
    /// The settings in which the runs differ: a key and its value in each run.
    pub differences: Vec<Difference>,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// Its name: the path of the run.
    pub name: String,
    /// Facts and results: names and values.
    pub figures: Vec<(String, String)>,
    /// Its settings, as TOML.
    pub config: String,
    /// What happened besides: skipped updates, spikes, divergence.
    pub events: Vec<RunEvent>,
    /// The same lines of the validation set after each validation.
    pub samples: Vec<Sampled>,
    /// The translations of the test set, once training has ended.
    pub test_set: Option<TestSet>,
    /// Why there is nothing about a test set.
    pub no_test_set: Option<String>,
}

/// A setting that is not the same in all runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The key, as `section.key`.
    pub key: String,
    /// The value in each run; `None` where it is not set.
    pub values: Vec<Option<String>>,
}

impl Report {
    /// Reads runs.
    ///
    /// # Errors
    /// When a run has logged nothing yet, or one of its files cannot be read.
    pub fn of_runs(runs: &[RunDirectory]) -> Result<Self> {
        let mut reports = Vec::new();
        let (mut courses, mut settings) = (Vec::new(), Vec::new());
        for run in runs {
            let config = Config::of_run(&run.config())?;
            let (course, record) = (read(run)?, RunRecord::read(&run.record()));
            let (test_set, no_test_set) = match test_set::read(run, &config, &record) {
                Ok(found) => (Some(found), None),
                Err(error) => (None, Some(error.to_string())),
            };
            reports.push(RunReport {
                name: run.path().display().to_string(),
                figures: figures(&course, &record),
                config: config.to_toml()?,
                events: course.events.clone(),
                samples: course.samples.clone(),
                test_set,
                no_test_set,
            });
            settings.push(config.flat()?);
            courses.push(course);
        }
        if reports.is_empty() {
            return Err(Error::Other("no runs to report on".into()));
        }
        Ok(Self {
            runs: reports,
            plots: plots(&courses),
            differences: differences(&settings),
        })
    }

    /// Writes every plot into a folder, as `<plot>.svg` and `<plot>.csv`, and returns the number of plots.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn export(&self, folder: &Path) -> Result<usize> {
        use crate::error::WithContext;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let names: Vec<String> = self.runs.iter().map(|run| run.name.clone()).collect();
        for plot in &self.plots {
            for (kind, text) in [("svg", plot.to_svg(&names)), ("csv", plot.to_csv(&names))] {
                let path = folder.join(format!("{}.{kind}", plot.name));
                std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        Ok(self.plots.len())
    }
}

/// The plots that have any points.
fn plots(courses: &[Course]) -> Vec<Plot> {
    let mut plots = Vec::new();
    let mut add = |name: &str, title: &str, lines: Vec<PlotLine>| {
        let lines: Vec<PlotLine> = lines.into_iter().filter(|line| !line.points.is_empty()).collect();
        if !lines.is_empty() {
            plots.push(Plot {
                name: name.to_owned(),
                title: title.to_owned(),
                lines,
            });
        }
    };
    let lines = |is_validation: bool, of: &dyn Fn(&Course) -> Vec<PlotPoint>| -> Vec<PlotLine> {
        let line = |(run, course): (usize, &Course)| PlotLine {
            run,
            is_validation,
            points: of(course),
        };
        courses.iter().enumerate().map(line).collect()
    };
    let training = lines(false, &|course| course.training(|line| Some(line.loss)));
    let validation = lines(true, &|course| course.validation(|line| Some(line.loss)));
    add(
        "loss",
        "loss, nats per token (dots: validation, not smoothed)",
        training.into_iter().chain(validation).collect(),
    );
    let perplexity = lines(true, &|course| course.validation(|line| Some(line.perplexity)));
    add("perplexity", "perplexity of the validation set", perplexity);
    for metric in METRICS {
        let scores = lines(true, &|course| course.validation(|line| line.score(&metric.key())));
        let title = format!("{} of the validation set, %", metric.label());
        add(metric.name(), &title, scores);
    }
    let rate = lines(false, &|course| course.training(|line| Some(line.learning_rate)));
    add("learning-rate", "learning rate", rate);
    let norm = lines(false, &|course| course.training(|line| Some(line.gradient_norm)));
    add("gradient-norm", "norm of the gradient, before clipping", norm);
    let alignment = lines(false, &|course| course.training(|line| line.alignment_loss));
    add("alignment-loss", "loss of guided alignment, nats", alignment);
    let speed = lines(false, &|course| course.speed.clone());
    add("speed", "target tokens per second", speed);
    plots
}

/// Facts and results of a run, for a table.
fn figures(course: &Course, record: &RunRecord) -> Vec<(String, String)> {
    let mut figures: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| figures.push((name.to_owned(), value));
    add("updates", thousands(course.last_update() as f64));
    let is_done = record.results.is_some();
    add(
        "training",
        if is_done { "ended" } else { "has not ended yet" }.to_owned(),
    );
    if let Some((update, told)) = course.best() {
        add(
            "best validation",
            format!("{told}, update {}", thousands(update as f64)),
        );
    }
    let results = record.results.clone().unwrap_or_default();
    let named = results
        .tests
        .iter()
        .map(|(name, test)| (format!("the test set {name}"), test));
    let only = results.test.iter().map(|test| ("the test set".to_owned(), test));
    for (set, test) in only.chain(named) {
        for score in test.scores.as_array().into_iter().flatten() {
            let (name, value) = (score["name"].as_str().unwrap_or_default(), score["score"].as_f64());
            let signature = score["signature"].as_str().unwrap_or_default();
            if let Some(value) = value {
                add(&format!("{name} of {set}"), format!("{value:.2} ({signature})"));
            }
        }
        add(&format!("exact matches of {set}"), format!("{:.1} %", test.exact_match));
    }
    add("time of training", duration(course.seconds()));
    if let Some(bytes) = course.peak_bytes {
        add("most memory", memory(bytes as f64));
    }
    if let Some(pairs) = record.pairs.train {
        add("training pairs", thousands(pairs as f64));
    }
    if results.skipped > 0 {
        add("skipped updates", results.skipped.to_string());
    }
    if results.setbacks > 0 {
        add("times it went back", results.setbacks.to_string());
    }
    add("seed", record.seed.to_string());
    add("workers", record.workers.to_string());
    add("instructions", record.instruction_set.clone());
    add("Tallow", record.tallow.clone());
    figures
}

/// The settings that are not the same in all runs. Names and places of runs always differ, and are left out.
fn differences(settings: &[Vec<(String, String)>]) -> Vec<Difference> {
    let mut keys: Vec<&String> = Vec::new();
    for (key, _) in settings.iter().flatten() {
        if !keys.contains(&key) && key != "name" && key != "output" {
            keys.push(key);
        }
    }
    let value = |of_run: &Vec<(String, String)>, key: &String| {
        let found = of_run.iter().find(|(other, _)| other == key);
        found.map(|(_, value)| value.clone())
    };
    let differing = keys.into_iter().map(|key| Difference {
        key: key.clone(),
        values: settings.iter().map(|of_run| value(of_run, key)).collect(),
    });
    let is_different = |difference: &Difference| difference.values.windows(2).any(|pair| pair[0] != pair[1]);
    differing.filter(is_different).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_differ() {
        let settings = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            pairs.iter().map(owned).collect()
        };
        let runs = [
            settings(&[("name", "a"), ("seed", "1"), ("model.heads", "4"), ("train.clip", "1")]),
            settings(&[("name", "b"), ("seed", "1"), ("model.heads", "8")]),
        ];
        let told: Vec<(String, Vec<Option<String>>)> = differences(&runs)
            .into_iter()
            .map(|found| (found.key, found.values))
            .collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            told,
            [
                ("model.heads".to_owned(), vec![some("4"), some("8")]),
                ("train.clip".to_owned(), vec![some("1"), None])
            ]
        );
    }
}
