//! The attention of target tokens to source tokens, and what follows from it.

use crate::{Autoregressive, DecodeError, Hypothesis, Part, Translation, Translator};
use std::sync::Arc;
use tallow_text::{TextError, Tokenizer, WordBegins};

/// The attention of each target token to each source token.
#[derive(Clone, Debug)]
pub struct Alignment {
    /// Source pieces, `</s>` last.
    pub source: Vec<String>,
    /// Target pieces, `</s>` last if the model ended the translation.
    pub target: Vec<String>,
    /// Weights by target and source piece: the cross-attention in the step that chose the target piece, the mean of
    /// `decode.alignment_heads`.
    pub weights: Vec<Vec<f32>>,
}

impl<M: Autoregressive> Translator<M> {
    /// The alignment of a part of a line to its translation. Weights are empty unless the translator records attention
    /// ([`TranslatorBuilder::attention`](crate::TranslatorBuilder::attention)).
    pub fn alignment(&self, part: &Part, hypothesis: &Hypothesis) -> Alignment {
        let mut ended = hypothesis.tokens.clone();
        ended.extend(hypothesis.finished.then_some(self.model.architecture().eos_id));
        // Where sentences are padded, the attention may be longer than the source.
        let weights = |of_step: &Arc<[f32]>| of_step.iter().copied().take(part.tokens.len()).collect();
        Alignment {
            source: pieces(&self.tokenizers.source, &part.tokens),
            target: pieces(&self.tokenizers.target, &ended),
            weights: hypothesis.attention.iter().map(weights).collect(),
        }
    }

    /// The pairs of a source word and a target word that belong together in a line and its best translation, by the
    /// numbers of the words from 0: each target token with the source token that gets most of its attention. Words are
    /// what white space separates. Empty unless the translator records attention.
    ///
    /// # Errors
    /// When tokens have no text.
    pub fn word_pairs(&self, translation: &Translation) -> Result<Vec<(usize, usize)>, DecodeError> {
        let words = |text: &str| text.split_whitespace().count();
        let (mut source, mut target) = (0, 0);
        let mut pairs = Vec::new();
        for (number, (part, best)) in translation.parts.iter().zip(&translation.best).enumerate() {
            // Without white space between two parts, the last word of one goes on in the other.
            let joined = usize::from(number > 0 && !part.is_apart);
            let (before, before_target) = (source - joined.min(source), target - joined.min(target));
            let of_part = self.word_pairs_of_part(part, best)?;
            pairs.extend(
                of_part
                    .into_iter()
                    .map(|(from, to)| (before + from, before_target + to)),
            );
            source = before + words(&part.text).max(joined);
            target = before_target + words(&self.text_of_part(best, part)?).max(joined);
        }
        pairs.sort_unstable();
        pairs.dedup();
        Ok(pairs)
    }

    /// The pieces of either side that begin a word; found once they are needed.
    pub(crate) fn word_begins(&self) -> Result<&[WordBegins; 2], TextError> {
        if let Some(found) = self.word_begins.get() {
            return Ok(found);
        }
        let (source, target) = (&self.tokenizers.source, &self.tokenizers.target);
        let found = [WordBegins::new(source)?, WordBegins::new(target)?];
        Ok(self.word_begins.get_or_init(|| found))
    }

    fn word_pairs_of_part(&self, part: &Part, hypothesis: &Hypothesis) -> Result<Vec<(usize, usize)>, DecodeError> {
        let source = part.tokens.split_last().map_or(&[][..], |(_, tokens)| tokens);
        let [begins_source, begins_target] = self.word_begins()?;
        let text = self.text_of_part(hypothesis, part)?;
        let (Some(of_source), Some(of_target)) = (
            begins_source.words_of_line(source, &part.text),
            begins_target.words_of_line(&hypothesis.tokens, &text),
        ) else {
            return Ok(Vec::new());
        };
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for (target, attention) in of_target.into_iter().zip(&hypothesis.attention) {
            pairs.extend(greatest(attention, source.len()).map(|token| (of_source[token] as usize, target as usize)));
        }
        Ok(pairs)
    }
}

/// The place of the greatest weight among the first `count`; the first of equals.
fn greatest(weights: &[f32], count: usize) -> Option<usize> {
    (0..count.min(weights.len())).max_by(|a, b| weights[*a].total_cmp(&weights[*b]).then(b.cmp(a)))
}

/// The pieces of tokens.
pub(crate) fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter()
        .map(|id| tokenizer.piece(*id).unwrap_or_default().to_string())
        .collect()
}

/// The text of a hypothesis in which every `<unk>` is replaced by the source word that gets most of its attention.
/// `text` is the text of its tokens; `source` is the text of the source tokens. What cannot be assigned stays.
pub(crate) fn copy_unknown(
    text: &str,
    hypothesis: &Hypothesis,
    target: &Tokenizer,
    (source, source_tokens): (&str, &[u32]),
    begins: &WordBegins,
) -> String {
    let unknown = target.unk_id();
    let name = target.piece(unknown).unwrap_or_default();
    let steps: Vec<usize> = (0..hypothesis.tokens.len())
        .filter(|step| hypothesis.tokens[*step] == unknown)
        .collect();
    let between: Vec<&str> = text.split(name).collect();
    // The text may have the name as a word of its own.
    if name.is_empty() || steps.is_empty() || between.len() != steps.len() + 1 {
        return text.to_owned();
    }
    let source_tokens = source_tokens.split_last().map_or(source_tokens, |(_, tokens)| tokens);
    let words: Vec<&str> = source.split_whitespace().collect();
    let word_of_tokens = begins.words_of_line(source_tokens, source);
    let copy = |step: usize| {
        let most = greatest(hypothesis.attention.get(step)?, source_tokens.len())?;
        words.get(word_of_tokens.as_ref()?[most] as usize).copied()
    };
    let mut copied = between[0].to_owned();
    for (step, after) in steps.into_iter().zip(&between[1..]) {
        copied += copy(step).unwrap_or(name);
        copied += after;
    }
    copied
}
