//! What a beam search considers, step by step.

use std::fmt;

/// Gets every step of a beam search ([`TranslatorBuilder::observer`](crate::TranslatorBuilder::observer),
/// [`Search::observer`](crate::Search::observer)). Greedy search and sampling have no such steps.
pub trait BeamObserver: fmt::Debug + Send + Sync {
    /// A group of the beam of a sentence has taken a step.
    fn step(&self, step: BeamStep);
}

/// One step of one group of a beam.
#[derive(Clone, Debug, PartialEq)]
pub struct BeamStep {
    /// The number of the sentence, as in its request.
    pub sentence: u64,
    /// The group, from 0.
    pub group: usize,
    /// The length of the hypotheses after this step, in tokens.
    pub length: usize,
    /// The continuations that the group compared, best first.
    pub candidates: Vec<BeamCandidate>,
}

/// A continuation of a live hypothesis by one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BeamCandidate {
    /// The hypothesis that it continues: its place among those that were alive after the step before, from 0.
    pub parent: usize,
    /// The token.
    pub token: u32,
    /// The log-probability of the token.
    pub token_log_probability: f32,
    /// The log-probability of the whole.
    pub log_probability: f64,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a continuation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// It stays alive, at this place.
    Lives(usize),
    /// It ended with `</s>`, with this score after length normalisation and penalties.
    Ends(f64),
    /// Others were better.
    Dies,
}
