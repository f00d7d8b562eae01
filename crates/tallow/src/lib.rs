//! Trains encoder-decoder Transformers for translation, evaluates them and translates with them.
//!
//! Programs use this crate; one of them is the command line `tallow`. It composes configs, finds models on the disk and
//! on the Hugging Face Hub, and carries out runs. It does not print, exit or read the environment.
//!
//! # Training
//!
//! ```no_run
//! use tallow::{Config, Silent, Training};
//!
//! # fn main() -> tallow::Result<()> {
//! let config = Config::compose("configs/numbers-en-de.toml", &["train.max_updates=500"])?;
//! let trained = Training::new(config).run(&Silent)?;
//! println!("update {}, in {}", trained.update, trained.run.path().display());
//! for test in trained.test {
//!     println!("exact match {:.1} %", test.exact_match);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Translating
//!
//! ```no_run
//! use tallow::{SavedModel, Silent};
//!
//! # fn main() -> tallow::Result<()> {
//! let translator = SavedModel::at("runs/numbers-en-de", &Silent)?.translator()?;
//! for translation in translator.translate(&["forty-two", "one thousand"], 0)? {
//!     println!("{}", translation.text());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Translator`] owns its model, so a server can hold it. Both programs are in `examples/`, where they are tested.
//!
//! # Threads and memory
//!
//! Training and translation use one worker for each core. Candle would add threads inside every operation, which then
//! wait for each other. A program gets the speed of the command line if `RAYON_NUM_THREADS=1` and
//! `CANDLE_NUM_THREADS=1` are set before its first tensor, and if its allocator keeps freed memory, as mimalloc does.

/// The Rust of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

pub mod ablation;
pub mod advice;
pub mod card;
pub mod chart;
pub mod cleaning;
pub mod comparison;
pub mod config;
pub mod corpora;
pub mod cost;
mod device;
mod error;
pub mod hub;
pub mod humanize;
pub mod initial;
mod job;
mod languages;
pub mod look;
mod notice;
mod page;
mod plot;
pub mod preparation;
pub mod project;
pub mod record;
pub mod report;
mod run_record;
mod saved_model;
pub mod scaling;
mod training;
pub mod vocabulary;
pub mod warnings;
mod workers;

pub use candle_core::Device;
pub use config::{Composed, Config};
pub use device::DeviceChoice;
pub use error::{Error, HubError, Result};
pub use hub::Hub;
pub use job::Job;
pub use notice::{Listener, Notice, Work};
pub use run_record::{BestRecord, DataRecord, InitRecord, PairCounts, Results, RunRecord, TestRecord};
pub use saved_model::SavedModel;
pub use tallow_decode::{DecodeConfig, Translation, Translator};
pub use tallow_ops::{instruction_set, use_avx2_only};
pub use tallow_train::{Ending, Event, Observer, RunDirectory, Silent};
pub use training::{
    Begin, Member, ReadyTraining, TestScores, Trained, Training, cores_for_each, has_results, may_change,
};
pub use workers::{check_workers, cores, workers};
