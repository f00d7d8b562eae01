//! Greedy search, beam search and sampling; text to text.
//!
//! A search sees the model as an [`Autoregressive`] one: a function from a state and the last tokens to the scores of
//! the next ones. Which sentences share a batch changes no choice of it.

mod autoregressive;
mod beam;
mod config;
mod constraint;
mod distribution;
mod error;
mod hypothesis;
mod marian;
mod sampling;
mod search;
mod source;
mod translator;

pub use autoregressive::{Autoregressive, AutoregressiveState};
pub use beam::beam_search;
pub use config::{DecodeConfig, LengthNormalization, LongLines};
pub use error::DecodeError;
pub use hypothesis::Hypothesis;
pub use marian::open_tokenizers;
pub use sampling::{Choice, sample};
pub use search::search;
pub use source::{Part, says_nothing};
pub use translator::{Alignment, Candidate, Translation, Translator, TranslatorBuilder};
