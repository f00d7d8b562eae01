//! The choice between the searches.

use crate::beam::beam_search_of_texts;
use crate::hypothesis::TextOf;
use crate::sampling::{Choice, sample, without_repeats};
use crate::{Autoregressive, DecodeConfig, DecodeError, Hypothesis};
use tallow_model::Tokens;

/// Translates a batch of token ids with the search of the config: sampling, greedy search (a beam of one) or beam
/// search.
///
/// `sentences` are the row numbers for sampling, so the samples of a line do not depend on its batch. Hypotheses are
/// compared by their tokens; `config.distinct` only takes effect in a [`crate::Translator`], which knows their texts.
///
/// # Errors
/// When the settings are invalid, the model fails or its scores are not finite.
pub fn search<M: Autoregressive>(
    model: &M,
    source: &Tokens,
    config: &DecodeConfig,
    seed: u64,
    sentences: &[u64],
) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
    search_of_texts(model, source, config, seed, sentences, None)
}

/// [`search`] in which, with `text_of`, hypotheses with the same text count as one.
pub(crate) fn search_of_texts<M: Autoregressive>(
    model: &M,
    source: &Tokens,
    config: &DecodeConfig,
    seed: u64,
    sentences: &[u64],
    text_of: Option<&TextOf>,
) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
    let faults = config.validate();
    if !faults.is_empty() {
        return Err(DecodeError::Config(faults));
    }
    match (config.sample, config.beam) {
        (true, _) => {
            let drawn = sample(model, source, config, Choice::Random { seed, sentences })?;
            without_repeats(drawn, text_of)
        }
        (false, 1) => sample(model, source, config, Choice::Greedy),
        (false, _) => beam_search_of_texts(model, source, config, text_of),
    }
}
