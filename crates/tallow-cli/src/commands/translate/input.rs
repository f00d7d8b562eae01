//! Lines of the input as inputs of a translator.

use crate::arguments::{InputFormat, TranslateArguments};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tallow_decode::Input;

/// A line of JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLine {
    source: String,
    #[serde(default)]
    prefix: Option<String>,
    #[serde(default)]
    phrases: Vec<String>,
}

/// The meaning of input lines.
pub(super) struct InputLines {
    format: InputFormat,
    prefix: String,
    phrases: Vec<String>,
}

impl InputLines {
    pub(super) fn of(arguments: &TranslateArguments) -> Self {
        Self {
            format: arguments.input_format,
            prefix: arguments.prefix.clone(),
            phrases: arguments.phrase.clone(),
        }
    }

    /// Reads a line; `number` is its number from 1. What a line asks for comes in addition to what is asked of all; its
    /// own prefix replaces theirs.
    ///
    /// # Errors
    /// When the line is not in the format.
    pub(super) fn read(&self, line: String, number: u64) -> Result<Input> {
        let mut own_prefix = None;
        let mut input = match self.format {
            InputFormat::Text => Input {
                text: line,
                ..Input::default()
            },
            InputFormat::Tsv => {
                let mut columns = line.split('\t').map(str::to_owned);
                let text = columns.next().unwrap_or_default();
                own_prefix = columns.next().filter(|prefix| !prefix.is_empty());
                Input {
                    text,
                    prefix: String::new(),
                    phrases: columns.filter(|phrase| !phrase.trim().is_empty()).collect(),
                }
            }
            InputFormat::Json => {
                let found: JsonLine = serde_json::from_str(&line)
                    .with_context(|| format!("line {number} of the input is not a JSON object with a source"))?;
                if found.source.contains(['\n', '\r']) {
                    bail!("line {number} of the input: its source has several lines; write an object for each");
                }
                own_prefix = found.prefix;
                Input {
                    text: found.source,
                    prefix: String::new(),
                    phrases: found.phrases,
                }
            }
        };
        input.prefix = own_prefix.unwrap_or_else(|| self.prefix.clone());
        input.phrases.extend(self.phrases.iter().cloned());
        Ok(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: InputFormat, line: &str) -> Result<Input> {
        let lines = InputLines {
            format,
            prefix: "P".into(),
            phrases: vec!["Q".into()],
        };
        lines.read(line.into(), 7)
    }

    fn input(text: &str, prefix: &str, phrases: &[&str]) -> Input {
        Input {
            text: text.into(),
            prefix: prefix.into(),
            phrases: phrases.iter().map(|phrase| (*phrase).into()).collect(),
        }
    }

    #[test]
    fn formats() {
        assert_eq!(read(InputFormat::Text, "a\tb").unwrap(), input("a\tb", "P", &["Q"]));
        assert_eq!(read(InputFormat::Tsv, "a").unwrap(), input("a", "P", &["Q"]));
        assert_eq!(
            read(InputFormat::Tsv, "a\tb\tc\t \td").unwrap(),
            input("a", "b", &["c", "d", "Q"])
        );
        let json = r#"{"source": "a", "phrases": ["c"]}"#;
        assert_eq!(read(InputFormat::Json, json).unwrap(), input("a", "P", &["c", "Q"]));
        let json = r#"{"source": "a", "prefix": "b"}"#;
        assert_eq!(read(InputFormat::Json, json).unwrap(), input("a", "b", &["Q"]));
        let json = r#"{"source": "a", "prefix": ""}"#;
        assert_eq!(read(InputFormat::Json, json).unwrap(), input("a", "", &["Q"]));
        for wrong in [
            "a",
            r#"{"prefix": "b"}"#,
            r#"{"source": "a", "x": 1}"#,
            r#"{"source": "a\nb"}"#,
        ] {
            assert!(
                read(InputFormat::Json, wrong)
                    .unwrap_err()
                    .to_string()
                    .starts_with("line 7 of the input")
            );
        }
    }
}
