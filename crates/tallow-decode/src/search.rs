//! The search that a config asks for.

use crate::beam::beam_search_of_texts;
use crate::hypothesis::TextOf;
use crate::sampling::{Choice, sample, without_repeats};
use crate::{Autoregressive, DecodeConfig, DecodeError, Hypothesis};
use tallow_model::Tokens;

/// Translates a batch of token ids as the config says: by sampling, greedily (a beam of one) or by beam search.
///
/// `sentences` number the rows for sampling, so that what is drawn for a line does not depend on its batch. Hypotheses
/// are told apart by their tokens: `config.distinct` is for a [`crate::Translator`], which knows their texts.
///
/// # Errors
/// When the settings make no sense, the model fails or its scores are not finite.
pub fn search<M: Autoregressive>(
    model: &M,
    source: &Tokens,
    config: &DecodeConfig,
    seed: u64,
    sentences: &[u64],
) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
    search_of_texts(model, source, config, seed, sentences, None)
}

/// The same; with `text_of`, hypotheses of one text count as one.
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
