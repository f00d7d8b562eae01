//! What can go wrong with a model.

use std::path::PathBuf;

/// Errors of models and their directories.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The architecture cannot be built.
    #[error("this model cannot be built:\n  {}", .0.join("\n  "))]
    Architecture(Vec<String>),
    /// A file of a model directory cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `config.json`, or what a model of the Marian toolkit says of itself, is not the description of a model that
    /// Tallow knows.
    #[error("{path}: not a model that can be opened:\n  {}", .faults.join("\n  "))]
    Config {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong or unsupported.
        faults: Vec<String>,
    },
    /// A file is not what its name says.
    #[error("{path}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it is, or what is wrong with it.
        reason: String,
    },
    /// The weights do not belong to the config beside them.
    #[error("{path}: the weights do not fit the config.json beside them:\n  {}", .faults.join("\n  "))]
    Weights {
        /// The file.
        path: PathBuf,
        /// Every missing, misshapen or surplus tensor.
        faults: Vec<String>,
    },
    /// The parameters given to a model are not those of its architecture.
    #[error("there is no parameter {0:?}")]
    NoParameter(String),
    /// More positions than a table of learned positions has.
    #[error("a sentence of {length} tokens is longer than the {limit} learned positions (model.max_positions)")]
    TooLong {
        /// Tokens of the sentence.
        length: usize,
        /// Positions of the table.
        limit: usize,
    },
    /// A batch whose parts do not fit each other.
    #[error("{0}")]
    Batch(String),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
