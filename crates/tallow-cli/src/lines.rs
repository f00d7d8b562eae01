//! Lines of input that may hold anything.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, stdin};
use std::path::Path;

/// Standard input (`-`) or a file.
pub(crate) fn input(path: &Path) -> Result<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(stdin())));
    }
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Box::new(BufReader::new(file)))
}

/// The longest line that is read, in bytes. A line is held in memory and no sentence comes near.
const LONGEST_LINE: u64 = 64 << 20;

/// Reads the next line without its end (LF, or CR LF). Bytes that are not UTF-8 become U+FFFD and `repaired` is counted
/// up: a filter answers every line, whatever it holds. `None` is the end of the input.
pub(crate) fn next_line(reader: &mut dyn BufRead, repaired: &mut u64) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    let read = reader
        .take(LONGEST_LINE)
        .read_until(b'\n', &mut bytes)
        .context("cannot read the input")?;
    if read == 0 {
        return Ok(None);
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    } else if read as u64 == LONGEST_LINE {
        anyhow::bail!("a line of the input is longer than {} MiB", LONGEST_LINE >> 20);
    }
    match String::from_utf8(bytes) {
        Ok(line) => Ok(Some(line)),
        Err(error) => {
            *repaired += 1;
            Ok(Some(String::from_utf8_lossy(error.as_bytes()).into_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_answered() {
        let mut input: &[u8] = b"one\r\n\n\xff\xfe x\na\0b\nlast";
        let mut repaired = 0;
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut input, &mut repaired).unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, ["one", "", "\u{fffd}\u{fffd} x", "a\0b", "last"]);
        assert_eq!(repaired, 1);
    }
}
