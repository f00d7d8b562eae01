//! A learned vocabulary as a SentencePiece model (Kudo and Richardson 2018): the message that `.spm` files hold, in the
//! encoding of Protocol Buffers.
//!
//! SentencePiece does not cut text before it applies its model, and its BPE knows only scores of pieces, no merges.
//! Both libraries give the same ids nevertheless, because of the way in which vocabularies are learned here (see
//! `pipeline.rs` and `bpe.rs`).

use std::collections::HashSet;

use prost::Message as _;
use serde_json::Value;

use super::Processor;
use super::message::{Model, ModelType, Normalizer, Piece, PieceType, Trainer};
use crate::bpe;
use crate::error::TextError;
use crate::kind::{Kind, Normalization};
use crate::pipeline::Form;
use crate::special;
use crate::symbols::NUL;
use crate::tokenizer::Tokenizer;

/// The parts of a SentencePiece model.
pub(crate) struct Learned {
    pub(crate) model_type: ModelType,
    /// The pieces in the order of their ids; `<pad>` is the last.
    pub(crate) pieces: Vec<String>,
    /// The scores of the pieces. Those of special pieces and symbols are not used.
    pub(crate) scores: Vec<f32>,
    /// The pieces that are never cut.
    pub(crate) symbols: HashSet<String>,
    /// Whether the vocabulary has the 256 byte pieces.
    pub(crate) has_bytes: bool,
    /// Whether white space at the ends of a line is removed, and only one of several spaces kept.
    pub(crate) trim: bool,
}

impl Learned {
    /// The bytes of the model. `<pad>` is left out, because no line has it.
    ///
    /// # Errors
    /// Says why the library could not open the model.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        // The library takes a NUL for the end of a piece. Newly learned vocabularies have no such piece.
        if let Some(piece) = self.pieces.iter().find(|piece| piece.contains(NUL)) {
            return Err(format!(
                "the piece {piece:?} has a NUL, which SentencePiece does not know"
            ));
        }
        let pieces = self.pieces.split_last().map_or(&[][..], |(_, pieces)| pieces);
        let model = Model {
            pieces: pieces
                .iter()
                .zip(&self.scores)
                .map(|(piece, score)| self.entry(piece, *score))
                .collect(),
            trainer: Some(Trainer {
                model_type: Some(self.model_type.into()),
                vocab_size: i32::try_from(pieces.len()).ok(),
                byte_fallback: Some(self.has_bytes),
                unk_id: Some(1),
                bos_id: Some(-1),
                eos_id: Some(0),
                pad_id: Some(-1),
                ..Trainer::default()
            }),
            normalizer: Some(Normalizer {
                name: Some("identity".to_owned()),
                add_dummy_prefix: Some(true),
                remove_extra_whitespaces: Some(self.trim),
                escape_whitespaces: Some(true),
                ..Normalizer::default()
            }),
            denormalizer: None,
        };
        let bytes = model.encode_to_vec();
        // The learned file may have been changed by hand, and then nobody could open the model.
        Processor::new(&bytes)?;
        Ok(bytes)
    }

    fn entry(&self, piece: &str, score: f32) -> Piece {
        let (kind, score) = if piece == special::END {
            (PieceType::Control, 0.0)
        } else if piece == special::UNKNOWN {
            (PieceType::Unknown, 0.0)
        } else if special::is_byte(piece) {
            (PieceType::Byte, 0.0)
        } else if special::is_extra(piece) {
            (PieceType::Unused, 0.0)
        } else if self.symbols.contains(piece) {
            (PieceType::UserDefined, 0.0)
        } else {
            (PieceType::Normal, score)
        };
        Piece {
            piece: Some(piece.to_owned()),
            score: Some(score),
            kind: Some(kind.into()),
        }
    }
}

