//! Encoded pairs, in memory or in files, that are read by their numbers.

use std::fmt;
use std::ops::Range;

use crate::cuts::Cuts;
use crate::error::DataError;
use crate::word_alignments::Link;

/// A view of one encoded pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The number, from 0, of the pair's line among all lines of all corpora in their order, before any filter. It is
    /// the same with other filters and in every epoch, so random numbers can be keyed by it.
    pub id: u64,
    /// The source tokens, the last of them `</s>`.
    pub source: &'a [u32],
    /// The target tokens, the last of them `</s>`.
    pub target: &'a [u32],
    /// Links between the words of both sides, if there are word alignments.
    pub links: &'a [Link],
}

/// One of the corpora of a [`PairSource`].
#[derive(Debug, Clone, PartialEq)]
pub struct PartOfPairs {
    /// The numbers of its pairs.
    pub pairs: Range<usize>,
    /// How often an epoch takes each of them; see [`crate::CorpusFiles::weight`].
    pub weight: f64,
}

/// Encoded pairs of one or more corpora, numbered from 0. A [`crate::Sampler`] needs nothing else.
pub trait PairSource: fmt::Debug + Send + Sync {
    /// The corpora, in order.
    fn parts(&self) -> Vec<PartOfPairs>;

    /// How the pairs are cut into tokens.
    fn cuts(&self) -> &Cuts;

    /// Reads pairs by their numbers and passes them on in the order of `indices`. Ascending numbers are read fastest.
    ///
    /// # Errors
    /// When the pairs are in a file that cannot be read or is damaged.
    ///
    /// # Panics
    /// If there is no pair of such a number, as for a slice.
    fn read(&self, indices: &[usize], visit: &mut dyn FnMut(Pair<'_>)) -> Result<(), DataError>;

    /// The number of pairs.
    fn pair_count(&self) -> usize {
        self.parts().last().map_or(0, |part| part.pairs.end)
    }
}
