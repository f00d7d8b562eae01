//! Greedy search, beam search and sampling; translation of text.
//!
//! A search works with any [`Autoregressive`] model: a function from a state and the last tokens to the scores of the
//! next tokens. The choices of a search for a sentence do not depend on the other sentences of its batch.

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
pub use config::{DecodeCompute, DecodeConfig, LengthNormalization, LongLines};
pub use error::DecodeError;
pub use hypothesis::Hypothesis;
pub use marian::open_tokenizers;
pub use sampling::{Choice, sample};
pub use search::search;
pub use source::{Part, says_nothing};
pub use tallow_model::{BestPieces, RowRequest};
pub use translator::{Alignment, Candidate, Translation, Translator, TranslatorBuilder};
