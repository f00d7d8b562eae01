//! Subword regularization: a training sentence is cut anew, at random, each time it is seen.
//!
//! Cuts are drawn from ids alone. The ids of a line tell its characters, so the line and its normalization are not
//! needed again. Text that the vocabulary cannot express stays as it is.

mod bpe_dropout;
mod lattice;

use serde_json::Value;

use crate::TextConfig;
use crate::bpe;
use crate::error::TextError;
use crate::imported;
use crate::pair::Tokenizers;
use crate::pipeline::SPACE;
use crate::sentencepiece::{self, ModelType};
use crate::tokenizer::Tokenizer;
pub(crate) use bpe_dropout::BpeDropout;
pub(crate) use lattice::Lattice;

/// Cuts the sentences of one side in another way each time: by BPE-dropout (Provilkov et al. 2020) or by drawing from a
/// unigram language model (Kudo 2018).
///
/// Every cut gives the same text as the ids from which it was made.
#[derive(Debug)]
pub struct SubwordSampler(Sort);

#[derive(Debug)]
enum Sort {
    Bpe(BpeDropout),
    Unigram(Lattice),
}

/// Random numbers for tests.
#[cfg(test)]
fn uniform(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl SubwordSampler {
    /// Another cut of the text of `ids`, which have no `</s>`. `uniform` draws numbers in [0, 1).
    pub fn sample(&self, ids: &[u32], uniform: &mut dyn FnMut() -> f64) -> Vec<u32> {
        match &self.0 {
            Sort::Bpe(merges) => merges.sample(ids, uniform),
            Sort::Unigram(lattice) => lattice.sample(ids, uniform),
        }
    }

    fn new(tokenizer: &Tokenizer, config: &TextConfig) -> Result<Self, TextError> {
        let wrong = |key: &'static str, wanted: &'static str| TextError::NoSampling { key, wanted };
        let vocabulary = Vocabulary::of(tokenizer);
        match (config.unigram_alpha, vocabulary) {
            (Some(alpha), Vocabulary::Unigram(pieces)) => Ok(Self(Sort::Unigram(Lattice::new(pieces, alpha)))),
            (Some(_), _) => Err(wrong("text.unigram_alpha", "unigram")),
            (None, Vocabulary::Bpe(merges)) => Ok(Self(Sort::Bpe(BpeDropout::new(merges, config.bpe_dropout)))),
            (None, _) => Err(wrong("text.bpe_dropout", "BPE")),
        }
    }
}

impl Tokenizers {
    /// The samplers of training sentences, source side first; nothing if the config asks for none.
    ///
    /// # Errors
    /// If a vocabulary is not of the kind that the config asks for.
    pub fn samplers(&self, config: &TextConfig) -> Result<Option<[SubwordSampler; 2]>, TextError> {
        if config.bpe_dropout == 0.0 && config.unigram_alpha.is_none() {
            return Ok(None);
        }
        Ok(Some([
            SubwordSampler::new(&self.source, config)?,
            SubwordSampler::new(&self.target, config)?,
        ]))
    }
}

/// Length in bytes of the longest piece that is merged; longer ones may occur in a file from elsewhere.
const LONGEST_PIECE: usize = 4096;

/// Whether the pieces of a `tokenizer.json` show where words begin or end. If they do not, a cut made from ids alone
/// would join words that were separated by a space.
fn shows_words(json: &Value) -> bool {
    let model = &json["model"];
    let affix = |key: &str| model[key].as_str().is_some_and(|affix| !affix.is_empty());
    let normalizer = &json["normalizer"];
    affix("end_of_word_suffix")
        || affix("continuing_subword_prefix")
        || normalizer.to_string().contains(SPACE)
        || has_type(&json["pre_tokenizer"], &["Metaspace", "ByteLevel"])
}

/// Whether a part of a pipeline, or one of its own parts, has one of these types.
fn has_type(part: &Value, types: &[&str]) -> bool {
    let parts = part["pretokenizers"].as_array().into_iter().flatten();
    part["type"].as_str().is_some_and(|name| types.contains(&name))
        || parts.into_iter().any(|part| has_type(part, types))
}

/// The contents of a vocabulary from which cuts are drawn.
pub(crate) enum Vocabulary {
    /// Left piece, right piece and result of each merge, the first merge first.
    Bpe(Vec<(u32, u32, u32)>),
    /// Text, id and log-probability of each piece.
    Unigram(Vec<(String, u32, f64)>),
    Other,
}

impl Vocabulary {
    pub(crate) fn of(tokenizer: &Tokenizer) -> Self {
        match (tokenizer.to_json(), tokenizer.marian_tokenizer()) {
            (Some(json), _) => Self::of_json(json, &|id| tokenizer.is_text(id)),
            (None, Some(side)) => {
                let [model, ..] = side.contents();
                Self::of_sentencepiece(model, &|text| side.id(text).filter(|id| tokenizer.is_text(*id)))
            }
            (None, None) => Self::Other,
        }
    }

    fn of_json(json: &str, is_text: &dyn Fn(u32) -> bool) -> Self {
        let json: Value = serde_json::from_str(json).unwrap_or_default();
        let model = &json["model"];
        if !shows_words(&json) {
            return Self::Other;
        }
        match (model["type"].as_str(), &model["vocab"], &model["merges"]) {
            (Some("Unigram"), Value::Array(vocabulary), _) => {
                let text = vocabulary.iter().zip(0u32..).filter(|(_, id)| is_text(*id));
                let pieces =
                    text.filter_map(|(entry, id)| Some((entry[0].as_str()?.to_owned(), id, entry[1].as_f64()?)));
                Self::Unigram(pieces.collect())
            }
            (_, Value::Object(vocabulary), Value::Array(merges)) if !merges.is_empty() => {
                let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
                let id = |text: &str| vocabulary.get(text)?.as_u64().and_then(|id| u32::try_from(id).ok());
                let merges = merges.iter().filter_map(|merge| {
                    let (left, right) = imported::parts_of_merge(merge)?;
                    let joined = format!("{left}{}", right.strip_prefix(prefix).unwrap_or(right));
                    Some((id(left)?, id(right)?, id(&joined).filter(|id| is_text(*id))?))
                });
                Self::Bpe(merges.collect())
            }
            _ => Self::Other,
        }
    }

    fn of_sentencepiece(model: &[u8], id: &dyn Fn(&str) -> Option<u32>) -> Self {
        let Some((kind, mut pieces)) = sentencepiece::normal_pieces(model) else {
            return Self::Other;
        };
        match kind {
            ModelType::Unigram => {
                let known = pieces.into_iter().filter_map(|(text, score)| {
                    let id = id(&text)?;
                    Some((text, id, f64::from(score)))
                });
                Self::Unigram(known.collect())
            }
            ModelType::Bpe => {
                pieces.retain(|(text, _)| text.len() <= LONGEST_PIECE);
                pieces.sort_by(|(_, a), (_, b)| b.total_cmp(a));
                let texts: Vec<String> = pieces.into_iter().map(|(text, _)| text).collect();
                let merges = bpe::merges(&texts);
                let ids = merges.iter().filter_map(|(left, right)| {
                    let joined = format!("{left}{right}");
                    Some((id(left)?, id(right)?, id(&joined)?))
                });
                Self::Bpe(ids.collect())
            }
        }
    }
}
