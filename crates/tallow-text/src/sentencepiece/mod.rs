//! SentencePiece (Kudo and Richardson 2018): reads its models, cuts lines with them as the library does, and writes
//! learned vocabularies in its form.

mod bpe;
mod export;
mod message;
mod normalizer;
mod trie;
mod unigram;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use prost::Message as _;

use crate::files;
use crate::special;
use bpe::Bpe;
pub(crate) use export::Learned;
pub(crate) use message::ModelType;
use message::PieceType;
use normalizer::{Normalizer, text_of_bytes};
pub(crate) use trie::Trie;
use unigram::Unigram;

/// A SentencePiece model that is ready to cut lines.
#[derive(Debug)]
pub(crate) struct Processor {
    normalizer: Normalizer,
    /// Pieces defined by the user. They are found before anything else.
    protected: Trie,
    model: Model,
    ids: HashMap<String, u32>,
    unknown: u32,
    /// Control pieces such as `<s>`, which no line has.
    controls: HashSet<String>,
    byte_fallback: bool,
}

#[derive(Debug)]
enum Model {
    Unigram(Unigram),
    Bpe(Bpe),
}

/// A piece of a model; its id is its place in the list.
#[derive(Debug)]
struct Piece {
    text: String,
    score: f32,
    kind: PieceType,
}

/// The kind of a model and its ordinary pieces with their scores: all but control pieces, bytes and pieces defined by a
/// user. Nothing if this is not a model of a known kind.
pub(crate) fn normal_pieces(bytes: &[u8]) -> Option<(ModelType, Vec<(String, f32)>)> {
    let message = message::Model::decode(bytes).ok()?;
    let kind = message.trainer.unwrap_or_default().model_type;
    let kind = ModelType::try_from(kind.unwrap_or(ModelType::Unigram as i32)).ok()?;
    let normal = |piece: &message::Piece| piece.kind.is_none_or(|kind| kind == PieceType::Normal as i32);
    let pieces = message.pieces.into_iter().filter(normal);
    let pieces = pieces.filter_map(|piece| Some((piece.piece?, piece.score.unwrap_or_default())));
    Some((kind, pieces.collect()))
}

