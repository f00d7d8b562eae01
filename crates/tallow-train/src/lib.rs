//! Batches to better parameters: updates, schedules, validation, checkpoints.
//!
//! The [`Trainer`] has the training loop. It never prints: it reports everything as an [`Event`] to an [`Observer`] and
//! to the logs of the run directory. [`read_log`] reads these logs.

mod average;
mod card;
mod checkpoint;
mod checksum;
mod config;
mod ema;
mod error;
mod event;
mod finiteness;
mod flat;
mod gradient;
mod journal;
mod json_file;
mod loss_watch;
mod measure;
mod optimizer;
mod parallel;
mod probe;
pub mod proof;
mod reduction;
mod run_directory;
mod schedule;
mod selection;
mod state;
mod tensorboard;
mod trainer;
mod valid_command;
mod validation;
mod workers;

pub use average::average;
pub use card::{CARD_FILE, CardConfig, ModelCard};
pub use checkpoint::{Checkpoint, Saved, read_state};
pub use checksum::{CHECKSUMS_FILE, check as check_sums, replace_file, sha256};
pub use config::{ComputeKind, OnDivergence, OptimizerKind, ReduceKind, Schedule, TrainConfig};
pub use ema::Ema;
pub use error::TrainError;
pub use event::{Event, Observer, Profile, Silent};
pub use finiteness::must_be_finite;
pub use gradient::{DropoutKey, GradientOptions, Gradients, gradients};
pub use journal::{LogLines, MetricsLine, TimingLine, ValidationLine, read_log};
pub use loss_watch::LossWatch;
pub use measure::Measure;
pub use optimizer::Optimizer;
pub use probe::{Speed, measure_speed};
pub use run_directory::RunDirectory;
pub use selection::Selection;
pub use state::{Fingerprint, TrainState};
pub use trainer::{Ending, Outcome, StagePlace, Trainer, TrainerParts};
pub use valid_command::ValidCommand;
pub use validation::{EVALUATED_LINES, Evaluation, Validation, ValidationOptions, ValidationSet, evaluate, perplexity};
pub use workers::Workers;
