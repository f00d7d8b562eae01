//! Scores of parts: by the length of sentences, by labels, and by how often words were seen in training.

use super::{ComparedText, Counted, System};
use crate::Result;
use serde::Serialize;
use std::collections::HashMap;
use tallow_data::{CorpusFiles, Side, SideReader};
use tallow_score::{BleuTokenizer, ScoreConfig};

/// The shortest sentences of each group after the first, in words.
const LENGTHS: [usize; 7] = [5, 10, 15, 20, 30, 40, 60];

/// The lowest counts of each group of words after the first.
const OCCURRENCES: [u64; 6] = [1, 2, 5, 10, 100, 1000];

/// A division of the text.
#[derive(Clone, Debug, Serialize)]
pub struct Grouping {
    /// What divides it.
    pub by: &'static str,
    /// What its groups count: `lines` or `words`.
    pub unit: &'static str,
    /// The measures, by name.
    pub measures: Vec<String>,
    /// The groups that are not empty.
    pub groups: Vec<Group>,
}

/// A part of the text.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// Its name.
    pub label: String,
    /// Its size: lines, or words of the references.
    pub count: usize,
    /// The values: `values[m][s]` is measure `m` of system `s`.
    pub values: Vec<Vec<f64>>,
}

/// How often some words occur in a text. Words are what BLEU cuts lines into.
#[derive(Clone, Debug)]
pub struct WordCounts {
    tokenizer: BleuTokenizer,
    counts: HashMap<String, u64>,
}

impl WordCounts {
    /// No counts yet, for the words of these lines: other words are not counted, so that the text may be large.
    ///
    /// # Errors
    /// When a file cannot be used by which BLEU cuts lines.
    pub fn for_words_of<L: AsRef<str>>(lines: impl IntoIterator<Item = L>, score: &ScoreConfig) -> Result<Self> {
        let tokenizer = score.bleu().tokenizer()?;
        let mut counts = HashMap::new();
        for line in lines {
            for word in tokenizer.tokenize(line.as_ref()).split_whitespace() {
                if !counts.contains_key(word) {
                    counts.insert(word.to_owned(), 0);
                }
            }
        }
        Ok(Self { tokenizer, counts })
    }

    /// Counts the words of a line of the text.
    pub fn count(&mut self, line: &str) {
        for word in self.tokenizer.tokenize(line).split_whitespace() {
            if let Some(count) = self.counts.get_mut(word) {
                *count += 1;
            }
        }
    }

    /// Counts the target side of corpora.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn count_targets(&mut self, corpora: &[CorpusFiles]) -> Result<()> {
        for files in corpora {
            for line in SideReader::open(files, Side::Target)? {
                self.count(&line?);
            }
        }
        Ok(())
    }
}

/// The number of the range in which a value lies: ranges begin at 0 and at each of `begins`.
fn range<T: PartialOrd>(value: T, begins: &[T]) -> usize {
    begins.partition_point(|begin| *begin <= value)
}

/// The name of a range of whole numbers.
fn range_name(number: usize, begins: &[u64]) -> String {
    match (number.checked_sub(1).map(|before| begins[before]), begins.get(number)) {
        (None, Some(1)) => "0".to_owned(),
        (None, Some(next)) => format!("below {next}"),
        (Some(begin), Some(next)) if *next == begin + 1 => begin.to_string(),
        (Some(begin), Some(next)) => format!("{begin} to {}", next - 1),
        (Some(begin), None) => format!("{begin} and more"),
        (None, None) => "all".to_owned(),
    }
}

pub(super) fn by_length(text: &ComparedText, metrics: &[Counted], score: &ScoreConfig) -> Grouping {
    let reference = text.references.first().map(Vec::as_slice).unwrap_or_default();
    let mut lines = vec![Vec::new(); LENGTHS.len() + 1];
    for (number, line) in reference.iter().enumerate() {
        lines[range(line.split_whitespace().count(), &LENGTHS)].push(number);
    }
    let begins = LENGTHS.map(|length| length as u64);
    let named = lines
        .into_iter()
        .enumerate()
        .map(|(number, lines)| (range_name(number, &begins), lines));
    of_lines("words of the reference", named.collect(), metrics, text, score)
}

pub(super) fn by_label(labels: &[String], metrics: &[Counted], text: &ComparedText, score: &ScoreConfig) -> Grouping {
    let mut named: Vec<(String, Vec<usize>)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (line, label) in labels.iter().enumerate() {
        let place = *places.entry(label).or_insert_with(|| {
            named.push((label.clone(), Vec::new()));
            named.len() - 1
        });
        named[place].1.push(line);
    }
    of_lines("label", named, metrics, text, score)
}

