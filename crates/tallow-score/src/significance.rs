//! Whether systems differ by more than chance: the paired tests of sacreBLEU.
//!
//! | test | paper |
//! |---|---|
//! | [`PairedTest::Bootstrap`] | Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation" |
//! | [`PairedTest::Randomization`] | Riezler and Maxwell 2005, "On Some Pitfalls in Automatic Evaluation and Significance Testing for MT" |
//!
//! The random numbers, the p-values and the intervals are those of sacreBLEU 2.6 (`--paired-bs`, `--paired-ar`).
//! sacreBLEU computes the scores of resampled corpora in 32 bits, and this crate in 64, so means and intervals differ
//! after six digits.
//!
//! A system may be several runs that differ in their seed only. Its score is then the mean of theirs; a resampled
//! corpus has the same sentences for all of them.

use crate::config::ScoreConfig;
use crate::counts::{Counts, add};
use crate::error::ScoreError;
use crate::metric::Metric;
use crate::numpy_random::NumpyRandom;
use crate::score::Score;
use crate::signature::Field;

/// A paired test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairedTest {
    /// Resamples the sentences, with replacement: how often would the difference be this great by chance?
    Bootstrap,
    /// Exchanges the translations of sentences between the two systems: how often is the difference greater then?
    Randomization,
}

/// How to test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resampling {
    /// The test.
    pub test: PairedTest,
    /// The number of trials.
    pub trials: usize,
    /// The number of resampled corpora for intervals of scores. A bootstrap test always has as many as it has trials.
    pub interval_samples: Option<usize>,
    /// The seed of NumPy's generator.
    pub seed: u64,
}

impl Resampling {
    /// sacreBLEU's default for a test: 1,000 resampled corpora, or 10,000 trials of randomization; seed 12345.
    pub fn new(test: PairedTest) -> Self {
        let trials = match test {
            PairedTest::Bootstrap => 1000,
            PairedTest::Randomization => 10_000,
        };
        Self {
            test,
            trials,
            interval_samples: None,
            seed: 12345,
        }
    }

    /// The number of resampled corpora for the intervals; 0 for no intervals.
    fn interval_samples(&self) -> usize {
        match self.test {
            PairedTest::Bootstrap => self.trials,
            PairedTest::Randomization => self.interval_samples.unwrap_or(0),
        }
    }
}

/// The score of a system, and what resampling says about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// The score of each of its runs; the signature names the test.
    pub scores: Vec<Score>,
    /// Their mean.
    pub score: f64,
    /// The mean over resampled corpora, and half of the width of the 95 % interval around it.
    pub interval: Option<(f64, f64)>,
    /// The probability of a difference from the first system that is at least as great, if there were none; `None` for
    /// the first system itself.
    pub p_value: Option<f64>,
}

/// The counts of a system: one entry for each run.
type System = [Counts];

/// Compares systems with the first of them.
///
/// # Errors
/// When a system has no runs, corpora have different numbers of sentences or more than 4 billion, there are no trials,
/// or a randomization is asked for with systems of different numbers of runs.
pub fn assess(
    metric: &dyn Metric,
    systems: &[&System],
    reference_count: usize,
    config: &ScoreConfig,
    resampling: &Resampling,
) -> Result<Vec<Assessment>, ScoreError> {
    let test = Test {
        score: &|sum: &[f64]| metric.of_counts(sum, reference_count, config).score,
        sentences: sentences(systems)?,
        resampling,
    };
    let fault = |text: &str| {
        Err(ScoreError::Options {
            faults: vec![text.to_owned()],
        })
    };
    if resampling.trials == 0 {
        return fault("a test needs at least one trial");
    }
    if resampling.test == PairedTest::Randomization && systems.iter().any(|system| system.len() != systems[0].len()) {
        return fault(
            "a randomization exchanges translations between systems, so it needs as many runs of each; a bootstrap does not",
        );
    }
    let mut assessments = Vec::with_capacity(systems.len());
    for system in systems {
        let scored = |counts: &Counts| {
            let mut score = metric.of_counts(&counts.total(), reference_count, config);
            score.signature = score.signature.with_resampling(resampling.fields());
            score
        };
        let scores: Vec<Score> = system.iter().map(scored).collect();
        assessments.push(Assessment {
            score: mean(scores.iter().map(|score| score.score)),
            scores,
            interval: None,
            p_value: None,
        });
    }
    // A test by bootstrap uses the same corpora for all systems.
    let baseline = test.resampled(systems[0], &mut NumpyRandom::new(resampling.seed));
    assessments[0].interval = interval(baseline.clone());
    for (number, system) in systems.iter().enumerate().skip(1) {
        let difference = (assessments[0].score - assessments[number].score).abs();
        let (p_value, interval) = match resampling.test {
            PairedTest::Bootstrap => test.bootstrap(&baseline, system, difference),
            PairedTest::Randomization => test.randomization(systems[0], system, difference),
        };
        assessments[number].p_value = Some(p_value);
        assessments[number].interval = interval;
    }
    Ok(assessments)
}

