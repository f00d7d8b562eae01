//! Text files read line by line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use crate::error::TextError;

/// The lines of several files, one file after another.
///
/// A line ends at a line feed; one carriage return before it is dropped. No other character ends a line. The iterator
/// ends after an error.
#[derive(Debug)]
pub struct Lines {
    files: std::vec::IntoIter<PathBuf>,
    open: Option<(PathBuf, BufReader<File>)>,
    line: u64,
}

impl Lines {
    /// The lines of these files. Nothing is opened yet.
    pub fn new<I, P>(files: I) -> Self
    where
        I: IntoIterator<Item = P>,
        P: Into<PathBuf>,
    {
        let files: Vec<PathBuf> = files.into_iter().map(Into::into).collect();
        Self {
            files: files.into_iter(),
            open: None,
            line: 0,
        }
    }

    fn next_line(&mut self) -> Result<Option<String>, TextError> {
        loop {
            let Some((path, reader)) = &mut self.open else {
                let Some(path) = self.files.next() else { return Ok(None) };
                let file = File::open(&path).map_err(|source| TextError::Read {
                    path: path.clone(),
                    source,
                })?;
                self.open = Some((path, BufReader::new(file)));
                self.line = 0;
                continue;
            };
            let mut bytes = Vec::new();
            let length = reader.read_until(b'\n', &mut bytes).map_err(|source| TextError::Read {
                path: path.clone(),
                source,
            })?;
            if length == 0 {
                self.open = None;
                continue;
            }
            self.line += 1;
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
            let line = String::from_utf8(bytes).map_err(|_| TextError::NotUtf8 {
                path: path.clone(),
                line: self.line,
            })?;
            return Ok(Some(line));
        }
    }
}

impl Iterator for Lines {
    type Item = Result<String, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_line().transpose();
        if matches!(next, Some(Err(_))) {
            self.open = None;
            self.files = Vec::new().into_iter();
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_two_files() {
        let directory = tempfile::tempdir().unwrap();
        let first = directory.path().join("a");
        let second = directory.path().join("b");
        std::fs::write(&first, "one\r\ntwo\u{2028}still two\n\nfour").unwrap();
        std::fs::write(&second, "five\n").unwrap();
        let lines: Vec<String> = Lines::new([first, second]).collect::<Result<_, _>>().unwrap();
        assert_eq!(lines, ["one", "two\u{2028}still two", "", "four", "five"]);
    }

    #[test]
    fn a_bad_line_is_named_and_ends_the_reading() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("latin1.txt");
        std::fs::write(&path, b"fine\nna\xEFve\nfine\n").unwrap();
        let mut lines = Lines::new([path, directory.path().join("missing")]);
        assert_eq!(lines.next().unwrap().unwrap(), "fine");
        let message = lines.next().unwrap().unwrap_err().to_string();
        assert!(message.contains("latin1.txt, line 2"), "{message}");
        assert!(lines.next().is_none());
    }
}