impl Processor {
    /// Reads a `.spm` file.
    ///
    /// # Errors
    /// Says what is wrong or not supported.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, String> {
        let message = message::Model::decode(bytes).map_err(|error| {
            let damaged = format!("it is cut off or damaged ({error}); download it again");
            files::reason_of(bytes, damaged)
        })?;
        if message.trainer.is_none() || message.normalizer.is_none() {
            // Every model has these after its pieces. A file that is cut off between two parts has no other fault.
            let cut = "it is cut off: it ends before its settings; download it again".to_owned();
            return Err(files::reason_of(bytes, cut));
        }
        let trainer = message.trainer.unwrap_or_default();
        let pieces = message
            .pieces
            .into_iter()
            .zip(0u32..)
            .map(|(piece, id)| {
                let kind = piece.kind.unwrap_or(PieceType::Normal as i32);
                Ok(Piece {
                    text: piece
                        .piece
                        .filter(|text| !text.is_empty())
                        .ok_or_else(|| format!("piece {id} is empty"))?,
                    score: piece.score.filter(|score| !score.is_nan()).unwrap_or_default(),
                    kind: PieceType::try_from(kind).map_err(|_| format!("piece {id} is of the unknown type {kind}"))?,
                })
            })
            .collect::<Result<Vec<_>, String>>()?;
        let byte_fallback = trainer.byte_fallback.unwrap_or(false);
        let mut pieces = pieces;
        for (piece, id) in pieces.iter_mut().zip(0u32..) {
            // As the library does since 0.2.1; older versions open no model with such a piece.
            match piece.text.contains('\0') {
                true if byte_fallback && piece.text == "\0" => piece.kind = PieceType::Unused,
                true => {
                    return Err(format!(
                        "piece {id}, {:?}, has a NUL, which SentencePiece does not know",
                        piece.text
                    ));
                }
                false => {}
            }
        }
        let (mut ids, mut unknown) = (HashMap::with_capacity(pieces.len()), None);
        for (piece, id) in pieces.iter().zip(0u32..) {
            if ids.insert(piece.text.clone(), id).is_some() {
                return Err(format!("the piece {:?} occurs twice", piece.text));
            }
            if piece.kind == PieceType::Unknown && unknown.replace(id).is_some() {
                return Err("it has two unknown pieces".to_owned());
            }
        }
        if byte_fallback && !(0..=255).all(|byte| ids.contains_key(&special::byte(byte))) {
            return Err("its byte pieces are not complete".to_owned());
        }
        let unknown = unknown.ok_or("it has no unknown piece")?;
        let model_type = trainer.model_type.unwrap_or(ModelType::Unigram as i32);
        let model = match ModelType::try_from(model_type) {
            Ok(ModelType::Unigram) => Model::Unigram(Unigram::new(&pieces, unknown)),
            Ok(ModelType::Bpe) => Model::Bpe(Bpe::new(&pieces)),
            Err(_) => {
                return Err(format!(
                    "its model type is {model_type}; only unigram (1) and BPE (2) are supported"
                ));
            }
        };
        if message
            .denormalizer
            .is_some_and(|map| map.precompiled_charsmap.is_some_and(|map| !map.is_empty()))
        {
            return Err("it changes the text of translations (denormalizer_spec), which is not supported".to_owned());
        }
        let user_defined = pieces
            .iter()
            .zip(0u32..)
            .filter(|(piece, _)| piece.kind == PieceType::UserDefined);
        let controls = pieces.iter().filter(|piece| piece.kind == PieceType::Control);
        let controls = controls.map(|piece| piece.text.clone()).collect();
        Ok(Self {
            normalizer: Normalizer::new(
                &message.normalizer.unwrap_or_default(),
                trainer.treat_whitespace_as_suffix.unwrap_or(false),
            )?,
            protected: Trie::new(user_defined.map(|(piece, id)| (piece.text.as_str(), id))),
            model,
            ids,
            unknown,
            controls,
            byte_fallback,
        })
    }

    /// Calls `found` with the pieces of a line, in order. Known pieces have the spelling of the model. A run of unknown
    /// characters is passed on as one piece.
    pub(crate) fn each_piece(&self, line: &str, mut found: impl FnMut(&str)) {
        let text = self.normalizer.normalize(line, &self.protected);
        // The run of unknown characters that has not been passed on yet.
        let mut run: Option<Range<usize>> = None;
        for (range, id) in self.cut(&text) {
            if id != self.unknown {
                if let Some(run) = run.take() {
                    found(&text[run]);
                }
                found(&text[range]);
            } else if self.byte_fallback {
                text[range].bytes().for_each(|byte| found(&special::byte(byte)));
            } else {
                run = Some(run.map_or(range.start, |run| run.start)..range.end);
            }
        }
        if let Some(run) = run {
            found(&text[run]);
        }
    }

    fn cut(&self, text: &str) -> Vec<(Range<usize>, u32)> {
        match &self.model {
            Model::Unigram(model) => model.cut(text),
            Model::Bpe(model) => {
                let id = |range: &Range<usize>| {
                    let id = self.ids.get(&text[range.clone()]).copied();
                    id.filter(|id| !model.is_unused(*id)).unwrap_or(self.unknown)
                };
                let cut = model.cut(text, &self.protected).into_iter();
                cut.map(|range| (range.clone(), id(&range))).collect()
            }
        }
    }

    /// All pieces and their ids.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (&str, u32)> {
        self.ids.iter().map(|(piece, id)| (piece.as_str(), *id))
    }

    /// The pieces that lines can have.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &str> {
        self.ids
            .keys()
            .map(String::as_str)
            .filter(|piece| !self.controls.contains(*piece))
    }

    /// The line that the pieces spell. Control pieces leave no trace.
    pub(crate) fn join<'a>(&self, pieces: impl IntoIterator<Item = &'a str>) -> String {
        let (mut joined, mut bytes) = (String::new(), Vec::new());
        for piece in pieces.into_iter().filter(|piece| !self.controls.contains(*piece)) {
            match special::byte_of(piece).filter(|_| self.byte_fallback) {
                Some(byte) => bytes.push(byte),
                None => {
                    joined.push_str(&text_of_bytes(&bytes));
                    bytes.clear();
                    joined.push_str(piece);
                }
            }
        }
        joined.push_str(&text_of_bytes(&bytes));
        self.normalizer.restore(&joined)
    }
}
