//! The targets.

mod checkpoints;
mod configs;
mod corpora;
mod lines;
mod models;
mod scores;
mod tokenizers;

pub use checkpoints::checkpoints;
pub use configs::configs;
pub use corpora::corpora;
pub use lines::lines;
pub use models::models;
pub use scores::scores;
pub use tokenizers::tokenizers;

use crate::PART;

pub(crate) use models::FILES as MODEL_FILES;
pub(crate) use tokenizers::FILES as TOKENIZER_FILES;

/// The parts of an input: what stands before [`PART`] and what stands behind it.
fn parts(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let place = data.windows(PART.len()).position(|window| window == PART)?;
    Some((&data[..place], &data[place + PART.len()..]))
}

/// The lines of plain text by the rule of the head of `tallow-data/src/lines.rs`, in another way than it: ends at LF,
/// one CR before it is not part of the line, nor is a byte order mark at the start of the file.
fn plain_lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    // What follows the last line feed is a line only if there is something.
    lines.pop_if(|last| last.is_empty());
    for (number, line) in lines.iter_mut().enumerate() {
        *line = line.strip_suffix(b"\r").unwrap_or(line);
        if number == 0 {
            *line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
    }
    lines
}
