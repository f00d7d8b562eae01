//! How the sentences of a corpus are cut into tokens when a batch is made of them: as usual, or anew in every epoch;
//! and which words the tokens belong to.

use std::fmt;

use crate::augment::Augmentation;
use crate::batch::Example;
use crate::pair_source::Pair;
use crate::shuffle::{Purpose, SplitMix64};
use crate::word_alignments::{WordsOf, token_links};

/// Cuts the tokens of one side of a pair, without `</s>`, in another way. The second argument draws numbers in [0, 1).
/// It must be the only source of randomness.
pub type Recut = Box<dyn Fn(&[u32], &mut dyn FnMut() -> f64) -> Vec<u32> + Send + Sync>;

/// The functions that cut the pairs of a corpus. Without any, every pair keeps its usual cut and has no links.
#[derive(Default)]
pub struct Cuts {
    recuts: Option<Recuts>,
    augmentation: Option<(Augmentation, Longest)>,
    words_of: Option<[WordsOf; 2]>,
}

/// The longest side, with `</s>`, that may result.
type Longest = usize;

/// The functions that cut pairs anew.
struct Recuts {
    sides: [Recut; 2],
    longest: Longest,
}

/// A pair as an epoch has it.
pub(crate) struct PairOfEpoch {
    /// The tokens of both sides, the last of them `</s>`.
    pub(crate) sides: [Vec<u32>; 2],
    /// Whether links between words still hold.
    pub(crate) keeps_links: bool,
}

impl Cuts {
    /// Lets every epoch of training cut the sentences anew, with one function for source sides and one for target sides
    /// (subword regularization). A side that would become longer than `longest` tokens, `</s>` included, keeps its
    /// usual cut.
    ///
    /// Only a [`crate::Sampler`] uses these functions, keyed by its seed, the epoch and [`Pair::id`].
    #[must_use]
    pub fn anew(self, source: Recut, target: Recut, longest: usize) -> Self {
        let sides = [source, target];
        Self {
            recuts: Some(Recuts { sides, longest }),
            ..self
        }
    }

    /// Lets every epoch of training change some of the pairs before they are cut. A pair of which a side would become
    /// longer than `longest` tokens, `</s>` included, stays as it is.
    ///
    /// Only a [`crate::Sampler`] changes pairs, keyed by its seed, the epoch and [`Pair::id`].
    #[must_use]
    pub fn augmented(self, augmentation: Augmentation, longest: usize) -> Self {
        Self {
            augmentation: Some((augmentation, longest)),
            ..self
        }
    }

    /// Gives the examples the links between their tokens, for pairs with word alignments. The functions return the
    /// words of tokens of either side.
    #[must_use]
    pub fn with_words(self, words_of_source: WordsOf, words_of_target: WordsOf) -> Self {
        Self {
            words_of: Some([words_of_source, words_of_target]),
            ..self
        }
    }

    /// The pair in its usual cut.
    pub fn usual(&self, pair: Pair<'_>) -> Example {
        let links = match &self.words_of {
            Some([source, target]) if !pair.links.is_empty() => token_links(
                pair.links,
                &source(without_end(pair.source)),
                &target(without_end(pair.target)),
            ),
            _ => Vec::new(),
        };
        Example {
            id: pair.id,
            source: pair.source.to_vec(),
            target: pair.target.to_vec(),
            links,
        }
    }

    /// Whether every epoch cuts or changes the pairs anew.
    pub(crate) fn are_anew(&self) -> bool {
        self.recuts.is_some() || self.augmentation.is_some()
    }

    /// The pair of this number as this epoch has it: changed and cut. It depends only on the seed of the run, the epoch
    /// and the pair.
    pub(crate) fn of_epoch(&self, number: usize, pair: Pair<'_>, seed: u64, epoch: u64) -> PairOfEpoch {
        let Some((sides, keeps_links)) = self.changed(number, pair, seed, epoch) else {
            return PairOfEpoch {
                sides: self.recut(pair, seed, epoch),
                keeps_links: true,
            };
        };
        let changed = Pair {
            source: &sides[0],
            target: &sides[1],
            ..pair
        };
        PairOfEpoch {
            sides: self.recut(changed, seed, epoch),
            keeps_links,
        }
    }

    /// The sides of a pair that this epoch changes, and whether links still hold.
    fn changed(&self, number: usize, pair: Pair<'_>, seed: u64, epoch: u64) -> Option<([Vec<u32>; 2], bool)> {
        let (augmentation, longest) = self.augmentation.as_ref()?;
        let draws = augmentation.config.draws(seed, epoch, pair.id);
        let sides = [without_end(pair.source), without_end(pair.target)];
        let changed = augmentation.change(number, sides, draws)?;
        let is_usable = |side: &Vec<u32>| !side.is_empty() && side.len() < *longest;
        if !changed.sides.iter().all(is_usable) {
            return None;
        }
        let mut sides = changed.sides;
        for (side, before) in sides.iter_mut().zip([pair.source, pair.target]) {
            side.extend(before.last());
        }
        Some((sides, changed.keeps_words))
    }

    /// How pairs are joined, and the longest side that may result, if an epoch does that.
    pub(crate) fn merging(&self) -> Option<(&Augmentation, Longest)> {
        let (augmentation, longest) = self.augmentation.as_ref()?;
        (augmentation.config.merge > 0.0).then_some((augmentation, *longest))
    }

    /// The number of words of each side; `None` without the functions that find them.
    pub(crate) fn word_counts(&self, sides: [&[u32]; 2]) -> Option<[u32; 2]> {
        let [source, target] = self.words_of.as_ref()?;
        let count = |words: Vec<u32>| words.last().map_or(0, |last| last + 1);
        Some([
            count(source(without_end(sides[0]))),
            count(target(without_end(sides[1]))),
        ])
    }

    fn recut(&self, pair: Pair<'_>, seed: u64, epoch: u64) -> [Vec<u32>; 2] {
        let side = |number: usize, tokens: &[u32]| {
            let (Some(recuts), Some((end, text))) = (&self.recuts, tokens.split_last()) else {
                return tokens.to_vec();
            };
            let mut generator = SplitMix64::keyed(seed, Purpose::Cuts, &[epoch, pair.id, number as u64]);
            let mut cut = recuts.sides[number](text, &mut || generator.uniform());
            if cut.is_empty() || cut.len() >= recuts.longest {
                return tokens.to_vec();
            }
            cut.push(*end);
            cut
        };
        [side(0, pair.source), side(1, pair.target)]
    }
}

impl fmt::Debug for Cuts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cuts")
            .field("augmentation", &self.augmentation)
            .field("longest", &self.recuts.as_ref().map(|recuts| recuts.longest))
            .field("knows_words", &self.words_of.is_some())
            .finish_non_exhaustive()
    }
}

/// The tokens of a side without `</s>`.
pub(crate) fn without_end(tokens: &[u32]) -> &[u32] {
    tokens.split_last().map_or(tokens, |(_, text)| text)
}

/// Whether the tokens of a line, without `</s>`, have as many words as the line itself.
pub fn has_words_of(words_of: &WordsOf, tokens: &[u32], line: &str) -> bool {
    let words = words_of(tokens).last().map_or(0, |last| *last as usize + 1);
    words == line.split_whitespace().count()
}
