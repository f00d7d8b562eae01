//! The `[text]` table of a run's configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::kind::{Kind, Normalization};
use crate::symbols;
use crate::vocabulary;

/// How text becomes piece ids: the `[text]` table.
///
/// Either a vocabulary is learned (`kind` and the keys after it), or an existing tokenizer is used (`path` or `hub`).
/// With an existing tokenizer, the keys about learning have no effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextConfig {
    /// The kind of vocabulary to learn: `bpe`, `unigram`, `word` or `char`. Default `bpe`.
    pub kind: Kind,
    /// Number of pieces, including special pieces and byte pieces. With `shared = false`, this is the number on each
    /// side. The vocabulary is smaller when the text has fewer different pieces. Default 8000.
    pub vocabulary: usize,
    /// Learn one vocabulary from both sides, and use it for both. Default true.
    pub shared: bool,
    /// Give each of the 256 bytes a piece, so that a character outside the vocabulary is spelled in UTF-8
    /// instead of becoming `<unk>`. Without effect on `kind = "word"`. Default true.
    pub byte_fallback: bool,
    /// Share of the text's characters that must have a piece of their own. The rarest characters beyond that share get
    /// no piece. 1.0 keeps every character. Without effect on `kind = "word"`. Default 1.0.
    pub character_coverage: f64,
    /// Unicode normalization of each line, when learning and when encoding: `none`, `nfc` or `nfkc`.
    /// Default `none`.
    pub normalization: Normalization,
    /// Remove white space at both ends of a line, and keep only one of several spaces in a row, when learning and when
    /// encoding. Default true.
    pub trim: bool,
    /// How many lines of each side a vocabulary is learned from. Of more lines, a random sample is taken, drawn by the
    /// seed. Default 10,000,000.
    pub sample_lines: usize,
    /// Pieces that are never cut, such as `<sep>` or `{name}`. Default: none.
    pub symbols: Vec<String>,
    /// BPE-dropout (Provilkov et al. 2020), for `kind = "bpe"`: the probability that a merge is left out when a
    /// training sentence is cut, anew in each epoch. Default 0: no merge is left out.
    pub bpe_dropout: f64,
    /// Draws the cut of each training sentence anew in each epoch, with the cut's probability to the power of this
    /// value (Kudo 2018), for `kind = "unigram"`. 0 makes all cuts equally likely. Default: none; the most probable cut
    /// is used.
    pub unigram_alpha: Option<f64>,
    /// An existing `tokenizer.json`, or a folder with tokenizers in any form that
    /// [`Tokenizers::open`](crate::Tokenizers::open) knows. Default: none.
    pub path: Option<PathBuf>,
    /// A model on the Hugging Face Hub whose tokenizer is used, as `owner/name` or `owner/name@revision`.
    /// Default: none.
    pub hub: Option<String>,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            kind: Kind::Bpe,
            vocabulary: 8000,
            shared: true,
            byte_fallback: true,
            character_coverage: 1.0,
            normalization: Normalization::None,
            trim: true,
            sample_lines: 10_000_000,
            symbols: Vec::new(),
            bpe_dropout: 0.0,
            unigram_alpha: None,
            path: None,
            hub: None,
        }
    }
}

impl TextConfig {
    /// Whether a vocabulary is learned: neither `path` nor `hub` is given.
    pub fn learns(&self) -> bool {
        self.path.is_none() && self.hub.is_none()
    }

    /// Whether the table sets nothing but how a given tokenizer cuts training sentences.
    pub fn only_samples(&self) -> bool {
        let rest = Self {
            bpe_dropout: 0.0,
            unigram_alpha: None,
            ..self.clone()
        };
        rest == Self::default()
    }

    /// Whether a learned vocabulary can have pieces that are never cut. It can if SentencePiece can express it.
    pub(crate) fn can_have_symbols(&self) -> bool {
        self.kind != Kind::Word && self.normalization == Normalization::None
    }

    /// Whether the learned vocabulary has the 256 byte pieces.
    pub(crate) fn has_bytes(&self) -> bool {
        self.byte_fallback && self.kind.has_bytes()
    }

