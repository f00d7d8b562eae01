//! JSON files.

use crate::ModelError;
use crate::directory::file_error;
use crate::formats::failed_download::failed_download;
use serde_json::Value;
use std::path::Path;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a JSON file. A byte order mark at its start, which some editors write, is skipped.
///
/// # Errors
/// When the file cannot be read or is not JSON.
pub fn read_json(path: &Path) -> Result<Value, ModelError> {
    let bytes = std::fs::read(path).map_err(file_error(path))?;
    parse(&bytes).map_err(|reason| ModelError::Damaged {
        path: path.to_path_buf(),
        reason,
    })
}

fn parse(bytes: &[u8]) -> Result<Value, String> {
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    serde_json::from_slice(text).map_err(|error| match failed_download(bytes) {
        Some(other) => other.to_owned(),
        None if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") => {
            "it is UTF-16: convert it with `iconv -f UTF-16 -t UTF-8`".to_owned()
        }
        None if error.is_eof() => format!("it is cut off ({error}); download it again"),
        None => format!("it is no JSON: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mark_is_passed_over() {
        assert_eq!(parse(b"\xef\xbb\xbf{\"a\": 1}"), Ok(json!({ "a": 1 })));
        assert_eq!(parse(b"[]"), Ok(json!([])));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (bytes, part) in [
            (&b"{\"a\": "[..], "cut off"),
            (b"{'a': 1}", "no JSON"),
            (b"\xff\xfe{\0}\0", "UTF-16"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
            (b"", "empty"),
        ] {
            let reason = parse(bytes).unwrap_err();
            assert!(reason.contains(part), "{reason}");
        }
    }
}
