//! The edits of TER: edit distance after moving blocks of words. Each move counts as one edit.
//!
//! Finding the fewest edits with moves is NP-hard (Shapira and Storer 2002), so Tercom searches greedily. Of all blocks
//! that occur in the reference, it makes the move that lowers the edit distance most, and repeats this while it helps.
//! The number depends on the limits and on the order among equal moves, so both are those of sacreBLEU.

use std::ops::Range;

use crate::edit_matrix::{Edit, EditMatrix};

/// The longest block that is moved, in words.
const MAX_BLOCK: usize = 10;

/// Greatest distance between the starts of a block in hypothesis and reference, in words.
const MAX_DISTANCE: usize = 50;

/// Number of tried moves after which the search of one sentence ends.
const MAX_CANDIDATES: usize = 1000;

/// The number of edits (moves, insertions, deletions and substitutions) from `hypothesis` to `reference`. For a
/// reference without words, every word must be deleted.
pub(crate) fn count_edits(hypothesis: &[usize], reference: &[usize]) -> usize {
    if reference.is_empty() {
        return hypothesis.len();
    }
    let mut matrix = EditMatrix::new(hypothesis.to_vec(), reference);
    let mut moves = 0;
    let mut tried = 0;
    loop {
        let best = best_move(&matrix, &mut tried);
        // If the search has reached its limit, its best move is dropped, not made.
        let Some(best) = best.filter(|best| best.gain > 0 && tried < MAX_CANDIDATES) else {
            break;
        };
        matrix = EditMatrix::new(best.words, reference);
        moves += 1;
    }
    moves + matrix.distance() as usize
}

/// A block of words moved to another place.
#[derive(Debug)]
struct Move {
    /// Decrease of the edit distance.
    gain: i64,
    block: Range<usize>,
    target: usize,
    /// The hypothesis after the move.
    words: Vec<usize>,
}

impl Move {
    /// Whether this move is better than `other`: by its gain, then its length, then the earlier block, then the earlier
    /// target.
    fn precedes(&self, other: &Self) -> bool {
        let rank = |candidate: &Self| {
            let Range { start, end } = candidate.block;
            (
                candidate.gain,
                end - start,
                std::cmp::Reverse((start, candidate.target)),
            )
        };
        rank(self) > rank(other)
    }
}

/// The best move, or none if no block qualifies. Adds the number of moves that it tried to `tried`.
fn best_move(matrix: &EditMatrix<'_>, tried: &mut usize) -> Option<Move> {
    let alignment = Alignment::new(&matrix.edits());
    let mut best: Option<Move> = None;
    for_each_common_block(matrix.hypothesis(), matrix.reference(), |block, reference_start| {
        let reference_block = reference_start..reference_start + block.len();
        if !alignment.may_move(&block, &reference_block) {
            return true;
        }
        let mut previous = None;
        for target in alignment.targets(&reference_block) {
            if previous.replace(target) == Some(target) {
                continue;
            }
            let words = moved(matrix.hypothesis(), &block, target);
            let gain = i64::from(matrix.distance()) - i64::from(matrix.distance_of(&words));
            let candidate = Move {
                gain,
                block: block.clone(),
                target,
                words,
            };
            if best.as_ref().is_none_or(|best| candidate.precedes(best)) {
                best = Some(candidate);
            }
            *tried += 1;
        }
        *tried < MAX_CANDIDATES
    });
    best
}

/// The alignment of hypothesis and reference, and the words that are wrong.
struct Alignment {
    /// For each word of the reference, the number of hypothesis words up to and including its counterpart.
    hypothesis_ends: Vec<usize>,
    hypothesis_errors: Vec<bool>,
    reference_errors: Vec<bool>,
}

impl Alignment {
    fn new(edits: &[Edit]) -> Self {
        let mut alignment = Self {
            hypothesis_ends: Vec::new(),
            hypothesis_errors: Vec::new(),
            reference_errors: Vec::new(),
        };
        for &edit in edits {
            let error = edit != Edit::Keep;
            if edit != Edit::Insert {
                alignment.hypothesis_errors.push(error);
            }
            if edit != Edit::Delete {
                alignment.reference_errors.push(error);
                alignment.hypothesis_ends.push(alignment.hypothesis_errors.len());
            }
        }
        alignment
    }

