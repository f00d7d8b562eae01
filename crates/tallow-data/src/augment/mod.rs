//! Training pairs in the forms in which people write: capitals, typing errors, other punctuation, addresses and emoji.
//!
//! A corpus of clean sentences teaches nothing about such text. So some pairs of every epoch are changed, each change
//! by its own probability. Random numbers are keyed by seed, epoch and pair, so that a run goes on with the same
//! changes.

mod case;
mod placeholders;
mod punctuation;
mod typos;

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::shuffle::{Purpose, SplitMix64};

/// The changes of training pairs, each with the probability that a pair has it: `data.augment`. 0 switches a change
/// off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Both sides in capitals. Default: 0.05.
    pub upper_case: f64,
    /// Both sides with a capital at the beginning of each word. Default: 0.05.
    pub title_case: f64,
    /// The source with typing errors: letters swapped, left out, doubled, or replaced by neighbours on the keyboard.
    /// Default: 0.05.
    pub typos: f64,
    /// The final mark of both sides missing or another one, or the source without commas or with other quotation marks
    /// and dashes. Default: 0.05.
    pub punctuation: f64,
    /// Both sides with the same address, number, tag, placeholder or emoji, made up at random, so that the model learns
    /// to copy. Default: 0.1.
    pub placeholders: f64,
    /// The pair and up to three that follow it in the random order of the epoch as one line. Default: 0.05.
    pub merge: f64,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            upper_case: 0.05,
            title_case: 0.05,
            typos: 0.05,
            punctuation: 0.05,
            placeholders: 0.1,
            merge: 0.05,
        }
    }
}

/// The most pairs that are joined to another one.
const MOST_MERGED: u64 = 3;

/// The numbers of the changes in keys of random numbers: never change or reuse one.
#[derive(Clone, Copy)]
enum Change {
    Case = 1,
    Typos = 2,
    Punctuation = 3,
    Placeholders = 4,
    Merge = 5,
    Vocabulary = 6,
}

impl AugmentConfig {
    /// All faults of the values, each beginning with its key below `data.augment`.
    pub(crate) fn faults(&self) -> Vec<String> {
        let Self {
            upper_case,
            title_case,
            typos,
            punctuation,
            placeholders,
            merge,
        } = *self;
        let probabilities = [
            ("upper_case", upper_case),
            ("title_case", title_case),
            ("typos", typos),
            ("punctuation", punctuation),
            ("placeholders", placeholders),
            ("merge", merge),
        ];
        let wrong = probabilities.iter().filter(|(_, value)| !(0.0..=1.0).contains(value));
        let mut faults: Vec<String> = wrong
            .map(|(key, value)| format!("{key}: {value} must be a probability, from 0 to 1"))
            .collect();
        if faults.is_empty() && upper_case + title_case > 1.0 {
            faults.push(format!(
                "title_case: {title_case} and upper_case, {upper_case}, exclude each other and must not be above 1 together"
            ));
        }
        faults
    }

    /// The changed sides of a pair, or `None` if it stays as it is. Equal arguments give equal results.
    pub fn changed(&self, source: &str, target: &str, seed: u64, epoch: u64, id: u64) -> Option<[String; 2]> {
        self.draws(seed, epoch, id).apply(source, target)
    }

    /// What a pair is in for.
    pub(crate) fn draws(&self, seed: u64, epoch: u64, id: u64) -> Draws {
        let generator = |change: Change| SplitMix64::keyed(seed, Purpose::Augmentation, &[epoch, id, change as u64]);
        let drawn = |change: Change, probability: f64| {
            let mut generator = generator(change);
            (generator.uniform() < probability).then_some(generator)
        };
        let case = generator(Change::Case).uniform();
        Draws {
            is_upper: case < self.upper_case,
            is_title: case >= self.upper_case && case < self.upper_case + self.title_case,
            typos: drawn(Change::Typos, self.typos),
            punctuation: drawn(Change::Punctuation, self.punctuation),
            placeholders: drawn(Change::Placeholders, self.placeholders),
        }
    }

    /// The shares of lines in capitals and with a capital for each word, if there are any.
    pub fn cased_shares(&self) -> Option<[f64; 2]> {
        let shares = [self.upper_case, self.title_case];
        (shares != [0.0, 0.0]).then_some(shares)
    }

    /// A line of a corpus for learning a vocabulary: in capitals as often as an epoch has it so, behind its prefix. A
    /// vocabulary of other text would spell capitals letter by letter.
    pub fn cased(&self, line: &str, prefix: Option<&str>, seed: u64, corpus: u64, number: u64) -> String {
        let keys = [corpus, number, Change::Vocabulary as u64];
        let drawn = SplitMix64::keyed(seed, Purpose::Augmentation, &keys).uniform();
        let bare = prefix.and_then(|prefix| line.strip_prefix(prefix)).unwrap_or(line);
        let before = &line[..line.len() - bare.len()];
        if drawn < self.upper_case {
            format!("{before}{}", case::upper(bare))
        } else if drawn < self.upper_case + self.title_case {
            format!("{before}{}", case::title(bare))
        } else {
            line.to_owned()
        }
    }

