//! A learned vocabulary as a SentencePiece model (Kudo and Richardson 2018): the message that `.spm` files hold, in the
//! encoding of Protocol Buffers.
//!
//! SentencePiece needs no cut before it applies its model, and its BPE knows no merges, only scores of pieces. That
//! both libraries give the same ids nevertheless is how a vocabulary is learned here (see `pipeline.rs` and `bpe.rs`).

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

/// What a SentencePiece model is made from.
pub(crate) struct Learned {
    pub(crate) model_type: ModelType,
    /// The pieces in the order of their ids; `<pad>` is the last.
    pub(crate) pieces: Vec<String>,
    /// Their scores. Of special pieces and symbols, they are not looked at.
    pub(crate) scores: Vec<f32>,
    /// Those of them that are never cut.
    pub(crate) symbols: HashSet<String>,
    /// Whether it has the 256 byte pieces.
    pub(crate) has_bytes: bool,
    /// Whether white space at the ends of a line, and all but one of several spaces, is removed.
    pub(crate) trim: bool,
}

impl Learned {
    /// The bytes of the model. `<pad>` is not in it: no line has it.
    ///
    /// # Errors
    /// Why the library could not open it.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        // The library takes a NUL for the end of a piece. Vocabularies that are learned here have none any more.
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
        // Somebody may have changed what was learned here, and nobody could open what is written then.
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
    /// not in it: no line has it.
    ///
    /// Where white space is trimmed (`text.trim`), the model trims spaces alone: a line that begins or ends with other
    /// white space must lose that before the library sees it.
    ///
    /// # Errors
    /// [`TextError::NoSentencePiece`] if there is no such model: of whole words, of text that is normalized first, and
    /// of a `tokenizer.json` that was not learned here.
    pub fn to_sentencepiece(&self) -> Result<Vec<u8>, TextError> {
        let bytes = self.to_learned()?.to_bytes();
        bytes.map_err(|reason| TextError::NoSentencePiece { reason })
    }

    /// What a SentencePiece model is made from that gives every line the ids of this tokenizer.
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
            // The piece that was found first is merged first: the higher score.
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

/// Whether merges are all those that the order of the pieces gives.
fn has_our_merges(json: &Value, pieces: &[String]) -> bool {
    let learned = pieces.iter().filter(|piece| !special::is_reserved(piece));
    let ours = bpe::merges(&learned.cloned().collect::<Vec<_>>());
    let theirs = json["model"]["merges"].as_array();
    theirs.is_some_and(|theirs| {
        let same = |(ours, theirs): (&(String, String), &Value)| theirs[0] == *ours.0 && theirs[1] == *ours.1;
        ours.len() == theirs.len() && ours.iter().zip(theirs).all(same)
    })
}
