//! Counting the words of a text. Learning uses nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::error::TextError;
use crate::language_tag;
use crate::pipeline::Form;
use crate::symbols::Symbols;

/// The most different words that are counted by default. Real text always brings new words, and nearly all of them are
/// rare: when there are more, the rarest ones are forgotten (lossy counting; Manku and Motwani 2002).
pub(crate) const MOST_WORDS: usize = 1 << 19;

/// The most words that subwords are learned from. Learning needs about a kilobyte for each.
const MOST_LEARNED_FROM: usize = 1 << 18;

/// The most language tags; no text has so many languages.
const MOST_TAGS: usize = 1 << 12;

/// Lines that are counted between two reads from the caller's iterator, and their bytes.
const BLOCK_LINES: usize = 1 << 14;
const BLOCK_BYTES: usize = 1 << 24;

/// Number of occurrences of each word. Ordered, so that results do not depend on hashing.
pub(crate) type WordCounts = BTreeMap<String, u64>;

/// Number of occurrences of each character.
pub(crate) type CharacterCounts = BTreeMap<char, u64>;

/// The settings for counting words.
pub(crate) struct Counter<'a> {
    /// Cuts lines into words.
    pub(crate) form: &'a Form,
    /// Symbols, which no word contains.
    pub(crate) symbols: &'a Symbols,
    /// Whether lines may begin with a language tag.
    pub(crate) finds_tags: bool,
    /// The most different words.
    pub(crate) most_words: usize,
}

/// The counts of a text.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Counts {
    /// The words of the text; in lines that begin with a language tag, only the words after the tag.
    pub(crate) words: WordCounts,
    /// The language tags at the beginning of lines, if the text has tags.
    pub(crate) tags: BTreeSet<String>,
    /// The characters of words that were forgotten.
    pub(crate) forgotten: CharacterCounts,
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
        for (character, count) in other.forgotten {
            *self.forgotten.entry(character).or_default() += count;
        }
    }
}

/// The most frequent words, as many as subwords are learned from. The characters of the others are added to
/// `forgotten`.
pub(crate) fn to_learn_from(words: WordCounts, forgotten: &mut CharacterCounts) -> WordCounts {
    match words.len() <= MOST_LEARNED_FROM {
        true => words,
        false => most_frequent(words.into_iter().collect(), MOST_LEARNED_FROM, forgotten)
            .into_iter()
            .collect(),
    }
}

/// The most frequent words. Among equally frequent ones, a hash chooses: text without spaces has lines for words, all
/// of them equally rare, and their order says something about their text.
fn most_frequent(mut words: Vec<(String, u64)>, most: usize, forgotten: &mut CharacterCounts) -> Vec<(String, u64)> {
    words.select_nth_unstable_by(most, |(a, a_count), (b, b_count)| {
        b_count
            .cmp(a_count)
            .then_with(|| hash(a).cmp(&hash(b)))
            .then_with(|| a.cmp(b))
    });
    for (word, count) in words.drain(most..) {
        for character in word.chars() {
            *forgotten.entry(character).or_default() += count;
        }
    }
    words
}

/// The hash FNV-1a, which is the same on every machine.
fn hash(word: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    word.bytes().fold(0xcbf2_9ce4_8422_2325, step)
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
        while self.tags.len() > MOST_TAGS {
            self.tags.pop_last();
        }
        add(&mut self.plain, other.plain);
        add(&mut self.behind, other.behind);
        add(&mut self.whole, other.whole);
    }
}

