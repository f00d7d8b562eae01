//! Greedy search, beam search and sampling; translation of text.
//!
//! A search works with any [`Autoregressive`] model: a function from a state and the last tokens to the scores of the
//! next tokens. The choices of a search for a sentence do not depend on the other sentences of its batch.

mod alignment;
mod autoregressive;
mod beam;
mod beam_record;
mod choices;
mod config;
mod distribution;
mod ensemble;
mod error;
mod head_scores;
mod hypothesis;
mod keep;
mod marian;
mod minimum_risk;
mod pairs;
mod phrases;
mod pieces;
mod request;
mod rules;
mod sampling;
mod search;
mod sentences;
mod shortlist;
mod source;
mod translation;
mod translator;

pub use alignment::Alignment;
pub use autoregressive::{Autoregressive, AutoregressiveState};
pub use beam::beam_search;
pub use beam_record::{BeamCandidate, BeamObserver, BeamStep, Fate};
pub use choices::{DecodeCompute, Keep, LengthNormalization, LongLines, NamedChoice, UnknownPieces, Utility};
pub use config::DecodeConfig;
pub use ensemble::{Ensemble, EnsembleState};
pub use error::DecodeError;
pub use head_scores::{AlignedPair, HeadScore, score_heads};
pub use hypothesis::Hypothesis;
pub use marian::open_tokenizers;
pub use pairs::Unscored;
pub use request::SentenceRequest;
pub use search::{Search, search};
pub use sentences::{ReadLines, Sentence};
pub use shortlist::{Shortlist, ShortlistSize};
pub use source::{Part, says_nothing};
pub use tallow_model::{BestPieces, RowRequest};
pub use translation::{Candidate, Translation};
pub use translator::{Input, Translator, TranslatorBuilder};
