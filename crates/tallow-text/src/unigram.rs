//! The unigram language model: learning pieces and their probabilities.

use rayon::ThreadPoolBuilder;
use tokenizers::models::unigram::{Unigram, UnigramTrainer};

use crate::alphabet::{Alphabet, small_counts};
use crate::error::TextError;
use crate::words::WordCounts;

/// Probabilities are rounded to multiples of 2^-10 (in natural logarithms). SentencePiece adds them up in single
/// precision, the `tokenizers` library in double. Up to 2^14, over a thousand pieces, sums of such multiples are exact
/// in both, so both find the same best segmentation.
const STEPS: f64 = 1024.0;

/// The learner drops some characters and has to bring them back. From one such rare character to the next, it adds this
/// to the score.
const RESTORED_STEP: f64 = 1e-4;

/// Learns at most `size` pieces with their log-probabilities, the most probable first. The pieces include every
/// character of the alphabet.
///
/// Follows Kudo 2018, section 3.2. Frequent substrings are the first candidates. Expectation maximisation gives them
/// probabilities, and the quarter whose loss costs least likelihood is dropped. These steps repeat until `size` is
/// reached. Learning runs on one thread, because sums over several threads would depend on their number.
///
/// # Errors
/// If the stretches have more characters than the learner can sort, or if the learner of the `tokenizers` library
/// fails.
pub(crate) fn learn(stretches: &WordCounts, alphabet: &Alphabet, size: usize) -> Result<Vec<(String, f64)>, TextError> {
    let failed = |reason: &dyn std::fmt::Display| TextError::Learn(reason.to_string());
    // Each stretch is followed by one more character.
    let characters: usize = stretches.keys().map(|stretch| stretch.chars().count() + 1).sum();
    if characters >= u32::MAX as usize {
        return Err(failed(
            &"the text has more than 4,294,967,294 characters in different stretches; lower text.sample_lines",
        ));
    }
    let sentences = small_counts(stretches)
        .into_iter()
        .map(|(stretch, count)| (stretch.to_owned(), count))
        .collect();
    let trainer = UnigramTrainer::builder()
        .vocab_size(u32::try_from(size).map_err(|error| failed(&error))?)
        .initial_alphabet(alphabet.characters().collect())
        .show_progress(false)
        .build()
        .map_err(|error| failed(&error))?;
    let pool = ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .map_err(|error| TextError::Threads {
            threads: 1,
            reason: error.to_string(),
        })?;
    let mut model = Unigram::default();
    pool.install(|| trainer.do_train(sentences, &mut model))
        .map_err(|error| failed(&error))?;

    let mut pieces: Vec<(String, f64)> = model.iter().cloned().collect();
    level_restored_characters(&mut pieces, alphabet.len());
    for (_, score) in &mut pieces {
        *score = (*score * STEPS).round() / STEPS;
    }
    pieces.sort_by(|(a, a_score), (b, b_score)| b_score.total_cmp(a_score).then_with(|| a.cmp(b)));
    drop_surplus(&mut pieces, size);
    Ok(pieces)
}

fn is_character(piece: &str) -> bool {
    piece.chars().nth(1).is_none()
}

/// Gives the rarest characters the same score. The learner drops characters that it hardly needs. It brings them back
/// in hashing order, with slightly rising scores just above the lowest, which would differ from run to run.
fn level_restored_characters(pieces: &mut [(String, f64)], characters: usize) {
    let lowest = pieces.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
    let highest_restored = lowest + RESTORED_STEP * characters as f64;
    for (piece, score) in pieces {
        if is_character(piece) && *score <= highest_restored {
            *score = lowest;
        }
    }
}

/// Drops the least probable pieces beyond `size`, but no characters. The learner exceeds its size when the size equals
/// the number of characters.
fn drop_surplus(pieces: &mut Vec<(String, f64)>, size: usize) {
    let mut surplus = pieces.len().saturating_sub(size);
    let mut at = pieces.len();
    while surplus > 0 && at > 0 {
        at -= 1;
        if !is_character(&pieces[at].0) {
            pieces.remove(at);
            surplus -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> WordCounts {
        let text = "the cat sat on the mat and the dog sat on the log as the cat and the dog sang a song";
        let mut words = WordCounts::new();
        for word in text.split(' ') {
            *words.entry(format!("▁{word}")).or_default() += 3;
        }
        words.insert("▁Ω".to_owned(), 1);
        words
    }

    #[test]
    fn every_character_has_a_piece() {
        let words = words();
        let alphabet = Alphabet::choose(&words, &Default::default(), 1.0, &['<']);
        let pieces = learn(&words, &alphabet, 40).unwrap();
        assert!(pieces.len() <= 40);
        for character in alphabet.characters() {
            assert!(
                pieces.iter().any(|(piece, _)| *piece == character.to_string()),
                "{character:?}"
            );
        }
        assert!(pieces.iter().any(|(piece, _)| piece == "▁sa"), "{pieces:?}");
        assert!(
            pieces.iter().all(|(_, score)| score.is_finite() && *score < 0.0),
            "{pieces:?}"
        );
    }

    #[test]
    fn learning_twice_gives_the_same() {
        let words = words();
        let alphabet = Alphabet::choose(&words, &Default::default(), 1.0, &['<', 'ä', 'ö', 'ü', 'ß']);
        let first = learn(&words, &alphabet, 45).unwrap();
        for _ in 0..5 {
            assert_eq!(first, learn(&words, &alphabet, 45).unwrap());
        }
    }

    #[test]
    fn room_for_the_characters_alone() {
        let words = words();
        let alphabet = Alphabet::choose(&words, &Default::default(), 1.0, &[]);
        let pieces = learn(&words, &alphabet, alphabet.len()).unwrap();
        let mut learned: Vec<String> = pieces.into_iter().map(|(piece, _)| piece).collect();
        learned.sort();
        let expected: Vec<String> = alphabet.characters().map(String::from).collect();
        assert_eq!(learned, expected);
    }

    #[test]
    fn sums_of_scores_are_exact_in_single_precision() {
        let words = words();
        let alphabet = Alphabet::choose(&words, &Default::default(), 1.0, &[]);
        for (piece, score) in learn(&words, &alphabet, 40).unwrap() {
            assert_eq!((score * STEPS).fract(), 0.0, "{piece}");
        }
    }
}
