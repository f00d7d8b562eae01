//! The vocabularies of the Marian toolkit. They are either SentencePiece models, whose pieces keep their ids, or `.yml`
//! lists, which give each word an id.
//!
//! Text for a list of words is already cut, at spaces. SentencePiece models may lie beside the lists, as in OPUS-MT:
//! then the models cut the text, and the lists give the ids. `<pad>` is added after the last id. A vocabulary with
//! SentencePiece models is written again as the files of `MarianTokenizer`, a list of words as a `tokenizer.json`.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::TextError;
use crate::files;
use crate::marian_tokenizer::{self, SOURCE, TARGET};
use crate::pair::Tokenizers;
use crate::sentencepiece::Processor;
use crate::special;
use crate::tokenizer::Tokenizer;

/// The names of the end of a sentence and of the unknown word in lists of Nematus.
const OLDER: [(&str, &str); 2] = [("eos", special::END), ("UNK", special::UNKNOWN)];

/// Opens the vocabularies of both sides for a model whose embeddings have these numbers of rows.
///
/// # Errors
/// If a file is missing, damaged or not supported, or does not belong to such a model.
pub(crate) fn open(vocabularies: [&Path; 2], rows: [usize; 2]) -> Result<Tokenizers, TextError> {
    let [source, target] = vocabularies;
    let sides = [(source, rows[0]), (target, rows[1])];
    let is_shared = source == target;
    if vocabularies.iter().all(|path| has_ending(path, &["spm"])) {
        let models = [read(source)?, read(target)?];
        let mut ids = Vec::new();
        for ((path, rows), model) in sides.into_iter().zip(&models) {
            ids.push(ids_of_model(path, model, rows)?);
        }
        return of_pieces(models, ids, is_shared, source);
    }
    for path in vocabularies {
        if !has_ending(path, &["yml", "yaml", "json"]) {
            let reason = "it is neither a .spm nor a .yml, as those of both sides must be".to_owned();
            return Err(fault(path, reason));
        }
    }
    let lists = [list(source, rows[0])?, list(target, rows[1])?];
    let models = [source.with_file_name(SOURCE), target.with_file_name(TARGET)];
    if models.iter().all(|model| model.is_file()) {
        let models = [read(&models[0])?, read(&models[1])?];
        return of_pieces(models, lists.into(), is_shared, source);
    }
    let [words, other_words] = lists;
    let source_words = of_words(words, source)?;
    Ok(if is_shared {
        Tokenizers::shared(source_words)
    } else {
        Tokenizers::separate(source_words, of_words(other_words, target)?)
    })
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| endings.contains(&ending))
}

fn read(path: &Path) -> Result<Vec<u8>, TextError> {
    let bytes = fs::read(path).map_err(|source| TextError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(files::without_mark(bytes))
}

fn fault(path: &Path, reason: String) -> TextError {
    TextError::Vocabulary {
        path: path.to_owned(),
        reason,
    }
}

/// Tokenizers whose lines are cut by SentencePiece.
fn of_pieces(
    [source, target]: [Vec<u8>; 2],
    ids: Vec<Map<String, Value>>,
    is_shared: bool,
    path: &Path,
) -> Result<Tokenizers, TextError> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let mut ids = ids.into_iter();
    let source_ids = ids.next().unwrap_or_default();
    let target_ids = ids.next().filter(|_| !is_shared);
    marian_tokenizer::of_files([source, target], source_ids, target_ids, directory)
}

/// The pieces of a SentencePiece model with their own ids, and `<pad>`.
fn ids_of_model(path: &Path, bytes: &[u8], rows: usize) -> Result<Map<String, Value>, TextError> {
    let processor = Processor::new(bytes).map_err(|reason| TextError::SentencePiece {
        path: path.to_owned(),
        reason,
    })?;
    let ids = processor.ids().map(|(piece, id)| (piece.to_owned(), id)).collect();
    with_padding(ids, rows).map_err(|reason| fault(path, reason))
}

/// The words of a list, and `<pad>`.
fn list(path: &Path, rows: usize) -> Result<Map<String, Value>, TextError> {
    let bytes = read(path)?;
    let words = match std::str::from_utf8(&bytes) {
        Ok(text) if text.trim_start().starts_with('{') => serde_json::from_str::<Map<String, Value>>(text)
            .map_err(|error| files::reason_of_json(&bytes, &error))
            .and_then(|words| {
                let id = |(word, id): (String, Value)| {
                    let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
                    Ok((word, number.ok_or_else(|| format!("{id} is no id"))?))
                };
                words.into_iter().map(id).collect()
            }),
        Ok(text) => entries(text),
        Err(_) => Err("it is not UTF-8".to_owned()),
    };
    let words = words.map_err(|reason| fault(path, files::reason_of(&bytes, reason)))?;
    // Marian leaves out words whose ids exceed the model's size (--dim-vocabs).
    let mut words: Vec<(String, u32)> = words.into_iter().filter(|(_, id)| (*id as usize) < rows).collect();
    for ((older, name), own) in OLDER.into_iter().zip(0u32..) {
        if let Some((word, _)) = words.iter_mut().find(|(word, id)| *id == own && word == older) {
            *word = name.to_owned();
        }
    }
    with_padding(words, rows).map_err(|reason| fault(path, files::reason_of(&bytes, reason)))
}