impl Tokenizer {
    /// The bytes of a SentencePiece model that gives every line the ids of this tokenizer. `<pad>`, the last piece, is
    /// left out, because no line has it.
    ///
    /// Where white space is trimmed (`text.trim`), the model itself trims only spaces. Other white space at the ends of
    /// a line must be removed before the library sees the line.
    ///
    /// # Errors
    /// [`TextError::NoSentencePiece`] if no such model exists. This is so for whole words, for text that is normalized
    /// first, and for a `tokenizer.json` that was not learned here.
    pub fn to_sentencepiece(&self) -> Result<Vec<u8>, TextError> {
        let bytes = self.to_learned()?.to_bytes();
        bytes.map_err(|reason| TextError::NoSentencePiece { reason })
    }

    /// The parts of a SentencePiece model that gives every line the ids of this tokenizer.
    ///
    /// # Errors
    /// As [`to_sentencepiece`](Self::to_sentencepiece).
    pub(crate) fn to_learned(&self) -> Result<Learned, TextError> {
        let refused = |reason: &str| TextError::NoSentencePiece {
            reason: reason.to_owned(),
        };
        let json = self.to_json().ok_or_else(|| refused("it is one already"))?;
        let json: Value = serde_json::from_str(json).map_err(|error| refused(&error.to_string()))?;
        let model_type = match json["model"]["type"].as_str() {
            Some("Unigram") => ModelType::Unigram,
            Some("BPE") => ModelType::Bpe,
            Some("WordLevel") => return Err(refused("its pieces are whole words (text.kind = \"word\")")),
            _ => return Err(refused("it was not learned here")),
        };
        let has_form = |normalization: Normalization, trim: bool| {
            Form::new(Kind::Bpe, normalization, trim).is_ok_and(|form| form.is_in(&json))
        };
        let normalizes = |normalization| has_form(normalization, false) || has_form(normalization, true);
        if normalizes(Normalization::Nfc) || normalizes(Normalization::Nfkc) {
            return Err(refused("it normalizes text first (text.normalization)"));
        }
        let trim = has_form(Normalization::None, true);
        if !trim && !has_form(Normalization::None, false) {
            return Err(refused("it was not learned here"));
        }
        let last = self.pad_id();
        let pieces: Option<Vec<String>> = (0..=last).map(|id| self.piece(id).map(str::to_owned)).collect();
        let pieces = pieces.ok_or_else(|| refused("some ids have no piece"))?;
        let special = [pieces.first(), pieces.get(1), pieces.last()].map(|piece| piece.map(String::as_str));
        if special != [special::END, special::UNKNOWN, special::PADDING].map(Some) {
            return Err(refused("it was not learned here"));
        }
        let scores = match model_type {
            ModelType::Unigram => unigram_scores(&json),
            // The piece that was found first is merged first, so it has the higher score.
            ModelType::Bpe => {
                has_our_merges(&json, &pieces).then(|| (0..pieces.len()).map(|id| -(id as f32)).collect())
            }
        };
        let scores = scores
            .filter(|scores| scores.len() + 1 >= pieces.len())
            .ok_or_else(|| refused("it was not learned here"))?;
        Ok(Learned {
            model_type,
            pieces,
            scores,
            symbols: HashSet::new(),
            has_bytes: json["model"]["byte_fallback"].as_bool().unwrap_or(false),
            trim,
        })
    }
}

/// The log-probabilities of a unigram vocabulary.
fn unigram_scores(json: &Value) -> Option<Vec<f32>> {
    let vocabulary = json["model"]["vocab"].as_array()?;
    vocabulary.iter().map(|entry| Some(entry[1].as_f64()? as f32)).collect()
}

/// Whether the merges are exactly those that the order of the pieces gives.
fn has_our_merges(json: &Value, pieces: &[String]) -> bool {
    let learned = pieces.iter().filter(|piece| !special::is_reserved(piece));
    let ours = bpe::merges(&learned.cloned().collect::<Vec<_>>());
    let theirs = json["model"]["merges"].as_array();
    theirs.is_some_and(|theirs| {
        let same = |(ours, theirs): (&(String, String), &Value)| theirs[0] == *ours.0 && theirs[1] == *ours.1;
        ours.len() == theirs.len() && ours.iter().zip(theirs).all(same)
    })
}
