//! The metrics and their names.

use crate::METRICS;
use crate::config::ScoreConfig;
use crate::counts::Counts;
use crate::error::ScoreError;
use crate::score::Score;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// A way to compare translations with their references. All code that takes the name of a metric, from `train.metric`
/// to `tallow score --metrics`, finds the metric in [`METRICS`] and uses only this interface.
pub trait Metric: Send + Sync {
    /// The name in configs, in files and on the command line: lower case, words joined by `-`.
    fn name(&self) -> &'static str;

    /// The name beside a number if there is little room.
    fn label(&self) -> &'static str;

    /// A description of the scores in a few words, for a list of metrics.
    fn about(&self) -> &'static str;

    /// Whether a greater score is better. Scores of such metrics are never negative.
    fn is_more_better(&self) -> bool {
        true
    }

    /// The score from which the metric tells something about a model, if low scores do not. Only for metrics where more
    /// is better.
    fn threshold(&self) -> Option<Threshold> {
        None
    }

    /// The counts of every sentence of a corpus, under the options for this metric. `references[r][i]` is the `r`-th
    /// reference of hypothesis `i`.
    ///
    /// # Errors
    /// If there is no hypothesis, no reference stream, a stream of another length, or a fault in the options.
    fn counts(
        &self,
        hypotheses: &[&str],
        references: &[Vec<String>],
        config: &ScoreConfig,
    ) -> Result<Counts, ScoreError>;

    /// The score of the sentences whose counts add up to `sum`, each with `reference_count` references.
    fn of_counts(&self, sum: &[f64], reference_count: usize, config: &ScoreConfig) -> Score;

    /// The score of a corpus under the options for this metric. `references[r][i]` is the `r`-th reference of
    /// hypothesis `i`.
    ///
    /// # Errors
    /// If there is no hypothesis, no reference stream, a stream of another length, or a fault in the options.
    fn corpus(
        &self,
        hypotheses: &[&str],
        references: &[Vec<String>],
        config: &ScoreConfig,
    ) -> Result<Score, ScoreError> {
        let counts = self.counts(hypotheses, references, config)?;
        Ok(self.of_counts(&counts.total(), references.len(), config))
    }
}

/// The score from which a metric can tell models apart. Below it, something else must decide which model is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// The lowest score that decides.
    pub least: f64,
    /// A sentence for a score that has reached the threshold: it says that the metric decides from now on.
    pub reached: &'static str,
    /// A sentence for when no score has reached it: it says why, and that the loss decides until then.
    pub missed: &'static str,
}

impl dyn Metric {
    /// The metric with this name, if it exists.
    pub fn named(name: &str) -> Option<&'static dyn Metric> {
        METRICS.iter().copied().find(|metric| metric.name() == name)
    }

    /// The name as a key of JSON, with words joined by `_`.
    pub fn key(&self) -> String {
        self.name().replace('-', "_")
    }
}

impl fmt::Debug for dyn Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl PartialEq for dyn Metric {
    fn eq(&self, other: &dyn Metric) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Metric {}

impl Serialize for dyn Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for &'static dyn Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        <dyn Metric>::named(&name).ok_or_else(|| {
            let known: Vec<String> = METRICS.iter().map(|metric| format!("`{}`", metric.name())).collect();
            de::Error::custom(format!(
                "unknown variant `{name}`, expected one of {}",
                known.join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_found_by_its_name() {
        for (i, metric) in METRICS.iter().enumerate() {
            let name = metric.name();
            assert!(
                !name.is_empty()
                    && name
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
                "{name}"
            );
            assert_eq!(METRICS.iter().position(|other| other == metric), Some(i), "{name}");
            let text = serde_json::to_string(metric).unwrap();
            assert_eq!(text, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<&'static dyn Metric>(&text).unwrap(), *metric);
            assert!(metric.is_more_better() || metric.threshold().is_none(), "{name}");
        }
        let error = serde_json::from_str::<&'static dyn Metric>("\"blue\"")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("unknown variant `blue`, expected one of `bleu`, `chrf`, "),
            "{error}"
        );
    }

    /// A hypothesis equal to its reference gets the best score, and any other gets a worse one.
    #[test]
    fn the_best_score_is_that_of_the_reference() {
        let reference = ["The cat sat on the mat .", "It was raining all day ."];
        let references = [reference.map(String::from).to_vec()];
        let config = ScoreConfig::default();
        for metric in METRICS {
            let score = |hypotheses: [&str; 2]| metric.corpus(&hypotheses, &references, &config).unwrap().score;
            let (perfect, good) = (score(reference), score([reference[0], "It was a rainy day all day ."]));
            let bad = score(["A dog .", "No"]);
            let best = if metric.is_more_better() { 100.0 } else { 0.0 };
            assert!((perfect - best).abs() < 1e-9, "{metric:?}: {perfect}");
            let is_better = |a: f64, b: f64| if metric.is_more_better() { a > b } else { a < b };
            assert!(
                is_better(perfect, good) && is_better(good, bad),
                "{metric:?}: {perfect} {good} {bad}"
            );
            assert!(metric.corpus(&["a"], &references, &config).is_err(), "{metric:?}");
        }
    }
}
