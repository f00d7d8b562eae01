//! Model cards: the `README.md` of a model directory, in the form of the Hugging Face Hub.

use crate::TrainError;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The name of the file.
pub const CARD_FILE: &str = "README.md";

/// The line in a card that is replaced by a description of the weights.
const WEIGHTS: &str = "<!-- weights -->";
/// The lines between which test scores are inserted once they are known: in the head of the card, and in its text.
const SCORES: [[&str; 2]; 2] = [
    ["# scores", "# end of scores"],
    ["<!-- scores -->", "<!-- end of scores -->"],
];

/// Facts about a model that only a person knows: the `[card]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CardConfig {
    /// The card's title. Default: the run's name.
    pub title: Option<String>,
    /// The language to translate from, by its code on the Hub: `en`, `pt-BR`. Default: the last extension of the
    /// training files, if it has two letters.
    pub source_language: Option<String>,
    /// The language to translate into. Default: the last extension of the training files.
    pub target_language: Option<String>,
    /// The model's licence, by its name on the Hub: `mit`, `cc-by-4.0`. Default: none; the card says that there is
    /// none.
    pub license: Option<String>,
    /// Other information for users, in Markdown: terms of the data, the text that the model expects. Default: none.
    pub notes: Option<String>,
}

impl CardConfig {
    /// Every fault of the section, each beginning with the key's path; empty if there is none.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let languages = [
            ("source_language", &self.source_language),
            ("target_language", &self.target_language),
        ];
        for (key, code) in languages {
            if let Some(code) = code.as_deref().filter(|code| !is_language(code)) {
                faults.push(format!(
                    "card.{key}: {code:?} is no code of a language, such as \"en\", \"nds\" or \"pt-BR\""
                ));
            }
        }
        for (key, line) in [("title", &self.title), ("license", &self.license)] {
            if line
                .as_deref()
                .is_some_and(|line| line.trim().is_empty() || line.contains(char::is_control))
            {
                faults.push(format!("card.{key}: must be one line of text"));
            }
        }
        faults
    }
}

/// Whether a text has the form of a language code: two or three lower-case letters as in ISO 639, followed by anything
/// that BCP 47 allows.
fn is_language(code: &str) -> bool {
    let (language, rest) = code
        .split_once('-')
        .map_or((code, None), |(language, rest)| (language, Some(rest)));
    let is_subtag = |tag: &str| (1..=8).contains(&tag.len()) && tag.chars().all(|c| c.is_ascii_alphanumeric());
    (2..=3).contains(&language.len())
        && language.chars().all(|c| c.is_ascii_lowercase())
        && rest.is_none_or(|rest| rest.split('-').all(is_subtag))
}

/// The text of a card. It has places for the description of the weights, known when they are written, and for test
/// scores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCard {
    text: String,
}

impl Default for ModelCard {
    /// The card of a model of which nothing is known.
    fn default() -> Self {
        Self::new("tags:\n- translation\n", "# A translation model\n", "")
    }
}

impl ModelCard {
    /// A card from the YAML of its head and two texts: `before` stands before the description of the weights and the
    /// scores, `after` stands after it.
    pub fn new(head: &str, before: &str, after: &str) -> Self {
        let [of_head, of_text] = SCORES.map(|[begin, end]| format!("{begin}\n{end}"));
        Self {
            text: format!("---\n{head}{of_head}\n---\n\n{before}\n{WEIGHTS}\n\n{of_text}\n{after}"),
        }
    }

