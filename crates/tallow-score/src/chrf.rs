//! chrF (Popović 2015) and chrF++ (Popović 2017).

use std::borrow::Cow;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use crate::config::ScoreConfig;
use crate::corpus::for_each_segment;
use crate::counts::Counts;
use crate::error::ScoreError;
use crate::metric::Metric;
use crate::ngram::{LARGEST_ORDER, NgramCounts, count_matches, count_ngrams};
use crate::score::{Score, Statistics};
use crate::signature::{Field, Signature, yes_no};
use crate::whitespace::{is_whitespace, words};

/// The options of chrF. The default is sacreBLEU's: chrF2 over character n-grams alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chrf {
    /// The longest character n-gram: 0 (none) to 100. Default: 6.
    pub char_order: usize,
    /// The longest word n-gram: 0 (none) to 100; 2 makes chrF++. Default: 0.
    pub word_order: usize,
    /// The weight of recall relative to precision: recall counts this many times as much. Default: 2.
    pub beta: u32,
    /// Whether case is ignored. Default: false.
    pub lowercase: bool,
    /// Whether white space takes part in character n-grams. This includes white space at the ends of lines, which
    /// sacreBLEU's command removes when it reads a file. Default: false.
    pub whitespace: bool,
    /// Whether to follow the authors' own program. Then an order without n-grams counts as (nearly) zero instead of
    /// being left out of the mean, and the F-scores of the orders are averaged instead of precision and recall.
    /// Default: false.
    pub eps_smoothing: bool,
}

impl Default for Chrf {
    fn default() -> Self {
        Self {
            char_order: 6,
            word_order: 0,
            beta: 2,
            lowercase: false,
            whitespace: false,
            eps_smoothing: false,
        }
    }
}

/// The counts of one order of n-grams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NgramStatistics {
    /// N-grams of the hypothesis; 0 if the reference has none of this order.
    pub hypothesis: u64,
    /// N-grams of the reference.
    pub reference: u64,
    /// N-grams in common.
    pub matches: u64,
}

impl NgramStatistics {
    /// The counts of every order from numbers that were added.
    fn from_numbers(numbers: &[f64]) -> Vec<Self> {
        let (orders, _) = numbers.as_chunks::<3>();
        let of_order = |[hypothesis, reference, matches]: &[f64; 3]| Self {
            hypothesis: *hypothesis as u64,
            reference: *reference as u64,
            matches: *matches as u64,
        };
        orders.iter().map(of_order).collect()
    }
}

/// The counts that determine chrF. The counts of a corpus are the sums of those of its sentences. Of several
/// references, only the one with the best sentence score counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChrfStatistics {
    /// One entry for each order: the character n-grams from 1 on, then the word n-grams from 1 on.
    pub orders: Vec<NgramStatistics>,
}

/// The smallest precision and recall under `eps_smoothing`.
const EPSILON: f64 = 1e-16;

impl Chrf {
    /// chrF++: chrF with word n-grams up to 2.
    pub fn plus_plus() -> Self {
        Self {
            word_order: 2,
            ..Self::default()
        }
    }

