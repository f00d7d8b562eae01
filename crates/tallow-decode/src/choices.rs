//! Settings of `[decode]` with a fixed list of values.

use serde::{Deserialize, Serialize};
use tallow_model::InferenceCompute;

/// The normalisation of a hypothesis' score by its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LengthNormalization {
    /// log p / length^penalty, as Hugging Face, Marian and CTranslate2 do.
    #[default]
    Plain,
    /// log p / ((5 + length) / 6)^penalty (Wu et al. 2016, equation 14).
    Wu,
}

/// The treatment of a line that is longer than [`crate::DecodeConfig::max_source_length`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LongLines {
    /// Translates the sentences of the line one by one.
    #[default]
    Split,
    /// Translates the beginning of the line.
    Truncate,
    /// Ends with an error.
    Fail,
}

/// The number format of matrix products while translating. Softmax, normalisation, residuals and scores are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecodeCompute {
    /// 32-bit floating point.
    #[default]
    F32,
    /// bfloat16, if the processor has a unit that is faster at that; otherwise f32.
    Bf16,
    /// 8-bit integers: weights with a scale for each output, activations with a scale for each row.
    Int8,
}

/// A kind of text that is kept as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// `https://example.org/a`, `www.example.org`.
    Url,
    /// `name@example.org`.
    Email,
    /// `<b>`, `{name}`, `%s`, `&amp;`.
    Tag,
    /// Digits with signs, separators and at most one letter.
    Number,
    /// Pictures of Unicode.
    Emoji,
}

/// A setting with a fixed list of values, which have names in configs.
pub trait NamedChoice: Copy + Send + Sync + 'static {
    /// All values.
    const ALL: &'static [Self];

    /// The name in a config.
    fn name(self) -> &'static str;

    /// The value with this name.
    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|choice| choice.name() == name)
    }
}

impl NamedChoice for DecodeCompute {
    /// The most exact first.
    const ALL: &'static [Self] = &[Self::F32, Self::Bf16, Self::Int8];

    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

impl NamedChoice for Keep {
    const ALL: &'static [Self] = &[Self::Url, Self::Email, Self::Tag, Self::Number, Self::Emoji];

    fn name(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Email => "email",
            Self::Tag => "tag",
            Self::Number => "number",
            Self::Emoji => "emoji",
        }
    }
}

impl NamedChoice for UnknownPieces {
    const ALL: &'static [Self] = &[Self::Allow, Self::Forbid, Self::Copy];

    fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Forbid => "forbid",
            Self::Copy => "copy",
        }
    }
}

impl NamedChoice for Utility {
    const ALL: &'static [Self] = &[Self::None, Self::Chrf, Self::Bleu];

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Chrf => "chrf",
            Self::Bleu => "bleu",
        }
    }
}

impl From<DecodeCompute> for InferenceCompute {
    fn from(compute: DecodeCompute) -> Self {
        match compute {
            DecodeCompute::F32 => Self::F32,
            DecodeCompute::Bf16 => Self::Bf16,
            DecodeCompute::Int8 => Self::Int8,
        }
    }
}

/// The treatment of `<unk>`, the piece for characters that the vocabulary lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownPieces {
    /// It may be chosen like any other piece.
    #[default]
    Allow,
    /// It is never chosen.
    Forbid,
    /// It may be chosen. In the text, the source word that gets most of its attention stands in its place.
    Copy,
}

/// The utility by which minimum-Bayes-risk decoding chooses among samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Utility {
    /// No minimum-Bayes-risk decoding.
    #[default]
    None,
    /// chrF of sentences.
    Chrf,
    /// BLEU of sentences.
    Bleu,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::{DeserializeOwned, IntoDeserializer, value};

    fn named_as_in_configs<C: NamedChoice + DeserializeOwned + PartialEq + std::fmt::Debug>() {
        for choice in C::ALL {
            let name: value::StrDeserializer<'_, value::Error> = choice.name().into_deserializer();
            assert_eq!(C::deserialize(name).as_ref(), Ok(choice));
            assert_eq!(C::named(choice.name()).as_ref(), Some(choice));
        }
        assert_eq!(C::named("x"), None);
    }

    #[test]
    fn choices_are_called_what_configs_call_them() {
        named_as_in_configs::<DecodeCompute>();
        named_as_in_configs::<UnknownPieces>();
        named_as_in_configs::<Utility>();
        named_as_in_configs::<Keep>();
    }
}
