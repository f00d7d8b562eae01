//! BLEU (Papineni et al. 2002).

use serde::{Deserialize, Serialize};

use crate::config::ScoreConfig;
use crate::corpus::for_each_segment;
use crate::counts::Counts;
use crate::error::ScoreError;
use crate::metric::{Metric, Threshold};
use crate::ngram::{LARGEST_ORDER, NgramCounts, count_matches, count_ngrams, ngram_total};
use crate::score::{Score, Statistics};
use crate::sentencepiece::SentencePieceFile;
use crate::signature::{Field, Signature, yes_no};
use crate::smoothing::Smoothing;
use crate::tokenize::{BleuTokenizer, Tokenization};
use crate::word_ids::WordIds;

/// The options of BLEU. The default is sacreBLEU's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bleu {
    /// How lines are cut into tokens. Default: `13a`.
    pub tokenization: Tokenization,
    /// The SentencePiece model of the tokenization: for `flores200` and `flores101`, and only for them. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentencepiece: Option<SentencePieceFile>,
    /// Whether case is ignored. Default: false.
    pub lowercase: bool,
    /// The value in place of a precision of zero. Default: `exp`.
    pub smoothing: Smoothing,
    /// Whether the mean is taken only over orders for which the hypotheses have n-grams. Meant for single sentences,
    /// which may be shorter than `max_order`; sacreBLEU's command sets it when it scores sentences. Default: false.
    pub effective_order: bool,
    /// The longest n-gram, in tokens: 1 to 100. Signatures do not show it, so keep the default for scores that will be
    /// compared. Default: 4.
    pub max_order: usize,
}

impl Default for Bleu {
    fn default() -> Self {
        Self {
            tokenization: Tokenization::V13a,
            sentencepiece: None,
            lowercase: false,
            smoothing: Smoothing::Exponential,
            effective_order: false,
            max_order: 4,
        }
    }
}

/// The counts that determine BLEU. The counts of a corpus are the sums of those of its sentences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BleuStatistics {
    /// Tokens of the hypotheses.
    pub hypothesis_length: u64,
    /// Tokens of the references. Of each sentence's references, the one closest in length to the hypothesis counts.
    pub reference_length: u64,
    /// For each order from 1 on, the number of n-grams that the hypotheses share with a reference. Never smoothed.
    pub matches: Vec<u64>,
    /// For each order from 1 on, the number of n-grams of the hypotheses.
    pub totals: Vec<u64>,
}

impl BleuStatistics {
    fn zero(max_order: usize) -> Self {
        Self {
            hypothesis_length: 0,
            reference_length: 0,
            matches: vec![0; max_order],
            totals: vec![0; max_order],
        }
    }

    /// The counts as numbers that can be added.
    fn numbers(&self) -> impl Iterator<Item = f64> {
        let lengths = [self.hypothesis_length, self.reference_length].into_iter();
        let counts = self.matches.iter().chain(&self.totals).copied();
        lengths.chain(counts).map(|count| count as f64)
    }

    fn from_numbers(numbers: &[f64]) -> Self {
        let number = |place: usize| numbers.get(place).map_or(0, |count| *count as u64);
        let orders = numbers.len().saturating_sub(2) / 2;
        Self {
            hypothesis_length: number(0),
            reference_length: number(1),
            matches: (2..2 + orders).map(number).collect(),
            totals: (2 + orders..2 + 2 * orders).map(number).collect(),
        }
    }

    /// The factor, from 0 to 1, that penalizes hypotheses shorter than their references.
    pub fn brevity_penalty(&self) -> f64 {
        if self.hypothesis_length >= self.reference_length {
            1.0
        } else if self.hypothesis_length == 0 {
            0.0
        } else {
            (1.0 - self.reference_length as f64 / self.hypothesis_length as f64).exp()
        }
    }

    /// The length of the hypotheses divided by the length of the references; 0 if the references have no tokens.
    pub fn length_ratio(&self) -> f64 {
        if self.reference_length == 0 {
            0.0
        } else {
            self.hypothesis_length as f64 / self.reference_length as f64
        }
    }
}

