//! TER, the translation edit rate (Snover et al. 2006).

use serde::{Deserialize, Serialize};

use crate::config::ScoreConfig;
use crate::corpus::for_each_segment;
use crate::counts::Counts;
use crate::error::ScoreError;
use crate::metric::Metric;
use crate::score::{Score, Statistics};
use crate::shift::count_edits;
use crate::signature::{Field, Signature, yes_no};
use crate::tercom;
use crate::word_ids::WordIds;

/// The options of TER. The default is that of sacreBLEU, which is Tercom's: words between white space, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ter {
    /// Whether to join lines, replace entities and make punctuation separate words. Default: false.
    pub normalized: bool,
    /// Whether punctuation is removed. Default: false.
    pub no_punct: bool,
    /// Whether `normalized` also makes every Chinese character a word, and whether both it and `no_punct` know
    /// ideographic and full-width punctuation. Without either of them, this has no effect. Default: false.
    pub asian_support: bool,
    /// Whether case counts. Default: false.
    pub case_sensitive: bool,
}

/// The counts that determine TER. The counts of a corpus are the sums of those of its sentences.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct TerStatistics {
    /// Edits (insertions, deletions, substitutions and shifts) towards the closest reference.
    pub edits: u64,
    /// Words of the references. For each sentence, this is the mean over its references.
    pub reference_length: f64,
}

impl TerStatistics {
    fn from_numbers(numbers: &[f64]) -> Self {
        Self {
            edits: numbers.first().map_or(0, |edits| *edits as u64),
            reference_length: numbers.get(1).copied().unwrap_or(0.0),
        }
    }
}

impl Ter {
    /// TER of a corpus, in percent; lower is better. `references[r][i]` is the `r`-th reference of hypothesis `i`. An
    /// empty string is a reference without words; a hypothesis differs from it by its own length.
    ///
    /// # Errors
    /// If there is no hypothesis, no reference stream, or a stream of another length.
    pub fn corpus(&self, hypotheses: &[impl AsRef<str>], references: &[Vec<String>]) -> Result<Score, ScoreError> {
        let counts = self.counts(hypotheses, references)?;
        Ok(self.score(TerStatistics::from_numbers(&counts.total()), references.len()))
    }

    /// The counts of every sentence: the edits and the length of the references.
    fn counts(&self, hypotheses: &[impl AsRef<str>], references: &[Vec<String>]) -> Result<Counts, ScoreError> {
        let mut counts = Counts::new(2);
        for_each_segment(hypotheses, references, |hypothesis, references| {
            let of_sentence = self.count(hypothesis, references);
            counts.push([of_sentence.edits as f64, of_sentence.reference_length]);
        })?;
        Ok(counts)
    }

    /// TER of one sentence, in percent; lower is better.
    ///
    /// # Errors
    /// If there is no reference.
    pub fn sentence(&self, hypothesis: &str, references: &[&str]) -> Result<Score, ScoreError> {
        if references.is_empty() {
            return Err(ScoreError::NoReferences);
        }
        Ok(self.score(self.count(hypothesis, references), references.len()))
    }

    fn count(&self, hypothesis: &str, references: &[&str]) -> TerStatistics {
        let hypothesis = tercom::prepare(self, hypothesis);
        let references: Vec<String> = references
            .iter()
            .map(|reference| tercom::prepare(self, reference))
            .collect();
        let mut ids = WordIds::default();
        let hypothesis = ids.of(&hypothesis);
        let references: Vec<Vec<usize>> = references.iter().map(|reference| ids.of(reference)).collect();

        let edits = references
            .iter()
            .map(|reference| count_edits(&hypothesis, reference))
            .min()
            .unwrap_or(0);
        let length: usize = references.iter().map(Vec::len).sum();
        TerStatistics {
            edits: edits as u64,
            reference_length: length as f64 / references.len().max(1) as f64,
        }
    }

    /// TER from its counts. If all references are empty, it is 0 for empty hypotheses and 100 for others.
    fn score(&self, statistics: TerStatistics, reference_count: usize) -> Score {
        let rate = if statistics.reference_length > 0.0 {
            statistics.edits as f64 / statistics.reference_length
        } else if statistics.edits > 0 {
            1.0
        } else {
            0.0
        };
        Score {
            name: "TER".to_string(),
            score: 100.0 * rate,
            verbose: None,
            signature: self.signature(reference_count),
            statistics: Statistics::Ter(statistics),
        }
    }

    fn signature(&self, reference_count: usize) -> Signature {
        Signature::new(
            reference_count,
            vec![
                Field::new("case", "c", if self.case_sensitive { "mixed" } else { "lc" }),
                Field::new("tok", "t", "tercom"),
                Field::new("norm", "nr", yes_no(self.normalized)),
                Field::new("punct", "pn", yes_no(!self.no_punct)),
                Field::new("asian", "as", yes_no(self.asian_support)),
            ],
        )
    }
}

/// TER as an entry of the metrics.
pub const TER: &dyn Metric = &TerMetric;

struct TerMetric;

impl Metric for TerMetric {
    fn name(&self) -> &'static str {
        "ter"
    }

    fn label(&self) -> &'static str {
        "TER"
    }

    fn about(&self) -> &'static str {
        "TER; less is better"
    }

    fn is_more_better(&self) -> bool {
        false
    }

    fn counts(
        &self,
        hypotheses: &[&str],
        references: &[Vec<String>],
        config: &ScoreConfig,
    ) -> Result<Counts, ScoreError> {
        config.ter().counts(hypotheses, references)
    }

    fn of_counts(&self, sum: &[f64], reference_count: usize, config: &ScoreConfig) -> Score {
        config.ter().score(TerStatistics::from_numbers(sum), reference_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(hypothesis: &str, references: &[&str]) -> u64 {
        Ter::default().count(hypothesis, references).edits
    }

    #[test]
    fn a_shift_is_one_edit() {
        assert_eq!(edits("c d e a b", &["a b c d e"]), 1);
        assert_eq!(edits("a b x d e", &["a b c d e"]), 1);
        assert_eq!(edits("A b", &["a b c d e", "a"]), 1);
    }

    #[test]
    fn empty_lines_have_a_rate() {
        let rate = |hypothesis, reference| Ter::default().sentence(hypothesis, &[reference]).unwrap().score;
        assert_eq!(
            [rate("", ""), rate("a b", ""), rate("", "a b"), rate(" ", "a")],
            [0.0, 100.0, 100.0, 100.0]
        );
        assert_eq!(Ter::default().sentence("a", &[]), Err(ScoreError::NoReferences));
    }
}
