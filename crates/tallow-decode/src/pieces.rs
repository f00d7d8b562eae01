//! What texts mean in the pieces of a target vocabulary.

use crate::{DecodeConfig, DecodeError, UnknownPieces};
use tallow_text::{TextError, Tokenizer};

/// The character with which a piece at the beginning of a word begins.
const WORD_BEGIN: char = '\u{2581}';

impl DecodeConfig {
    /// The sequences of tokens that no translation contains: the forbidden texts, at the beginning of a word and within
    /// one, and perhaps the unknown piece.
    ///
    /// # Errors
    /// When the vocabulary cannot express a text.
    pub fn forbidden_tokens(&self, tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>, DecodeError> {
        let mut sequences = Vec::new();
        for text in &self.forbid {
            let tokens = tokenizer.encode(text)?;
            if tokens.is_empty() || tokens.contains(&tokenizer.unk_id()) {
                return Err(DecodeError::UnknownForbidden(text.clone()));
            }
            sequences.extend(within_a_word(&tokens, tokenizer));
            sequences.push(tokens);
        }
        if self.unknown == UnknownPieces::Forbid {
            sequences.push(vec![tokenizer.unk_id()]);
        }
        Ok(sequences)
    }
}

/// The tokens of a text within a word, if there are such pieces.
fn within_a_word(tokens: &[u32], tokenizer: &Tokenizer) -> Option<Vec<u32>> {
    let (first, rest) = tokens.split_first()?;
    let piece = tokenizer.piece(*first)?.strip_prefix(WORD_BEGIN)?;
    let within = match piece.is_empty() {
        true => rest.to_vec(),
        false => [&[tokenizer.id(piece)?], rest].concat(),
    };
    (!within.is_empty()).then_some(within)
}

/// The tokens of a phrase that a translation contains: as at the beginning of a word, or within a sentence where its
/// script has no spaces.
///
/// # Errors
/// Those of the tokenizer.
pub(crate) fn phrase_tokens(phrase: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>, TextError> {
    let tokens = tokenizer.encode(phrase)?;
    if phrase
        .trim_start()
        .chars()
        .next()
        .is_some_and(is_written_without_spaces)
    {
        return Ok(within_a_word(&tokens, tokenizer).unwrap_or(tokens));
    }
    Ok(tokens)
}

/// Whether each token goes on with the word before it: its piece begins with a letter or a digit of a script that has
/// spaces between words, or it is a byte.
pub(crate) fn continuing(tokenizer: &Tokenizer) -> Box<[bool]> {
    let goes_on = |token: u32| {
        let piece = tokenizer.piece(token).unwrap_or_default();
        let is_byte = piece.len() == 6 && piece.starts_with("<0x") && piece.ends_with('>');
        is_byte
            || piece
                .chars()
                .next()
                .is_some_and(|c| c.is_alphanumeric() && !is_written_without_spaces(c))
    };
    (0..tokenizer.vocabulary_size() as u32).map(goes_on).collect()
}

/// Whether words of this character's script may follow each other without a space, or take endings that are words:
/// Thai, Lao, Tibetan, Burmese, Khmer, Chinese, Japanese, Korean.
fn is_written_without_spaces(c: char) -> bool {
    matches!(u32::from(c), 0x0e00..=0x0fff | 0x1000..=0x109f | 0x1100..=0x11ff | 0x1780..=0x17ff
        | 0x2e80..=0xa4cf | 0xac00..=0xd7ff | 0xf900..=0xfaff | 0xff66..=0xff9f | 0x20000..=0x3ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallow_text::{Kind, TextConfig};

    #[test]
    fn words_go_on_and_begin() {
        let config = TextConfig {
            kind: Kind::Char,
            vocabulary: 300,
            ..TextConfig::default()
        };
        let tokenizer = Tokenizer::learn(&config, ["ab, 7 北京"], 1).unwrap();
        let goes_on = continuing(&tokenizer);
        let is_continuing = |piece: &str| goes_on[tokenizer.id(piece).unwrap() as usize];
        for (piece, expected) in [
            ("a", true),
            ("7", true),
            (",", false),
            ("▁", false),
            ("北", false),
            ("<0xC3>", true),
        ] {
            assert_eq!(is_continuing(piece), expected, "{piece}");
        }
        let pieces = |phrase: &str| -> Vec<&str> {
            let tokens = phrase_tokens(phrase, &tokenizer).unwrap();
            tokens.iter().map(|token| tokenizer.piece(*token).unwrap()).collect()
        };
        assert_eq!(pieces("ab"), ["▁", "a", "b"]);
        assert_eq!(pieces("北京"), ["北", "京"]);
    }
}
