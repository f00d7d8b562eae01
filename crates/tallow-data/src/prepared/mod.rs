//! Prepared corpora: encoded and filtered pairs on disk, for text that does not fit into memory.
//!
//! A prepared corpus has three files beside each other, which differ in their extension:
//!
//! - `.pairs`: the pairs as records, one after another (`record.rs`);
//! - `.offsets`: the offset of every record, and the end of the last one, as numbers of 64 bits;
//! - `.json`: the description, with the hashes of the text, the tokenizers and the filters (`description.rs`).
//!
//! All numbers are little-endian. The description is written last: without it, the files are unfinished. Pairs are read
//! by their offsets and not mapped into memory: so the memory of a process stays that of its windows, and a file that
//! is cut short meanwhile is an error and not the death of the process.

mod build;
mod corpora;
mod description;
mod file;
mod position;
mod record;
mod writer;

pub use build::{Encoded, Encoder, Preparation};
pub use corpora::PreparedCorpora;
pub use description::{Description, Earlier, Recipe};
pub(crate) use description::{read_json, write_json};
pub use file::PreparedCorpus;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The extensions of the files.
const PAIRS: &str = "pairs";
const OFFSETS: &str = "offsets";
const DESCRIPTION: &str = "json";
/// The state of an unfinished preparation.
const STATE: &str = "state.json";
/// Added to the name of a file that is not complete.
const PARTIAL: &str = "partial";

/// The file of a prepared corpus with this extension.
fn with_extension(base: &Path, extension: &str) -> PathBuf {
    let mut name = OsString::from(base);
    name.push(".");
    name.push(extension);
    name.into()
}

fn partial(base: &Path, extension: &str) -> PathBuf {
    with_extension(&with_extension(base, extension), PARTIAL)
}