    /// Every fault of the options, each starting with the option's name; empty if there is none.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, order) in [("char_order", self.char_order), ("word_order", self.word_order)] {
            if order > LARGEST_ORDER {
                faults.push(format!("{name}: {order} is more than {LARGEST_ORDER}"));
            }
        }
        if self.char_order == 0 && self.word_order == 0 {
            faults.push("char_order: must be at least 1, unless word_order is".to_string());
        }
        faults
    }

    /// chrF of a corpus, from 0 to 100. `references[r][i]` is the `r`-th reference of hypothesis `i`; an empty string
    /// is a reference without characters.
    ///
    /// # Errors
    /// If there is no hypothesis, no reference stream, a stream of another length, or a fault in the options.
    pub fn corpus(&self, hypotheses: &[impl AsRef<str>], references: &[Vec<String>]) -> Result<Score, ScoreError> {
        let counts = self.counts(hypotheses, references)?;
        Ok(self.score(NgramStatistics::from_numbers(&counts.total()), references.len()))
    }

    /// The counts of every sentence: those of the hypothesis, of the reference and in common, for every order.
    fn counts(&self, hypotheses: &[impl AsRef<str>], references: &[Vec<String>]) -> Result<Counts, ScoreError> {
        ScoreError::if_any(self.validate())?;
        let mut counts = Counts::new(3 * (self.char_order + self.word_order));
        for_each_segment(hypotheses, references, |hypothesis, references| {
            let orders = self.count(hypothesis, references);
            let numbers = |order: NgramStatistics| [order.hypothesis, order.reference, order.matches];
            counts.push(orders.into_iter().flat_map(numbers).map(|count| count as f64));
        })?;
        Ok(counts)
    }

    /// chrF of one sentence, from 0 to 100.
    ///
    /// # Errors
    /// If there is no reference, or a fault in the options.
    pub fn sentence(&self, hypothesis: &str, references: &[&str]) -> Result<Score, ScoreError> {
        ScoreError::if_any(self.validate())?;
        if references.is_empty() {
            return Err(ScoreError::NoReferences);
        }
        Ok(self.score(self.count(hypothesis, references), references.len()))
    }

    /// chrF of every text against every text: the entry `[i][j]` is the sentence score of text `i` with text `j` as its
    /// reference. The n-grams of each text are counted once.
    ///
    /// # Errors
    /// If there is a fault in the options.
    pub fn pairwise(&self, texts: &[impl AsRef<str>]) -> Result<Vec<Vec<f64>>, ScoreError> {
        ScoreError::if_any(self.validate())?;
        let segments: Vec<Segment> = texts.iter().map(|text| Segment::new(self, text.as_ref())).collect();
        let ngrams: Vec<SegmentNgrams> = segments.iter().map(|segment| segment.ngrams(self)).collect();
        let score = |ours: &SegmentNgrams, theirs: &SegmentNgrams| self.f_score(&ours.compare(theirs));
        let of_text = |ours| ngrams.iter().map(|theirs| score(ours, theirs)).collect();
        Ok(ngrams.iter().map(of_text).collect())
    }

    /// The counts of one sentence against the reference that gives it the best F-score (the first of equals).
    fn count(&self, hypothesis: &str, references: &[&str]) -> Vec<NgramStatistics> {
        let hypothesis = Segment::new(self, hypothesis);
        let ours = hypothesis.ngrams(self);
        let mut best = Vec::new();
        let mut best_f_score = -1.0;
        for reference in references {
            let reference = Segment::new(self, reference);
            let theirs = reference.ngrams(self);
            let counts = ours.compare(&theirs);
            let f_score = self.f_score(&counts);
            if f_score > best_f_score {
                (best, best_f_score) = (counts, f_score);
            }
        }
        best
    }

    fn score(&self, orders: Vec<NgramStatistics>, reference_count: usize) -> Score {
        Score {
            name: format!("chrF{}{}", self.beta, "+".repeat(self.word_order)),
            score: self.f_score(&orders),
            verbose: None,
            signature: self.signature(reference_count),
            statistics: Statistics::Chrf(ChrfStatistics { orders }),
        }
    }

    /// The F-score in percent. It selects among the references of a sentence, so the order of operations is that of
    /// sacreBLEU: different rounding could break a tie differently.
    fn f_score(&self, orders: &[NgramStatistics]) -> f64 {
        let factor = f64::from(self.beta).powi(2);
        let ratio = |part: u64, whole: u64| if whole > 0 { part as f64 / whole as f64 } else { EPSILON };
        let (mut f_sum, mut precision_sum, mut recall_sum) = (0.0, 0.0, 0.0);
        let mut effective_orders = 0_u32;
        for counts in orders {
            let precision = ratio(counts.matches, counts.hypothesis);
            let recall = ratio(counts.matches, counts.reference);
            let denominator = factor * precision + recall;
            f_sum += if denominator > 0.0 {
                (1.0 + factor) * precision * recall / denominator
            } else {
                EPSILON
            };
            if counts.hypothesis > 0 && counts.reference > 0 {
                precision_sum += precision;
                recall_sum += recall;
                effective_orders += 1;
            }
        }
        if self.eps_smoothing {
            return 100.0 * f_sum / orders.len() as f64;
        }
        if effective_orders == 0 {
            return 0.0;
        }
        let precision = precision_sum / f64::from(effective_orders);
        let recall = recall_sum / f64::from(effective_orders);
        if precision + recall == 0.0 {
            return 0.0;
        }
        100.0 * ((1.0 + factor) * precision * recall / (factor * precision + recall))
    }

    /// The options of this chrF in the form of sacreBLEU's signature. `reference_count` is the number of references of
    /// each line.
    pub fn signature(&self, reference_count: usize) -> Signature {
        Signature::new(
            reference_count,
            vec![
                Field::new("case", "c", if self.lowercase { "lc" } else { "mixed" }),
                Field::new("eff", "e", yes_no(!self.eps_smoothing)),
                Field::new("nc", "nc", self.char_order),
                Field::new("nw", "nw", self.word_order),
                Field::new("space", "s", yes_no(self.whitespace)),
            ],
        )
    }
}

/// The characters and words of one line.
struct Segment {
    characters: Vec<char>,
    words: Vec<String>,
}

/// The n-grams of one line: one entry for each order, from 1 on.
struct SegmentNgrams<'s> {
    characters: Vec<NgramCounts<'s, char>>,
    words: Vec<NgramCounts<'s, String>>,
}

