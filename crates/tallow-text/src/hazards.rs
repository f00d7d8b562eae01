//! Parts of a `tokenizer.json` that the `tokenizers` library opens, but on which it later panics or takes any amount of
//! memory. They are refused before the library sees them.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// Looks for such parts.
///
/// # Errors
/// Says what is wrong.
pub(crate) fn check(json: &Value) -> Result<(), String> {
    for key in ["normalizer", "pre_tokenizer", "decoder"] {
        each_object(&json[key], &|part| {
            check_part(part).map_err(|fault| format!("its {key}: {fault}"))
        })?;
    }
    Ok(())
}

/// Visits an object and all objects in it. Parts are recognized by their keys, not by their types, because the library
/// guesses the type of a part that names none.
fn each_object(value: &Value, visit: &impl Fn(&Map<String, Value>) -> Result<(), String>) -> Result<(), String> {
    match value {
        Value::Object(object) => {
            visit(object)?;
            object.values().try_for_each(|value| each_object(value, visit))
        }
        Value::Array(list) => list.iter().try_for_each(|value| each_object(value, visit)),
        _ => Ok(()),
    }
}

fn check_part(part: &Map<String, Value>) -> Result<(), String> {
    let number = |key: &str| part.get(key).and_then(Value::as_u64);
    // The decoder `Strip` panics on a piece that consists only of the characters to strip.
    if number("stop").is_some_and(|stop| stop > 0) {
        return Err("to strip the ends of pieces is not supported".to_owned());
    }
    // `FixedLength`.
    if number("length") == Some(0) {
        return Err("it cuts pieces of no length".to_owned());
    }
    let is_map = part.get("type").and_then(Value::as_str) == Some("Precompiled");
    match part.get("precompiled_charsmap") {
        Some(map) => check_map(map).ok_or_else(|| "its map of characters is damaged".to_owned()),
        None if is_map => Err("its map of characters is missing".to_owned()),
        None => Ok(()),
    }
}

/// Returns nothing if a map of characters, in base64, leads outside itself for some text. `sentencepiece/normalizer.rs`
/// describes the form of the map.
fn check_map(map: &Value) -> Option<()> {
    // It must be padded and have no surplus bits: the library panics on any other base64.
    let bytes = STANDARD.decode(map.as_str()?).ok()?;
    let (size, rest) = bytes.split_first_chunk::<4>()?;
    let units = u32::from_le_bytes(*size) as usize / 4;
    let (tree, replacements) = rest.split_at_checked(units.checked_mul(4)?)?;
    let replacements = std::str::from_utf8(replacements).ok()?;
    let (units, _) = tree.as_chunks::<4>();
    let unit = |place: usize| units.get(place).map(|unit| u32::from_le_bytes(*unit));
    let offset = |unit: u32| (unit as usize >> 10) << ((unit & (1 << 9)) >> 6);
    let root = offset(unit(0)?);
    let (mut seen, mut open) = (HashSet::from([root]), vec![root]);
    while let Some(node) = open.pop() {
        for byte in 1..=u32::from(u8::MAX) {
            let place = node ^ byte as usize;
            let child = unit(place)?;
            if child & ((1 << 31) | 0xFF) != byte {
                continue;
            }
            let next = place ^ offset(child);
            if child & (1 << 8) != 0 {
                let start = (unit(next)? & !(1 << 31)) as usize;
                if !replacements.is_char_boundary(start) {
                    return None;
                }
            }
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_that_panic_are_refused() {
        for (key, part, word) in [
            (
                "decoder",
                json!({"type": "Strip", "content": " ", "start": 0, "stop": 1}),
                "strip",
            ),
            (
                "decoder",
                json!({"type": "Sequence", "decoders": [{"content": " ", "start": 1, "stop": 2}]}),
                "strip",
            ),
            (
                "pre_tokenizer",
                json!({"type": "FixedLength", "length": 0}),
                "no length",
            ),
            // This map claims to have 2^32 - 1 bytes.
            (
                "normalizer",
                json!({"type": "Precompiled", "precompiled_charsmap": "/////w=="}),
                "damaged",
            ),
            (
                "normalizer",
                json!({"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}),
                "damaged",
            ),
            (
                "normalizer",
                json!({"type": "Precompiled", "precompiled_charsmap": 5}),
                "damaged",
            ),
            (
                "normalizer",
                json!({"type": "Sequence", "normalizers": [{"type": "Precompiled"}]}),
                "missing",
            ),
        ] {
            let error = check(&json!({ key: part })).unwrap_err();
            assert!(error.contains(word) && error.contains(key), "{error}");
        }
        let fine = json!({"decoder": {"type": "Strip", "content": " ", "start": 1, "stop": 0}});
        assert_eq!(check(&fine), Ok(()));
    }

    /// The library panics on base64 that is not padded or has surplus bits.
    #[test]
    fn maps_are_strict_base64() {
        let of = |map: &str| check(&json!({"normalizer": {"type": "Precompiled", "precompiled_charsmap": map}}));
        // A tree of 256 units, none of which leads anywhere.
        let map = STANDARD.encode([&1024u32.to_le_bytes()[..], &[0; 1024]].concat());
        assert_eq!(of(&map), Ok(()));
        let start = map.strip_suffix("A=").unwrap();
        for end in ["A", "B=", "!=", "A=="] {
            assert!(of(&format!("{start}{end}")).is_err(), "{end}");
        }
    }
}
