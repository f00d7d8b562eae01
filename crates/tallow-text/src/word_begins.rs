//! The words of a line to which its tokens belong.

use crate::error::TextError;
use crate::pipeline::SPACE;
use crate::tokenizer::Tokenizer;

/// The pieces of a vocabulary that begin a word. Words are what white space separates.
#[derive(Clone, Debug)]
pub struct WordBegins(Box<[bool]>);

impl WordBegins {
    /// Looks at every piece of a vocabulary.
    ///
    /// # Errors
    /// When a piece has no text.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let ids = 0..tokenizer.vocabulary_size() as u32;
        // A piece with text behind which others stand.
        let mut before = None;
        for id in ids.clone() {
            let text = tokenizer.decode(&[id])?;
            if text.chars().next_back().is_some_and(char::is_alphanumeric) {
                before = Some((id, text));
                break;
            }
        }
        let begins = |id: u32| -> Result<bool, TextError> {
            let piece = tokenizer.piece(id).unwrap_or_default();
            let Some((first, text)) = &before else {
                return Ok(piece.starts_with(SPACE));
            };
            if piece.starts_with(SPACE) {
                return Ok(true);
            }
            let both = tokenizer.decode(&[*first, id])?;
            let behind = both.strip_prefix(text.as_str()).unwrap_or_default();
            Ok(behind.starts_with(char::is_whitespace))
        };
        Ok(Self(ids.map(begins).collect::<Result<_, TextError>>()?))
    }

    /// The number of the word, from 0, to which each token of a line belongs. A language tag is a word.
    pub fn words_of(&self, tokens: &[u32]) -> Vec<u32> {
        let mut word = 0;
        let of_token = |(place, token): (usize, &u32)| {
            let begins = self.0.get(*token as usize).copied().unwrap_or_default();
            word += u32::from(begins && place > 0);
            word
        };
        tokens.iter().enumerate().map(of_token).collect()
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
        }
    }
}
