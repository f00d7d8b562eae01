//! The alphabet: the characters that get a piece of their own.

use std::collections::BTreeSet;

use crate::pipeline::SPACE;
use crate::symbols::NUL;
use crate::words::{CharacterCounts, WordCounts};

/// Longest stretch of text, in characters, that learning looks at. Without this limit, text without spaces would give
/// words of any length. Learning needs quadratic time for them and finds nothing more.
const LONGEST_STRETCH: usize = 256;

/// The characters that get a piece, in code point order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Alphabet(BTreeSet<char>);

impl Alphabet {
    /// Chooses the most frequent characters until they cover this share of the text; among equally frequent characters,
    /// lower code points come first. `required` characters and `▁` are always in the alphabet and do not count. NUL is
    /// never in it: SentencePiece has no piece for it.
    ///
    /// `forgotten` has the characters of further words.
    pub(crate) fn choose(words: &WordCounts, forgotten: &CharacterCounts, coverage: f64, required: &[char]) -> Self {
        let mut counts = forgotten.clone();
        for (word, count) in words {
            for character in word.chars() {
                *counts.entry(character).or_default() += count;
            }
        }
        counts.retain(|character, _| ![SPACE, NUL].contains(character));
        let total: u64 = counts.values().sum();
        let mut ranked: Vec<(char, u64)> = counts.into_iter().collect();
        ranked.sort_by_key(|&(character, count)| (std::cmp::Reverse(count), character));

        let mut kept: BTreeSet<char> = required.iter().copied().collect();
        kept.insert(SPACE);
        let mut covered = 0;
        for (character, count) in ranked {
            if coverage < 1.0 && covered as f64 >= coverage * total as f64 {
                break;
            }
            covered += count;
            kept.insert(character);
        }
        Self(kept)
    }

    /// Number of characters.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The characters in code point order.
    pub(crate) fn characters(&self) -> impl Iterator<Item = char> + '_ {
        self.0.iter().copied()
    }

    /// The stretches of the words that this alphabet can spell. A character outside the alphabet separates two
    /// stretches, as `<unk>` or bytes do in encoding.
    pub(crate) fn stretches(&self, words: &WordCounts) -> WordCounts {
        let mut stretches = WordCounts::new();
        for (word, count) in words {
            for known in word.split(|character| !self.0.contains(&character)) {
                let mut rest = known;
                while !rest.is_empty() {
                    let end = rest
                        .char_indices()
                        .nth(LONGEST_STRETCH)
                        .map_or(rest.len(), |(at, _)| at);
                    let (stretch, after) = rest.split_at(end);
                    *stretches.entry(stretch.to_owned()).or_default() += count;
                    rest = after;
                }
            }
        }
        stretches
    }
}

/// Counts small enough that their sum over all characters stays below 2^31: the learners of the `tokenizers` library
/// add them up in 32 bits. The counts of smaller texts do not change. In larger texts, all counts are divided by the
/// same number, and none becomes zero.
pub(crate) fn small_counts(stretches: &WordCounts) -> Vec<(&str, u32)> {
    const LIMIT: u64 = i32::MAX as u64;
    let total: u64 = stretches
        .iter()
        .map(|(stretch, count)| stretch.chars().count() as u64 * count)
        .sum();
    let divisor = total / LIMIT + 1;
    stretches
        .iter()
        .map(|(stretch, count)| {
            (
                stretch.as_str(),
                u32::try_from(count / divisor).unwrap_or(u32::MAX).max(1),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(pairs: &[(&str, u64)]) -> WordCounts {
        pairs.iter().map(|&(word, count)| (word.to_owned(), count)).collect()
    }

    fn text(alphabet: &Alphabet) -> String {
        alphabet.characters().collect()
    }

    #[test]
    fn full_coverage_keeps_every_character() {
        let words = words(&[("▁ab", 1000), ("▁z", 1)]);
        assert_eq!(
            text(&Alphabet::choose(&words, &Default::default(), 1.0, &['<'])),
            "<abz▁"
        );
    }

    #[test]
    fn nul_is_no_character() {
        let words = words(&[("▁a\0b", 5)]);
        let alphabet = Alphabet::choose(&words, &Default::default(), 1.0, &[]);
        assert_eq!(text(&alphabet), "ab▁");
        let expected = WordCounts::from([("▁a".to_owned(), 5), ("b".to_owned(), 5)]);
        assert_eq!(alphabet.stretches(&words), expected);
    }

    #[test]
    fn the_rarest_characters_go_first() {
        // 60 a, 30 b, 5 c, 5 d: at 90% a and b suffice; at 91% c comes before d.
        let words = words(&[("▁a", 60), ("▁b", 30), ("▁c", 5), ("▁d", 5)]);
        assert_eq!(text(&Alphabet::choose(&words, &Default::default(), 0.9, &[])), "ab▁");
        assert_eq!(text(&Alphabet::choose(&words, &Default::default(), 0.91, &[])), "abc▁");
    }

    #[test]
    fn characters_outside_the_alphabet_part_the_words() {
        let words = words(&[("▁axb", 2), ("▁a", 3), ("x", 1)]);
        let alphabet = Alphabet(['▁', 'a', 'b'].into());
        let expected = WordCounts::from([("▁a".to_owned(), 5), ("b".to_owned(), 2)]);
        assert_eq!(alphabet.stretches(&words), expected);
    }

    #[test]
    fn long_words_are_cut() {
        let words = words(&[("é".repeat(600).as_str(), 1)]);
        let stretches = Alphabet(['é'].into()).stretches(&words);
        let expected = WordCounts::from([("é".repeat(256), 2), ("é".repeat(88), 1)]);
        assert_eq!(stretches, expected);
    }

    #[test]
    fn huge_counts_are_scaled_down_together() {
        let words = words(&[("aaaa", 3 << 30), ("b", 2 << 30), ("c", 1)]);
        let small = small_counts(&words);
        let total: u64 = small
            .iter()
            .map(|(word, count)| word.len() as u64 * u64::from(*count))
            .sum();
        assert!(total <= i32::MAX as u64 + 1, "{total}");
        assert_eq!(small[2], ("c", 1));
        let ratio = f64::from(small[0].1) / f64::from(small[1].1);
        assert!((ratio - 1.5).abs() < 1e-6, "{ratio}");
    }
}
