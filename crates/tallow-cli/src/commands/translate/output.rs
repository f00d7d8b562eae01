//! Translations as lines of the output.

use super::drawing::drawing;
use crate::arguments::OutputFormat;
use crate::status_line::terminal_width;
use anyhow::Result;
use serde_json::{Value, json};
use tallow_decode::{Autoregressive, Candidate, Translation, Translator};

/// How translations are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutputLines {
    pub(super) format: OutputFormat,
    pub(super) n_best: usize,
    /// Whether the attention of the best translation is added: to objects, or as a drawing.
    pub(super) attention: bool,
}

impl OutputLines {
    /// The lines of one translation, without the last line break; `number` is that of its line, from 0.
    pub(super) fn write<M: Autoregressive>(
        &self,
        number: u64,
        line: &str,
        translation: &Translation,
        translator: &Translator<M>,
    ) -> String {
        match self.format {
            OutputFormat::Text => {
                let mut text = as_text(number, translation, self.n_best);
                if self.attention {
                    for (part, best) in translation.parts.iter().zip(&translation.best) {
                        text += "\n\n";
                        text += &drawing(&translator.alignment(part, best), terminal_width());
                    }
                    text += "\n";
                }
                text
            }
            OutputFormat::Json => as_json(line, translation, translator, self.attention).to_string(),
        }
    }
}

/// The translation, or Moses' n-best format if several were requested.
fn as_text(line: u64, translation: &Translation, n_best: usize) -> String {
    if n_best == 1 {
        return translation.text().to_string();
    }
    let candidate = |c: &Candidate| format!("{line} ||| {} ||| {:.4}", c.text, c.hypothesis.score);
    translation
        .candidates
        .iter()
        .map(candidate)
        .collect::<Vec<_>>()
        .join("\n")
}

fn as_json<M: Autoregressive>(
    line: &str,
    translation: &Translation,
    translator: &Translator<M>,
    attention: bool,
) -> Value {
    let candidates: Vec<Value> = translation
        .candidates
        .iter()
        .map(|candidate| {
            json!({
                "text": candidate.text,
                "score": candidate.hypothesis.score,
                "log_probability": candidate.hypothesis.log_probability,
                "tokens": translator.target_pieces(&candidate.hypothesis.tokens),
                "token_log_probabilities": candidate.hypothesis.token_log_probabilities,
                "finished": candidate.hypothesis.finished,
            })
        })
        .collect();
    let mut object = json!({
        "source": line,
        "translation": translation.text(),
        "source_tokens": translation.source_tokens(),
        "parts": translation.parts.len(),
        "cut_source_tokens": translation.cut_tokens,
        "candidates": candidates,
    });
    if attention && !translation.parts.is_empty() {
        let mut of_parts: Vec<Value> = Vec::new();
        for (part, best) in translation.parts.iter().zip(&translation.best) {
            let found = translator.alignment(part, best);
            of_parts.push(json!({ "source": found.source, "target": found.target, "weights": found.weights }));
        }
        // A list only if there are several parts.
        object["attention"] = if of_parts.len() > 1 {
            of_parts.into()
        } else {
            of_parts.remove(0)
        };
    }
    object
}

/// The word alignment of the best translation in Pharaoh's form: pairs of word numbers, source and target, from 0.
///
/// # Errors
/// Those of the translator.
pub(super) fn pharaoh<M: Autoregressive>(translation: &Translation, translator: &Translator<M>) -> Result<String> {
    let pairs = translator.word_pairs(translation)?.into_iter();
    Ok(pairs
        .map(|(source, target)| format!("{source}-{target}"))
        .collect::<Vec<_>>()
        .join(" "))
}