    /// Writes the card into a model directory. `weights` describes in Markdown which weights these are.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, directory: &Path, weights: &str) -> Result<(), TrainError> {
        let path = directory.join(CARD_FILE);
        let mut lines: Vec<&str> = self.text.split('\n').collect();
        if let Some(place) = lines.iter_mut().find(|line| **line == WEIGHTS) {
            *place = weights;
        }
        std::fs::write(&path, lines.join("\n")).map_err(TrainError::file(&path))
    }

    /// Puts test scores into the card of a model directory, in place of earlier ones: YAML into its head, Markdown into
    /// its text. If the card has no place for them, because a person has rewritten or removed it, it stays as it is and
    /// the result is false.
    ///
    /// # Errors
    /// When the card cannot be written.
    pub fn add_scores(directory: &Path, head: &str, text: &str) -> Result<bool, TrainError> {
        let path = directory.join(CARD_FILE);
        let Ok(card) = std::fs::read_to_string(&path) else {
            return Ok(false);
        };
        let mut lines: Vec<&str> = card.split('\n').collect();
        for ([begin, end], scores) in SCORES.into_iter().zip([head, text]) {
            let place = |mark: &str| lines.iter().position(|line| line.trim_end() == mark);
            let (Some(begin), Some(end)) = (place(begin), place(end)) else {
                return Ok(false);
            };
            if begin >= end {
                return Ok(false);
            }
            lines.splice(begin + 1..end, [scores.trim_end()]);
        }
        // Written aside first: a card has no checksum that would reveal a half-written one.
        let aside = directory.join("README.md.partial");
        let written = std::fs::write(&aside, lines.join("\n")).and_then(|()| std::fs::rename(&aside, &path));
        written.map_err(TrainError::file(&path))?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_replace_those_before() {
        let place = tempfile::tempdir().unwrap();
        let card = ModelCard::new(
            "language:\n- \"en\"\n",
            "# A <!-- weights --> and <!-- scores -->\n",
            "## Use\n<!-- scores -->\n",
        );
        card.write(place.path(), "After update 7.").unwrap();
        let read = || std::fs::read_to_string(place.path().join(CARD_FILE)).unwrap();
        let with = |head: &str, text: &str| {
            format!(
                "---\nlanguage:\n- \"en\"\n# scores\n{head}# end of scores\n---\n\n# A <!-- weights --> and <!-- scores -->\n\n\
                 After update 7.\n\n<!-- scores -->\n{text}<!-- end of scores -->\n## Use\n<!-- scores -->\n"
            )
        };
        assert_eq!(read(), with("", ""));
        for score in ["40", "41"] {
            let (head, text) = (format!("metrics:\n- {score}\n"), format!("BLEU {score}\n"));
            assert!(ModelCard::add_scores(place.path(), &head, &text).unwrap());
            assert_eq!(read(), with(&head, &text));
        }
        // Cards changed by people: a different card, marks in another order, no card, a file that is not text.
        for card in [
            &b"# Mine\n"[..],
            b"# end of scores\n# scores\n<!-- scores -->\n<!-- end of scores -->",
            b"\xff",
        ] {
            std::fs::write(place.path().join(CARD_FILE), card).unwrap();
            assert!(!ModelCard::add_scores(place.path(), "x", "y").unwrap());
            assert_eq!(std::fs::read(place.path().join(CARD_FILE)).unwrap(), card);
        }
        std::fs::remove_file(place.path().join(CARD_FILE)).unwrap();
        assert!(!ModelCard::add_scores(place.path(), "x", "y").unwrap());
    }

    #[test]
    fn faults_name_their_keys() {
        assert!(CardConfig::default().validate().is_empty());
        let config = CardConfig {
            title: Some("two\nlines".into()),
            source_language: Some("english, please".into()),
            target_language: Some("zh-Hant".into()),
            license: Some(" ".into()),
            notes: Some("two\nlines".into()),
        };
        for right in ["en", "nds", "zh-Hant", "de-CH-1996"] {
            assert!(is_language(right), "{right}");
        }
        for wrong in ["", "e", "EN", "en_US", "12", "en-", "english", "en-muchtoolong"] {
            assert!(!is_language(wrong), "{wrong}");
        }
        let faults = config.validate();
        assert_eq!(faults.len(), 3, "{faults:?}");
        for (fault, key) in faults.iter().zip(["source_language", "title", "license"]) {
            assert!(fault.starts_with(&format!("card.{key}: ")), "{fault}");
        }
    }
}
