//! A SentencePiece model without a vocabulary.

use std::fs;
use std::path::Path;

use crate::error::TextError;
use crate::sentencepiece::Processor;

/// A SentencePiece model alone. It cuts lines into the pieces that the SentencePiece library cuts them into, and knows
/// no ids: for counting pieces, not for a translation model, whose vocabulary is a [`Tokenizer`](crate::Tokenizer).
#[derive(Debug)]
pub struct SentencePieceModel {
    processor: Processor,
}

impl SentencePieceModel {
    /// Reads a model: a file such as `source.spm` or `tokenizer.model`.
    ///
    /// # Errors
    /// If the file cannot be read, or is not a SentencePiece model of a kind that is supported.
    pub fn open(path: &Path) -> Result<Self, TextError> {
        let bytes = fs::read(path).map_err(|source| TextError::Read {
            path: path.to_owned(),
            source,
        })?;
        let processor = Processor::new(&bytes).map_err(|reason| TextError::SentencePiece {
            path: path.to_owned(),
            reason,
        })?;
        Ok(Self { processor })
    }

    /// The pieces of a line, in order: what `SentencePieceProcessor.encode(line, out_type=str)` gives in Python. A run
    /// of characters that the model does not know is one piece.
    pub fn pieces(&self, line: &str) -> Vec<String> {
        let mut pieces = Vec::new();
        self.processor.each_piece(line, |piece| pieces.push(piece.to_owned()));
        pieces
    }
}
