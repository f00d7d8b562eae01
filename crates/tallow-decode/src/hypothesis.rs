//! Hypotheses of a search.

use crate::DecodeError;
use std::sync::Arc;

/// The text of a sequence of tokens. Hypotheses with the same text count as one.
pub(crate) type TextOf<'a> = dyn Fn(&[u32]) -> Result<String, DecodeError> + Sync + 'a;

/// A target sentence with its scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// The tokens, without `</s>`.
    pub tokens: Vec<u32>,
    /// The natural log-probability of each token, and of `</s>` if the model chose to end there.
    pub token_log_probabilities: Vec<f32>,
    /// The sum of the token log-probabilities.
    pub log_probability: f64,
    /// The log-probability, normalised by length according to the search settings.
    pub score: f64,
    /// Whether the model ended the sentence itself; false if it was cut at the maximum length.
    pub finished: bool,
    /// For each of the token log-probabilities, the attention of its step to the source tokens: the
    /// mean of `decode.alignment_heads`. Empty unless the search records it.
    pub attention: Vec<Arc<[f32]>>,
}
