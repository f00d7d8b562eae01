//! A Transformer that is prepared for inference on the CPU.
//!
//! Every weight is packed once, in the form that its engine wants, and is owned by its layer. A step goes from hidden
//! states to hidden states in buffers that live as long as the batch. The forms are read-only, so threads can share a
//! model.

mod embedding;
mod layers;
mod model;
mod parameters;
mod restriction;
mod state;

pub use model::{PreparedState, PreparedTransformer};
