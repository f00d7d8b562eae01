//! Texts of requests: lines that are translated one by one, or documents with markup.

use crate::engine::Refusal;
use crate::markup::{Document, Translated};
use serde::Deserialize;
use tallow_decode::{Input, Translation, Translator};

/// How a text is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Plain text. Each line is translated by itself, and line ends stay as they are.
    #[default]
    Text,
    Html,
    Markdown,
}

impl Format {
    /// Whether translations need alignments.
    pub(crate) fn needs_alignment(self) -> bool {
        self != Self::Text
    }
}

/// A text, cut into what is translated.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) inputs: Vec<Input>,
    frame: Frame,
}

/// What is around the parts of a text that are translated.
#[derive(Clone, Debug)]
enum Frame {
    /// The end of each line.
    Lines(Vec<String>),
    Document(Document),
}

/// A text and the translations of its parts.
#[derive(Clone, Debug)]
pub(crate) struct TranslatedText {
    frame: Frame,
    /// The whole translation.
    pub(crate) text: String,
    pub(crate) translations: Vec<Translation>,
}

impl Text {
    pub(crate) fn new(text: &str, format: Format) -> Self {
        let document = match format {
            Format::Text => return Self::of_lines(text),
            Format::Html => Document::html(text),
            Format::Markdown => Document::markdown(text),
        };
        Self {
            inputs: document.inputs(),
            frame: Frame::Document(document),
        }
    }

    fn of_lines(text: &str) -> Self {
        let split = |whole: &str| {
            let line = whole.trim_end_matches(['\n', '\r']);
            let input = Input {
                text: line.to_owned(),
                ..Input::default()
            };
            (input, whole[line.len()..].to_owned())
        };
        let (inputs, ends) = text.split_inclusive('\n').map(split).unzip();
        Self {
            inputs,
            frame: Frame::Lines(ends),
        }
    }

    /// The text with the translations of its parts.
    ///
    /// # Errors
    /// When the translator cannot tell which words belong together.
    pub(crate) fn translated(
        self,
        translations: Vec<Translation>,
        translator: &Translator,
    ) -> Result<TranslatedText, Refusal> {
        let text = match &self.frame {
            Frame::Lines(ends) => joined(ends, &translations, 0),
            Frame::Document(document) => {
                let translated = |translation: &Translation| {
                    Ok(Translated {
                        text: translation.text().to_owned(),
                        pairs: translator.word_pairs(translation).map_err(Refusal::of)?,
                    })
                };
                let passages = translations
                    .iter()
                    .map(translated)
                    .collect::<Result<Vec<_>, Refusal>>()?;
                document.put_together(&passages)
            }
        };
        Ok(TranslatedText {
            frame: self.frame,
            text,
            translations,
        })
    }
}

impl TranslatedText {
    /// So many other translations of plain text, without those that are equal to an earlier one.
    pub(crate) fn alternatives(&self, most: usize) -> Vec<String> {
        let mut others: Vec<String> = Vec::new();
        if let Frame::Lines(ends) = &self.frame {
            for rank in 1..=most {
                let other = joined(ends, &self.translations, rank);
                if other != self.text && !others.contains(&other) {
                    others.push(other);
                }
            }
        }
        others
    }
}

/// The translations of a rank; where a line has fewer, its last one.
fn joined(ends: &[String], translations: &[Translation], rank: usize) -> String {
    let mut joined = String::new();
    for (translation, end) in translations.iter().zip(ends) {
        let candidates = &translation.candidates;
        let candidate = candidates.get(rank).or(candidates.last());
        joined += candidate.map_or("", |candidate| &candidate.text);
        joined += end;
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_stay() {
        let lines = |text: &str| {
            let Text { inputs, frame } = Text::new(text, Format::Text);
            let Frame::Lines(ends) = frame else { return Vec::new() };
            let pairs = inputs.into_iter().map(|input| input.text).zip(ends);
            pairs.collect::<Vec<(String, String)>>()
        };
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs
                .iter()
                .map(|(line, end)| ((*line).to_owned(), (*end).to_owned()))
                .collect()
        };
        assert_eq!(lines("a\r\n\nb"), owned(&[("a", "\r\n"), ("", "\n"), ("b", "")]));
        assert_eq!(lines("a\n"), owned(&[("a", "\n")]));
        assert_eq!((lines(""), lines("\r\r\n")), (owned(&[]), owned(&[("", "\r\r\n")])));
    }
}
