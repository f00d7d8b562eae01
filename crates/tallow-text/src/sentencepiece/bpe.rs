//! Cuts a text by merging neighbours, the pair with the highest score first.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

use super::trie::Trie;
use super::{Piece, PieceType};

/// Follows `bpe::Model` of SentencePiece 0.2.3.
#[derive(Debug)]
pub(super) struct Bpe {
    /// The pieces that a pair may become.
    pieces: HashMap<String, u32>,
    scores: Vec<f32>,
    /// Marks pieces that merging passes through but does not end with.
    unused: Vec<bool>,
}

/// A stretch of the text and its neighbours. An empty stretch has been merged into the one before it.
struct Symbol {
    range: Range<usize>,
    before: Option<usize>,
    after: Option<usize>,
    /// The user defined this piece: it is not merged.
    frozen: bool,
}

/// Two neighbours that can become a piece.
struct Pair {
    left: usize,
    right: usize,
    score: f32,
    /// Length of both in bytes. If either has grown since, the pair is out of date.
    size: usize,
}

impl Ord for Pair {
    /// The greatest pair is merged first: the one with the highest score, and of equals the leftmost.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

/// The two halves of each unused piece that was merged in a text.
type Halves = HashMap<Range<usize>, (Range<usize>, Range<usize>)>;

impl Bpe {
    pub(super) fn new(pieces: &[Piece]) -> Self {
        let mergeable = |kind| matches!(kind, PieceType::Normal | PieceType::UserDefined | PieceType::Unused);
        let entries = pieces.iter().zip(0u32..).filter(|(piece, _)| mergeable(piece.kind));
        Self {
            pieces: entries.map(|(piece, id)| (piece.text.clone(), id)).collect(),
            scores: pieces.iter().map(|piece| piece.score).collect(),
            unused: pieces.iter().map(|piece| piece.kind == PieceType::Unused).collect(),
        }
    }

    /// The places of the pieces of a text. Pieces of `protected` are not cut.
    pub(super) fn cut(&self, text: &str, protected: &Trie) -> Vec<Range<usize>> {
        let mut symbols: Vec<Symbol> = Vec::new();
        let mut start = 0;
        while let Some(character) = text[start..].chars().next() {
            let found = protected.longest(&text[start..]);
            let end = start + found.map_or(character.len_utf8(), |(length, _)| length);
            let index = symbols.len();
            symbols.push(Symbol {
                range: start..end,
                before: index.checked_sub(1),
                after: (end < text.len()).then_some(index + 1),
                frozen: found.is_some(),
            });
            start = end;
        }
        let mut pairs = BinaryHeap::new();
        let mut halves = Halves::new();
        let consider = |pairs: &mut BinaryHeap<Pair>, halves: &mut Halves, symbols: &[Symbol], left: usize| {
            let Some(right) = symbols[left].after else { return };
            if symbols[left].frozen || symbols[right].frozen {
                return;
            }
            let (first, second) = (symbols[left].range.clone(), symbols[right].range.clone());
            let both = first.start..second.end;
            if let Some(&id) = self.pieces.get(&text[both.clone()]) {
                pairs.push(Pair {
                    left,
                    right,
                    score: self.scores[id as usize],
                    size: both.len(),
                });
                if self.unused[id as usize] {
                    halves.insert(both, (first, second));
                }
            }
        };
        for left in 0..symbols.len() {
            consider(&mut pairs, &mut halves, &symbols, left);
        }
        while let Some(Pair { left, right, size, .. }) = pairs.pop() {
            let (first, second) = (symbols[left].range.len(), symbols[right].range.len());
            if first == 0 || second == 0 || first + second != size {
                continue;
            }
            symbols[left].range.end = symbols[right].range.end;
            symbols[right].range.end = symbols[right].range.start;
            let after = symbols[right].after;
            symbols[left].after = after;
            if let Some(after) = after {
                symbols[after].before = Some(left);
            }
            if let Some(before) = symbols[left].before {
                consider(&mut pairs, &mut halves, &symbols, before);
            }
            consider(&mut pairs, &mut halves, &symbols, left);
        }
        let mut cut = Vec::new();
        for symbol in symbols.into_iter().filter(|symbol| !symbol.range.is_empty()) {
            self.split_unused(text, symbol.range, &halves, &mut cut);
        }
        cut
    }

    /// Whether merging does not end with this piece.
    pub(super) fn is_unused(&self, id: u32) -> bool {
        self.unused[id as usize]
    }

    /// Undoes the merges whose result is an unused piece.
    fn split_unused(&self, text: &str, range: Range<usize>, halves: &Halves, cut: &mut Vec<Range<usize>>) {
        let mut open = vec![range];
        while let Some(range) = open.pop() {
            let id = self.pieces.get(&text[range.clone()]);
            let is_unused = id.is_some_and(|id| self.is_unused(*id));
            match halves.get(&range).filter(|_| is_unused) {
                Some((left, right)) => open.extend([right.clone(), left.clone()]),
                None => cut.push(range),
            }
        }
    }
}