    /// Every fault of the table; each message starts with the key's path.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = if self.learns() {
            self.learning_faults()
        } else {
            Vec::new()
        };
        faults.extend(self.sampling_faults());
        if self.path.is_some() && self.hub.is_some() {
            faults.push("text.hub: give either text.path or text.hub, not both".to_owned());
        }
        if self.path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            faults.push("text.path: is empty; leave the key out to learn a vocabulary".to_owned());
        }
        if let Some(hub) = &self.hub
            && !is_hub_name(hub)
        {
            faults.push(format!("text.hub: must look like \"owner/name\", is {hub:?}"));
        }
        faults
    }

    /// The faults among the keys about cutting training sentences at random.
    fn sampling_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(0.0..=1.0).contains(&self.bpe_dropout) {
            faults.push(format!(
                "text.bpe_dropout: must be from 0 to 1, is {}",
                self.bpe_dropout
            ));
        }
        if let Some(alpha) = self.unigram_alpha.filter(|alpha| !(alpha.is_finite() && *alpha >= 0.0)) {
            faults.push(format!("text.unigram_alpha: must be at least 0, is {alpha}"));
        }
        if self.bpe_dropout != 0.0 && self.unigram_alpha.is_some() {
            faults.push(
                "text.unigram_alpha: a vocabulary is of one kind; give either this or text.bpe_dropout".to_owned(),
            );
        }
        faults
    }

    /// The faults of the keys about cutting training sentences at random that concern the kind of the vocabulary. Call
    /// this only if this table tells the kind. It does not if training begins with a model that brings its own
    /// tokenizer.
    pub fn kind_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let wrong_kind = |kind| self.learns() && self.kind != kind;
        if self.bpe_dropout != 0.0 && wrong_kind(Kind::Bpe) {
            faults.push(format!(
                "text.bpe_dropout: needs text.kind = \"bpe\", not \"{}\"",
                self.kind
            ));
        }
        if self.unigram_alpha.is_some() && wrong_kind(Kind::Unigram) {
            faults.push(format!(
                "text.unigram_alpha: needs text.kind = \"unigram\", not \"{}\"",
                self.kind
            ));
        }
        faults
    }

    /// The faults among the keys about learning.
    pub(crate) fn learning_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        // The fixed pieces, `▁`, and at least one more.
        let minimum = vocabulary::fixed_pieces(self.has_bytes()) + 2 + self.symbols.len();
        if self.vocabulary < minimum {
            let why = if self.has_bytes() {
                " with text.byte_fallback = true (256 byte pieces)"
            } else {
                ""
            };
            let why = match self.symbols.len() {
                0 => why.to_owned(),
                count => format!("{why} and {count} text.symbols"),
            };
            faults.push(format!(
                "text.vocabulary: must be at least {minimum}{why}, is {}",
                self.vocabulary
            ));
        }
        if u32::try_from(self.vocabulary).is_err() {
            faults.push(format!("text.vocabulary: must be below 2^32, is {}", self.vocabulary));
        }
        if self.sample_lines == 0 {
            faults.push("text.sample_lines: 0 leaves no line to learn from; 10000000 is usual".to_owned());
        }
        faults.extend(symbols::faults(&self.symbols));
        if !self.symbols.is_empty() && !self.can_have_symbols() {
            let (key, value) = match self.kind {
                Kind::Word => ("kind", self.kind.to_string()),
                _ => ("normalization", self.normalization.to_string()),
            };
            faults.push(format!(
                "text.symbols: no vocabulary with text.{key} = \"{value}\" can have them; remove one of the two keys"
            ));
        }
        if !(self.character_coverage > 0.0 && self.character_coverage <= 1.0) {
            faults.push(format!(
                "text.character_coverage: must be above 0 and at most 1, is {}",
                self.character_coverage
            ));
        }
        faults
    }
}

/// Whether this is `owner/name`, or a bare `name`, as the oldest models of the Hub have.
fn is_hub_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    parts.len() <= 2
        && parts
            .iter()
            .all(|part| !part.is_empty() && !part.contains(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound() {
        assert_eq!(TextConfig::default().validate(), Vec::<String>::new());
    }

    #[test]
    fn every_fault_is_reported_with_its_key() {
        let config = TextConfig {
            vocabulary: 100,
            character_coverage: f64::NAN,
            ..TextConfig::default()
        };
        let faults = config.validate();
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(
            faults[0].starts_with("text.vocabulary: must be at least 261"),
            "{faults:?}"
        );
        assert!(faults[1].starts_with("text.character_coverage: "), "{faults:?}");

        let config = TextConfig {
            path: Some(PathBuf::new()),
            hub: Some("a/b/c".to_owned()),
            ..TextConfig::default()
        };
        let faults = config.validate();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults.iter().all(|fault| fault.starts_with("text.")), "{faults:?}");
    }

    #[test]
    fn random_cuts_need_their_kind() {
        let faults = |kind, bpe_dropout, unigram_alpha| {
            let config = TextConfig {
                kind,
                bpe_dropout,
                unigram_alpha,
                ..TextConfig::default()
            };
            [config.validate(), config.kind_faults()].concat().join("; ")
        };
        assert_eq!(faults(Kind::Bpe, 0.1, None), "");
        assert!(faults(Kind::Bpe, 0.1, Some(0.1)).starts_with("text.unigram_alpha: a vocabulary is of one kind"));
        assert_eq!(faults(Kind::Unigram, 0.0, Some(0.0)), "");
        assert_eq!(
            faults(Kind::Unigram, 0.1, None),
            "text.bpe_dropout: needs text.kind = \"bpe\", not \"unigram\""
        );
        assert!(faults(Kind::Bpe, 0.0, Some(0.5)).starts_with("text.unigram_alpha: needs"));
        assert!(faults(Kind::Bpe, 1.1, None).starts_with("text.bpe_dropout: must be from 0 to 1"));
        assert!(faults(Kind::Unigram, 0.0, Some(f64::NAN)).starts_with("text.unigram_alpha: must be at least 0"));
        // The kind of a vocabulary from elsewhere is known only after opening it.
        let config = TextConfig {
            unigram_alpha: Some(0.1),
            path: Some(PathBuf::from("vocabulary")),
            ..TextConfig::default()
        };
        assert_eq!([config.validate(), config.kind_faults()].concat(), Vec::<String>::new());
    }

    #[test]
    fn a_word_vocabulary_has_no_byte_pieces() {
        let config = TextConfig {
            kind: Kind::Word,
            vocabulary: 5,
            ..TextConfig::default()
        };
        assert!(config.validate().is_empty());
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = serde_json::from_str::<TextConfig>(r#"{"vocab": 8000}"#).unwrap_err();
        assert!(error.to_string().contains("vocab"), "{error}");
    }
}
