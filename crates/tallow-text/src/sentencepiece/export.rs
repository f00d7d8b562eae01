//! A learned vocabulary as a SentencePiece model (Kudo and Richardson 2018): the message that `.spm` files hold, in the
//! encoding of Protocol Buffers.
//!
//! SentencePiece needs no cut before it applies its model, and its BPE knows no merges, only scores of pieces. That both
//! libraries give the same ids nevertheless is how a vocabulary is learned here (see `form.rs` and `bpe.rs`).

use prost::Message as _;
use serde_json::Value;

use super::Processor;
use super::message::{Model, ModelType, Normalizer, Piece, PieceType, Trainer};
use crate::bpe;
use crate::error::TextError;
use crate::form::Form;
use crate::kind::{Kind, Normalization};
use crate::special;
use crate::tokenizer::Tokenizer;

impl Tokenizer {
    /// The bytes of a SentencePiece model that gives every line the ids of this tokenizer. `<pad>`, the last piece, is not
    /// in it: no line has it.
    ///
    /// # Errors
    /// [`TextError::NoSentencePiece`] if there is no such model: of whole words, of text that is normalized first, and of a
    /// `tokenizer.json` that was not learned here.
    pub fn to_sentencepiece(&self) -> Result<Vec<u8>, TextError> {
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
        if [Normalization::Nfc, Normalization::Nfkc]
            .into_iter()
            .any(|normalization| has_form(&json, normalization))
        {
            return Err(refused("it normalizes text first (text.normalization)"));
        }
        if !has_form(&json, Normalization::None) {
            return Err(refused("it was not learned here"));
        }
        let last = self.pad_id();
        let pieces: Option<Vec<&str>> = (0..last).map(|id| self.piece(id)).collect();
        let pieces = pieces.ok_or_else(|| refused("some ids have no piece"))?;
        let special = [pieces.first().copied(), pieces.get(1).copied(), self.piece(last)];
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
            .filter(|scores| scores.len() >= pieces.len())
            .ok_or_else(|| refused("it was not learned here"))?;
        let model = Model {
            pieces: pieces
                .iter()
                .zip(scores)
                .map(|(piece, score)| entry(piece, score))
                .collect(),
            trainer: Some(Trainer {
                model_type: Some(model_type.into()),
                vocab_size: i32::try_from(pieces.len()).ok(),
                byte_fallback: json["model"]["byte_fallback"].as_bool(),
                unk_id: Some(1),
                bos_id: Some(-1),
                eos_id: Some(0),
                pad_id: Some(-1),
                ..Trainer::default()
            }),
            normalizer: Some(Normalizer {
                name: Some("identity".to_owned()),
                add_dummy_prefix: Some(true),
                remove_extra_whitespaces: Some(false),
                escape_whitespaces: Some(true),
                ..Normalizer::default()
            }),
            denormalizer: None,
        };
        let bytes = model.encode_to_vec();
        // Somebody may have changed what was learned here, and nobody could open what is written then.
        Processor::new(&bytes).map_err(|reason| refused(&reason))?;
        Ok(bytes)
    }
}

/// Whether text is cut as in a vocabulary that is learned here with this normalization.
fn has_form(json: &Value, normalization: Normalization) -> bool {
    Form::new(Kind::Bpe, normalization).is_ok_and(|form| form.is_in(json))
}

fn entry(piece: &str, score: f32) -> Piece {
    let (kind, score) = if piece == special::END {
        (PieceType::Control, 0.0)
    } else if piece == special::UNKNOWN {
        (PieceType::Unknown, 0.0)
    } else if special::is_byte(piece) {
        (PieceType::Byte, 0.0)
    } else if special::is_extra(piece) {
        (PieceType::Unused, 0.0)
    } else {
        (PieceType::Normal, score)
    };
    Piece {
        piece: Some(piece.to_owned()),
        score: Some(score),
        kind: Some(kind.into()),
    }
}

/// The log-probabilities of a unigram vocabulary.
fn unigram_scores(json: &Value) -> Option<Vec<f32>> {
    let vocabulary = json["model"]["vocab"].as_array()?;
    vocabulary.iter().map(|entry| Some(entry[1].as_f64()? as f32)).collect()
}

/// Whether merges are all those that the order of the pieces gives.
fn has_our_merges(json: &Value, pieces: &[&str]) -> bool {
    let learned = pieces[2..]
        .iter()
        .filter(|piece| !special::is_byte(piece) && !special::is_extra(piece));
    let ours = bpe::merges(&learned.map(|piece| (*piece).to_owned()).collect::<Vec<_>>());
    let theirs = json["model"]["merges"].as_array();
    theirs.is_some_and(|theirs| {
        let same = |(ours, theirs): (&(String, String), &Value)| theirs[0] == *ours.0 && theirs[1] == *ours.1;
        ours.len() == theirs.len() && ours.iter().zip(theirs).all(same)
    })
}
