//! How a vocabulary came to cut a text as it did.

use crate::regularization::{BpeDropout, Lattice, Vocabulary};
use crate::tokenizer::Tokenizer;

/// The number of cuts of a unigram model that are told.
const RIVALS: usize = 4;

/// The way to a cut.
#[derive(Clone, Debug, PartialEq)]
pub enum Cut {
    /// BPE: for each word, its pieces before the first merge, after it, and so on.
    Merges(Vec<Vec<Vec<u32>>>),
    /// A unigram model: for each stretch of text, the cuts of the highest log-probabilities, best first.
    Best(Vec<Vec<RankedCut>>),
    /// The vocabulary tells nothing.
    Unknown,
}

/// A cut and its log-probability.
#[derive(Clone, Debug, PartialEq)]
pub struct RankedCut {
    /// The pieces.
    pub ids: Vec<u32>,
    /// The sum of their log-probabilities.
    pub log_probability: f64,
}

impl Tokenizer {
    /// The way to the cut of a line that gave these ids, which have no `</s>`: the merges of BPE (Sennrich et al.
    /// 2016), or the best cuts of a unigram model (Kudo 2018), the first of which is the cut itself. Pieces that are in
    /// no merge and in no model, such as bytes, stay as they are.
    pub fn cut(&self, ids: &[u32]) -> Cut {
        match Vocabulary::of(self) {
            Vocabulary::Bpe(merges) => Cut::Merges(BpeDropout::new(merges, 0.0).steps(ids)),
            Vocabulary::Unigram(pieces) => Cut::Best(Lattice::new(pieces, 1.0).best(ids, RIVALS)),
            Vocabulary::Other => Cut::Unknown,
        }
    }
}
