//! The targets.

mod catalogs;
mod checkpoints;
mod configs;
mod corpora;
mod lines;
mod models;
mod prepared;
mod scores;
mod tokenizers;

pub use catalogs::catalogs;
pub use checkpoints::checkpoints;
pub use configs::configs;
pub use corpora::corpora;
pub use lines::lines;
pub use models::models;
pub use prepared::prepared;
pub use scores::scores;
pub use tokenizers::tokenizers;

use crate::PART;

pub(crate) use models::FILES as MODEL_FILES;
pub(crate) use prepared::{FILES as PREPARED_FILES, files as prepared_files};
pub(crate) use tokenizers::FILES as TOKENIZER_FILES;

/// The two parts of an input: before and after [`PART`].
fn parts(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let place = data.windows(PART.len()).position(|window| window == PART)?;
    Some((&data[..place], &data[place + PART.len()..]))
}

/// The lines of plain text by the rules at the top of `tallow-data/src/lines.rs`, in a separate implementation: a line
/// ends at LF, and neither one CR before it nor a byte order mark at the start of the file belongs to the line.
fn plain_lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    // Text after the last line feed is a line only if it is not empty.
    lines.pop_if(|last| last.is_empty());
    for (number, line) in lines.iter_mut().enumerate() {
        *line = line.strip_suffix(b"\r").unwrap_or(line);
        if number == 0 {
            *line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
    }
    lines
}
