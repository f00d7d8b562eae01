//! Errors while decoding.

use tallow_data::WorkerLost;
use tallow_model::ModelError;
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
    /// A worker thread ended before its work was done.
    #[error("a translation worker ended unexpectedly")]
    Worker,
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer failed.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl From<WorkerLost> for DecodeError {
    fn from(_: WorkerLost) -> Self {
        Self::Worker
    }
}
