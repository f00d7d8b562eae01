//! The errors of training.

use std::path::PathBuf;
use tallow_comm::CommError;
use tallow_data::{DataError, WorkerLost};
use tallow_decode::DecodeError;
use tallow_model::ModelError;
use tallow_score::ScoreError;
use tallow_text::TextError;

/// How often a run may go back from divergence. A run that needs more setbacks will not recover.
pub(crate) const MOST_SETBACKS: u64 = 5;

/// Errors of training, validation and checkpoints.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A file of the run directory cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A checkpoint is damaged, or was written by an incompatible program version.
    #[error("{path}: this checkpoint cannot be used: {reason}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// The reason, and the way out.
        reason: String,
    },
    /// Another process trains in the same directory.
    #[error("{path}: another process is training here; wait for it to end, or give this run another `name`")]
    Locked {
        /// The directory of the run.
        path: PathBuf,
    },
    /// The run cannot be continued after the changes that were made.
    #[error("this run cannot be resumed: {0}")]
    Resume(String),
    /// The loss or the gradient was not a finite number several times in a row, or finite ones led to numbers that are
    /// not finite.
    #[error("update {update}: {fault}. {advice}")]
    Diverged {
        /// The update.
        update: u64,
        /// The numbers that were not finite.
        fault: String,
        /// The possible causes, and the way out.
        advice: String,
    },
    /// The run has gone back from divergence as often as it may.
    #[error(
        "update {update}: the run has diverged again, after it has gone back {MOST_SETBACKS} times with a lower learning rate: \
         {fault}. {advice}"
    )]
    Hopeless {
        /// The update.
        update: u64,
        /// The numbers that were not finite.
        fault: String,
        /// The possible causes, and the way out.
        advice: String,
    },
    /// The weights with which training should begin cannot be used.
    #[error(
        "the weights that training begins with are not finite numbers, first those of {0}; begin with another model"
    )]
    NotFinite(String),
    /// A worker thread ended before its work was done.
    #[error("a training worker ended unexpectedly")]
    Worker,
    /// Other processes of the run do not answer.
    #[error("the processes of this run do not work together any more: {0}")]
    Group(#[from] CommError),
    /// The root of the group has ended the run, and says why.
    #[error("rank 0 has ended the run")]
    EndedByRoot,
    /// A message between processes could not be written or read.
    #[error("a message between the processes of this run has another form than expected: {0}")]
    Message(#[from] serde_json::Error),
    /// There is nothing to average.
    #[error("{0}")]
    Average(String),
    /// The data failed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Translation failed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A score failed.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// The tokenizer failed.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl TrainError {
    /// For `map_err` after operations on a file.
    pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::File {
            path: path.to_path_buf(),
            source,
        }
    }
}

impl From<WorkerLost> for TrainError {
    fn from(_: WorkerLost) -> Self {
        Self::Worker
    }
}
