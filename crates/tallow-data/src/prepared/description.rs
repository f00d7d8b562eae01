//! The description of a prepared corpus.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{DESCRIPTION, with_extension};
use crate::clean::CleanConfig;
use crate::error::DataError;
use crate::filter::{FilterReport, Filters};
use crate::lines::FileRecord;
use crate::text_record::Reading;

/// The version of the files.
pub(super) const VERSION: u32 = 1;

/// What a prepared corpus was made of. The same recipe gives the same files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The files of the text, with their hashes.
    pub text: Vec<FileRecord>,
    /// How they are read.
    pub reading: Reading,
    /// The file of word alignments, if there is one.
    pub alignments: Option<FileRecord>,
    /// Whether its links are kept.
    pub links: bool,
    /// SHA-256 of the tokenizers of both sides.
    pub tokenizers: [String; 2],
    /// The filters.
    pub filters: Filters,
    /// The rules that drop pairs.
    pub clean: Option<CleanConfig>,
    /// SHA-256 of the weights of the model that scores pairs, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean_model: Option<String>,
    /// The corpora before this one, if pairs that occur there are dropped.
    pub after: Vec<Earlier>,
}

/// A corpus that was read before another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    /// The files of its text.
    pub text: Vec<FileRecord>,
    /// How they are read.
    pub reading: Reading,
}

impl Recipe {
    /// Why files that were made by `self` cannot be used for `other`, if they cannot.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let hashes = |files: &[FileRecord]| -> Vec<String> { files.iter().map(|file| file.sha256.clone()).collect() };
        let are_same = |some: &[Earlier], others: &[Earlier]| {
            let of = |corpora: &[Earlier]| -> Vec<(Vec<String>, Reading)> {
                let one = |corpus: &Earlier| (hashes(&corpus.text), corpus.reading.clone());
                corpora.iter().map(one).collect()
            };
            of(some) == of(others)
        };
        let of_alignments = |recipe: &Self| recipe.alignments.as_ref().map(|file| file.sha256.clone());
        if hashes(&self.text) != hashes(&other.text) {
            Some("the text has changed")
        } else if self.reading != other.reading {
            Some("the text is read in another way (languages or prefixes)")
        } else if of_alignments(self) != of_alignments(other) {
            Some("the word alignments have changed")
        } else if self.links != other.links {
            Some("word alignments are used in another way")
        } else if self.tokenizers != other.tokenizers {
            Some("the tokenizer is another one")
        } else if self.filters != other.filters {
            Some("the filters are others")
        } else if self.clean != other.clean {
            Some("the rules of data.clean are others")
        } else if self.clean_model != other.clean_model {
            Some("the model of data.clean is another one")
        } else if !are_same(&self.after, &other.after) {
            Some("the corpora before it, whose pairs are not repeated, have changed")
        } else {
            None
        }
    }
}

/// The description of a prepared corpus: its `.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The version of the files.
    pub version: u32,
    /// What it was made of.
    pub recipe: Recipe,
    /// The number of pairs.
    pub pairs: u64,
    /// The number of source tokens, `</s>` included.
    pub source_tokens: u64,
    /// The number of target tokens, `</s>` included.
    pub target_tokens: u64,
    /// Bytes of each token: 2 or 4.
    pub token_bytes: u8,
    /// The length of the file of pairs.
    pub bytes: u64,
    /// The pairs that were read, and those that were dropped.
    pub report: FilterReport,
}

impl Description {
    /// Opens the description of the prepared corpus with this path, which has no extension. There may be none.
    ///
    /// # Errors
    /// A file that cannot be read, is no description, or is one of another version.
    pub fn open(base: &Path) -> Result<Option<Self>, DataError> {
        let path = with_extension(base, DESCRIPTION);
        let Some(description) = read_json::<Self>(&path)? else {
            return Ok(None);
        };
        match (description.version == VERSION, description.is_sound()) {
            (true, true) => Ok(Some(description)),
            (false, _) => Err(DataError::Prepared {
                path,
                reason: format!(
                    "its format is version {}, and this program reads {VERSION}",
                    description.version
                ),
            }),
            (true, false) => Err(DataError::Prepared {
                path,
                reason: "it contradicts itself".into(),
            }),
        }
    }
}

/// Larger numbers, which no corpus reaches, would overflow in sums.
const LARGEST_COUNT: u64 = 1 << 48;

impl Description {
    /// Whether the counts may belong together.
    pub(super) fn is_sound(&self) -> bool {
        let counts = [self.report.read, self.bytes, self.source_tokens, self.target_tokens];
        matches!(self.token_bytes, 2 | 4)
            && self.report.kept == self.pairs
            && self.report.read >= self.pairs
            && counts.into_iter().all(|count| count <= LARGEST_COUNT)
    }
}

/// The value of a JSON file, if there is one.
pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, DataError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(DataError::Open {
                path: path.to_owned(),
                error,
            });
        }
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| DataError::Prepared {
            path: path.to_owned(),
            reason: error.to_string(),
        })
}

/// Writes a JSON file, first aside, so that an earlier one is replaced completely or not at all.
pub(crate) fn write_json(path: &Path, value: &(impl Serialize + Debug)) -> Result<(), DataError> {
    let fault = |error| DataError::Write {
        path: path.to_owned(),
        error,
    };
    let text = serde_json::to_vec_pretty(value).map_err(|error| fault(error.into()))?;
    let aside = with_extension(path, super::PARTIAL);
    let write = || {
        let mut file = fs::File::create(&aside)?;
        io::Write::write_all(&mut file, &text)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    write().map_err(fault)
}