impl SegmentNgrams<'_> {
    /// The counts of this line as a hypothesis.
    fn compare(&self, reference: &Self) -> Vec<NgramStatistics> {
        let mut counts = compare(&self.characters, &reference.characters);
        counts.extend(compare(&self.words, &reference.words));
        counts
    }
}

impl Segment {
    fn new(options: &Chrf, line: &str) -> Self {
        let line = if options.lowercase {
            Cow::Owned(line.to_lowercase())
        } else {
            Cow::Borrowed(line)
        };
        let characters = line
            .chars()
            .filter(|&c| options.whitespace || !is_whitespace(c))
            .collect();
        let words = if options.word_order > 0 {
            words_and_punctuation(&line)
        } else {
            Vec::new()
        };
        Self { characters, words }
    }

    fn ngrams(&self, options: &Chrf) -> SegmentNgrams<'_> {
        SegmentNgrams {
            characters: (1..=options.char_order)
                .map(|order| count_ngrams(&self.characters, order))
                .collect(),
            words: (1..=options.word_order)
                .map(|order| count_ngrams(&self.words, order))
                .collect(),
        }
    }
}

/// The words of `line`, with one ASCII punctuation mark split off each: the last character if it is one, otherwise the
/// first.
fn words_and_punctuation(line: &str) -> Vec<String> {
    let mut separated = Vec::new();
    for word in words(line) {
        let mut chars = word.chars();
        let (first, last) = (chars.next(), chars.next_back());
        let (left, right) = match (first, last) {
            (_, Some(last)) if last.is_ascii_punctuation() => word.split_at(word.len() - last.len_utf8()),
            (Some(first), Some(_)) if first.is_ascii_punctuation() => word.split_at(first.len_utf8()),
            _ => (word, ""),
        };
        separated.extend(
            [left, right]
                .into_iter()
                .filter(|part| !part.is_empty())
                .map(String::from),
        );
    }
    separated
}

fn compare<T: Eq + Hash>(hypothesis: &[NgramCounts<'_, T>], reference: &[NgramCounts<'_, T>]) -> Vec<NgramStatistics> {
    let compare_order = |(hypothesis, reference): (&NgramCounts<'_, T>, &NgramCounts<'_, T>)| NgramStatistics {
        hypothesis: if reference.is_empty() {
            0
        } else {
            hypothesis.values().sum()
        },
        reference: reference.values().sum(),
        matches: count_matches(hypothesis, reference),
    };
    hypothesis.iter().zip(reference).map(compare_order).collect()
}

/// chrF as an entry of the metrics.
pub const CHRF: &dyn Metric = &ChrfMetric;

struct ChrfMetric;

impl Metric for ChrfMetric {
    fn name(&self) -> &'static str {
        "chrf"
    }

    fn label(&self) -> &'static str {
        "chrF"
    }

    fn about(&self) -> &'static str {
        "chrF2, or chrF2++ with word n-grams"
    }

    fn counts(
        &self,
        hypotheses: &[&str],
        references: &[Vec<String>],
        config: &ScoreConfig,
    ) -> Result<Counts, ScoreError> {
        config.chrf().counts(hypotheses, references)
    }

    fn of_counts(&self, sum: &[f64], reference_count: usize, config: &ScoreConfig) -> Score {
        config.chrf().score(NgramStatistics::from_numbers(sum), reference_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_punctuation_mark_is_cut_off() {
        assert_eq!(
            words_and_punctuation("(hi) ! \u{ab}a a!? 'tis x"),
            ["(hi", ")", "!", "\u{ab}a", "a!", "?", "'", "tis", "x"]
        );
        assert_eq!(words_and_punctuation("?! é. .é"), ["?", "!", "é", ".", ".", "é"]);
    }

    #[test]
    fn names_tell_beta_and_word_order() {
        let name = |chrf: Chrf| chrf.sentence("a", &["a"]).unwrap().name;
        assert_eq!(name(Chrf::default()), "chrF2");
        assert_eq!(name(Chrf::plus_plus()), "chrF2++");
        assert_eq!(
            name(Chrf {
                beta: 3,
                word_order: 1,
                ..Chrf::default()
            }),
            "chrF3+"
        );
    }

    #[test]
    fn some_order_is_needed() {
        let empty = Chrf {
            char_order: 0,
            ..Chrf::default()
        };
        assert_eq!(
            empty.sentence("a", &["a"]).unwrap_err().to_string(),
            "char_order: must be at least 1, unless word_order is"
        );
        let words_alone = Chrf {
            char_order: 0,
            word_order: 1,
            ..Chrf::default()
        };
        assert_eq!(words_alone.sentence("a b", &["a c"]).unwrap().score, 50.0);
    }
}
