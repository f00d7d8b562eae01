//! The share of sentences that are translated exactly.

use crate::config::ScoreConfig;
use crate::corpus::for_each_segment;
use crate::counts::Counts;
use crate::error::ScoreError;
use crate::metric::{Metric, Threshold};
use crate::score::Score;

/// The percentage (0 to 100) of hypotheses that equal one of their references, character by character. Case,
/// punctuation and white space all count. `references[r][i]` is the `r`-th reference of hypothesis `i`.
///
/// # Errors
/// If there is no hypothesis, no reference stream, or a stream of another length.
pub fn exact_match(hypotheses: &[impl AsRef<str>], references: &[Vec<String>]) -> Result<f64, ScoreError> {
    Ok(percent(&counts(hypotheses, references)?.total()))
}

/// For every sentence, whether it equals a reference, and one.
fn counts(hypotheses: &[impl AsRef<str>], references: &[Vec<String>]) -> Result<Counts, ScoreError> {
    let mut counts = Counts::new(2);
    for_each_segment(hypotheses, references, |hypothesis, references| {
        counts.push([f64::from(u8::from(references.contains(&hypothesis))), 1.0]);
    })?;
    Ok(counts)
}

fn percent(sum: &[f64]) -> f64 {
    match sum {
        [equal, all] if *all > 0.0 => 100.0 * equal / all,
        _ => 0.0,
    }
}

/// [`exact_match`] as an entry of the metrics.
pub const EXACT_MATCH: &dyn Metric = &ExactMatch;

struct ExactMatch;

impl Metric for ExactMatch {
    fn name(&self) -> &'static str {
        "exact-match"
    }

    fn label(&self) -> &'static str {
        "exact"
    }

    fn about(&self) -> &'static str {
        "Percent of lines that equal a reference"
    }

    /// Most models start without any exact match.
    fn threshold(&self) -> Option<Threshold> {
        Some(Threshold {
            least: f64::MIN_POSITIVE,
            reached: "there is an exact match: from now on they decide which model is best",
            missed: "no translation equals its reference: until one does, the loss decides which model is best",
        })
    }

    fn counts(&self, hypotheses: &[&str], references: &[Vec<String>], _: &ScoreConfig) -> Result<Counts, ScoreError> {
        counts(hypotheses, references)
    }

    fn of_counts(&self, sum: &[f64], _: usize, _: &ScoreConfig) -> Score {
        Score::new("exact match", percent(sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_reference_may_match() {
        let streams = |lines: [&str; 4]| lines.map(String::from).to_vec();
        let references = vec![streams(["a", "b", "c", ""]), streams(["A", "x", "y ", ""])];
        assert_eq!(exact_match(&["A", "b", "y", ""], &references), Ok(75.0));
        let error = exact_match(&["a"; 3], &references).unwrap_err().to_string();
        assert!(error.contains("4 lines, but there are 3"), "{error}");
    }
}