/// The number of sentences of all corpora.
fn sentences(systems: &[&System]) -> Result<u32, ScoreError> {
    let mut corpora = systems.iter().flat_map(|system| system.iter()).map(Counts::sentences);
    let first = corpora.next().ok_or(ScoreError::EmptyCorpus)?;
    if let Some(other) = corpora.find(|other| *other != first) {
        return Err(ScoreError::CountMismatch {
            stream: 1,
            hypotheses: other,
            references: first,
        });
    }
    match u32::try_from(first) {
        Ok(sentences) if sentences > 0 && systems.iter().all(|system| !system.is_empty()) => Ok(sentences),
        _ => Err(ScoreError::EmptyCorpus),
    }
}

struct Test<'a> {
    score: &'a dyn Fn(&[f64]) -> f64,
    sentences: u32,
    resampling: &'a Resampling,
}

impl Test<'_> {
    /// The scores of a system on resampled corpora.
    fn resampled(&self, system: &System, random: &mut NumpyRandom) -> Vec<f64> {
        let resample = |_| {
            let chosen: Vec<usize> = (0..self.sentences)
                .map(|_| random.below(self.sentences) as usize)
                .collect();
            mean(system.iter().map(|run| (self.score)(&run.sum(chosen.iter().copied()))))
        };
        (0..self.resampling.interval_samples()).map(resample).collect()
    }

    fn bootstrap(&self, of_first: &[f64], second: &System, difference: f64) -> (f64, Option<(f64, f64)>) {
        let of_second = self.resampled(second, &mut NumpyRandom::new(self.resampling.seed));
        let differences: Vec<f64> = of_first.iter().zip(&of_second).map(|(a, b)| (b - a).abs()).collect();
        let usual = mean(differences.iter().copied());
        let beyond = differences.iter().filter(|other| **other - usual > difference).count();
        (p_value(beyond, differences.len()), interval(of_second))
    }

    fn randomization(&self, first: &System, second: &System, difference: f64) -> (f64, Option<(f64, f64)>) {
        let mut random = NumpyRandom::new(self.resampling.seed);
        let mut is_kept = random.choices();
        let mut beyond = 0;
        for _ in 0..self.resampling.trials {
            let kept: Vec<bool> = (0..self.sentences).map(|_| is_kept()).collect();
            // The mean score of the runs of one side.
            let of_side = |is_first: bool| {
                mean(first.iter().zip(second).map(|(a, b)| {
                    let mut sum = vec![0.0; a.row(0).len()];
                    for (sentence, kept) in kept.iter().enumerate() {
                        let from = if *kept == is_first { a } else { b };
                        add(&mut sum, from.row(sentence));
                    }
                    (self.score)(&sum)
                }))
            };
            beyond += usize::from((of_side(true) - of_side(false)).abs() > difference);
        }
        drop(is_kept);
        (
            p_value(beyond, self.resampling.trials),
            interval(self.resampled(second, &mut random)),
        )
    }
}

impl Resampling {
    /// The options in signatures.
    fn fields(&self) -> Vec<Field> {
        let mut fields = Vec::new();
        let samples = self.interval_samples();
        if samples > 0 {
            fields.push(Field::new("bs", "bs", samples));
        }
        if self.test == PairedTest::Randomization {
            fields.push(Field::new("ar", "ar", self.trials));
        }
        fields.push(Field::new("seed", "rs", self.seed));
        fields
    }
}

/// One is added to both counts, so that a probability is never zero.
fn p_value(beyond: usize, trials: usize) -> f64 {
    (beyond + 1) as f64 / (trials + 1) as f64
}

/// The mean, and half of the distance between the values that leave 2.5 % outside on each side.
fn interval(mut scores: Vec<f64>) -> Option<(f64, f64)> {
    scores.sort_unstable_by(f64::total_cmp);
    let outside = scores.len() / 40;
    let (lower, upper) = (scores.get(outside)?, scores.get(scores.len() - outside - 1)?);
    Some((mean(scores.iter().copied()), 0.5 * (upper - lower)))
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len();
    values.sum::<f64>() / count.max(1) as f64
}
