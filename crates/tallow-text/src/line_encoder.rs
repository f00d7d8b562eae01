//! Encoding many lines quickly.
//!
//! A vocabulary of our form cuts a line into words before its model sees them, and the ids of a line are those of its
//! words. So the ids of frequent words are remembered, and the library's model is asked only for other words. The
//! library would spend most of its time on offsets of pieces in the text, which nobody needs here.

use std::collections::HashMap;

use tokenizers::Model as _;

use crate::error::TextError;
use crate::tokenizer::Tokenizer;
use crate::word_cuts::{words, write_marked};

/// Words that are remembered, and their ids. When there are more, all are forgotten.
const MOST_WORDS: usize = 1 << 17;
const MOST_IDS: usize = 1 << 20;

/// The longest word that is remembered, in bytes.
const LONGEST_WORD: usize = 64;

/// Encodes lines one after another, as [`Tokenizer::encode`] does, but many times faster if the vocabulary has the form
/// of learned ones and no symbols or language tags. Needs up to 20 MB of memory. Each thread should have its own.
pub struct LineEncoder<'a> {
    tokenizer: &'a Tokenizer,
    words: HashMap<Box<str>, (u32, u32)>,
    /// The ids of all remembered words.
    ids: Vec<u32>,
    /// The present line, with `▁` for spaces.
    text: String,
}

impl<'a> LineEncoder<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            words: HashMap::new(),
            ids: Vec::new(),
            text: String::new(),
        }
    }

    /// The ids of a line, without the end of the sentence.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode(&mut self, line: &str) -> Result<Vec<u32>, TextError> {
        let Some((form, library)) = self.tokenizer.form_and_library() else {
            return self.tokenizer.encode(line);
        };
        let fault = |error: tokenizers::Error| TextError::Encode {
            excerpt: line.chars().take(40).collect(),
            reason: error.to_string(),
        };
        write_marked(form, library.get_normalizer(), line, &mut self.text).map_err(fault)?;
        let mut found = Vec::with_capacity(line.len() / 3);
        for word in words(&self.text, form) {
            if let Some(&(start, end)) = self.words.get(word) {
                found.extend_from_slice(&self.ids[start as usize..end as usize]);
                continue;
            }
            let before = found.len();
            found.extend(
                library
                    .get_model()
                    .tokenize(word)
                    .map_err(fault)?
                    .into_iter()
                    .map(|token| token.id),
            );
            if word.len() <= LONGEST_WORD {
                if self.words.len() >= MOST_WORDS || self.ids.len() >= MOST_IDS {
                    self.words.clear();
                    self.ids.clear();
                }
                let start = self.ids.len() as u32;
                self.ids.extend_from_slice(&found[before..]);
                self.words.insert(word.into(), (start, self.ids.len() as u32));
            }
        }
        Ok(self.tokenizer.without_reserved(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TextConfig;
    use crate::kind::{Kind, Normalization};
    use crate::pair::Tokenizers;

    const LINES: [&str; 18] = [
        "",
        " ",
        "the lower the newer",
        "  two  spaces  ",
        "a<b <unk> </s>x <<",
        "<",
        "\u{2581}a \u{2581} b\u{2581}",
        "a \u{2581}",
        "\ttab\u{a0}\u{feff}",
        "ﬁn e\u{301} Ａ",
        "grün → 日本語 …",
        "\u{e2}\u{96}x",
        "a\u{0}b",
        "word\r",
        "\u{3000}x\u{3000}y",
        ">>deu<< lower",
        "<pad> <0x41> A",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];

    #[test]
    fn ids_are_those_of_the_library() {
        for kind in [Kind::Bpe, Kind::Unigram, Kind::Word, Kind::Char] {
            for normalization in [Normalization::None, Normalization::Nfc, Normalization::Nfkc] {
                for (trim, byte_fallback) in [(true, true), (false, true), (true, false)] {
                    let config = TextConfig {
                        kind,
                        normalization,
                        trim,
                        byte_fallback,
                        vocabulary: 330,
                        ..TextConfig::default()
                    };
                    let text = ["the lower the newer", "lowest a<b ﬁn grün é", "widest newest two"];
                    let tokenizer = Tokenizers::learn(&config, text, text, 1).unwrap().source;
                    assert!(tokenizer.form_and_library().is_some(), "{config:?}");
                    let mut encoder = tokenizer.line_encoder();
                    for line in LINES.iter().chain(&LINES) {
                        let expected = tokenizer.encode(line).unwrap();
                        assert_eq!(encoder.encode(line).unwrap(), expected, "{line:?} {config:?}");
                    }
                }
            }
        }
    }

    /// Words are forgotten when there are too many, and nothing else changes.
    #[test]
    fn many_words_are_forgotten() {
        let config = TextConfig {
            vocabulary: 300,
            ..TextConfig::default()
        };
        let tokenizer = Tokenizers::learn(&config, ["a b 0 1"], ["a"], 1).unwrap().source;
        let mut encoder = tokenizer.line_encoder();
        for number in 0..MOST_WORDS / 4 + 100 {
            let line = format!("{number}a {number}b {number}c {number}d");
            let ids = encoder.encode(&line).unwrap();
            if number % 5000 == 0 || number >= MOST_WORDS / 4 {
                assert_eq!(ids, tokenizer.encode(&line).unwrap());
            }
        }
        assert!(encoder.words.len() < 1000);
    }
}