fn of_lines(
    by: &'static str,
    named: Vec<(String, Vec<usize>)>,
    metrics: &[Counted],
    text: &ComparedText,
    score: &ScoreConfig,
) -> Grouping {
    let references = text.references.len();
    let scores = |metric: &Counted, lines: &[usize]| -> Vec<f64> {
        let of_system = |runs: &Vec<tallow_score::Counts>| {
            let of_run = |run: &tallow_score::Counts| {
                let sum = run.sum(lines.iter().copied());
                metric.metric.of_counts(&sum, references, score).score
            };
            runs.iter().map(of_run).sum::<f64>() / runs.len().max(1) as f64
        };
        metric.systems.iter().map(of_system).collect()
    };
    Grouping {
        by,
        unit: "lines",
        measures: metrics.iter().map(|metric| metric.metric.label().to_owned()).collect(),
        groups: named
            .into_iter()
            .filter(|(_, lines)| !lines.is_empty())
            .map(|(label, lines)| Group {
                label,
                count: lines.len(),
                values: metrics.iter().map(|metric| scores(metric, &lines)).collect(),
            })
            .collect(),
    }
}

/// How well the words of the first references are found, by how often training saw them.
pub(super) fn by_training(trained: &WordCounts, systems: &[System], text: &ComparedText) -> Grouping {
    let words = |line: &str| trained.tokenizer.tokenize(line);
    let group_of = |word: &str| range(trained.counts.get(word).copied().unwrap_or(0), &OCCURRENCES);
    let reference: Vec<String> = text
        .references
        .iter()
        .take(1)
        .flatten()
        .map(|line| words(line))
        .collect();
    let mut counts = [0; OCCURRENCES.len() + 1];
    for word in reference.iter().flat_map(|line| line.split_whitespace()) {
        counts[group_of(word)] += 1;
    }
    let f1 = |run: &Vec<String>| -> Vec<f64> {
        let (mut found, mut said) = ([0usize; OCCURRENCES.len() + 1], [0usize; OCCURRENCES.len() + 1]);
        for (line, reference) in run.iter().zip(&reference) {
            let mut left: HashMap<&str, usize> = HashMap::new();
            for word in reference.split_whitespace() {
                *left.entry(word).or_default() += 1;
            }
            let line = words(line);
            for word in line.split_whitespace() {
                let group = group_of(word);
                said[group] += 1;
                if let Some(left) = left.get_mut(word).filter(|left| **left > 0) {
                    *left -= 1;
                    found[group] += 1;
                }
            }
        }
        let of_group = |group: usize| 200.0 * found[group] as f64 / (said[group] + counts[group]).max(1) as f64;
        (0..counts.len()).map(of_group).collect()
    };
    let of_runs: Vec<Vec<Vec<f64>>> = systems
        .iter()
        .map(|system| system.runs.iter().map(f1).collect())
        .collect();
    let mean =
        |group: usize, runs: &Vec<Vec<f64>>| runs.iter().map(|run| run[group]).sum::<f64>() / runs.len().max(1) as f64;
    Grouping {
        by: "occurrences of a word in the training text",
        unit: "words",
        measures: vec!["F1".to_owned()],
        groups: (0..counts.len())
            .filter(|group| counts[*group] > 0)
            .map(|group| Group {
                label: range_name(group, &OCCURRENCES),
                count: counts[group],
                values: vec![of_runs.iter().map(|runs| mean(group, runs)).collect()],
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_names() {
        let name = |value: u64| range_name(range(value, &OCCURRENCES), &OCCURRENCES);
        let names = [0, 1, 2, 4, 5, 99, 100, 5000].map(name);
        let expected = [
            "0",
            "1",
            "2 to 4",
            "2 to 4",
            "5 to 9",
            "10 to 99",
            "100 to 999",
            "1000 and more",
        ];
        assert_eq!(names, expected);
        assert_eq!(range_name(range(4, &[5, 10]), &[5, 10]), "below 5");
    }

    #[test]
    fn rare_words_have_a_group_of_their_own() {
        let score = ScoreConfig::default();
        // What the systems say and the references lack is in the lowest group.
        let mut trained = WordCounts::for_words_of(["a b, c", "a a"], &score).unwrap();
        ["a a a a a b", "a"].iter().for_each(|line| trained.count(line));
        let text = ComparedText {
            references: vec![vec!["a b, c".to_owned(), "a a".to_owned()]],
            ..ComparedText::default()
        };
        let system = |lines: [&str; 2]| System {
            name: String::new(),
            runs: vec![lines.map(str::to_owned).to_vec()],
        };
        let systems = [system(["a a b, c", "a"]), system(["", "c"])];
        let found = by_training(&trained, &systems, &text);
        let rows: Vec<(&str, usize, &[f64])> = found
            .groups
            .iter()
            .map(|group| (group.label.as_str(), group.count, &group.values[0][..]))
            .collect();
        // Never seen: the comma and `c`, of which the second system says one in the wrong line. `b` once. `a` six
        // times: three in the references, three said by the first system, two of them right.
        assert_eq!(
            rows,
            [
                ("0", 2, &[100.0, 0.0][..]),
                ("1", 1, &[100.0, 0.0]),
                ("5 to 9", 3, &[200.0 * 2.0 / 6.0, 0.0])
            ]
        );
    }
}
