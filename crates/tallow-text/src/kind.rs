//! The kinds of vocabulary, and the normalization of text.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The four kinds of vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Byte-pair encoding: the most frequent pair of neighbouring pieces becomes a piece, again and again
    /// (Sennrich, Haddow and Birch 2016, "Neural Machine Translation of Rare Words with Subword Units").
    #[default]
    Bpe,
    /// A unigram language model over pieces: each line gets its most probable cut (Kudo 2018, "Subword
    /// Regularization").
    Unigram,
    /// Whole words between spaces. A word outside the vocabulary is `<unk>`.
    Word,
    /// Single characters.
    Char,
}

impl Kind {
    /// Whether this kind can spell unknown characters as bytes. Whole words cannot.
    pub fn has_bytes(self) -> bool {
        self != Kind::Word
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Bpe => "bpe",
            Kind::Unigram => "unigram",
            Kind::Word => "word",
            Kind::Char => "char",
        })
    }
}

impl fmt::Display for Normalization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Normalization::None => "none",
            Normalization::Nfc => "nfc",
            Normalization::Nfkc => "nfkc",
        })
    }
}

/// Unicode normalization of a line before it is cut (Unicode Standard Annex 15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalization {
    /// The text as it is. Only this choice keeps every line unchanged.
    #[default]
    None,
    /// Canonical composition: `e` and a combining acute accent become `é`.
    Nfc,
    /// Compatibility composition: also, `ﬁ` becomes `fi`, and a full-width letter becomes its plain form.
    Nfkc,
}
