//! Scores in the form in which sacreBLEU's command prints them.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::score::Score;

/// The JSON of sacreBLEU's command: an object for one score, otherwise a list of objects. The score is rounded to
/// `width` decimals (the command's own default is 1). Every option of the signature is a separate field, as text.
pub fn to_json(scores: &[Score], width: u8) -> Value {
    match scores {
        [score] => Value::Object(fields(score, width)),
        _ => scores.iter().map(|score| fields(score, width)).collect(),
    }
}

/// [`to_json`] as text, with the line breaks and indentation of sacreBLEU's command.
pub fn to_json_text(scores: &[Score], width: u8) -> String {
    let objects: Vec<String> = scores.iter().map(|score| indented(&fields(score, width))).collect();
    match objects.as_slice() {
        [object] => object.clone(),
        _ => format!("[\n{}\n]", objects.join(",\n")),
    }
}

/// One line for each score, with `width` decimals: `BLEU|nrefs:1|... = 34.2 60.1/40.0/... (BP = ...)`. Several lines
/// are aligned at their first `=`.
pub fn to_text(scores: &[Score], width: u8) -> String {
    let left = |score: &Score| match score.signature.is_empty() {
        true => score.name.clone(),
        false => format!("{}|{}", score.name, score.signature),
    };
    let widest = scores.iter().map(|score| left(score).len()).max().unwrap_or(0);
    let lines: Vec<String> = scores
        .iter()
        .map(|score| format!("{:>widest$} = {}", left(score), score.value_text(width)))
        .collect();
    lines.join("\n")
}

impl Score {
    /// The score with `width` decimals, followed by the verbose text if there is one.
    fn value_text(&self, width: u8) -> String {
        match &self.verbose {
            Some(verbose) => format!("{} {verbose}", decimals(self.score, width)),
            None => decimals(self.score, width),
        }
    }
}

fn fields(score: &Score, width: u8) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("name".to_string(), score.name.clone().into());
    fields.insert("score".to_string(), rounded(score.score, width).into());
    if !score.signature.is_empty() {
        fields.insert("signature".to_string(), score.signature.to_string().into());
    }
    if let Some(verbose) = &score.verbose {
        fields.insert("verbose_score".to_string(), verbose.clone().into());
    }
    fields.extend(
        score
            .signature
            .fields()
            .map(|(name, value)| (name.to_string(), value.into())),
    );
    fields
}

/// `number` with `width` decimals. Halves that are exact in binary are rounded to even, as in Python.
fn decimals(number: f64, width: u8) -> String {
    format!("{number:.*}", usize::from(width))
}

/// The number nearest to `score` as printed with `width` decimals.
fn rounded(score: f64, width: u8) -> f64 {
    decimals(score, width).parse().unwrap_or(score)
}

/// JSON with one field per line, indented by one space.
fn indented(object: &Map<String, Value>) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    match object.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter)) {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        // Writing to memory does not fail. If it ever did, only the line breaks of the JSON would be missing.
        Err(_) => Value::Object(object.clone()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_without_options_has_no_signature() {
        let score = Score::new("exact match", 62.5);
        assert_eq!(to_text(std::slice::from_ref(&score), 1), "exact match = 62.5");
        let json = to_json(&[score], 1);
        assert_eq!(json, serde_json::json!({ "name": "exact match", "score": 62.5 }));
    }

    #[test]
    fn halves_are_rounded_to_even_as_in_python() {
        // `[f"{x:.{w}f}" for x, w in ...]` of Python 3.11.
        let cases = [
            (12.5, 0, "12"),
            (13.5, 0, "14"),
            (0.5, 0, "0"),
            (31.25, 1, "31.2"),
            (0.35, 1, "0.3"),
            (2.675, 2, "2.67"),
            (0.125, 2, "0.12"),
            (0.375, 2, "0.38"),
            (1e-5, 4, "0.0000"),
            (100.0, 1, "100.0"),
        ];
        for (number, width, expected) in cases {
            assert_eq!(decimals(number, width), expected);
        }
        assert_eq!(rounded(2.675, 2), 2.67);
    }
}
