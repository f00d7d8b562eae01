//! The error type of the crate.

use std::fmt;
use std::path::PathBuf;
use tallow_comm::CommError;
use tallow_data::{DataError, WorkerLost};
use tallow_decode::DecodeError;
use tallow_model::ModelError;
use tallow_score::ScoreError;
use tallow_text::TextError;
use tallow_train::TrainError;

/// The result type of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error. Its text says what is wrong and, if possible, how to solve it. Causes that the text leaves out are in its
/// [`source`](std::error::Error::source).
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that was not understood, or settings that contradict each other.
    #[error("{0}")]
    Usage(String),
    /// A config that cannot be used.
    #[error("{name}: this config cannot be used:\n  {}", faults.join("\n  "))]
    Config {
        /// The file.
        name: String,
        /// Every fault, each beginning with its key.
        faults: Vec<String>,
    },
    /// There is no run to resume.
    #[error("{}: there is no run to resume", path.display())]
    NoRun {
        /// The place that was searched.
        path: PathBuf,
    },
    /// A new run would replace another. Resume that one, replace it ([`Begin`](crate::Begin)), or give the new one
    /// another name.
    #[error("{}: there is a run already", path.display())]
    RunExists {
        /// The run.
        path: PathBuf,
    },
    /// A run has a best model, but nothing to resume from. Begin another run with this model by `init`, or replace it.
    #[error("{}: this run has a best model, but no checkpoint to resume from", path.display())]
    NoCheckpoint {
        /// The run.
        path: PathBuf,
    },
    /// No checkpoint of a run can be used. Replace the run.
    #[error("{}: every checkpoint is damaged or led to divergence:\n  {}", path.display(), faults.join("\n  "))]
    DamagedCheckpoints {
        /// The run.
        path: PathBuf,
        /// The fault of each checkpoint.
        faults: Vec<String>,
    },
    /// A directory for a run has a config that no run has written. Give the run another `output`.
    #[error("{}: there is a config.toml that no run has written (without run.json)", path.display())]
    ForeignConfig {
        /// The directory.
        path: PathBuf,
    },
    /// The output of a job exists. Give the job another output, or replace this one ([`Begin`](crate::Begin)).
    #[error("{}: this file exists already", path.display())]
    OutputExists {
        /// The output.
        path: PathBuf,
    },
    /// The output belongs to an unfinished job. Resume it, or replace it ([`Begin`](crate::Begin)).
    #[error("{}: this is the output of an unfinished job", path.display())]
    UnfinishedJob {
        /// The first output.
        path: PathBuf,
    },
    /// The unfinished job cannot be resumed: it is another one, or damaged. Begin anew ([`Begin`](crate::Begin)).
    #[error("{}: {reason}", path.display())]
    OtherJob {
        /// The first output.
        path: PathBuf,
        /// Why it cannot be resumed.
        reason: String,
    },
    /// There is an output, but no unfinished job to resume.
    #[error("{}: this file is complete, or was not written by a job; there is nothing to resume", path.display())]
    NoJob {
        /// The output.
        path: PathBuf,
    },
    /// A device cannot be used. The CPU always can.
    #[error("{0}")]
    NoDevice(String),
    /// A model is not in the cache of the Hub, and it must not be fetched.
    #[error(
        "{model} is not in the cache of the Hugging Face Hub, or not all of it: {} was looked for, and the Hub is not to \
         be asked", folder.display()
    )]
    Offline {
        /// The model and its revision.
        model: String,
        /// The folder that was searched.
        folder: PathBuf,
    },
    /// Training failed, but the run has a checkpoint.
    #[error("the run is saved up to update {update}; once the fault is mended, resume it")]
    Saved {
        /// The update of the newest usable checkpoint.
        update: u64,
        /// Why training failed.
        source: Box<Error>,
    },
    /// An error with a description of the action that failed.
    #[error("{context}")]
    Context {
        /// The action that failed.
        context: String,
        /// The reason of the failure.
        source: Box<Error>,
    },
    /// Any other error, in words.
    #[error("{0}")]
    Other(String),
    /// A file or a connection failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A tokenizer failed.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A corpus failed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A model or its directory failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Translation failed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The other processes of a group do not answer.
    #[error(transparent)]
    Group(#[from] CommError),
    /// A score failed.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A config could not be read as TOML.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// A config could not be written as TOML.
    #[error(transparent)]
    ToToml(#[from] toml::ser::Error),
    /// Something could not be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The Hugging Face Hub, or the connection to it, failed.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// Text could not be formatted.
    #[error(transparent)]
    Format(#[from] fmt::Error),
}

impl From<WorkerLost> for Error {
    fn from(_: WorkerLost) -> Self {
        Self::Other("a worker ended unexpectedly".into())
    }
}

/// The text with its causes: this is what a `main` that returns an error prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.whole())
    }
}

/// A request to the Hugging Face Hub failed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct HubError(Box<dyn std::error::Error + Send + Sync>);

impl From<hf_hub::api::sync::ApiError> for Error {
    fn from(error: hf_hub::api::sync::ApiError) -> Self {
        HubError::of(error)
    }
}

impl HubError {
    pub(crate) fn of(error: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Hub(Self(Box::new(error)))
    }
}

impl Error {
    /// This error with a description of the action that failed.
    pub(crate) fn context(self, context: impl fmt::Display) -> Self {
        Self::Context {
            context: context.to_string(),
            source: Box::new(self),
        }
    }

    /// The error and its causes in one line, without repetitions.
    pub fn whole(&self) -> String {
        let mut whole = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let told = error.to_string();
            if !whole.contains(&told) {
                whole = format!("{whole}: {told}");
            }
            cause = error.source();
        }
        whole
    }

    /// The first cause, without the descriptions of actions.
    pub fn root(&self) -> &Self {
        match self {
            Self::Context { source, .. } | Self::Saved { source, .. } => source.root(),
            error => error,
        }
    }
}

/// Adds a description of the action that failed.
pub(crate) trait WithContext<T> {
    fn context(self, context: impl fmt::Display) -> Result<T>;

    fn with_context<C: fmt::Display>(self, context: impl FnOnce() -> C) -> Result<T>;
}

impl<T, E: Into<Error>> WithContext<T> for std::result::Result<T, E> {
    fn context(self, context: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.into().context(context))
    }

    fn with_context<C: fmt::Display>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|error| error.into().context(context()))
    }
}

impl<T> WithContext<T> for Option<T> {
    fn context(self, context: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| Error::Other(context.to_string()))
    }

    fn with_context<C: fmt::Display>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.ok_or_else(|| Error::Other(context().to_string()))
    }
}

/// Returns with an error in words.
macro_rules! bail {
    ($($words:tt)*) => {
        return Err($crate::Error::Other(format!($($words)*)))
    };
}
pub(crate) use bail;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let cause = std::io::Error::other("no room");
        let error = Error::from(cause).context("a/b: no room").context("cannot save");
        assert_eq!(error.whole(), "cannot save: a/b: no room");
        assert!(matches!(error.root(), Error::Io(_)));
        assert_eq!(format!("{error:?}"), error.whole());
    }
}
