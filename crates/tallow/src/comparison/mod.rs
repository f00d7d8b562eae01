//! Systems side by side: whether they differ by more than chance, where, and in which sentences.
//!
//! The first system is the one that the others are compared with. A [`Comparison`] can be written as JSON or as a page
//! ([`Comparison::to_html`]).

mod groups;
mod page;
mod sentences;
mod spread;

use crate::{Error, Result};
pub use groups::{Group, Grouping, WordCounts};
use groups::{by_label, by_length, by_training};
pub use sentences::{Change, Changes, Span};
use serde::Serialize;
pub use spread::Spread;
use tallow_score::{Counts, Metric, PairedTest, Resampling, ScoreConfig, assess};

/// A system: a model, or several runs of a recipe that differ in their seed.
#[derive(Clone, Debug)]
pub struct System {
    /// Its name.
    pub name: String,
    /// The translations of each run, line by line.
    pub runs: Vec<Vec<String>>,
}

/// The text that was translated.
#[derive(Clone, Debug, Default)]
pub struct ComparedText {
    /// The source lines, for showing.
    pub source: Option<Vec<String>>,
    /// The references: `references[r][i]` is the `r`-th of line `i`.
    pub references: Vec<Vec<String>>,
    /// A label of every line, such as its domain.
    pub labels: Option<Vec<String>>,
    /// How often the words of the references were seen in training.
    pub trained: Option<WordCounts>,
}

/// How to compare.
#[derive(Clone, Debug)]
pub struct ComparisonOptions {
    /// The metrics.
    pub metrics: Vec<&'static dyn Metric>,
    /// Their options.
    pub score: ScoreConfig,
    /// The test.
    pub resampling: Resampling,
    /// The number of sentences to list in each direction.
    pub sentences: usize,
}

/// Systems side by side.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The names of the systems; the first is the one that the others are compared with.
    pub systems: Vec<String>,
    /// The number of lines.
    pub lines: usize,
    /// The number of references of a line.
    pub references: usize,
    /// The test.
    pub test: Test,
    /// The scores and tests of each metric.
    pub metrics: Vec<MetricComparison>,
    /// The scores of parts of the lines.
    pub groups: Vec<Grouping>,
    /// The sentences that changed most, for each system after the first.
    pub changes: Vec<Changes>,
}

/// The test of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Test {
    /// `paired bootstrap` or `paired approximate randomization`.
    pub name: &'static str,
    /// The number of trials.
    pub trials: usize,
    /// The seed of its random numbers.
    pub seed: u64,
}

/// The systems under one metric.
#[derive(Clone, Debug, Serialize)]
pub struct MetricComparison {
    /// The metric's name.
    pub name: String,
    /// The signature, with the options of the test.
    pub signature: String,
    /// Whether a greater score is better.
    pub is_more_better: bool,
    /// The systems.
    pub systems: Vec<SystemScore>,
}

/// A system under a metric.
#[derive(Clone, Debug, Serialize)]
pub struct SystemScore {
    /// The score; of several runs, the mean of theirs.
    pub score: f64,
    /// The mean score of resampled corpora.
    pub mean: Option<f64>,
    /// Half of the width of the 95 % interval around that mean: what other sentences would change.
    pub half_width: Option<f64>,
    /// The probability of such a difference from the first system by the choice of sentences alone.
    pub p_value: Option<f64>,
    /// The spread over runs: what other seeds would change; `None` for a single run.
    pub runs: Option<Spread>,
}

