//! The search that a config asks for.

use crate::sampling::{Choice, sample};
use crate::{DecodeConfig, DecodeError, Hypothesis, beam_search};
use tallow_model::{Tokens, Transformer};

/// Translates a batch of token ids as the config says: by sampling, greedily (a beam of one) or by beam search.
///
/// `sentences` number the rows for sampling, so that what is drawn for a line does not depend on its batch.
///
/// # Errors
/// When the settings make no sense, the model fails or its scores are not finite.
pub fn search(
    model: &Transformer,
    source: &Tokens,
    config: &DecodeConfig,
    seed: u64,
    sentences: &[u64],
) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
    let faults = config.validate();
    if !faults.is_empty() {
        return Err(DecodeError::Config(faults));
    }
    match (config.sample, config.beam) {
        (true, _) => sample(model, source, config, Choice::Random { seed, sentences }),
        (false, 1) => sample(model, source, config, Choice::Greedy),
        (false, _) => beam_search(model, source, config),
    }
}
