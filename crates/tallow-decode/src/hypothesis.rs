//! A translation in the making.

use crate::DecodeError;

/// The text that tokens stand for, by which hypotheses are told apart.
pub(crate) type TextOf<'a> = dyn Fn(&[u32]) -> Result<String, DecodeError> + Sync + 'a;

/// A target sentence with its scores.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Its tokens, without `</s>`.
    pub tokens: Vec<u32>,
    /// The natural log-probability of each token; of `</s>` too, if the model chose to end here.
    pub token_log_probabilities: Vec<f32>,
    /// The sum of the token log-probabilities.
    pub log_probability: f64,
    /// The log-probability, normalised by length as the search settings say.
    pub score: f64,
    /// Whether the model ended the sentence itself, rather than being cut at the maximum length.
    pub finished: bool,
}
