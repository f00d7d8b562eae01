//! Input lines with arbitrary contents.

use crate::colour::warning;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::path::Path;
use tallow::humanize::counted;
use tallow_data::LineReader;

/// The lines of standard input (`-`) or of a file, plain or gzip. No line is refused: bytes that are not UTF-8 are
/// replaced and counted.
pub(crate) fn input(path: &Path) -> Result<LineReader<Box<dyn BufRead>>> {
    let (reader, name): (Box<dyn BufRead>, &Path) = if path == Path::new("-") {
        (Box::new(BufReader::new(stdin())), Path::new("standard input"))
    } else {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        (Box::new(BufReader::new(file)), path)
    };
    Ok(LineReader::new(reader, name)?.repairing())
}

/// Prints a warning if bytes were replaced.
pub(crate) fn warn_of_repairs(reader: &LineReader<Box<dyn BufRead>>) {
    let repaired = reader.report().repaired;
    if repaired > 0 {
        let were = if repaired == 1 { "was" } else { "were" };
        eprintln!(
            "{} {} {were} not valid UTF-8; bad bytes were read as U+FFFD",
            warning(),
            counted(repaired, "line")
        );
    }
}