impl Bleu {
    /// Every fault of the options, each starting with the option's name; empty if there is none.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(1..=LARGEST_ORDER).contains(&self.max_order) {
            faults.push(format!(
                "max_order: {} is not between 1 and {LARGEST_ORDER}",
                self.max_order
            ));
        }
        if let Some(value) = self.smoothing.value()
            && !(value.is_finite() && value >= 0.0)
        {
            faults.push(format!("smoothing: the value {value} is not a number from 0 on"));
        }
        faults.extend(self.tokenization.fault_of_sentencepiece(self.sentencepiece.is_some()));
        faults
    }

    /// Cuts lines as this BLEU does.
    ///
    /// # Errors
    /// If the tokenization needs a SentencePiece model, and its file cannot be used; or if the file contradicts the
    /// tokenization.
    pub fn tokenizer(&self) -> Result<BleuTokenizer, ScoreError> {
        self.tokenization.open(self.sentencepiece.as_ref(), self.lowercase)
    }

    /// BLEU of a corpus, from 0 to 100. `references[r][i]` is the `r`-th reference of hypothesis `i`; an empty string
    /// is a reference without words.
    ///
    /// # Errors
    /// If there is no hypothesis, no reference stream, a stream of another length, a fault in the options, or a
    /// SentencePiece model that cannot be used.
    pub fn corpus(&self, hypotheses: &[impl AsRef<str>], references: &[Vec<String>]) -> Result<Score, ScoreError> {
        let counts = self.counts(hypotheses, references)?;
        Ok(self.score(BleuStatistics::from_numbers(&counts.total()), references.len()))
    }

    /// The counts of every sentence: both lengths, the matches of every order, and the totals.
    fn counts(&self, hypotheses: &[impl AsRef<str>], references: &[Vec<String>]) -> Result<Counts, ScoreError> {
        ScoreError::if_any(self.validate())?;
        let tokenizer = self.tokenizer()?;
        let mut counts = Counts::new(2 + 2 * self.max_order);
        for_each_segment(hypotheses, references, |hypothesis, references| {
            counts.push(self.count(&tokenizer, hypothesis, references).numbers());
        })?;
        Ok(counts)
    }

    /// BLEU of one sentence, from 0 to 100. Set `effective_order` for the numbers that sacreBLEU's command gives.
    ///
    /// # Errors
    /// If there is no reference, a fault in the options, or a SentencePiece model that cannot be used.
    pub fn sentence(&self, hypothesis: &str, references: &[&str]) -> Result<Score, ScoreError> {
        ScoreError::if_any(self.validate())?;
        if references.is_empty() {
            return Err(ScoreError::NoReferences);
        }
        let statistics = self.count(&self.tokenizer()?, hypothesis, references);
        Ok(self.score(statistics, references.len()))
    }

    /// BLEU of every text against every text: the entry `[i][j]` is the sentence score of text `i` with text `j` as its
    /// reference.
    ///
    /// # Errors
    /// If there is a fault in the options, or a SentencePiece model that cannot be used.
    pub fn pairwise(&self, texts: &[impl AsRef<str>]) -> Result<Vec<Vec<f64>>, ScoreError> {
        let score = |ours: &str, theirs: &str| Ok(self.sentence(ours, &[theirs])?.score);
        let of_text = |ours: &str| texts.iter().map(|theirs| score(ours, theirs.as_ref())).collect();
        texts.iter().map(|ours| of_text(ours.as_ref())).collect()
    }

    /// The counts of one sentence. An n-gram matches at most as often as it occurs in the reference that has it most
    /// often.
    fn count(&self, tokenizer: &BleuTokenizer, hypothesis: &str, references: &[&str]) -> BleuStatistics {
        let hypothesis = tokenizer.tokenize(hypothesis);
        let cut = |reference: &&str| tokenizer.tokenize(reference);
        let references: Vec<String> = references.iter().map(cut).collect();
        let mut ids = WordIds::default();
        let hypothesis = ids.of(&hypothesis);
        let references: Vec<Vec<usize>> = references.iter().map(|reference| ids.of(reference)).collect();

        let mut statistics = BleuStatistics::zero(self.max_order);
        statistics.hypothesis_length = hypothesis.len() as u64;
        statistics.reference_length = closest_length(hypothesis.len(), &references) as u64;
        let counts = statistics.matches.iter_mut().zip(&mut statistics.totals);
        for (order, (matches, total)) in (1..).zip(counts) {
            let mut allowed = NgramCounts::new();
            for reference in &references {
                for (ngram, count) in count_ngrams(reference, order) {
                    let most = allowed.entry(ngram).or_default();
                    *most = count.max(*most);
                }
            }
            *matches = count_matches(&count_ngrams(&hypothesis, order), &allowed);
            *total = ngram_total(hypothesis.len(), order) as u64;
        }
        statistics
    }

    /// BLEU from its counts.
    fn score(&self, statistics: BleuStatistics, reference_count: usize) -> Score {
        let (precisions, order) = self.precisions(&statistics);
        let brevity_penalty = statistics.brevity_penalty();
        let score = if order == 0 {
            0.0
        } else {
            let log_sum: f64 = precisions.iter().take(order).copied().map(floored_ln).sum();
            brevity_penalty * (log_sum / order as f64).exp()
        };
        let shown: Vec<String> = precisions.iter().map(|precision| format!("{precision:.1}")).collect();
        let verbose = format!(
            "{} (BP = {brevity_penalty:.3} ratio = {:.3} hyp_len = {} ref_len = {})",
            shown.join("/"),
            statistics.length_ratio(),
            statistics.hypothesis_length,
            statistics.reference_length,
        );
        Score {
            name: "BLEU".to_string(),
            score,
            verbose: Some(verbose),
            signature: self.signature(reference_count),
            statistics: Statistics::Bleu(statistics),
        }
    }

    /// The smoothed precisions in percent, and the number of them in the mean: 0 if nothing matches at all.
    fn precisions(&self, statistics: &BleuStatistics) -> (Vec<f64>, usize) {
        let mut precisions = vec![0.0; self.max_order];
        if statistics.matches.iter().all(|&count| count == 0) {
            return (precisions, 0);
        }
        let mut mean_order = self.max_order;
        let mut exponential = 1.0;
        let counts = statistics.matches.iter().zip(&statistics.totals);
        for (order, (precision, (&matches, &total))) in (1..).zip(precisions.iter_mut().zip(counts)) {
            let added = match self.smoothing {
                Smoothing::AddK(value) if order > 1 => value,
                _ => 0.0,
            };
            let (matches, total) = (matches as f64 + added, total as f64 + added);
            if total == 0.0 {
                break;
            }
            if self.effective_order {
                mean_order = order;
            }
            *precision = if matches > 0.0 {
                100.0 * matches / total
            } else {
                match self.smoothing {
                    Smoothing::Exponential => {
                        exponential *= 2.0;
                        100.0 / (exponential * total)
                    }
                    Smoothing::Floor(value) => 100.0 * value / total,
                    Smoothing::AddK(_) | Smoothing::None => 0.0,
                }
            };
        }
        (precisions, mean_order)
    }

    /// The options of this BLEU in the form of sacreBLEU's signature. `reference_count` is the number of references of
    /// each line.
    pub fn signature(&self, reference_count: usize) -> Signature {
        Signature::new(
            reference_count,
            vec![
                Field::new("case", "c", if self.lowercase { "lc" } else { "mixed" }),
                Field::new("eff", "e", yes_no(self.effective_order)),
                Field::new("tok", "tok", self.tokenization),
                Field::new("smooth", "s", self.smoothing),
            ],
        )
    }
}

