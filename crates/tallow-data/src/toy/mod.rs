//! Small artificial parallel corpora. They need no download, and it is easy to tell whether a model has learned them.
//!
//! | toy | source | target |
//! |---|---|---|
//! | [`numbers`] | a cardinal number in English words | in German words |
//! | [`reverse`] | a sequence of values | the sequence from its end to its start |
//! | [`copy`] | a sequence of values | the same sequence |
//! | [`sort`] | a sequence of values | the sequence in ascending order |
//!
//! A toy depends only on its options, so everybody who writes it gets the same files.

pub mod copy;
pub mod numbers;
pub mod reverse;
mod sequence;
pub mod sort;

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use crate::error::DataError;

/// The toy corpora.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toy {
    /// See [`numbers`].
    Numbers,
    /// See [`reverse`].
    Reverse,
    /// See [`copy`].
    Copy,
    /// See [`sort`].
    Sort,
}

impl Toy {
    /// All toys.
    pub const ALL: [Self; 4] = [Self::Numbers, Self::Reverse, Self::Copy, Self::Sort];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Numbers => "numbers",
            Self::Reverse => "reverse",
            Self::Copy => "copy",
            Self::Sort => "sort",
        }
    }

    /// The content of the toy in a few words.
    pub fn description(self) -> &'static str {
        match self {
            Self::Numbers => "cardinal numbers in English and German words",
            Self::Reverse => "sequences of values, reversed",
            Self::Copy => "sequences of values, copied",
            Self::Sort => "sequences of values, sorted",
        }
    }

    /// The options with which this project documents and ships the toy.
    pub fn options(self) -> ToyOptions {
        match self {
            Self::Numbers => numbers::options(),
            Self::Reverse | Self::Copy | Self::Sort => sequence::options(),
        }
    }
}

impl fmt::Display for Toy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Toy {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name);
        let found = Self::ALL.into_iter().find(|toy| toy.name() == name);
        found.ok_or_else(|| format!("there is no toy {name:?}; there are {}", names.join(", ")))
    }
}

/// The options of a toy. [`Toy::options`] gives the defaults of each toy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToyOptions {
    /// The seed of all random choices. Default: 1.
    pub seed: u64,
    /// The number of training pairs. Default: 20,000 for numbers, 50,000 for sequences.
    pub train: usize,
    /// The number of validation pairs. Default: 500 for numbers, 1,000 for sequences.
    pub valid: usize,
    /// The number of test pairs. Default: 1,000.
    pub test: usize,
    /// The largest number or value. Default: 999,999 for numbers, 49 for sequences.
    pub maximum: u32,
    /// The longest training sequence, in values. Default: 25; `None` for numbers, which have no lengths.
    pub train_length: Option<usize>,
    /// The longest validation and test sequence, in values. Default: 30; `None` for numbers.
    pub test_length: Option<usize>,
}

/// The result of writing a toy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToyReport {
    /// The files, each with its number of lines, in the order in which they were written.
    pub files: Vec<(PathBuf, usize)>,
}

/// The pairs of one split, such as `train`.
struct Split {
    name: &'static str,
    pairs: Vec<(String, String)>,
}

/// Writes a toy corpus into a directory and creates the directory if needed. The files are `train.*`, `valid.*` and
/// `test.*`. For numbers, the endings are `en` and `de`, and there are further files (see [`numbers`]). For sequences,
/// the endings are `source` and `target`, and `test.inside.*` and `test.beyond.*` are parts of the test set.
///
/// An existing file with the same content is not touched.
///
/// # Errors
/// Options that the toy cannot meet, an existing file of that name with other content (then nothing is written), and a
/// disk that cannot be written.
pub fn write(toy: Toy, options: &ToyOptions, directory: &Path) -> Result<ToyReport, DataError> {
    let fault = |reason| DataError::Toy {
        toy: toy.name(),
        reason,
    };
    if options.train == 0 || options.valid == 0 || options.test == 0 {
        return Err(fault("train, valid and test need at least one pair each".into()));
    }
    let (splits, endings) = match toy {
        Toy::Numbers => (numbers::splits(options).map_err(fault)?, ["en", "de"]),
        Toy::Reverse => (
            sequence::splits(options, reverse::target).map_err(fault)?,
            ["source", "target"],
        ),
        Toy::Copy => (
            sequence::splits(options, copy::target).map_err(fault)?,
            ["source", "target"],
        ),
        Toy::Sort => (
            sequence::splits(options, sort::target).map_err(fault)?,
            ["source", "target"],
        ),
    };
    let mut files = Vec::new();
    for split in &splits {
        let sources: String = split.pairs.iter().map(|(source, _)| format!("{source}\n")).collect();
        let targets: String = split.pairs.iter().map(|(_, target)| format!("{target}\n")).collect();
        for (ending, content) in endings.into_iter().zip([sources, targets]) {
            files.push((
                directory.join(format!("{}.{ending}", split.name)),
                content,
                split.pairs.len(),
            ));
        }
    }
    // All files are compared before any is written: a directory never has half of one corpus and half of another.
    let mut missing = Vec::new();
    for (path, content, _) in &files {
        match fs::read(path) {
            Ok(present) if present == content.as_bytes() => {}
            Ok(_) => return Err(DataError::Exists { path: path.clone() }),
            Err(error) if error.kind() == ErrorKind::NotFound => missing.push((path, content)),
            Err(error) => {
                return Err(DataError::Open {
                    path: path.clone(),
                    error,
                });
            }
        }
    }
    fs::create_dir_all(directory).map_err(|error| DataError::Write {
        path: directory.to_owned(),
        error,
    })?;
    for (path, content) in missing {
        // The file gets its name once it is complete: a full disk leaves no file that looks like a corpus.
        let mut partial = path.clone().into_os_string();
        partial.push(".partial");
        let written = fs::write(&partial, content).and_then(|()| fs::rename(&partial, path));
        if let Err(error) = written {
            // The first error is the one to report.
            let _ = fs::remove_file(&partial);
            return Err(DataError::Write {
                path: path.clone(),
                error,
            });
        }
    }
    Ok(ToyReport {
        files: files.into_iter().map(|(path, _, lines)| (path, lines)).collect(),
    })
}
