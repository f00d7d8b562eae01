//! Remains of failed downloads in place of a file.

/// Recognises the remains of a failed download. The result says what the file is, and how to get the right one.
pub(crate) fn failed_download(bytes: &[u8]) -> Option<&'static str> {
    const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
    let start = bytes.trim_ascii_start();
    let begins_with = |text: &[u8]| start.len() >= text.len() && start[..text.len()].eq_ignore_ascii_case(text);
    if bytes.is_empty() {
        Some("it is empty; download it again")
    } else if bytes.starts_with(POINTER) {
        Some("it is a pointer of Git LFS, not the file itself; `git lfs pull` fetches that")
    } else if begins_with(b"<!doctype html") || begins_with(b"<html") {
        Some("it is a web page, not the file itself; download that again")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_downloads_leave_behind() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        assert!(failed_download(pointer).unwrap().contains("git lfs pull"));
        assert!(
            failed_download(b"\n<!DOCTYPE HTML><p>Sign in")
                .unwrap()
                .contains("web page")
        );
        assert!(failed_download(b"").unwrap().contains("empty"));
        for fine in [&b"{}"[..], b"PK\x03\x04", b"version 2", b"<"] {
            assert_eq!(failed_download(fine), None);
        }
    }
}
