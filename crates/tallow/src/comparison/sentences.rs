//! The sentences in which two systems differ most.

use super::{ComparedText, ComparisonOptions, System};
use crate::Result;
use serde::Serialize;
use similar::{Algorithm, DiffTag, capture_diff_slices};
use std::collections::HashSet;
use tallow_score::{CHRF, Counts};

/// What changes from the first system to another, sentence by sentence, by chrF.
#[derive(Clone, Debug, Serialize)]
pub struct Changes {
    /// The number of lines whose score is higher.
    pub better: usize,
    /// The number of lines whose score is lower.
    pub worse: usize,
    /// The number of lines with the same translation.
    pub same: usize,
    /// The lines that gained most.
    pub gained: Vec<Change>,
    /// The lines that lost most.
    pub lost: Vec<Change>,
}

/// A sentence and its translations by two systems; of several runs, by the first.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// The number of the line, from 1.
    pub line: usize,
    /// The source.
    pub source: Option<String>,
    /// The first reference.
    pub reference: String,
    /// The translation of the first system.
    pub first: Vec<Span>,
    /// The translation of the other system.
    pub other: Vec<Span>,
    /// The sentence's chrF under the first system.
    pub first_score: f64,
    /// The sentence's chrF under the other system.
    pub other_score: f64,
}

/// A word of a translation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Span {
    /// The word.
    pub text: String,
    /// Whether the other translation does not have it here.
    pub is_changed: bool,
    /// Whether the reference has it somewhere.
    pub is_in_reference: bool,
}

impl Changes {
    pub(super) fn new(
        (first, other): (&System, &System),
        text: &ComparedText,
        options: &ComparisonOptions,
    ) -> Result<Self> {
        let lines = |system: &System| -> Vec<String> { system.runs.first().cloned().unwrap_or_default() };
        let (first, other) = (lines(first), lines(other));
        let counts = |lines: &[String]| -> Result<Counts> {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            Ok(CHRF.counts(&lines, &text.references, &options.score)?)
        };
        let (of_first, of_other) = (counts(&first)?, counts(&other)?);
        let score = |counts: &Counts, line: usize| {
            CHRF.of_counts(counts.row(line), text.references.len(), &options.score)
                .score
        };
        let mut scored: Vec<(usize, f64, f64)> = (0..first.len())
            .map(|line| (line, score(&of_first, line), score(&of_other, line)))
            .collect();
        let change = |(line, first_score, other_score): &(usize, f64, f64)| {
            let reference = text.references[0].get(*line).cloned().unwrap_or_default();
            let (a, b) = spans(&first[*line], &other[*line], &reference);
            Change {
                line: line + 1,
                source: text.source.as_ref().and_then(|source| source.get(*line).cloned()),
                reference,
                first: a,
                other: b,
                first_score: *first_score,
                other_score: *other_score,
            }
        };
        let gain = |(_, first, other): &(usize, f64, f64)| other - first;
        scored.sort_by(|a, b| gain(b).total_cmp(&gain(a)));
        // Both sorts are stable, so that of equals the first line is first.
        let mut worst_first = scored.clone();
        worst_first.sort_by_key(|line| line.0);
        worst_first.sort_by(|a, b| gain(a).total_cmp(&gain(b)));
        Ok(Self {
            better: scored.iter().filter(|line| gain(line) > 0.0).count(),
            worse: scored.iter().filter(|line| gain(line) < 0.0).count(),
            same: first.iter().zip(&other).filter(|(a, b)| a == b).count(),
            gained: scored
                .iter()
                .take_while(|line| gain(line) > 0.0)
                .take(options.sentences)
                .map(change)
                .collect(),
            lost: worst_first
                .iter()
                .take_while(|line| gain(line) < 0.0)
                .take(options.sentences)
                .map(change)
                .collect(),
        })
    }
}

/// The words of two translations, each marked where the other has something else.
fn spans(first: &str, other: &str, reference: &str) -> (Vec<Span>, Vec<Span>) {
    let words = |line: &'_ str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    let (first, other) = (words(first), words(other));
    let reference: HashSet<&str> = reference.split_whitespace().collect();
    let (mut changed_first, mut changed_other) = (vec![false; first.len()], vec![false; other.len()]);
    for operation in capture_diff_slices(Algorithm::Myers, &first, &other) {
        if operation.tag() != DiffTag::Equal {
            changed_first[operation.old_range()].fill(true);
            changed_other[operation.new_range()].fill(true);
        }
    }
    let marked = |words: Vec<String>, changed: Vec<bool>| {
        let span = |(text, is_changed): (String, bool)| Span {
            is_in_reference: reference.contains(text.as_str()),
            text,
            is_changed,
        };
        words.into_iter().zip(changed).map(span).collect()
    };
    (marked(first, changed_first), marked(other, changed_other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_words_are_marked() {
        let (a, b) = spans("Ein Hund rennt schnell .", "Ein Hund läuft .", "Der Hund läuft .");
        let told = |spans: &[Span]| -> Vec<String> {
            let mark = |span: &Span| match (span.is_changed, span.is_in_reference) {
                (false, _) => span.text.clone(),
                (true, true) => format!("+{}", span.text),
                (true, false) => format!("-{}", span.text),
            };
            spans.iter().map(mark).collect()
        };
        assert_eq!(told(&a), ["Ein", "Hund", "-rennt", "-schnell", "."]);
        assert_eq!(told(&b), ["Ein", "Hund", "+läuft", "."]);
        assert!(!a[0].is_in_reference);
        assert_eq!(spans("", "", "").0, []);
    }
}
