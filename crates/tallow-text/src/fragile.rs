//! Parts of a `tokenizer.json` that the `tokenizers` library opens and then panics on, or for which it takes any amount of
//! memory. They are refused before it sees them.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// Looks for such parts.
///
/// # Errors
/// What is wrong.
pub(crate) fn check(json: &Value) -> Result<(), String> {
    for key in ["normalizer", "pre_tokenizer", "decoder"] {
        each_object(&json[key], &|part| {
            check_part(part).map_err(|fault| format!("its {key}: {fault}"))
        })?;
    }
    Ok(())
}

/// Visits an object and all objects in it. Parts are known by their keys, not by their types: the library guesses those
/// that have none.
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
    // The decoder `Strip`, on a piece that consists of what it strips.
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

/// Whether a map of characters, in base64, leads to places inside it, whatever text it is asked about. Its form is
/// described in `sentencepiece/normalizer.rs`.
fn check_map(map: &Value) -> Option<()> {
    let bytes = from_base64(map.as_str()?)?;
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

/// The bytes of a text in base64 (RFC 4648, section 4), which is padded and has no bit too many: the library panics on any
/// other.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if padding > 2 || !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn base64() {
        // RFC 4648, section 10.
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(from_base64(text).unwrap(), bytes.as_bytes());
        }
        for text in ["Zm9v!", "Zg=", "Zg", "Zh==", "====", "Zm9=v"] {
            assert_eq!(from_base64(text), None, "{text}");
        }
    }

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
            // Says that it has 2^32 - 1 bytes.
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
}