/// Forgets the rarest words if there are more than `most`, until there are half as many. Their characters are added to
/// `forgotten`.
fn forget_rare(counts: &mut HashMap<String, u64>, most: usize, forgotten: &mut CharacterCounts) {
    if counts.len() > most {
        let words = std::mem::take(counts).into_iter().collect();
        counts.extend(most_frequent(words, most / 2, forgotten));
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
        let mut forgotten: [CharacterCounts; 3] = Default::default();
        let mut lines = lines.into_iter();
        loop {
            let (mut block, mut bytes) = (Vec::new(), 0);
            while block.len() < BLOCK_LINES && bytes < BLOCK_BYTES {
                let Some(line) = lines.next() else { break };
                let line = line?.as_ref().to_owned();
                bytes += line.len();
                block.push(line);
            }
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
            let counted = [&mut all.plain, &mut all.behind, &mut all.whole];
            for (counts, forgotten) in counted.into_iter().zip(&mut forgotten) {
                forget_rare(counts, self.most_words, forgotten);
            }
        }
        let has_tags = all.tagged * LINES_PER_TAG >= all.lines;
        let tags = if has_tags { all.tags } else { BTreeSet::new() };
        let [mut characters, behind, whole] = forgotten;
        for (character, count) in if has_tags { behind } else { whole } {
            *characters.entry(character).or_default() += count;
        }
        let mut words = all.plain;
        add(&mut words, if has_tags { all.behind } else { all.whole });
        forget_rare(&mut words, self.most_words, &mut characters);
        Ok(Counts {
            words: words.into_iter().collect(),
            tags,
            forgotten: characters,
        })
    }

    fn count_block(&self, lines: &[String]) -> Result<Block, TextError> {
        let (mut block, mut buffer) = (Block::default(), String::new());
        for line in lines {
            let line = self.form.trimmed(line);
            // A blank line does not speak against language tags.
            block.lines += u64::from(!line.trim().is_empty());
            match self.tag(line) {
                Some(tag) => {
                    block.tagged += 1;
                    if !block.tags.contains(tag) && block.tags.len() < MOST_TAGS {
                        block.tags.insert(tag.to_owned());
                    }
                    self.add_words(&line[tag.len()..], &mut buffer, &mut block.behind)?;
                    self.add_words(line, &mut buffer, &mut block.whole)?;
                }
                None => self.add_words(line, &mut buffer, &mut block.plain)?,
            }
        }
        Ok(block)
    }

    fn tag<'a>(&self, line: &'a str) -> Option<&'a str> {
        self.finds_tags.then(|| language_tag::written(line)).flatten()
    }

    fn add_words(&self, line: &str, buffer: &mut String, counts: &mut HashMap<String, u64>) -> Result<(), TextError> {
        let visited = self
            .form
            .visit_words(&self.symbols.part(line), buffer, |word| match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => _ = counts.insert(word.to_owned(), 1),
            });
        visited.map_err(|error| TextError::Learn(error.to_string()))
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
            most_words: MOST_WORDS,
        };
        counter.count(lines.iter().map(Ok), &pool(threads))
    }

    #[test]
    fn rare_words_are_forgotten_when_there_are_too_many() {
        let counter = Counter {
            form: &Form::new(Kind::Bpe, Normalization::None, true).unwrap(),
            symbols: &Symbols::new(&[]),
            finds_tags: true,
            most_words: 1000,
        };
        // Word n occurs once in every nth line; beside it there is a new word.
        let lines: Vec<String> = (1..60_000_u64)
            .map(|line| {
                let frequent = (1..20).filter(|n| line.is_multiple_of(*n)).map(|n| format!("w{n}"));
                frequent.chain([format!("x{line}")]).collect::<Vec<_>>().join(" ")
            })
            .collect();
        let one = counter.count(lines.iter().map(Ok), &pool(1)).unwrap();
        assert_eq!(one, counter.count(lines.iter().map(Ok), &pool(3)).unwrap());
        // Frequent words were counted from the beginning on, and not one occurrence is missing.
        for n in 1..20 {
            assert_eq!(one.words[&format!("▁w{n}")], 59_999 / n, "{n}");
        }
        assert!((19..=1000).contains(&one.words.len()), "{}", one.words.len());
        // Of equally rare words, half of the limit stays, from everywhere; and all characters are known.
        let equal: Vec<String> = (0..3000).map(|n| format!("x{n:04}")).collect();
        let found = counter.count(equal.iter().map(Ok), &pool(2)).unwrap();
        assert_eq!(found.words.len(), 500);
        let late = found.words.keys().filter(|word| word.as_str() >= "▁x1500").count();
        assert!((200..300).contains(&late), "{late}");
        assert_eq!(found.forgotten[&'x'], 2500);
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
