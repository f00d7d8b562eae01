//! The pair of sentences to look at.

use super::LookRequest;
use crate::{Error, Result};
use tallow_decode::{Translation, says_nothing};
use tallow_model::Architecture;
use tallow_text::Tokenizers;

/// A sentence and the translation that the decoder is made to predict.
pub(super) struct Pair {
    /// The source tokens, `</s>` last.
    pub(super) source: Vec<u32>,
    /// The text of the target.
    pub(super) target_text: String,
    /// Its tokens, `</s>` last if the model ended there.
    pub(super) target: Vec<u32>,
}

impl Pair {
    /// The pair that is asked for; the target is the model's own translation unless one is given.
    pub(super) fn new(
        request: &LookRequest,
        tokenizers: &Tokenizers,
        architecture: &Architecture,
        mut found: Translation,
    ) -> Result<Self> {
        let fault = |text: &str| Error::Other(text.to_owned());
        if found.parts.len() > 1 || found.cut_tokens > 0 {
            return Err(fault("this line is too long for the model; look at a single sentence"));
        }
        let (Some(part), Some(best)) = (found.parts.pop(), found.best.pop()) else {
            return Err(fault("the vocabulary has no pieces for this sentence"));
        };
        let eos = architecture.eos_id;
        let Some(target_text) = &request.target else {
            // A translation that was cut has no end.
            let end: &[u32] = if best.finished { &[eos] } else { &[] };
            let text = found.candidates.into_iter().next().map(|candidate| candidate.text);
            return Ok(Self {
                source: part.tokens,
                target_text: text.unwrap_or_default(),
                target: [&best.tokens[..], end].concat(),
            });
        };
        let target = [&tokenizers.target.encode(target_text)?[..], &[eos]].concat();
        let most = architecture.model.position_limit().unwrap_or(usize::MAX);
        if target.len() > most {
            return Err(Error::Other(format!(
                "the given translation has {} tokens, and the model has positions for {most}",
                target.len()
            )));
        }
        Ok(Self {
            source: part.tokens,
            target_text: target_text.clone(),
            target,
        })
    }
}

/// Whether there is something to look at.
pub(super) fn check(request: &LookRequest, tokenizers: &Tokenizers) -> Result<()> {
    match says_nothing(&tokenizers.source, &request.source) {
        true => Err(Error::Other("the sentence is blank".into())),
        false => Ok(()),
    }
}
