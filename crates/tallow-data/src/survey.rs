//! Reports oddities of a parallel corpus, in its text and in its tokens, for a person to read before training. Nothing
//! is dropped or changed here.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::corpus::Corpus;
use crate::line_alignment::LineAlignment;
use crate::lines::{ReadReport, is_blank};
use crate::parallel::ParallelText;
use crate::tally::Tally;

/// Number of lines of training text from which [`Sides`] learns words.
const WORD_LINES: usize = 200_000;

/// The upper ends of the bars of [`TokenSurvey::histogram`], in tokens with `</s>`; one more bar counts longer
/// sentences.
pub const HISTOGRAM: [usize; 8] = [5, 10, 20, 30, 50, 100, 200, 500];

/// Oddities in the text of one corpus. Tallies count pairs; a pair may be in several.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Survey {
    /// The corpus, as messages name it.
    pub corpus: String,
    /// The number of lines, and the repairs of reading.
    pub reading: ReadReport,
    /// Pairs with a blank side.
    pub empty: Tally,
    /// Pairs whose two lines both occurred earlier in this corpus, together.
    pub duplicate: Tally,
    /// Pairs whose two sides are the same text, of three words or more; a name or a number may well be the same.
    pub copied: Tally,
    /// Pairs with U+FFFD on a side, the mark of bytes that an earlier program could not read.
    pub replaced: Tally,
    /// Pairs with a side of UTF-8 that was read as Latin-1 or Windows-1252, such as `Ã¼` for `ü`.
    pub misread: Tally,
    /// Pairs with control characters other than the tab on a side.
    pub control: Tally,
    /// Pairs with invisible characters on a side that mean nothing inside a line: a byte order mark, spaces without
    /// width, soft hyphens. Joiners and marks of direction, which some scripts need, do not count.
    pub invisible: Tally,
    /// Whether line N translates line N.
    pub alignment: LineAlignment,
}

impl Survey {
    /// Examines the text of a corpus.
    pub fn of(text: &ParallelText) -> Self {
        let mut survey = Self {
            corpus: text.name(),
            reading: text.report,
            empty: Tally::default(),
            duplicate: Tally::default(),
            copied: Tally::default(),
            replaced: Tally::default(),
            misread: Tally::default(),
            control: Tally::default(),
            invisible: Tally::default(),
            alignment: LineAlignment::of(&text.source, &text.target),
        };
        let mut seen = HashSet::with_capacity(text.source.len());
        for (index, (source, target)) in text.source.iter().zip(&text.target).enumerate() {
            let line = index as u64 + 1;
            if is_blank(source) || is_blank(target) {
                survey.empty.add(line);
                continue;
            }
            let either = |is: &dyn Fn(&str) -> bool| is(source) || is(target);
            let oddities = [
                (!seen.insert((source.as_str(), target.as_str())), &mut survey.duplicate),
                (is_copied(source, target), &mut survey.copied),
                (either(&|side| side.contains('\u{fffd}')), &mut survey.replaced),
                (either(&is_misread), &mut survey.misread),
                (
                    either(&|side| side.chars().any(|c| c.is_control() && c != '\t')),
                    &mut survey.control,
                ),
                (either(&is_partly_invisible), &mut survey.invisible),
            ];
            for (_, tally) in oddities.into_iter().filter(|(is_odd, _)| *is_odd) {
                tally.add(line);
            }
        }
        survey
    }
}

/// Whether the two sides are the same text, and longer than a name.
pub(crate) fn is_copied(source: &str, target: &str) -> bool {
    source.trim() == target.trim() && source.split_whitespace().nth(2).is_some()
}

/// Whether a line has invisible characters: a byte order mark, a space or a word joiner without width, a soft hyphen.
fn is_partly_invisible(line: &str) -> bool {
    line.contains(['\u{feff}', '\u{200b}', '\u{2060}', '\u{ad}'])
}

/// Whether a line has UTF-8 that was read as Latin-1 or Windows-1252. A letter of two bytes becomes `Ã` or `Â` and a
/// sign that follows neither of them in any language. Punctuation such as `’` becomes `â€` and one more character.
pub(crate) fn is_misread(line: &str) -> bool {
    let mut before = ' ';
    for c in line.chars() {
        let of_two = matches!(before, 'Ã' | 'Â') && matches!(c, '\u{80}'..='\u{bf}');
        if of_two || (before, c) == ('â', '€') {
            return true;
        }
        before = c;
    }
    false
}

/// The lines of a validation or test corpus that also occur in the training corpora.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Overlap {
    /// Lines of which both sides occur in training, together.
    pub pairs: Tally,
    /// Lines whose source occurs in training, with this or another target.
    pub sources: Tally,
}

