//! Typing errors.

use crate::kept_parts::segments;
use crate::shuffle::SplitMix64;

/// The share of words that get an error.
const OF_WORDS: f64 = 0.15;
/// Shorter words get none: they would become other words.
const SHORTEST: usize = 3;

/// The letters of a keyboard, for neighbours.
const ROWS: [&str; 3] = ["qwertyuiop", "asdfghjkl", "zxcvbnm"];

/// The text with an error in some of its words, and in at least one if there is a word to take it.
pub(super) fn with_typos(text: &str, generator: &mut SplitMix64) -> String {
    let mut pieces: Vec<(String, bool)> = Vec::new();
    for (part, is_kept) in segments(text) {
        match is_kept {
            true => pieces.push((part.to_owned(), false)),
            false => pieces.extend(words(part).map(|(word, is_word)| (word.to_owned(), is_word))),
        }
    }
    let is_long = |word: &str| word.chars().count() >= SHORTEST;
    let candidates: Vec<usize> = (0..pieces.len())
        .filter(|piece| pieces[*piece].1 && is_long(&pieces[*piece].0))
        .collect();
    if candidates.is_empty() {
        return text.to_owned();
    }
    let certain = candidates[generator.below(candidates.len() as u64) as usize];
    for piece in candidates {
        let is_chosen = generator.uniform() < OF_WORDS;
        if is_chosen || piece == certain {
            pieces[piece].0 = with_typo(&pieces[piece].0, generator);
        }
    }
    pieces.into_iter().map(|(piece, _)| piece).collect()
}

/// The runs of letters of a text, and what stands between them.
fn words(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let is_word = rest.chars().next()?.is_alphabetic();
        let end = rest.find(|c: char| c.is_alphabetic() != is_word).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        Some((word, is_word))
    })
}

/// A word with one error.
fn with_typo(word: &str, generator: &mut SplitMix64) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    let count = letters.len() as u64;
    let at = generator.below(count) as usize;
    match generator.below(4) {
        0 => {
            let first = at.min(letters.len() - 2);
            letters.swap(first, first + 1);
        }
        1 => {
            letters.remove(at);
        }
        2 => letters.insert(at, letters[at]),
        _ => letters[at] = neighbour(letters[at], generator),
    }
    letters.into_iter().collect()
}

/// A letter beside this one on the keyboard; the letter itself if it is on no key of its own.
fn neighbour(letter: char, generator: &mut SplitMix64) -> char {
    let lower = letter.to_ascii_lowercase();
    let found = ROWS
        .iter()
        .find_map(|row| row.find(lower).map(|at| (row.as_bytes(), at)));
    let Some((row, at)) = found else {
        return letter;
    };
    let is_right = (generator.below(2) == 0 || at == 0) && at + 1 < row.len();
    let other = char::from(row[if is_right { at + 1 } else { at - 1 }]);
    match letter.is_ascii_uppercase() {
        true => other.to_ascii_uppercase(),
        false => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shuffle::Purpose;

    #[test]
    fn errors_are_small_and_in_words() {
        let text = "see www.example.org or press %s in the window";
        for id in 0..200 {
            let mut generator = SplitMix64::keyed(1, Purpose::Augmentation, &[id]);
            let changed = with_typos(text, &mut generator);
            let before: Vec<&str> = text.split(' ').collect();
            let after: Vec<&str> = changed.split(' ').collect();
            assert_eq!(after.len(), before.len(), "{changed}");
            for (was, is) in before.iter().zip(&after) {
                let lengths = (was.chars().count() as i64, is.chars().count() as i64);
                assert!((lengths.0 - lengths.1).abs() <= 1, "{changed}");
                let must_stay = ["www.example.org", "or", "%s", "in"].contains(was);
                assert!(!must_stay || is == was, "{changed}");
            }
        }
        let mut generator = SplitMix64::keyed(1, Purpose::Augmentation, &[]);
        for short in ["", "%s", "a b, 12345"] {
            assert_eq!(with_typos(short, &mut generator), short);
        }
    }

    #[test]
    fn neighbours_are_beside_each_other() {
        let mut generator = SplitMix64::keyed(1, Purpose::Augmentation, &[]);
        for _ in 0..50 {
            assert!("wr".contains(neighbour('e', &mut generator)));
            assert_eq!(neighbour('q', &mut generator), 'w');
            assert_eq!(neighbour('P', &mut generator), 'O');
            assert_eq!(neighbour('ß', &mut generator), 'ß');
        }
    }
}
