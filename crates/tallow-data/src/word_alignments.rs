//! Word alignments: which words of a line and of its translation belong together.
//!
//! The format is that of aligners such as fast_align, eflomal and SimAlign (the "Pharaoh" format): for each pair of
//! lines one line of links such as `0-0 1-2 2-1`, source before target. Words are what white space separates, counted
//! from 0. Where people have marked links as possible, `1p2` or `1?2` stands for them.

use std::path::Path;

use crate::error::DataError;
use crate::lines::{FileRecord, read_lines};

/// A link between a source word and a target word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The source word, from 0.
    pub source: u32,
    /// The target word, from 0.
    pub target: u32,
    /// Whether the link is certain, as all links of aligners are, and not only possible.
    pub is_sure: bool,
}

/// The word alignments of parallel text.
#[derive(Debug, Clone, PartialEq)]
pub struct WordAlignments {
    links: Vec<Link>,
    /// The end of each line's links.
    ends: Vec<usize>,
    /// The file that they came from.
    pub file: FileRecord,
}

impl WordAlignments {
    /// Reads the alignments of pairs of lines.
    ///
    /// # Errors
    /// Every error of [`read_lines`], another number of lines than there are pairs, a link that is written in another
    /// way, and a link to a word that its line does not have.
    pub fn open(path: &Path, source: &[String], target: &[String]) -> Result<Self, DataError> {
        let file = read_lines(path)?;
        if file.lines.len() != source.len() {
            return Err(DataError::AlignmentCount {
                path: path.to_owned(),
                lines: file.lines.len() as u64,
                pairs: source.len() as u64,
            });
        }
        let (mut links, mut ends) = (Vec::new(), Vec::with_capacity(source.len()));
        for (number, (line, (source, target))) in (1..).zip(file.lines.iter().zip(source.iter().zip(target))) {
            links.extend(Link::parse_line(line, source, target, (path, number))?);
            ends.push(links.len());
        }
        let file = file.record;
        Ok(Self { links, ends, file })
    }

    /// The alignments of these lines of links.
    pub(crate) fn of_lines(lines: impl Iterator<Item = Vec<Link>>, file: FileRecord) -> Self {
        let (mut links, mut ends) = (Vec::new(), Vec::new());
        for line in lines {
            links.extend(line);
            ends.push(links.len());
        }
        Self { links, ends, file }
    }

    /// The links of a line, by its number from 0; none where there is no such line.
    pub fn line(&self, number: usize) -> &[Link] {
        let start = number
            .checked_sub(1)
            .map_or(Some(0), |before| self.ends.get(before).copied());
        let range = start.zip(self.ends.get(number).copied());
        range.map_or(&[], |(start, end)| &self.links[start..end])
    }

    /// The number of lines.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no lines.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

impl Link {
    /// The links of a line, which are links between the words of a pair. `place` is the line's file and number.
    ///
    /// # Errors
    /// A link that is written in another way, and a link to a word that its line does not have.
    pub(crate) fn parse_line(
        line: &str,
        source: &str,
        target: &str,
        (path, number): (&Path, u64),
    ) -> Result<Vec<Self>, DataError> {
        let words = |text: &str| text.split_whitespace().count() as u32;
        let (source_words, target_words) = (words(source), words(target));
        let link = |text: &str| {
            let link = Link::parse(text).filter(|link| link.source < source_words && link.target < target_words);
            link.ok_or_else(|| DataError::Link {
                path: path.to_owned(),
                line: number,
                link: text.to_owned(),
                source_words,
                target_words,
            })
        };
        line.split_whitespace().map(link).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let place = text.find(['-', 'p', '?'])?;
        let (source, rest) = text.split_at(place);
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let target = &rest[1..];
        Some(Self {
            source: is_number(source).then(|| source.parse().ok())??,
            target: is_number(target).then(|| target.parse().ok())??,
            is_sure: rest.starts_with('-'),
        })
    }
}

/// Returns the number of the word, from 0, to which each token of a side belongs. The tokens come without `</s>`.
pub type WordsOf = Box<dyn Fn(&[u32]) -> Vec<u32> + Send + Sync>;

/// The links between tokens that follow from links between words: every token of a source word with every token of the
/// target word, as pairs of a target and a source token, in ascending order.
pub fn token_links(links: &[Link], source_words: &[u32], target_words: &[u32]) -> Vec<(u32, u32)> {
    let mut tokens = Vec::new();
    for link in links {
        let of = |words: &[u32], word: u32| -> Vec<u32> {
            let places = (0..).zip(words).filter(|(_, of)| **of == word);
            places.map(|(place, _)| place).collect()
        };
        let sources = of(source_words, link.source);
        for target in of(target_words, link.target) {
            tokens.extend(sources.iter().map(|source| (target, *source)));
        }
    }
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(contents: &str) -> Result<WordAlignments, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.align");
        std::fs::write(&path, contents).unwrap();
        let side = |lines: [&str; 2]| lines.map(str::to_owned);
        WordAlignments::open(&path, &side(["a b c", "d"]), &side(["x y", "z"]))
            .map_err(|error| error.to_string().replace(&path.display().to_string(), "a.align"))
    }

    #[test]
    fn alignments_are_read_line_by_line() {
        let found = open("0-1 2-0\t1p1\n\n").unwrap();
        let link = |source, target, is_sure| Link {
            source,
            target,
            is_sure,
        };
        assert_eq!(found.line(0), [link(0, 1, true), link(2, 0, true), link(1, 1, false)]);
        assert_eq!((found.line(1), found.line(7), found.len()), (&[][..], &[][..], 2));
    }

    #[test]
    fn faults_name_their_place() {
        for wrong in [
            "0:1",
            "0",
            "0-",
            "-1",
            "0-1-1",
            "+0-1",
            "0--1",
            "3-0",
            "0-2",
            "99999999999-0",
            "0-1:0.5",
        ] {
            let found = open(&format!("0-0\n{wrong}\n")).unwrap_err();
            assert!(
                found.starts_with("a.align: line 2: ") && found.contains(wrong),
                "{found}"
            );
        }
        let found = open("0-0\n").unwrap_err();
        assert_eq!(
            found,
            "a.align: 1 line of alignments for 2 pairs; line N belongs to the Nth pair of its corpus"
        );
    }

    #[test]
    fn links_of_words_become_links_of_tokens() {
        let link = |source, target| Link {
            source,
            target,
            is_sure: true,
        };
        // Source: two tokens, then one. Target: one, then two.
        let found = token_links(
            &[link(1, 0), link(0, 1), link(0, 1), link(5, 0)],
            &[0, 0, 1],
            &[0, 1, 1],
        );
        assert_eq!(found, [(0, 2), (1, 0), (1, 1), (2, 0), (2, 1)]);
    }
}
