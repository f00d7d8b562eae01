//! The scores of test sets in a card: in its head, for the Hub, and as a table.

use super::{in_a_cell, quoted};
use crate::config::Config;
use crate::{Result, TestScores};
use std::fmt::Write;
use std::path::Path;
use tallow_data::CorpusFiles;
use tallow_score::to_json;
use tallow_train::ModelCard;

/// Puts the scores of the test sets into a model's card. The result is false if the card has no place for them.
///
/// # Errors
/// When the card cannot be read or written.
pub fn add_scores(config: &Config, directory: &Path, tests: &[TestScores]) -> Result<bool> {
    let mut head = format!("model-index:\n- name: {}\n  results:\n", quoted(&config.name));
    let mut text = String::new();
    for (test, set) in tests.iter().zip(config.data.test.iter()) {
        let name = test.name.clone().unwrap_or_else(|| corpus_name(set));
        write!(
            head,
            "  - task:\n      type: translation\n    dataset:\n      name: {}\n      type: text\n    metrics:\n",
            quoted(&name)
        )?;
        if !text.is_empty() {
            text.push('\n');
        }
        write!(
            text,
            "| test set {}, {} | score | signature |\n|---|---|---|\n",
            in_a_cell(&name),
            config.decode.summary()
        )?;
        add_scores_of(test, &mut head, &mut text)?;
    }
    Ok(ModelCard::add_scores(directory, &head, &text)?)
}

/// Adds the scores of one set to the head of a card, and to its table.
fn add_scores_of(test: &TestScores, head: &mut String, text: &mut String) -> Result<()> {
    let TestScores {
        scores, exact_match, ..
    } = test;
    if scores.is_empty() {
        writeln!(
            head,
            "    - type: exact_match\n      value: {exact_match:.2}\n      name: exact match"
        )?;
    }
    for score in scores {
        let json = to_json(std::slice::from_ref(score), 2);
        let (name, value) = (json["name"].as_str().unwrap_or_default(), &json["score"]);
        let signature = json["signature"].as_str().unwrap_or_default();
        writeln!(text, "| {name} | {value} | `{}` |", in_a_cell(signature))?;
        let metric = name.to_ascii_lowercase();
        let metric = metric.trim_end_matches(|c: char| c.is_ascii_digit() || c == '+');
        writeln!(
            head,
            "    - type: {metric}\n      value: {value}\n      name: {}",
            quoted(&format!("{name}|{signature}"))
        )?;
    }
    writeln!(text, "| exact match | {exact_match:.1} % | |")?;
    Ok(())
}

/// The name of a set without one: that of its file.
fn corpus_name(corpus: &CorpusFiles) -> String {
    let given = [&corpus.source, &corpus.tsv, &corpus.tmx, &corpus.po];
    let path = given.into_iter().find_map(Option::as_ref);
    let name = path.and_then(|path| path.file_name());
    name.map_or("test set".into(), |name| name.to_string_lossy().into_owned())
}