    /// How many pairs are joined to this one, if there are so many.
    pub(crate) fn merged(&self, seed: u64, epoch: u64, id: u64) -> usize {
        let mut generator = SplitMix64::keyed(seed, Purpose::Augmentation, &[epoch, id, Change::Merge as u64]);
        match generator.uniform() < self.merge {
            true => 1 + generator.below(MOST_MERGED) as usize,
            false => 0,
        }
    }
}

/// The changes that were drawn for a pair, with their random numbers.
pub(crate) struct Draws {
    is_upper: bool,
    is_title: bool,
    typos: Option<SplitMix64>,
    punctuation: Option<SplitMix64>,
    placeholders: Option<SplitMix64>,
}

impl Draws {
    /// Whether the pair stays as it is.
    pub(crate) fn is_none(&self) -> bool {
        !self.is_upper
            && !self.is_title
            && self.typos.is_none()
            && self.punctuation.is_none()
            && self.placeholders.is_none()
    }

    /// The changed sides, or `None` if nothing of them could be changed.
    pub(crate) fn apply(self, source: &str, target: &str) -> Option<[String; 2]> {
        let mut sides = [source.to_owned(), target.to_owned()];
        if self.is_upper {
            sides = sides.map(|side| case::upper(&side));
        } else if self.is_title {
            sides = sides.map(|side| case::title(&side));
        }
        if let Some(mut generator) = self.typos {
            sides[0] = typos::with_typos(&sides[0], &mut generator);
        }
        if let Some(mut generator) = self.punctuation {
            punctuation::change(&mut sides, &mut generator);
        }
        if let Some(mut generator) = self.placeholders {
            placeholders::insert(&mut sides, &mut generator);
        }
        (sides[0] != source || sides[1] != target).then_some(sides)
    }
}

/// The text of tokens without `</s>`, or `None` if they do not stand for text.
pub type ToText = Box<dyn Fn(&[u32]) -> Option<String> + Send + Sync>;
/// The tokens of text, without `</s>`.
pub type ToTokens = Box<dyn Fn(&str) -> Option<Vec<u32>> + Send + Sync>;

/// How the pairs of a source are changed. The caller knows the tokenizers.
pub struct Augmentation {
    /// The changes.
    pub config: AugmentConfig,
    /// The text of each side.
    pub to_text: [ToText; 2],
    /// The tokens of each side.
    pub to_tokens: [ToTokens; 2],
    /// Of each corpus, the numbers of its pairs and what every line of a side begins with, such as `>>de<<`. A prefix
    /// is not changed.
    pub prefixes: Vec<(Range<usize>, [Option<String>; 2])>,
}

impl fmt::Debug for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Augmentation")
            .field("config", &self.config)
            .field("prefixes", &self.prefixes)
            .finish_non_exhaustive()
    }
}

/// A pair with its changes.
pub(crate) struct Changed {
    /// The tokens of both sides, without `</s>`.
    pub(crate) sides: [Vec<u32>; 2],
    /// Whether each side has as many words as before, so that links between words still hold.
    pub(crate) keeps_words: bool,
}

impl Augmentation {
    /// The tokens, without `</s>`, of the changed pair of this number; `None` if it stays as it is.
    pub(crate) fn change(&self, number: usize, sides: [&[u32]; 2], draws: Draws) -> Option<Changed> {
        if draws.is_none() {
            return None;
        }
        let part = self.part_of(number)?;
        let text = |side: usize| {
            let text = (self.to_text[side])(self.without_prefix(part, side, sides[side])?)?;
            // Text that does not come back as it was could not be told from a change.
            (self.tokens(part, side, &text)? == sides[side]).then_some(text)
        };
        let texts = [text(0)?, text(1)?];
        let changed = draws.apply(&texts[0], &texts[1])?;
        let words = |text: &String| text.split_whitespace().count();
        let keeps_words = changed.iter().map(words).eq(texts.iter().map(words));
        let tokens = [self.tokens(part, 0, &changed[0])?, self.tokens(part, 1, &changed[1])?];
        Some(Changed {
            sides: tokens,
            keeps_words,
        })
    }

    /// The tokens of a line of a corpus, behind its prefix.
    fn tokens(&self, part: usize, side: usize, text: &str) -> Option<Vec<u32>> {
        match &self.prefixes[part].1[side] {
            Some(prefix) => (self.to_tokens[side])(&format!("{prefix} {text}")),
            None => (self.to_tokens[side])(text),
        }
    }