impl Overlap {
    /// Looks for the lines of `held_out` in the training corpora. Blank lines do not count.
    pub fn of(held_out: &ParallelText, train: &[ParallelText]) -> Self {
        let mut found: HashMap<&str, (bool, HashSet<&str>)> = HashMap::new();
        for source in &held_out.source {
            found.insert(source.trim(), (false, HashSet::new()));
        }
        for text in train {
            for (source, target) in text.source.iter().zip(&text.target) {
                if let Some((is_met, targets)) = found.get_mut(source.trim()) {
                    *is_met = true;
                    targets.insert(target.trim());
                }
            }
        }
        let mut overlap = Self::default();
        for (index, (source, target)) in held_out.source.iter().zip(&held_out.target).enumerate() {
            if let Some((true, targets)) = found.get(source.trim()).filter(|_| !is_blank(source)) {
                overlap.sources.add(index as u64 + 1);
                if targets.contains(target.trim()) {
                    overlap.pairs.add(index as u64 + 1);
                }
            }
        }
        overlap
    }
}

/// Tells whether the sides of a corpus have the languages of the training sides, by the share of words they have in
/// common.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sides {
    /// Share of the source's words that occur in the training source, and of the target's words in the training target.
    pub own: [f64; 2],
    /// Share of the source's words that occur in the training target, and of the target's words in the training source.
    pub other: [f64; 2],
}

impl Sides {
    /// Compares a corpus with the training corpora. Words are separated by white space.
    pub fn of(text: &ParallelText, train: &[ParallelText]) -> Self {
        let words = |side: fn(&ParallelText) -> &Vec<String>| -> HashSet<&str> {
            let lines = train.iter().flat_map(side).take(WORD_LINES);
            lines.flat_map(|line| line.split_whitespace()).collect()
        };
        let known = [words(|text| &text.source), words(|text| &text.target)];
        let share = |lines: &[String], known: &HashSet<&str>| {
            let (mut all, mut met) = (0u64, 0u64);
            for word in lines.iter().flat_map(|line| line.split_whitespace()) {
                all += 1;
                met += u64::from(known.contains(word));
            }
            met as f64 / all.max(1) as f64
        };
        Self {
            own: [share(&text.source, &known[0]), share(&text.target, &known[1])],
            other: [share(&text.source, &known[1]), share(&text.target, &known[0])],
        }
    }

    /// Whether both sides are much more similar to the other side of training.
    pub fn are_swapped(&self) -> bool {
        (0..2).all(|side| self.other[side] > self.own[side] + 0.1)
    }
}

/// The meaning of an id of a vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// A piece of text.
    Piece,
    /// One byte of a character that has no piece.
    Byte,
    /// Unknown text.
    Unknown,
}

/// Tokens of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TokenTally {
    /// Number of tokens.
    pub count: u64,
    /// The lines that have such tokens.
    pub lines: Tally,
}

/// Statistics of the tokens of one corpus, over the pairs that its filters kept. Arrays have source and target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenSurvey {
    /// The corpus, as messages name it.
    pub corpus: String,
    /// Number of pairs.
    pub pairs: u64,
    /// Number of tokens, `</s>` included.
    pub tokens: [u64; 2],
    /// Unknown tokens.
    pub unknown: [TokenTally; 2],
    /// Tokens that stand for a byte.
    pub bytes: [TokenTally; 2],
    /// Sentences by their length; see [`HISTOGRAM`].
    pub histogram: [[u64; HISTOGRAM.len() + 1]; 2],
    /// The longest sentence and its line.
    pub longest: [(usize, u64); 2],
    /// Pairs in which one side has at least ten tokens and more than three times as many as the other side suggests.
    pub outliers: Tally,
}

impl TokenSurvey {
    /// Examines every corpus in `corpus`. `spelling` gives the meaning of an id of the source and of the target.
    pub fn of(corpus: &Corpus, spelling: [&dyn Fn(u32) -> Spelling; 2]) -> Vec<Self> {
        let of_part = |part: &crate::corpus::Part| {
            let mut survey = Self {
                corpus: part.report().corpus.clone(),
                pairs: part.pairs.len() as u64,
                tokens: [0; 2],
                unknown: Default::default(),
                bytes: Default::default(),
                histogram: Default::default(),
                longest: [(0, 0); 2],
                outliers: Tally::default(),
            };
            for index in part.pairs.clone() {
                let pair = corpus.pair(index);
                let line = part.line_of(pair.id);
                for (side, tokens) in [pair.source, pair.target].into_iter().enumerate() {
                    survey.count(side, tokens, line, spelling[side]);
                }
            }
            // A side is long or short relative to the usual ratio of the two sides.
            let usual = survey.tokens[1] as f64 / survey.tokens[0].max(1) as f64;
            for index in part.pairs.clone() {
                let (source, target) = corpus.lengths(index);
                let ratio = target as f64 / (usual * source as f64);
                if source.max(target) >= 10 && !(1.0 / 3.0..=3.0).contains(&ratio) {
                    survey.outliers.add(part.line_of(corpus.pair(index).id));
                }
            }
            survey
        };
        corpus.parts().iter().map(of_part).collect()
    }

