//! How the vocabularies cut the text.

use super::pieces_of;
use serde::Serialize;
use tallow_text::{Cut, RankedCut, Tokenizer};

/// The most steps of merging that are told of a line.
const MOST_STEPS: usize = 2000;

/// The way from a text to its pieces.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CutView {
    /// BPE: for each word, its pieces before the first merge, after it, and so on.
    Merges(Vec<Vec<Vec<String>>>),
    /// A unigram model: for each stretch of text, the best cuts and their log-probabilities in nats, best first.
    Best(Vec<Vec<RankedPieces>>),
    /// The vocabulary does not tell, or the text is long.
    Unknown,
}

/// A cut and its log-probability.
#[derive(Clone, Debug, Serialize)]
pub struct RankedPieces {
    /// The pieces.
    pub pieces: Vec<String>,
    /// The sum of their log-probabilities, in nats.
    pub log_probability: f64,
}

impl CutView {
    /// The way to these tokens, the last of which may be `</s>`.
    pub(super) fn new(tokenizer: &Tokenizer, tokens: &[u32], eos: u32) -> Self {
        let text = tokens.strip_suffix(&[eos]).unwrap_or(tokens);
        let names = |ids: &Vec<u32>| pieces_of(tokenizer, ids);
        match tokenizer.cut(text) {
            Cut::Merges(words) if words.iter().map(Vec::len).sum::<usize>() <= MOST_STEPS => {
                let word = |steps: &Vec<Vec<u32>>| steps.iter().map(names).collect();
                Self::Merges(words.iter().map(word).collect())
            }
            Cut::Best(runs) => {
                let ranked = |cut: &RankedCut| RankedPieces {
                    pieces: names(&cut.ids),
                    log_probability: cut.log_probability,
                };
                Self::Best(runs.iter().map(|run| run.iter().map(ranked).collect()).collect())
            }
            Cut::Merges(_) | Cut::Unknown => Self::Unknown,
        }
    }
}
