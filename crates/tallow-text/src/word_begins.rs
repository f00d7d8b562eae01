//! The words of a line to which its tokens belong.

use crate::error::TextError;
use crate::pipeline::SPACE;
use crate::tokenizer::Tokenizer;

/// The place of a piece among the words of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It begins a word.
    Begins,
    /// It is white space alone: what follows begins a word.
    Between,
    /// It goes on with the word before it, unless white space is between them.
    Within,
}

/// The pieces of a vocabulary that begin a word. Words are what white space separates.
#[derive(Clone, Debug)]
pub struct WordBegins(Box<[Place]>);

impl WordBegins {
    /// Looks at every piece of a vocabulary.
    ///
    /// # Errors
    /// When the text of a piece cannot be found.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, TextError> {
        // In a foreign vocabulary, some ids may have no piece.
        let ids = 0..tokenizer.vocabulary_size() as u32;
        let mut before = None;
        // A piece with text behind which others stand.
        for id in ids.clone().filter(|id| tokenizer.piece(*id).is_some()) {
            let text = tokenizer.decode(&[id])?;
            if text.chars().next_back().is_some_and(char::is_alphanumeric) {
                before = Some((id, text));
                break;
            }
        }
        let place = |id: u32| -> Result<Place, TextError> {
            let Some(piece) = tokenizer.piece(id) else {
                return Ok(Place::Within);
            };
            if let Some(rest) = piece.strip_prefix(SPACE) {
                let is_space = rest.chars().all(|c| c == SPACE);
                return Ok(if is_space { Place::Between } else { Place::Begins });
            }
            let Some((first, text)) = &before else {
                return Ok(Place::Within);
            };
            let both = tokenizer.decode(&[*first, id])?;
            let behind = both.strip_prefix(text.as_str()).unwrap_or_default();
            Ok(match behind.starts_with(char::is_whitespace) {
                true if behind.trim().is_empty() => Place::Between,
                true => Place::Begins,
                false => Place::Within,
            })
        };
        Ok(Self(ids.map(place).collect::<Result<_, TextError>>()?))
    }

    /// The number of the word, from 0, to which each token of a line belongs; white space belongs to the word after it,
    /// or to the last one. A language tag is a word.
    pub fn words_of(&self, tokens: &[u32]) -> Vec<u32> {
        let mut words = Vec::with_capacity(tokens.len());
        // The word of the last token with text, and the number of spaces behind it.
        let (mut word, mut spaces): (Option<u32>, usize) = (None, 0);
        for token in tokens {
            let place = self.0.get(*token as usize).copied().unwrap_or(Place::Within);
            if place == Place::Between {
                spaces += 1;
                continue;
            }
            let begins = place == Place::Begins || spaces > 0;
            let number = word.map_or(0, |word| word + u32::from(begins));
            words.extend(std::iter::repeat_n(number, spaces + 1));
            (word, spaces) = (Some(number), 0);
        }
        words.extend(std::iter::repeat_n(word.unwrap_or(0), spaces));
        words
    }

    /// [`Self::words_of`] the tokens of a line; `None` if they have another number of words than the line, because the
    /// tokenizer changes white space.
    pub fn words_of_line(&self, tokens: &[u32], line: &str) -> Option<Vec<u32>> {
        let words = self.words_of(tokens);
        let count = words.last().map_or(0, |last| *last as usize + 1);
        (count == line.split_whitespace().count()).then_some(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, TextConfig};

    #[test]
    fn tokens_find_their_words() {
        let line = "the cat's hat, über 12 cats";
        for kind in [Kind::Bpe, Kind::Unigram, Kind::Char, Kind::Word] {
            let config = TextConfig {
                kind,
                vocabulary: 300,
                ..TextConfig::default()
            };
            let tokenizer = Tokenizer::learn(&config, [line; 4], 1).unwrap();
            let begins = WordBegins::new(&tokenizer).unwrap();
            let tokens = tokenizer.encode(line).unwrap();
            let words = begins.words_of(&tokens);
            // The text of the tokens of each word is that word.
            let of_word = |word: u32| -> String {
                let tokens = tokens.iter().zip(&words).filter(|(_, of)| **of == word);
                let tokens: Vec<u32> = tokens.map(|(token, _)| *token).collect();
                tokenizer.decode(&tokens).unwrap().trim().to_owned()
            };
            let found: Vec<String> = (0..=*words.last().unwrap()).map(of_word).collect();
            assert_eq!(found, line.split(' ').collect::<Vec<_>>(), "{kind:?}");
            let unknown = tokenizer.encode("the zebra q 12").unwrap();
            assert_eq!(begins.words_of(&unknown).last(), Some(&3), "{kind:?}");
            assert_eq!(begins.words_of_line(&unknown, "the zebra q"), None);
            assert!(begins.words_of_line(&unknown, " a\u{a0}b\tc d").is_some());
            assert!(begins.words_of(&[]).is_empty());
        }
    }

    /// White space of any kind changes nothing, and ids without a piece do no harm.
    #[test]
    fn spaces_and_holes() {
        let config = TextConfig {
            kind: Kind::Char,
            vocabulary: 300,
            trim: false,
            ..TextConfig::default()
        };
        let tokenizer = Tokenizer::learn(&config, ["ab c"; 4], 1).unwrap();
        let begins = WordBegins::new(&tokenizer).unwrap();
        for (line, count) in [("ab c", 2), ("a  b", 2), (" ab", 1), ("ab ", 1), ("  ", 1)] {
            let words = begins.words_of(&tokenizer.encode(line).unwrap());
            assert_eq!(
                words.last().copied().map_or(0, |last| last + 1),
                count,
                "{line:?}: {words:?}"
            );
            assert!(words.is_sorted());
        }
        // A vocabulary in which an id has no piece.
        let mut json: serde_json::Value = serde_json::from_str(tokenizer.to_json().unwrap()).unwrap();
        let (piece, after) = ("b", tokenizer.vocabulary_size());
        let hole = tokenizer.id(piece).unwrap();
        json["model"]["vocab"][piece] = after.into();
        let holed = Tokenizer::from_json(&json.to_string()).unwrap();
        assert_eq!(holed.piece(hole), None);
        let words = WordBegins::new(&holed)
            .unwrap()
            .words_of(&holed.encode("ab c").unwrap());
        assert_eq!(words.last(), Some(&1));
    }
}
