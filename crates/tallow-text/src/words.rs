//! Counting the words of a text. Learning uses nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::error::TextError;
use crate::language_tag;
use crate::pipeline::Form;
use crate::symbols::Symbols;

/// Lines that are counted between two reads from the caller's iterator.
const BLOCK_LINES: usize = 1 << 14;

/// Number of occurrences of each word. Ordered, so that results do not depend on hashing.
pub(crate) type WordCounts = BTreeMap<String, u64>;

/// The settings for counting words.
pub(crate) struct Counter<'a> {
    /// Cuts lines into words.
    pub(crate) form: &'a Form,
    /// Symbols, which no word contains.
    pub(crate) symbols: &'a Symbols,
    /// Whether lines may begin with a language tag.
    pub(crate) finds_tags: bool,
}

/// The counts of a text.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Counts {
    /// The words of the text; in lines that begin with a language tag, only the words after the tag.
    pub(crate) words: WordCounts,
    /// The language tags at the beginning of lines, if the text has tags.
    pub(crate) tags: BTreeSet<String>,
}

/// A text has language tags if at least one line in this many begins with a tag. Otherwise, such beginnings may be
/// accidents, and count as text.
const LINES_PER_TAG: u64 = 20;

impl Counts {
    /// Adds the counts of another text.
    pub(crate) fn add(&mut self, other: Self) {
        for (word, count) in other.words {
            *self.words.entry(word).or_default() += count;
        }
        self.tags.extend(other.tags);
    }
}

/// The counts of some lines.
#[derive(Default)]
struct Block {
    lines: u64,
    tagged: u64,
    tags: BTreeSet<String>,
    /// Words of lines without a tag.
    plain: HashMap<String, u64>,
    /// Words after the tag, in lines with a tag.
    behind: HashMap<String, u64>,
    /// All words of lines with a tag, for the case that the tags are text.
    whole: HashMap<String, u64>,
}

impl Block {
    fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.tagged += other.tagged;
        self.tags.extend(other.tags);
        add(&mut self.plain, other.plain);
        add(&mut self.behind, other.behind);
        add(&mut self.whole, other.whole);
    }
}

fn add(counts: &mut HashMap<String, u64>, more: HashMap<String, u64>) {
    for (word, count) in more {
        *counts.entry(word).or_default() += count;
    }
}

impl Counter<'_> {
    /// Counts the words of a text. The text alone decides whether it has language tags: one side of a corpus is one
    /// text.
    ///
    /// # Errors
    /// Returns the first error among the lines.
    pub(crate) fn count<I, S>(&self, lines: I, pool: &ThreadPool) -> Result<Counts, TextError>
    where
        I: IntoIterator<Item = Result<S, TextError>>,
        S: AsRef<str>,
    {
        let mut all = Block::default();
        let mut lines = lines.into_iter();
        loop {
            let block = lines
                .by_ref()
                .take(BLOCK_LINES)
                .map(|line| line.map(|line| line.as_ref().to_owned()))
                .collect::<Result<Vec<String>, TextError>>()?;
            if block.is_empty() {
                break;
            }
            let partial = pool.install(|| {
                let chunk = block.len().div_ceil(rayon::current_num_threads());
                block
                    .par_chunks(chunk)
                    .map(|lines| self.count_block(lines))
                    .collect::<Result<Vec<_>, TextError>>()
            })?;
            partial.into_iter().for_each(|counts| all.add(counts));
        }
        let has_tags = all.tagged * LINES_PER_TAG >= all.lines;
        let tags = if has_tags { all.tags } else { BTreeSet::new() };
        let mut words = all.plain;
        add(&mut words, if has_tags { all.behind } else { all.whole });
        Ok(Counts {
            words: words.into_iter().collect(),
            tags,
        })
    }

    fn count_block(&self, lines: &[String]) -> Result<Block, TextError> {
        let mut block = Block::default();
        for line in lines {
            let line = self.form.trimmed(line);
            // A blank line does not speak against language tags.
            block.lines += u64::from(!line.trim().is_empty());
            match self.tag(line) {
                Some(tag) => {
                    block.tagged += 1;
                    if !block.tags.contains(tag) {
                        block.tags.insert(tag.to_owned());
                    }
                    self.add_words(&line[tag.len()..], &mut block.behind)?;
                    self.add_words(line, &mut block.whole)?;
                }
                None => self.add_words(line, &mut block.plain)?,
            }
        }
        Ok(block)
    }

    fn tag<'a>(&self, line: &'a str) -> Option<&'a str> {
        self.finds_tags.then(|| language_tag::written(line)).flatten()
    }

    fn add_words(&self, line: &str, counts: &mut HashMap<String, u64>) -> Result<(), TextError> {
        let words = self.form.words(&self.symbols.part(line));
        for word in words.map_err(|error| TextError::Learn(error.to_string()))? {
            *counts.entry(word).or_default() += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{Kind, Normalization};

    fn pool(threads: usize) -> ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    fn count(lines: &[&str], symbols: &[&str], threads: usize) -> Result<Counts, TextError> {
        let counter = Counter {
            form: &Form::new(Kind::Bpe, Normalization::None, true).unwrap(),
            symbols: &Symbols::new(&symbols.iter().map(|&symbol| symbol.to_owned()).collect::<Vec<_>>()),
            finds_tags: true,
        };
        counter.count(lines.iter().map(Ok), &pool(threads))
    }

    #[test]
    fn counts_do_not_depend_on_threads() {
        let lines: Vec<String> = (0..40_000)
            .map(|i| format!(">>{:03}<< a b{} a", i % 11, i % 7))
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let one = count(&lines, &[], 1).unwrap();
        assert_eq!(one, count(&lines, &[], 3).unwrap());
        assert_eq!(one.words["▁a"], 80_000);
        assert_eq!((one.words.len(), one.tags.len()), (8, 11));
    }

    #[test]
    fn a_text_of_empty_lines_has_no_words() {
        assert_eq!(count(&["", " \t"], &[], 1).unwrap(), Counts::default());
    }

    #[test]
    fn symbols_are_in_no_word() {
        let counts = count(&["a<sep>b <sep> c"], &["<sep>"], 1).unwrap();
        let expected = ["▁a\0b", "▁\0", "▁c"].map(|word| (word.to_owned(), 1));
        assert_eq!(counts.words, WordCounts::from(expected));
    }

    #[test]
    fn tags_are_many_or_text() {
        let counts = count(&[" >>deu<< a", "\u{feff}>>fra<<a", "", "b"], &[], 1).unwrap();
        assert_eq!(
            counts.tags,
            BTreeSet::from([">>deu<<".to_owned(), ">>fra<<".to_owned()])
        );
        let expected = [("▁a", 2), ("▁b", 1)].map(|(word, count)| (word.to_owned(), count));
        assert_eq!(counts.words, WordCounts::from(expected));

        let mut lines = vec!["b"; 20];
        lines.push(">>a<<");
        let counts = count(&lines, &[], 1).unwrap();
        assert_eq!(counts.tags, BTreeSet::new());
        let expected = [("▁b", 20), ("▁>>a<", 1), ("<", 1)].map(|(word, count)| (word.to_owned(), count));
        assert_eq!(counts.words, WordCounts::from(expected));
    }
}
