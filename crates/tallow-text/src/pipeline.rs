//! The form that all learned vocabularies share: how a line is cut into words before the model sees it, and how pieces
//! are joined to a line again. It follows SentencePiece (Kudo and Richardson 2018), so that a learned vocabulary can
//! also be written as a SentencePiece model with the same ids.
//!
//! 1. The line is normalized, if the config asks for it, and needless white space is removed (`trim.rs`).
//! 2. `▁` is put before the line, and every space becomes `▁`. SentencePiece calls the first `▁` the dummy prefix. It
//!    is always added, so leading, trailing and repeated spaces survive where step 1 did not remove them.
//! 3. The line is cut before every `▁` and, except for whole words, after every `<`. The second cut keeps text apart
//!    from special and byte pieces. All of these start with `<` and are longer, but a stretch of text that the model
//!    sees has a `<` only at its end. So no text can produce such a piece, and no learned piece can look like one.
//!
//! The special pieces are ordinary entries of the vocabulary. They are not "added tokens" of the `tokenizers` library,
//! because the library would look for those in raw text.

use serde_json::Value;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::unicode::{NFC, NFKC};
use tokenizers::normalizers::{NormalizerWrapper, Sequence as Normalizers};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::Split;
use tokenizers::{DecoderWrapper, ModelWrapper, SplitDelimiterBehavior};

use crate::kind::{Kind, Normalization};
use crate::special;
use crate::trim;
use crate::word_cuts;

/// The character that stands for a space in pieces: U+2581, as in SentencePiece.
pub(crate) const SPACE: char = '\u{2581}';

/// The character that opens every special and byte piece.
pub(crate) const BRACKET: char = '<';

/// Steps 1 to 3 and their reverse.
pub(crate) struct Form {
    normalizer: NormalizerWrapper,
    pre_tokenizer: PreTokenizerWrapper,
    decoder: DecoderWrapper,
    settings: FormSettings,
}

/// The settings of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FormSettings {
    /// Whether the words are pieces: these are not cut after `<`.
    pub(crate) has_whole_words: bool,
    pub(crate) normalization: Normalization,
    pub(crate) trim: bool,
}

impl FormSettings {
    /// The settings of the tokenizer with this `tokenizer.json`, if it has our form.
    pub(crate) fn of(json: &Value) -> Option<Self> {
        let is_empty = |part: &Value| part.is_null() || part.as_array().is_some_and(Vec::is_empty);
        if !is_empty(&json["added_tokens"]) || !json["post_processor"].is_null() {
            return None;
        }
        let has_whole_words = json["model"]["type"] == "WordLevel";
        let kind = if has_whole_words { Kind::Word } else { Kind::Bpe };
        for normalization in [Normalization::None, Normalization::Nfc, Normalization::Nfkc] {
            for trim in [true, false] {
                if Form::new(kind, normalization, trim).is_ok_and(|form| form.is_in(json)) {
                    return Some(Self {
                        has_whole_words,
                        normalization,
                        trim,
                    });
                }
            }
        }
        None
    }
}

impl Form {
    /// The form of a vocabulary of this kind.
    ///
    /// # Errors
    /// If the `tokenizers` library refuses a pattern; the patterns are constants, so it does not.
    pub(crate) fn new(kind: Kind, normalization: Normalization, trim: bool) -> tokenizers::Result<Self> {
        let mut steps: Vec<NormalizerWrapper> = match normalization {
            Normalization::None => Vec::new(),
            Normalization::Nfc => vec![NFC.into()],
            Normalization::Nfkc => vec![NFKC.into()],
        };
        if trim {
            steps.extend(trim::normalizers()?);
        }
        let prefix = NormalizerWrapper::from(Prepend::new(SPACE.to_string()));
        let normalizer = if steps.is_empty() {
            prefix
        } else {
            steps.push(prefix);
            Normalizers::new(steps).into()
        };

        // This also replaces spaces. The library's own prefix is not added to lines that start with a space.
        let spaces = Metaspace::new(SPACE, PrependScheme::Never, true);
        let pre_tokenizer = if kind == Kind::Word {
            spaces.into()
        } else {
            let bracket = Split::new(BRACKET.to_string(), SplitDelimiterBehavior::MergedWithPrevious, false)?;
            PreTokenizers::new(vec![spaces.into(), bracket.into()]).into()
        };

        let mut decoders: Vec<DecoderWrapper> = Vec::new();
        if kind == Kind::Word {
            // Here `<unk>` stands for a word together with the space before it.
            let unknown = ReplacePattern::Regex(format!("^{}$", special::UNKNOWN));
            decoders.push(Replace::new(unknown, format!(" {}", special::UNKNOWN))?.into());
        }
        decoders.push(Replace::new(SPACE.to_string(), " ")?.into());
        if kind.has_bytes() {
            decoders.push(ByteFallback::new().into());
        }
        decoders.push(Fuse::new().into());
        decoders.push(match trim {
            // As SentencePiece does, whatever the settings of the model.
            true => Replace::new(ReplacePattern::Regex(r"\A +| +\z".to_owned()), "")?.into(),
            false => Strip::new(' ', 1, 0).into(),
        });

        Ok(Self {
            normalizer,
            pre_tokenizer,
            decoder: Decoders::new(decoders).into(),
            settings: FormSettings {
                has_whole_words: kind == Kind::Word,
                normalization,
                trim,
            },
        })
    }

