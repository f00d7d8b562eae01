//! The translation of a line, put together from those of its parts.

use crate::{DecodeConfig, Hypothesis, Part};

/// One translation of a line.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The text, always on one line.
    pub text: String,
    /// Tokens and scores.
    pub hypothesis: Hypothesis,
}

/// The translation of one line.
#[derive(Clone, Debug)]
pub struct Translation {
    /// The input of the model: the line, or its sentences if the line is longer than `decode.max_source_length` and is
    /// split; empty if the line has no piece.
    pub parts: Vec<Part>,
    /// The best translation of each part.
    pub best: Vec<Hypothesis>,
    /// The number of source tokens that were cut off because the line is longer than `decode.max_source_length`.
    pub cut_tokens: usize,
    /// The language tag at the beginning of the line, if the vocabulary lacks it. The model has then read an unknown
    /// piece, or plain text if it knows no tags at all.
    pub unknown_tag: Option<String>,
    /// Translations, best first; never empty. An empty line has one candidate, an empty line. For a line in parts,
    /// candidate `i` joins the `i`-th best translations of the parts.
    pub candidates: Vec<Candidate>,
}

impl Translation {
    /// The number of source tokens that the model read, `</s>` of every part included.
    pub fn source_tokens(&self) -> usize {
        self.parts.iter().map(|part| part.tokens.len()).sum()
    }

    /// The text of the best translation.
    pub fn text(&self) -> &str {
        self.candidates.first().map_or("", |candidate| candidate.text.as_str())
    }
}

/// The translation of nothing.
pub(crate) fn empty_hypothesis() -> Hypothesis {
    Hypothesis {
        tokens: Vec::new(),
        token_log_probabilities: Vec::new(),
        log_probability: 0.0,
        score: 0.0,
        finished: true,
        attention: Vec::new(),
    }
}

/// Adds the translation of another part of the same line. Probabilities are multiplied; the score covers all tokens.
pub(crate) fn append(whole: &mut Hypothesis, part: &Hypothesis, config: &DecodeConfig) {
    whole.tokens.extend(&part.tokens);
    whole.token_log_probabilities.extend(&part.token_log_probabilities);
    whole.log_probability += part.log_probability;
    whole.score = config.score(whole.log_probability, whole.token_log_probabilities.len());
    whole.finished &= part.finished;
}
