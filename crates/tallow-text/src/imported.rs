//! Checks of a `tokenizer.json` from elsewhere: faults that the `tokenizers` library does not find, and settings that
//! would change the ids of a line.

use serde_json::Value;
use tokenizers::{ModelWrapper, PostProcessorWrapper};

/// Removes settings that would add to, cut or randomise the ids of a line.
pub(crate) fn remove_extras(model: &mut tokenizers::Tokenizer) -> tokenizers::Result<()> {
    model.with_truncation(None)?;
    model.with_padding(None);
    model.with_post_processor(None::<PostProcessorWrapper>);
    model.set_encode_special_tokens(true);
    if let ModelWrapper::BPE(bpe) = model.get_model()
        && bpe.dropout.is_some()
    {
        let mut bpe = bpe.clone();
        bpe.dropout = None;
        model.with_model(bpe);
    }
    Ok(())
}

/// All pieces by their ids.
pub(crate) fn pieces_by_id(model: &tokenizers::Tokenizer) -> Result<Vec<Option<String>>, String> {
    by_id(model.get_vocab(true))
}

/// The table of a vocabulary: its pieces by their ids.
pub(crate) fn by_id(vocabulary: impl IntoIterator<Item = (String, u32)>) -> Result<Vec<Option<String>>, String> {
    let mut sorted: Vec<(u32, String)> = vocabulary.into_iter().map(|(piece, id)| (id, piece)).collect();
    sorted.sort_unstable();
    let Some((highest, _)) = sorted.last() else {
        return Err("it has no pieces".to_owned());
    };
    // A table is kept by id, and a model has a row for each id: a stray id would ask for any amount of memory.
    if *highest as usize > 2 * sorted.len() + 1024 {
        return Err(format!("it has {} pieces but an id of {highest}", sorted.len()));
    }
    let mut pieces = vec![None; *highest as usize + 1];
    for (id, piece) in sorted {
        let place = &mut pieces[id as usize];
        if let Some(other) = place {
            return Err(format!("the pieces {other:?} and {piece:?} have the same id, {id}"));
        }
        *place = Some(piece);
    }
    Ok(pieces)
}

/// Checks that the results of all BPE merges are in the vocabulary. The library does not check this, and panics.
pub(crate) fn check_merges(json: &Value) -> Result<(), String> {
    let model = &json["model"];
    let (Some(vocabulary), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array()) else {
        return Ok(());
    };
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
    for merge in merges {
        // If an entry is not a pair at all, the library reports it.
        let Some((left, right)) = parts_of_merge(merge) else {
            continue;
        };
        let Some(rest) = right.strip_prefix(prefix) else {
            return Err(format!(
                "the merge of {left:?} and {right:?} lacks the prefix {prefix:?}"
            ));
        };
        if !vocabulary.contains_key(&format!("{left}{rest}")) {
            return Err(format!("the merge of {left:?} and {right:?} is not in the vocabulary"));
        }
    }
    Ok(())
}

/// The two pieces of an entry in the list of merges.
pub(crate) fn parts_of_merge(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(pair) => pair.split_once(' '),
        Value::Array(pair) => pair.first()?.as_str().zip(pair.get(1)?.as_str()),
        _ => None,
    }
}

/// Checks that added tokens have the ids that the file gives. The library changes such ids without a message.
pub(crate) fn check_added_tokens(json: &Value, model: &tokenizers::Tokenizer) -> Result<(), String> {
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let (Some(content), Some(id)) = (token["content"].as_str(), token["id"].as_u64()) else {
            continue;
        };
        let found = model.token_to_id(content).map(u64::from);
        if found != Some(id) {
            return Err(format!(
                "the added token {content:?} should have the id {id}, but its place in the vocabulary is {}",
                found.map_or("none".to_owned(), |found| found.to_string())
            ));
        }
    }
    Ok(())
}