    /// Whether it makes sense to move `block` of the hypothesis towards the equal `reference_block`. Each of the two
    /// must have a word that is wrong at its place, and the block must not move into itself.
    fn may_move(&self, block: &Range<usize>, reference_block: &Range<usize>) -> bool {
        let end = self.hypothesis_ends[reference_block.start];
        let into_itself = block.start < end && end <= block.end;
        self.hypothesis_errors[block.clone()].contains(&true)
            && self.reference_errors[reference_block.clone()].contains(&true)
            && !into_itself
    }

    /// The places to which a block may move: after the counterpart of the word before `reference_block`, and after the
    /// counterpart of each of its words.
    fn targets(&self, reference_block: &Range<usize>) -> impl Iterator<Item = usize> {
        let before = reference_block
            .start
            .checked_sub(1)
            .map_or(0, |word| self.hypothesis_ends[word]);
        std::iter::once(before).chain(self.hypothesis_ends[reference_block.clone()].iter().copied())
    }
}

/// Calls `visit(block of the hypothesis, start in the reference)` for every block that both have in common, until it
/// returns false. A longer block comes after the shorter ones at its beginning.
fn for_each_common_block(
    hypothesis: &[usize],
    reference: &[usize],
    mut visit: impl FnMut(Range<usize>, usize) -> bool,
) {
    for start in 0..hypothesis.len() {
        let near = start.saturating_sub(MAX_DISTANCE)..(start + MAX_DISTANCE + 1).min(reference.len());
        for reference_start in near {
            let pairs = hypothesis[start..]
                .iter()
                .zip(&reference[reference_start..])
                .take(MAX_BLOCK);
            let longest = pairs.take_while(|(word, other)| word == other).count();
            for length in 1..=longest {
                if !visit(start..start + length, reference_start) {
                    return;
                }
            }
        }
    }
}

/// `words` with `block` moved in front of the word at `target`. A target within the block moves the block to the right
/// by that many words.
fn moved(words: &[usize], block: &Range<usize>, target: usize) -> Vec<usize> {
    let mut moved = words.to_vec();
    if target < block.start {
        moved[target..block.end].rotate_right(block.len());
    } else {
        let end = if target > block.end {
            target
        } else {
            block.len() + target
        };
        moved[block.start..end.min(words.len())].rotate_left(block.len());
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_move_left_right_and_past_themselves() {
        let words = [0, 1, 2, 3, 4, 5];
        assert_eq!(moved(&words, &(3..5), 1), [0, 3, 4, 1, 2, 5]);
        assert_eq!(moved(&words, &(1..3), 5), [0, 3, 4, 1, 2, 5]);
        assert_eq!(moved(&words, &(1..3), 2), [0, 3, 1, 2, 4, 5]);
        assert_eq!(moved(&words, &(4..6), 5), words);
    }

    #[test]
    fn blocks_are_visited_from_short_to_long() {
        let mut blocks = Vec::new();
        for_each_common_block(&[7, 8, 9], &[8, 9, 7], |block, reference_start| {
            blocks.push((block, reference_start));
            true
        });
        assert_eq!(blocks, [(0..1, 2), (1..2, 0), (1..3, 0), (2..3, 1)]);
    }

    #[test]
    fn the_search_is_bounded() {
        // All words are equal: every block of up to ten words is common, but none has an error.
        assert_eq!(count_edits(&[0; 60], &[0; 90]), 30);
        assert_eq!(count_edits(&[0; 3], &[]), 3);
        assert_eq!(count_edits(&[], &[0; 3]), 3);
        // Time and memory do not grow with the product of the lengths.
        let words: Vec<usize> = (0..30_000).collect();
        assert_eq!(count_edits(&words, &words[1..]), 1);
    }
}
