//! Byte-pair encoding: learning pieces, and the merges that cut text into them.

use std::collections::HashSet;

use rayon::ThreadPool;
use tokenizers::models::bpe::{BPE, BpeTrainer};

use crate::alphabet::{Alphabet, small_counts};
use crate::error::TextError;
use crate::words::WordCounts;

/// Learns `size` pieces: the characters of the alphabet in code point order, then merged pieces in the order in which
/// they were found. The result has fewer pieces when every stretch has become one piece.
///
/// The most frequent pair is merged first; among equally frequent pairs, the one whose parts were found earlier.
///
/// # Errors
/// If the learner of the `tokenizers` library fails.
pub(crate) fn learn(
    stretches: &WordCounts,
    alphabet: &Alphabet,
    size: usize,
    pool: &ThreadPool,
) -> Result<Vec<String>, TextError> {
    let counts = small_counts(stretches)
        .into_iter()
        .map(|(stretch, count)| (stretch.into(), u64::from(count)))
        .collect();
    let trainer = BpeTrainer::builder()
        .vocab_size(size)
        .initial_alphabet(alphabet.characters().collect())
        .show_progress(false)
        .build();
    let mut model = BPE::default();
    pool.install(|| trainer.do_train(&counts, &mut model))
        .map_err(|error| TextError::Learn(error.to_string()))?;
    let mut pieces: Vec<(u32, String)> = model.get_vocab().into_iter().map(|(piece, id)| (id, piece)).collect();
    pieces.sort_unstable();
    Ok(pieces.into_iter().map(|(_, piece)| piece).collect())
}

/// Every way to put a piece together from two others, best first.
///
/// The learner knows each piece by the one pair from which it made the piece. SentencePiece instead merges any two
/// neighbours whose concatenation is a piece, the earliest found piece first. This list has every split of each piece,
/// in the order of the pieces. With it, the `tokenizers` library merges as SentencePiece does, and one vocabulary gives
/// the same ids in both. Of the splits of one piece, the one with the longest left part comes first: in a run of one
/// repeated character it is the leftmost one, which SentencePiece would take.
pub(crate) fn merges(pieces: &[String]) -> Vec<(String, String)> {
    let known: HashSet<&str> = pieces.iter().map(String::as_str).collect();
    let mut merges = Vec::new();
    for piece in pieces {
        for (at, _) in piece.char_indices().skip(1).collect::<Vec<_>>().into_iter().rev() {
            let (left, right) = piece.split_at(at);
            if known.contains(left) && known.contains(right) {
                merges.push((left.to_owned(), right.to_owned()));
            }
        }
    }
    merges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pieces: &[&str]) -> Vec<String> {
        pieces.iter().map(|&piece| piece.to_owned()).collect()
    }

    fn pool(threads: usize) -> ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn the_classic_example() {
        // Figure 1 of Sennrich et al. 2016 has these words and counts. The order of its first merges depends on its
        // end-of-word mark, so the order here is worked out by hand: e s 9, es t 9, l o 7, lo w 7.
        let words: WordCounts = [("low", 5), ("lower", 2), ("newest", 6), ("widest", 3)]
            .map(|(word, count)| (word.to_owned(), count))
            .into();
        let alphabet = Alphabet::choose(&words, &Default::default(), 1.0, &[]);
        let pieces = learn(&words, &alphabet, alphabet.len() + 4, &pool(1)).unwrap();
        assert_eq!(
            pieces[..11],
            owned(&["d", "e", "i", "l", "n", "o", "r", "s", "t", "w", "▁"])
        );
        assert_eq!(pieces[11..], owned(&["es", "est", "lo", "low"]));
    }

    #[test]
    fn threads_do_not_matter() {
        let words: WordCounts = (0..500u64)
            .map(|i| (format!("{:b}{:o}", i * i, i), i % 13 + 1))
            .collect();
        let alphabet = Alphabet::choose(&words, &Default::default(), 1.0, &[]);
        let one = learn(&words, &alphabet, 300, &pool(1)).unwrap();
        let four = learn(&words, &alphabet, 300, &pool(4)).unwrap();
        assert_eq!(one.len(), 300);
        assert_eq!(one, four);
    }

    #[test]
    fn every_split_is_a_merge_in_the_order_of_the_pieces() {
        let pieces = owned(&["a", "b", "é", "ab", "bé", "abé"]);
        let expected = [("a", "b"), ("b", "é"), ("ab", "é"), ("a", "bé")];
        assert_eq!(
            merges(&pieces),
            expected.map(|(left, right)| (left.to_owned(), right.to_owned()))
        );
    }
}