    /// Whether the text of a `tokenizer.json` has this normalizer and this pre-tokenizer.
    pub(crate) fn is_in(&self, json: &Value) -> bool {
        let same = |part: &Value, ours: serde_json::Result<Value>| ours.is_ok_and(|ours| *part == ours);
        same(&json["normalizer"], serde_json::to_value(&self.normalizer))
            && same(&json["pre_tokenizer"], serde_json::to_value(&self.pre_tokenizer))
    }

    /// The line without the white space at its ends, if step 1 removes it.
    pub(crate) fn trimmed<'a>(&self, line: &'a str) -> &'a str {
        if self.settings.trim { trim::ends(line) } else { line }
    }

    /// Passes on the stretches of a line that the model sees one by one. An empty line has none. `buffer` is used for
    /// the normalized line.
    ///
    /// # Errors
    /// If the `tokenizers` library fails; no step is known to fail.
    pub(crate) fn visit_words(
        &self,
        line: &str,
        buffer: &mut String,
        mut visit: impl FnMut(&str),
    ) -> tokenizers::Result<()> {
        word_cuts::write_marked(self.settings, Some(&self.normalizer), line, buffer)?;
        word_cuts::words(buffer, self.settings).for_each(&mut visit);
        Ok(())
    }

    /// A tokenizer of this form around a model.
    ///
    /// # Errors
    /// If the `tokenizers` library fails to put the parts together.
    pub(crate) fn around(self, model: impl Into<ModelWrapper>) -> tokenizers::Result<tokenizers::Tokenizer> {
        let mut tokenizer = tokenizers::Tokenizer::new(model);
        tokenizer.with_normalizer(Some(self.normalizer))?;
        tokenizer.with_pre_tokenizer(Some(self.pre_tokenizer));
        tokenizer.with_decoder(Some(self.decoder));
        Ok(tokenizer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    impl Form {
        /// The words of a line; the library must find the same.
        fn words(&self, line: &str) -> tokenizers::Result<Vec<String>> {
            let (mut words, mut buffer) = (Vec::new(), String::new());
            self.visit_words(line, &mut buffer, |word| words.push(word.to_owned()))?;
            let mut normalized = NormalizedString::from(line);
            self.normalizer.normalize(&mut normalized)?;
            let mut cut = PreTokenizedString::from(normalized);
            self.pre_tokenizer.pre_tokenize(&mut cut)?;
            let splits = cut.get_splits(OffsetReferential::Normalized, OffsetType::None);
            let expected: Vec<&str> = splits.iter().map(|(word, _, _)| *word).collect();
            assert_eq!(words, expected, "{line:?}");
            Ok(words)
        }
    }

    #[test]
    fn lines_are_cut_before_spaces_and_after_brackets() {
        let form = Form::new(Kind::Bpe, Normalization::None, false).unwrap();
        let words = |line: &str| form.words(line).unwrap().join("|");
        assert_eq!(words(""), "");
        assert_eq!(words("a bc"), "▁a|▁bc");
        assert_eq!(words("  a "), "▁|▁|▁a|▁");
        assert_eq!(words("x</s> <<0x41>"), "▁x<|/s>|▁<|<|0x41>");
    }

    #[test]
    fn whole_words_keep_their_brackets() {
        let form = Form::new(Kind::Word, Normalization::None, false).unwrap();
        assert_eq!(form.words("x</s> <unk>").unwrap().join("|"), "▁x</s>|▁<unk>");
    }

    #[test]
    fn white_space_is_trimmed() {
        let form = Form::new(Kind::Bpe, Normalization::Nfkc, true).unwrap();
        // NFKC turns the ideographic space into a space.
        assert_eq!(
            form.words("\u{3000} a  \u{3000}b\u{feff}\t").unwrap().join("|"),
            "▁a|▁b"
        );
        assert_eq!(form.words(" \t\u{200b}").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn normalization_comes_first() {
        let form = Form::new(Kind::Bpe, Normalization::Nfkc, false).unwrap();
        assert_eq!(form.words("ﬁ e\u{301}").unwrap().join("|"), "▁fi|▁é");
        let form = Form::new(Kind::Bpe, Normalization::Nfc, false).unwrap();
        assert_eq!(form.words("ﬁ e\u{301}").unwrap().join("|"), "▁ﬁ|▁é");
    }
}