impl Comparison {
    /// Compares systems with the first one.
    ///
    /// # Errors
    /// When there are not two systems, their lines are not as many as the references, or a metric or test cannot be
    /// computed.
    pub fn new(systems: &[System], text: &ComparedText, options: &ComparisonOptions) -> Result<Self> {
        let [first, others @ ..] = systems else {
            return Err(Error::Other("nothing to compare".into()));
        };
        if others.is_empty() {
            return Err(Error::Other(format!("{} alone cannot be compared", first.name)));
        }
        let score = &options.score;
        let metrics: Vec<Counted> = options
            .metrics
            .iter()
            .map(|metric| Counted::new(*metric, systems, text, score))
            .collect::<Result<_>>()?;
        let lines = text.references.first().map_or(0, Vec::len);
        let groups = groupings(&metrics, systems, text, score);
        Ok(Self {
            systems: systems.iter().map(|system| system.name.clone()).collect(),
            lines,
            references: text.references.len(),
            test: Test {
                name: match options.resampling.test {
                    PairedTest::Bootstrap => "paired bootstrap",
                    PairedTest::Randomization => "paired approximate randomization",
                },
                trials: options.resampling.trials,
                seed: options.resampling.seed,
            },
            metrics: metrics
                .iter()
                .map(|metric| metric.compare(text.references.len(), options))
                .collect::<Result<_>>()?,
            groups,
            changes: others
                .iter()
                .map(|other| Changes::new((first, other), text, options))
                .collect::<Result<_>>()?,
        })
    }
}

/// The scores of parts of the text.
fn groupings(metrics: &[Counted], systems: &[System], text: &ComparedText, score: &ScoreConfig) -> Vec<Grouping> {
    let mut groups = vec![by_length(text, metrics, score)];
    groups.extend(
        text.labels
            .as_ref()
            .map(|labels| by_label(labels, metrics, text, score)),
    );
    groups.extend(text.trained.as_ref().map(|trained| by_training(trained, systems, text)));
    groups
}

/// The scores of parts of the text for one system alone.
///
/// # Errors
/// When a metric cannot be computed.
pub(crate) fn groups_of(
    system: &System,
    text: &ComparedText,
    metrics: &[&'static dyn Metric],
    score: &ScoreConfig,
) -> Result<Vec<Grouping>> {
    let systems = std::slice::from_ref(system);
    let counted: Vec<Counted> = metrics
        .iter()
        .map(|metric| Counted::new(*metric, systems, text, score))
        .collect::<Result<_>>()?;
    Ok(groupings(&counted, systems, text, score))
}

/// A metric and the counts of every run of every system.
struct Counted {
    metric: &'static dyn Metric,
    systems: Vec<Vec<Counts>>,
}

impl Counted {
    fn new(metric: &'static dyn Metric, systems: &[System], text: &ComparedText, score: &ScoreConfig) -> Result<Self> {
        let of_run = |run: &Vec<String>| {
            let lines: Vec<&str> = run.iter().map(String::as_str).collect();
            Ok(metric.counts(&lines, &text.references, score)?)
        };
        let of_system = |system: &System| system.runs.iter().map(of_run).collect::<Result<_>>();
        Ok(Self {
            metric,
            systems: systems.iter().map(of_system).collect::<Result<_>>()?,
        })
    }

    fn compare(&self, references: usize, options: &ComparisonOptions) -> Result<MetricComparison> {
        let systems: Vec<&[Counts]> = self.systems.iter().map(Vec::as_slice).collect();
        let assessed = assess(self.metric, &systems, references, &options.score, &options.resampling)?;
        let scores = |number: usize| -> Vec<f64> { assessed[number].scores.iter().map(|score| score.score).collect() };
        let of_system = |number: usize| SystemScore {
            score: assessed[number].score,
            mean: assessed[number].interval.map(|(mean, _)| mean),
            half_width: assessed[number].interval.map(|(_, half)| half),
            p_value: assessed[number].p_value,
            runs: Spread::new(scores(number), (number > 0).then(|| scores(0)).as_deref()),
        };
        let name = assessed.first().and_then(|first| first.scores.first());
        Ok(MetricComparison {
            name: name.map(|score| score.name.clone()).unwrap_or_default(),
            signature: name.map(|score| score.signature.to_string()).unwrap_or_default(),
            is_more_better: self.metric.is_more_better(),
            systems: (0..assessed.len()).map(of_system).collect(),
        })
    }
}
