//! Warnings about translations.

use crate::humanize::agreeing;
use crate::vocabulary::language_tags;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tallow_decode::{DecodeConfig, Translation};
use tallow_text::Tokenizers;

/// The number of unknown language tags that a warning names.
const SHOWN_TAGS: usize = 5;

/// The number of characters shown of each tag.
const SHOWN_CHARACTERS: usize = 40;

/// Counts of lines that were not translated completely or as written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TranslationWarnings {
    cut: u64,
    split: u64,
    unfinished: u64,
    /// The number of lines that begin with a language tag which the vocabulary does not have.
    tagged: u64,
    unknown_tags: BTreeSet<String>,
}

impl TranslationWarnings {
    /// The counts for some translations.
    pub fn of(translations: &[Translation]) -> Self {
        let mut all = Self::default();
        translations.iter().for_each(|translation| all.count(translation));
        all
    }

    /// Adds the counts for other translations.
    pub fn add(&mut self, other: Self) {
        self.cut += other.cut;
        self.split += other.split;
        self.unfinished += other.unfinished;
        self.tagged += other.tagged;
        let room = SHOWN_TAGS.saturating_sub(self.unknown_tags.len());
        self.unknown_tags.extend(other.unknown_tags.into_iter().take(room));
    }

    /// Adds one more translation to the counts.
    pub fn count(&mut self, translation: &Translation) {
        self.cut += u64::from(translation.cut_tokens > 0);
        if let Some(tag) = &translation.unknown_tag {
            self.tagged += 1;
            if self.unknown_tags.len() < SHOWN_TAGS {
                self.unknown_tags
                    .insert(tag.escape_debug().take(SHOWN_CHARACTERS).collect());
            }
        }
        self.split += u64::from(translation.parts.len() > 1);
        let is_finished = translation
            .candidates
            .first()
            .is_none_or(|best| best.hypothesis.finished);
        self.unfinished += u64::from(!is_finished);
    }

    /// The warnings in words, each with the key that can change the behaviour.
    pub fn lines(&self, config: &DecodeConfig, tokenizers: &Tokenizers) -> Vec<String> {
        let (source, target) = (config.max_source_length, config.max_length);
        let mut warnings = Vec::new();
        let mut say = |text: String| warnings.push(text);
        let lines = |count: u64| agreeing(count, "line was", "lines were");
        if self.tagged > 0 {
            let unknown = self
                .unknown_tags
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            let known = match language_tags(tokenizers) {
                Some(tags) => format!("it has {tags}"),
                None => "it has none, and reads them as text".into(),
            };
            say(format!(
                "{} with a language tag that the model does not have ({unknown}); {known}",
                agreeing(self.tagged, "line begins", "lines begin")
            ));
        }
        if self.cut > 0 {
            say(format!(
                "{} longer than {source} tokens (decode.max_source_length) and cut there (decode.long_lines)",
                lines(self.cut)
            ));
        }
        // Whoever asks for sentences knows that lines are split.
        if self.split > 0 && !config.split_sentences {
            say(format!(
                "{} longer than {source} tokens (decode.max_source_length) and translated sentence by sentence \
                 (decode.long_lines)",
                lines(self.split)
            ));
        }
        if self.unfinished > 0 {
            let translations = agreeing(self.unfinished, "translation was", "translations were");
            say(match config.max_length_factor {
                0.0 => format!("{translations} cut at {target} tokens (decode.max_length)"),
                factor => format!(
                    "{translations} cut at {factor} tokens for each source token (decode.max_length_factor), or at \
                     {target} (decode.max_length)"
                ),
            });
        }
        warnings
    }
}
