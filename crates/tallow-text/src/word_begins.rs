//! The words of a line to which its tokens belong.

use crate::error::TextError;
use crate::pipeline::SPACE;
use crate::tokenizer::Tokenizer;

/// The white space and the words of a piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Spaces {
    /// Whether it begins with white space.
    before: bool,
    /// The number of words in it; a piece of white space has none.
    words: u32,
    /// Whether it ends with white space.
    after: bool,
}

impl Spaces {
    fn of(text: &str) -> Self {
        Self {
            before: text.starts_with(char::is_whitespace),
            words: text.split_whitespace().count() as u32,
            after: text.ends_with(char::is_whitespace),
        }
    }
}

/// Where the pieces of a vocabulary begin and end words. Words are what white space separates; most vocabularies have
/// it at the beginning of pieces, some at the end.
#[derive(Clone, Debug)]
pub struct WordBegins(Box<[Spaces]>);

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
        let spaces = |id: u32| -> Result<Spaces, TextError> {
            let Some(piece) = tokenizer.piece(id) else {
                return Ok(Spaces::default());
            };
            match &before {
                Some((first, text)) if !piece.contains(SPACE) => {
                    let both = tokenizer.decode(&[*first, id])?;
                    Ok(Spaces::of(both.strip_prefix(text.as_str()).unwrap_or(piece)))
                }
                _ => Ok(Spaces::of(&piece.replace(SPACE, " "))),
            }
        };
        Ok(Self(ids.map(spaces).collect::<Result<_, TextError>>()?))
    }

    /// The number of the word, from 0, to which each token of a line belongs; white space belongs to the word after it,
    /// or to the last one. A token of several words belongs to the first of them. A language tag is a word.
    pub fn words_of(&self, tokens: &[u32]) -> Vec<u32> {
        let mut words = Vec::with_capacity(tokens.len());
        // The last word, whether white space follows it, and the number of tokens that are nothing else.
        let (mut word, mut is_apart, mut waiting): (Option<u32>, bool, usize) = (None, false, 0);
        for token in tokens {
            // Pieces without text, such as bytes, go on with a word.
            let Spaces {
                before,
                words: count,
                after,
            } = self.0.get(*token as usize).copied().unwrap_or_default();
            is_apart |= before;
            if count == 0 && (before || after) {
                (is_apart, waiting) = (true, waiting + 1);
                continue;
            }
            let number = word.map_or(0, |word| word + u32::from(is_apart));
            words.extend(std::iter::repeat_n(number, waiting + 1));
            (word, is_apart, waiting) = (Some(number + count.saturating_sub(1)), after, 0);
        }
        words.extend(std::iter::repeat_n(word.unwrap_or(0), waiting));
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

    /// A vocabulary of `MarianTokenizer` that has white space at the end of pieces.
    #[test]
    fn spaces_at_the_end() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/marian/languages");
        let pair = crate::Tokenizers::open(&folder).unwrap();
        for tokenizer in [&pair.source, &pair.target] {
            let begins = WordBegins::new(tokenizer).unwrap();
            for line in ["The old harbour stands and sleeps.", "Ein Zug", "x"] {
                let words = begins.words_of_line(&tokenizer.encode(line).unwrap(), line).unwrap();
                assert!(words.is_sorted() && words[0] == 0, "{words:?}");
            }
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
