//! Filters that drop pairs not worth training on, and counts of the dropped pairs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clean::Rule;
use crate::count::counted;
use crate::tally::Tally;

/// The pairs that [`crate::Corpus::build`] drops. [`Filters::NONE`] keeps every line, as scoring a test set needs.
///
/// A pair is counted under the first reason that applies, in the order of the fields of [`FilterReport`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filters {
    /// Drop pairs with a side that is blank or encodes to nothing.
    pub drop_empty: bool,
    /// Drop pairs whose two lines both occurred earlier, in any of the corpora.
    pub drop_duplicates: bool,
    /// Drop pairs with a side of more tokens than this, `</s>` included.
    pub max_length: Option<usize>,
    /// Drop pairs whose longer side has more than this many times the tokens of the shorter side, `</s>` included.
    pub max_length_ratio: Option<f64>,
}

impl Filters {
    /// Drops nothing.
    pub const NONE: Self = Self {
        drop_empty: false,
        drop_duplicates: false,
        max_length: None,
        max_length_ratio: None,
    };
}

/// The result of filtering one corpus. `read` is the sum of `kept` and of the counts of dropped pairs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterReport {
    /// The corpus, as messages name it.
    pub corpus: String,
    /// Pairs before the filters.
    pub read: u64,
    /// Pairs that remain.
    pub kept: u64,
    /// Pairs with an empty side.
    pub empty: Tally,
    /// Pairs that occurred earlier.
    pub duplicate: Tally,
    /// Pairs with a side longer than `max_length`.
    pub too_long: Tally,
    /// Pairs whose sides differ in length by more than `max_length_ratio`.
    pub ratio: Tally,
    /// Pairs that rules of `data.clean` drop, for each rule that drops some, in the order of the rules.
    #[serde(default)]
    pub unclean: Vec<Unclean>,
    /// Pairs that remain, but without their word alignments: the tokenizer divides one of their lines into other words
    /// than white space does.
    pub unaligned: Tally,
}

/// The pairs that a rule has dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unclean {
    /// The rule.
    pub rule: Rule,
    /// The pairs.
    pub dropped: Tally,
}

impl FilterReport {
    /// Counts a pair that a rule drops, by its line from 1.
    pub(crate) fn add_unclean(&mut self, rule: Rule, line: u64) {
        let place = match self.unclean.binary_search_by_key(&rule, |unclean| unclean.rule) {
            Ok(place) => place,
            Err(place) => {
                let dropped = Tally::default();
                self.unclean.insert(place, Unclean { rule, dropped });
                place
            }
        };
        self.unclean[place].dropped.add(line);
    }

    /// The number of pairs that were dropped for any reason.
    pub fn dropped(&self) -> u64 {
        let unclean: u64 = self.unclean.iter().map(|unclean| unclean.dropped.count).sum();
        self.empty.count + self.duplicate.count + unclean + self.too_long.count + self.ratio.count
    }
}

/// One line such as `train.tsv: kept 7 of 10 pairs; dropped 2 empty (lines 3, 9), 1 too long (line 4)`.
impl fmt::Display for FilterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: kept {} of {}",
            self.corpus,
            self.kept,
            counted(self.read, "pair")
        )?;
        let before = [
            (&self.empty, "empty".to_owned()),
            (&self.duplicate, "duplicate".to_owned()),
        ];
        let rules = self
            .unclean
            .iter()
            .map(|unclean| (&unclean.dropped, unclean.rule.to_string()));
        let after = [
            (&self.too_long, "too long".to_owned()),
            (&self.ratio, "with too different lengths".to_owned()),
        ];
        let mut separator = "; dropped ";
        for (dropped, reason) in before
            .into_iter()
            .chain(rules)
            .chain(after)
            .filter(|(dropped, _)| dropped.count > 0)
        {
            write!(f, "{separator}{} {reason} ({})", dropped.count, dropped.examples())?;
            separator = ", ";
        }
        if self.unaligned.count > 0 {
            let (count, lines) = (self.unaligned.count, self.unaligned.examples());
            write!(
                f,
                "; {count} without word alignments, because the tokenizer has other words ({lines})"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_reads_as_a_sentence() {
        let mut report = FilterReport {
            corpus: "a.tsv".into(),
            read: 10,
            kept: 10,
            ..FilterReport::default()
        };
        assert_eq!(report.to_string(), "a.tsv: kept 10 of 10 pairs");
        for line in [2, 3, 5, 8] {
            report.empty.add(line);
        }
        report.ratio.add(9);
        report.kept = 5;
        let expected = "a.tsv: kept 5 of 10 pairs; dropped 4 empty (lines 2, 3, 5, ...), \
                        1 with too different lengths (line 9)";
        assert_eq!(report.to_string(), expected);
        assert_eq!(report.dropped(), 5);
    }
}