/// The reference length closest to the hypothesis length; the shorter one of two equally close ones.
fn closest_length(length: usize, references: &[Vec<usize>]) -> usize {
    references
        .iter()
        .map(Vec::len)
        .min_by_key(|&other| (other.abs_diff(length), other))
        .unwrap_or(0)
}

/// The logarithm. In place of minus infinity it gives a number so low that any average with it has an exponential of
/// zero.
fn floored_ln(precision: f64) -> f64 {
    if precision == 0.0 {
        -9_999_999_999.0
    } else {
        precision.ln()
    }
}

/// BLEU as an entry of the metrics.
pub const BLEU: &dyn Metric = &BleuMetric;

struct BleuMetric;

impl Metric for BleuMetric {
    fn name(&self) -> &'static str {
        "bleu"
    }

    fn label(&self) -> &'static str {
        "BLEU"
    }

    fn about(&self) -> &'static str {
        "BLEU"
    }

    /// Below 5, differences are noise: they come from a few short matches.
    fn threshold(&self) -> Option<Threshold> {
        Some(Threshold {
            least: 5.0,
            reached: "BLEU has reached 5: from now on it decides which model is best",
            missed: "BLEU is below 5, where its differences are noise: until it is not, the loss decides which model is best",
        })
    }

    fn counts(
        &self,
        hypotheses: &[&str],
        references: &[Vec<String>],
        config: &ScoreConfig,
    ) -> Result<Counts, ScoreError> {
        config.bleu().counts(hypotheses, references)
    }

    fn of_counts(&self, sum: &[f64], reference_count: usize, config: &ScoreConfig) -> Score {
        config.bleu().score(BleuStatistics::from_numbers(sum), reference_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_of_two_close_references_counts() {
        let references = [vec![0; 7], vec![0; 3], vec![0; 9]];
        assert_eq!(
            [5, 6, 8, 100, 0].map(|length| closest_length(length, &references)),
            [3, 7, 7, 9, 3]
        );
    }

    #[test]
    fn faulty_options_are_all_named() {
        let bleu = Bleu {
            max_order: 0,
            smoothing: Smoothing::Floor(f64::NAN),
            ..Bleu::default()
        };
        let message = bleu.sentence("a", &["a"]).unwrap_err().to_string();
        assert_eq!(
            message,
            "max_order: 0 is not between 1 and 100; smoothing: the value NaN is not a number from 0 on"
        );
        assert_eq!(Bleu::default().sentence("a", &[]), Err(ScoreError::NoReferences));
    }

    #[test]
    fn options_are_read_from_configs() {
        let bleu: Bleu = serde_json::from_str(r#"{"tokenization": "intl", "smoothing": {"floor": 0.2}}"#).unwrap();
        let expected = Bleu {
            tokenization: Tokenization::International,
            smoothing: Smoothing::Floor(0.2),
            ..Bleu::default()
        };
        assert_eq!(bleu, expected);
        assert!(serde_json::from_str::<Bleu>(r#"{"tokenisation": "intl"}"#).is_err());
    }
}
