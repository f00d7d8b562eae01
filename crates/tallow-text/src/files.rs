//! Files: reasons why a file cannot be read, and writing files.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::error::TextError;

/// Writes a file. The contents go to a file beside it first, which is then renamed, so a half-written file never has
/// this name.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write(path: &Path, contents: &[u8]) -> Result<(), TextError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        // The first error matters; there may be nothing to remove.
        let _ = fs::remove_file(&temporary);
        TextError::Write {
            path: path.to_owned(),
            source,
        }
    })
}

/// The contents without the byte order mark that some editors write at the start of JSON.
pub(crate) fn without_mark(mut contents: Vec<u8>) -> Vec<u8> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    if contents.starts_with(BYTE_ORDER_MARK) {
        contents.drain(..BYTE_ORDER_MARK.len());
    }
    contents
}

/// The reason why a file cannot be used. A file that only stands in for another one after a download is named as such;
/// otherwise the reason is `reason`.
pub(crate) fn reason_of(contents: &[u8], reason: String) -> String {
    const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
    let start = contents.trim_ascii_start();
    let begins_with = |text: &[u8]| start.len() >= text.len() && start[..text.len()].eq_ignore_ascii_case(text);
    if contents.is_empty() {
        "it is empty; download it again".to_owned()
    } else if contents.starts_with(POINTER) {
        "it is a pointer of Git LFS, not the file itself; `git lfs pull` fetches that".to_owned()
    } else if contents.starts_with(b"\xff\xfe") || contents.starts_with(b"\xfe\xff") {
        "it is UTF-16; convert it with `iconv -f UTF-16 -t UTF-8`".to_owned()
    } else if contents.starts_with(b"\x1f\x8b") {
        "it is compressed by gzip; decompress it first".to_owned()
    } else if begins_with(b"<!doctype html") || begins_with(b"<html") {
        "it is a web page, not the file itself; download that again".to_owned()
    } else {
        reason
    }
}

/// The reason why a file of JSON cannot be used.
pub(crate) fn reason_of_json(contents: &[u8], error: &serde_json::Error) -> String {
    let reason = if error.is_eof() {
        format!("it is cut off ({error}); download it again")
    } else {
        error.to_string()
    };
    reason_of(contents, reason)
}
