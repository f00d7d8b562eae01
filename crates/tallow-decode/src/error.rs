//! Errors while decoding.

use std::path::PathBuf;
use tallow_data::WorkerLost;
use tallow_model::ModelError;
use tallow_score::ScoreError;
use tallow_text::TextError;

/// Errors of search and translation.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The settings are invalid.
    #[error("these search settings make no sense:\n  {}", .0.join("\n  "))]
    Config(Vec<String>),
    /// The scores of the model are not finite numbers.
    #[error("the model's scores are not finite numbers; its weights are damaged or its training diverged")]
    NotFinite,
    /// The tokenizer and the model do not belong together.
    #[error("the tokenizer has {tokenizer} {side} pieces and the model {model}: they do not belong together")]
    Vocabulary {
        /// Source or target.
        side: &'static str,
        /// Pieces of the tokenizer.
        tokenizer: usize,
        /// Pieces of the model.
        model: usize,
    },
    /// A line is too long, and `decode.long_lines` is `fail`.
    #[error(
        "line {line} has more than the {limit} tokens of decode.max_source_length; raise it, or let decode.long_lines be \
         \"split\" or \"truncate\""
    )]
    LongLine {
        /// The number of the line, from 1.
        line: u64,
        /// The maximum number of tokens, `</s>` included.
        limit: usize,
    },
    /// The prefix and the phrases of a line leave no room for a translation.
    #[error(
        "line {line}: its prefix and phrases need {tokens} tokens with </s>, more than the {limit} of decode.max_length; \
         raise it, or ask for less"
    )]
    LongRequest {
        /// The number of the line, from 1.
        line: u64,
        /// The fewest tokens.
        tokens: usize,
        /// The maximum number of tokens.
        limit: usize,
    },
    /// Phrases can only be looked for by beam search.
    #[error(
        "line {line} asks for phrases, which need a decode.beam of 2 or more (for each of decode.groups), and neither \
         decode.sample nor decode.mbr"
    )]
    PhrasesNeedBeams {
        /// The number of the line, from 1.
        line: u64,
    },
    /// A line with phrases is translated in parts.
    #[error(
        "line {line} asks for phrases, but is translated in parts; give its sentences on lines of their own, or raise \
         decode.max_source_length (without decode.split_sentences)"
    )]
    PhrasesOfParts {
        /// The number of the line, from 1.
        line: u64,
    },
    /// A prefix or phrase has characters that the target vocabulary lacks.
    #[error("line {line}: the target vocabulary cannot express {text:?}")]
    UnknownText {
        /// The number of the line, from 1.
        line: u64,
        /// The prefix or phrase.
        text: String,
    },
    /// A forbidden text has characters that the target vocabulary lacks.
    #[error("decode.forbid: the target vocabulary cannot express {0:?}, so no translation contains it anyway")]
    UnknownForbidden(String),
    /// There is not one target for each source.
    #[error("{sources} source lines, but {targets} target lines: each pair needs both")]
    UnpairedLines {
        /// Source lines.
        sources: usize,
        /// Target lines.
        targets: usize,
    },
    /// An ensemble has no models.
    #[error("an ensemble needs at least one model")]
    NoModels,
    /// A model of an ensemble does not fit the first one.
    #[error(
        "model {number} of the ensemble has other vocabularies than the first; only models that were trained with the \
         same vocabularies can translate together"
    )]
    ForeignModel {
        /// The number of the model, from 1.
        number: usize,
    },
    /// A search is asked for something that makes no sense for its model.
    #[error("{0}")]
    Request(String),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A shortlist cannot be used.
    #[error("{}: {reason}", path.display())]
    Shortlist {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The model cannot be restricted to some pieces.
    #[error("this model cannot be restricted to a shortlist of pieces")]
    NoShortlists,
    /// The model does not tell where it looks.
    #[error(
        "this model has no attention to the source that could be recorded (model.cross_attention = false); \
         decode.coverage_penalty, decode.unknown = \"copy\" and alignments need it"
    )]
    NoAttention,
    /// A worker thread ended before its work was done.
    #[error("a translation worker ended unexpectedly")]
    Worker,
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer failed.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A utility could not be computed.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl From<WorkerLost> for DecodeError {
    fn from(_: WorkerLost) -> Self {
        Self::Worker
    }
}
