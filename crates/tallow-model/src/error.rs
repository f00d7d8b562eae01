//! Errors of models.

use std::path::PathBuf;

/// Errors of models and their directories.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The architecture cannot be built.
    #[error("this model cannot be built:\n  {}", .0.join("\n  "))]
    Architecture(Vec<String>),
    /// A model on a GPU, or in another type than f32, cannot be restricted to some pieces.
    #[error("only models in f32 on the CPU can be restricted to some of their pieces")]
    NoRestriction,
    /// A weight is not a finite number, so it cannot be rounded to an 8-bit integer.
    #[error("{0} holds numbers that are not finite; its training diverged, or it is damaged")]
    NotFinite(String),
    /// A file of a model directory cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// `config.json`, or the options in a Marian toolkit model, do not describe a model that Tallow supports.
    #[error("{path}: not a model that can be opened:\n  {}", .faults.join("\n  "))]
    Config {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong or unsupported.
        faults: Vec<String>,
    },
    /// A file is damaged or has another format.
    #[error("{path}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The fault, or the actual kind of the file.
        reason: String,
    },
    /// The weights do not belong to the config beside them.
    #[error("{path}: the weights do not fit the config.json beside them:\n  {}", .faults.join("\n  "))]
    Weights {
        /// The file.
        path: PathBuf,
        /// All missing, misshapen or surplus tensors.
        faults: Vec<String>,
    },
    /// A parameter of the architecture is missing.
    #[error("there is no parameter {0:?}")]
    NoParameter(String),
    /// A sentence is longer than the table of learned positions.
    #[error("a sentence of {length} tokens is longer than the {limit} learned positions (model.max_positions)")]
    TooLong {
        /// Tokens of the sentence.
        length: usize,
        /// Positions of the table.
        limit: usize,
    },
    /// The parts of a batch do not fit each other.
    #[error("{0}")]
    Batch(String),
    /// A device does not have this number format.
    #[error("only the CPU computes in {0:?}; a GPU computes in f32")]
    Compute(tallow_ops::inference::InferenceCompute),
    /// There is no such head of attention.
    #[error("layer {layer}, head {head}: the decoder has {layers} layers with {heads} heads, both counted from 0")]
    NoHead {
        /// The layer.
        layer: usize,
        /// The head.
        head: usize,
        /// Number of decoder layers.
        layers: usize,
        /// Number of heads of a decoder layer.
        heads: usize,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