    fn count(&mut self, side: usize, tokens: &[u32], line: u64, spelling: &dyn Fn(u32) -> Spelling) {
        let length = tokens.len();
        self.tokens[side] += length as u64;
        self.histogram[side][HISTOGRAM.iter().take_while(|end| length > **end).count()] += 1;
        if length > self.longest[side].0 {
            self.longest[side] = (length, line);
        }
        let of = |kind| tokens.iter().filter(|id| spelling(**id) == kind).count() as u64;
        for (kind, found) in [
            (Spelling::Unknown, &mut self.unknown[side]),
            (Spelling::Byte, &mut self.bytes[side]),
        ] {
            let count = of(kind);
            if count > 0 {
                found.count += count;
                found.lines.add(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filters;

    fn text(pairs: &[(&str, &str)]) -> ParallelText {
        ParallelText {
            source: pairs.iter().map(|pair| pair.0.to_string()).collect(),
            target: pairs.iter().map(|pair| pair.1.to_string()).collect(),
            weight: 1.0,
            alignments: None,
            report: ReadReport::default(),
            files: Vec::new(),
        }
    }

    fn tally(lines: &[u64]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.add(*line));
        tally
    }

    #[test]
    fn oddities_are_counted_with_their_lines() {
        let survey = Survey::of(&text(&[
            ("a dog", "ein Hund"),
            ("", "x"),
            ("a dog", "ein Hund"),
            ("a dog", "der Hund"),
            ("Berlin is big", " Berlin is big"),
            ("Berlin", "Berlin"),
            ("a \u{fffd}", "b"),
            ("gr\u{c3}\u{bc}n", "green"),
            ("it\u{e2}\u{20ac}\u{2122}s", "es"),
            ("a\u{7}b", "c\td"),
            ("NÃO À SÃ", "à\u{a0}» é Â"),
        ]));
        assert_eq!(survey.empty, tally(&[2]));
        assert_eq!(survey.duplicate, tally(&[3]));
        assert_eq!(survey.copied, tally(&[5]));
        assert_eq!(survey.replaced, tally(&[7]));
        assert_eq!(survey.misread, tally(&[8, 9]));
        assert_eq!(survey.control, tally(&[10]));
    }

    #[test]
    fn what_is_trained_on_is_found_in_what_is_measured_on() {
        let train = [
            text(&[("a dog", "ein Hund"), ("a cat", "eine Katze")]),
            text(&[("a cow ", "eine Kuh"), ("", "")]),
        ];
        let held_out = text(&[
            ("a dog", "ein Hund"),
            ("a cow", "die Kuh"),
            ("a pig", "ein Schwein"),
            ("", ""),
        ]);
        let overlap = Overlap::of(&held_out, &train);
        assert_eq!((overlap.pairs, overlap.sources), (tally(&[1]), tally(&[1, 2])));
        let same = Sides::of(&text(&[("a cow", "eine Kuh")]), &train);
        assert_eq!((same.own, same.are_swapped()), ([1.0, 1.0], false));
        let swapped = Sides::of(&text(&[("eine Kuh", "a cow")]), &train);
        assert_eq!((swapped.own, swapped.are_swapped()), ([0.0, 0.0], true));
    }

    #[test]
    fn tokens_are_counted_with_their_lines() {
        // One id for each word, its length; 0 is the end, 1 is unknown, 2 is a byte.
        let encode = |lines: &[&str]| -> Result<Vec<Vec<u32>>, std::convert::Infallible> {
            let ids = |line: &&str| line.split_whitespace().map(|word| word.len() as u32).collect();
            Ok(lines.iter().map(ids).collect())
        };
        let long = "word ".repeat(12);
        let corpus = Corpus::build(
            &[
                text(&[("x yy word", "word word"), ("", "y"), ("word", "x x")]),
                text(&[(&long, "word"), (&long, &long)]),
            ],
            0,
            &Filters {
                drop_empty: true,
                ..Filters::NONE
            },
            encode,
            encode,
        )
        .unwrap();
        let spelling = |id| match id {
            1 => Spelling::Unknown,
            2 => Spelling::Byte,
            _ => Spelling::Piece,
        };
        let found = TokenSurvey::of(&corpus, [&spelling, &spelling]);
        let of = |count, lines: &[u64]| TokenTally {
            count,
            lines: tally(lines),
        };
        assert_eq!((found[0].pairs, found[0].tokens), (2, [6, 6]));
        assert_eq!(found[0].unknown, [of(1, &[1]), of(2, &[3])]);
        assert_eq!(found[0].bytes, [of(1, &[1]), of(0, &[])]);
        assert_eq!(found[0].longest, [(4, 1), (3, 1)]);
        assert_eq!(found[0].histogram[0][0], 2);
        assert_eq!((&found[1].outliers, found[1].histogram[1][2]), (&tally(&[1]), 1));
    }
}