/// Words and their ids as JSON, followed by `<pad>`.
fn with_padding(words: Vec<(String, u32)>, rows: usize) -> Result<Map<String, Value>, String> {
    for (name, expected) in [(special::END, 0), (special::UNKNOWN, 1)] {
        let found = words.iter().find(|(word, _)| word == name).map(|(_, id)| *id);
        if found != Some(expected) {
            let found = found.map_or("none".to_owned(), |id| id.to_string());
            return Err(format!(
                "the id of {name:?} is {found}, but must be {expected}, as in vocabularies that Marian makes"
            ));
        }
    }
    if words.iter().any(|(word, _)| word == special::PADDING) {
        return Err(format!(
            "it has a {:?} of its own, which is not supported",
            special::PADDING
        ));
    }
    let count = words.len();
    let mut seen = HashSet::new();
    if let Some((word, id)) = words.iter().find(|(_, id)| !seen.insert(*id)) {
        return Err(format!("{word:?} has the id {id}, which another word has already"));
    }
    let mut ids: Map<String, Value> = words.into_iter().map(|(word, id)| (word, id.into())).collect();
    if ids.len() != count {
        return Err("a word occurs twice".to_owned());
    }
    if count != rows {
        return Err(format!(
            "it has {count} words or pieces for the {rows} rows of the model; it is another model's, or cut off"
        ));
    }
    ids.insert(special::PADDING.to_owned(), rows.into());
    Ok(ids)
}

/// A tokenizer of words between spaces.
fn of_words(ids: Map<String, Value>, path: &Path) -> Result<Tokenizer, TextError> {
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": { "type": "Split", "pattern": { "String": " " }, "behavior": "Removed", "invert": false },
        "post_processor": null,
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": ids, "unk_token": special::UNKNOWN },
    });
    Tokenizer::parse(format!("{json:#}\n"), &path.display().to_string())
}

/// The entries of a `.yml`. Each line has a word, in quotes or not, a colon, and an id.
fn entries(text: &str) -> Result<Vec<(String, u32)>, String> {
    let mut found = Vec::new();
    // A very long word whose id stands on a line of its own.
    let mut long: Option<String> = None;
    for (line, number) in text.lines().zip(1..) {
        let wrong = || format!("line {number} is not a word with its id; it is cut off or damaged");
        let line = line.trim_end();
        if line.is_empty() || line == "---" || line.starts_with('#') {
            continue;
        }
        if let Some(word) = line.strip_prefix("? ") {
            long = Some(unquoted(word).ok_or_else(wrong)?);
            continue;
        }
        let (word, id) = line.rsplit_once(':').ok_or_else(wrong)?;
        let id = id.trim_start().parse().map_err(|_| wrong())?;
        let word = match long.take() {
            Some(word) if line.starts_with(':') => word,
            _ => unquoted(word.trim_end()).ok_or_else(wrong)?,
        };
        found.push((word, id));
    }
    Ok(found)
}

/// A word without its quotes.
fn unquoted(word: &str) -> Option<String> {
    if let Some(rest) = word.strip_prefix('\'') {
        return Some(rest.strip_suffix('\'')?.replace("''", "'"));
    }
    let Some(rest) = word.strip_prefix('"') else {
        return Some(word.to_owned());
    };
    let mut rest = rest.strip_suffix('"')?.chars();
    let mut text = String::new();
    while let Some(character) = rest.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        let digits = match rest.next()? {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            other => {
                text.push(match other {
                    '0' => '\0',
                    'a' => '\x07',
                    'b' => '\x08',
                    't' => '\t',
                    'n' => '\n',
                    'v' => '\x0b',
                    'f' => '\x0c',
                    'r' => '\r',
                    'e' => '\x1b',
                    'N' => '\u{85}',
                    '_' => '\u{a0}',
                    'L' => '\u{2028}',
                    'P' => '\u{2029}',
                    '"' | '\\' | '/' | ' ' => other,
                    _ => return None,
                });
                continue;
            }
        };
        let number: String = rest.by_ref().take(digits).collect();
        let number = u32::from_str_radix(&number, 16)
            .ok()
            .filter(|_| number.len() == digits)?;
        text.push(char::from_u32(number)?);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_list() {
        let text = "</s>: 0\n<unk>: 1\n\"-\": 2\n'it''s': 3\na:b: 4\n\"\\\"\\\\\\x41\\u00e4\": 5\n? long\n: 6\n---\n\nä: 7\n\": \": 8\n";
        let words = ["</s>", "<unk>", "-", "it's", "a:b", "\"\\Aä", "long", "ä", ": "];
        let expected: Vec<(String, u32)> = words.into_iter().map(str::to_owned).zip(0..).collect();
        assert_eq!(entries(text).unwrap(), expected);
        for wrong in [
            "word",
            "word: x",
            "\"word: 5",
            "\"\\q\": 5",
            "\"\\u12\": 5",
            "'x: 5",
            "a: -1",
            "a: 99999999999",
        ] {
            assert!(entries(wrong).unwrap_err().contains("line 1"), "{wrong}");
        }
    }
}
