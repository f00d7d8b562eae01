//! The most probable cut of a text under a unigram language model.

use std::ops::Range;

use super::trie::Trie;
use super::{Piece, PieceType};

/// An unknown character is less probable than the least probable piece by this many nats.
const UNKNOWN_PENALTY: f32 = 10.0;

/// Score that a piece defined by the user gets for each byte but its first.
const USER_DEFINED_BONUS: f32 = 0.1;

/// Follows `unigram::Model` of SentencePiece 0.2.3, including its precision. If two cuts differ only by rounding, its
/// sum of f32 decides.
#[derive(Debug)]
pub(super) struct Unigram {
    trie: Trie,
    /// The score of each piece. A piece defined by the user has none here, because its score depends on its length.
    scores: Vec<Option<f32>>,
    unknown: u32,
    unknown_score: f32,
}

/// The best way to reach a place in the text.
#[derive(Clone, Copy)]
struct Arrival {
    score: f32,
    start: usize,
    id: u32,
}

impl Unigram {
    pub(super) fn new(pieces: &[Piece], unknown: u32) -> Self {
        let of_kind = |kind: PieceType| pieces.iter().filter(move |piece| piece.kind == kind);
        let lowest = of_kind(PieceType::Normal)
            .map(|piece| piece.score)
            .fold(f32::MAX, f32::min);
        let usable = |kind| matches!(kind, PieceType::Normal | PieceType::UserDefined);
        let entries = pieces.iter().zip(0u32..).filter(|(piece, _)| usable(piece.kind));
        Self {
            trie: Trie::new(entries.map(|(piece, id)| (piece.text.as_str(), id))),
            scores: pieces
                .iter()
                .map(|piece| (piece.kind != PieceType::UserDefined).then_some(piece.score))
                .collect(),
            unknown,
            unknown_score: lowest - UNKNOWN_PENALTY,
        }
    }

    /// The places and ids of the pieces of a text.
    pub(super) fn cut(&self, text: &str) -> Vec<(Range<usize>, u32)> {
        let bytes = text.as_bytes();
        let mut arrivals: Vec<Option<Arrival>> = vec![None; bytes.len() + 1];
        let mut start = 0;
        while let Some(character) = text[start..].chars().next() {
            let width = character.len_utf8();
            let here = arrivals[start].map_or(0.0, |arrival| arrival.score);
            let mut whole_character = false;
            let mut arrive = |end: usize, score: f32, id: u32| {
                if arrivals[end].is_none_or(|arrival| score > arrival.score) {
                    arrivals[end] = Some(Arrival { score, start, id });
                }
            };
            let mut node = Trie::ROOT;
            for (end, byte) in (start + 1..).zip(&bytes[start..]) {
                let Some(next) = self.trie.step(node, *byte) else { break };
                node = next;
                if let Some(id) = self.trie.value(node) {
                    let length = end - start;
                    let score = match self.scores[id as usize] {
                        Some(score) => score,
                        None => USER_DEFINED_BONUS * (length - 1) as f32,
                    };
                    arrive(end, score + here, id);
                    whole_character |= length == width;
                }
            }
            if !whole_character {
                arrive(start + width, self.unknown_score + here, self.unknown);
            }
            start += width;
        }
        let mut cut = Vec::new();
        let mut end = bytes.len();
        while let Some(Arrival { start, id, .. }) = arrivals[end] {
            cut.push((start..end, id));
            end = start;
        }
        cut.reverse();
        cut
    }
}
