//! Operations of a model that is prepared for inference: on plain rows of f32 in main memory, without a graph.
//!
//! Weights are packed once, in the form that their engine wants ([`PreparedLinear`]). The other operations work in
//! place or in buffers of the caller, so that a decoding step allocates nothing that grows with the vocabulary.
//!
//! The result of a row depends on this row alone, to the bit.

mod attention;
mod best;
mod linear;
mod normalisation;
mod parallel;
mod values;

pub use crate::product::int8::quantise_row;
pub use attention::{DecodingAttention, RecordedHeads, attend_sentences};
pub use best::{BestOfRows, BestPieces, RowRequest, best_of_logits, best_of_probabilities, softmax_row};
pub use linear::{InferenceCompute, InputRows, PreparedLinear, Scratch};
pub use normalisation::{add, add_and_normalise, normalise_rows};
pub use parallel::in_parallel;
pub use values::with_values;