    /// The corpus of a pair.
    pub(crate) fn part_of(&self, number: usize) -> Option<usize> {
        self.prefixes.iter().position(|(pairs, _)| pairs.contains(&number))
    }

    /// The words of the prefixes of a corpus.
    pub(crate) fn prefix_words(&self, part: usize) -> [u32; 2] {
        let count = |prefix: &Option<String>| {
            prefix
                .as_ref()
                .map_or(0, |prefix| prefix.split_whitespace().count() as u32)
        };
        self.prefixes[part].1.each_ref().map(count)
    }

    /// The tokens of a side without the prefix of its corpus; `None` if it does not begin with these tokens.
    pub(crate) fn without_prefix<'a>(&self, part: usize, side: usize, tokens: &'a [u32]) -> Option<&'a [u32]> {
        match &self.prefixes[part].1[side] {
            None => Some(tokens),
            Some(prefix) => tokens.strip_prefix((self.to_tokens[side])(prefix)?.as_slice()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: AugmentConfig = AugmentConfig {
        upper_case: 0.0,
        title_case: 0.0,
        typos: 0.0,
        punctuation: 0.0,
        placeholders: 0.0,
        merge: 0.0,
    };

    #[test]
    fn changes_come_as_often_as_their_probability() {
        let (source, target) = ("a red house, and no tree.", "ein rotes Haus und kein Baum.");
        let count = |config: &AugmentConfig| {
            (0..4000)
                .filter(|id| config.changed(source, target, 1, 0, *id).is_some())
                .count()
        };
        assert_eq!(count(&NONE), 0);
        let p = 0.25;
        let of_each = [
            ("upper_case", AugmentConfig { upper_case: p, ..NONE }),
            ("title_case", AugmentConfig { title_case: p, ..NONE }),
            ("typos", AugmentConfig { typos: p, ..NONE }),
            ("punctuation", AugmentConfig { punctuation: p, ..NONE }),
            (
                "placeholders",
                AugmentConfig {
                    placeholders: p,
                    ..NONE
                },
            ),
        ];
        for (key, config) in of_each {
            let found = count(&config);
            assert!((900..1100).contains(&found), "{key}: {found}");
        }
        let config = AugmentConfig { merge: 0.25, ..NONE };
        let merged: Vec<usize> = (0..4000).map(|id| config.merged(1, 0, id)).collect();
        let some = merged.iter().filter(|count| **count > 0).count();
        assert!((900..1100).contains(&some) && merged.iter().max() == Some(&3), "{some}");
    }

    #[test]
    fn changes_depend_on_seed_epoch_and_pair_alone() {
        let config = AugmentConfig {
            typos: 1.0,
            placeholders: 1.0,
            ..AugmentConfig::default()
        };
        let changed = |seed, epoch, id| config.changed("the quick brown fox", "der Fuchs", seed, epoch, id);
        assert_eq!(changed(1, 2, 3), changed(1, 2, 3));
        for other in [changed(2, 2, 3), changed(1, 3, 3), changed(1, 2, 4)] {
            assert_ne!(changed(1, 2, 3), other);
        }
    }

    #[test]
    fn vocabularies_see_capitals_as_often_as_epochs() {
        let config = AugmentConfig {
            upper_case: 0.25,
            title_case: 0.25,
            ..NONE
        };
        let lines = (0..4000).map(|number| config.cased("<a> see it", Some("<a>"), 1, 0, number));
        let counts = lines.fold([0; 3], |[upper, title, same], line| match line.as_str() {
            "<a> SEE IT" => [upper + 1, title, same],
            "<a> See It" => [upper, title + 1, same],
            "<a> see it" => [upper, title, same + 1],
            other => panic!("{other}"),
        });
        assert!(
            counts[..2].iter().all(|count| (900..1100).contains(count)),
            "{counts:?}"
        );
        assert_eq!((NONE.cased_shares(), config.cased_shares()), (None, Some([0.25, 0.25])));
    }

    #[test]
    fn faults_name_their_keys() {
        let config = AugmentConfig {
            typos: 1.5,
            merge: f64::NAN,
            ..NONE
        };
        assert_eq!(
            config.faults(),
            [
                "typos: 1.5 must be a probability, from 0 to 1",
                "merge: NaN must be a probability, from 0 to 1"
            ]
        );
        let config = AugmentConfig {
            upper_case: 0.6,
            title_case: 0.6,
            ..NONE
        };
        assert!(config.faults()[0].starts_with("title_case: 0.6"));
        assert_eq!(AugmentConfig::default().faults(), Vec::<String>::new());
    }
}
