//! A prepared corpus that is open for reading.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::description::Description;
use super::position::Ranges;
use super::record::{Form, Record};
use super::{OFFSETS, PAIRS, with_extension};
use crate::error::DataError;

/// Bytes that are read at once where pairs are close to each other.
const SPAN: u64 = 1 << 16;

/// A prepared corpus.
#[derive(Debug)]
pub struct PreparedCorpus {
    base: PathBuf,
    description: Description,
    form: Form,
    pairs: File,
    offsets: File,
}

impl PreparedCorpus {
    /// Opens a prepared corpus, by its path without extension. There may be none.
    ///
    /// The pairs themselves are checked when they are read.
    ///
    /// # Errors
    /// Every error of [`Description::open`], and files that are missing or have another length than described.
    pub fn open(base: &Path) -> Result<Option<Self>, DataError> {
        let Some(description) = Description::open(base)? else {
            return Ok(None);
        };
        let open = |extension: &str, expected: Option<u64>| {
            let path = with_extension(base, extension);
            let open = || {
                let file = File::open(&path)?;
                Ok((file.metadata()?.len(), file))
            };
            let (found, file) = open().map_err(|error: io::Error| DataError::Open {
                path: path.clone(),
                error,
            })?;
            match expected == Some(found) {
                true => Ok(file),
                false => Err(DataError::Prepared {
                    path,
                    reason: format!(
                        "it has {found} bytes instead of {}",
                        expected.map_or("far fewer than described".into(), |expected| expected.to_string())
                    ),
                }),
            }
        };
        let offset_bytes = description.pairs.checked_add(1).and_then(|count| count.checked_mul(8));
        Ok(Some(Self {
            pairs: open(PAIRS, Some(description.bytes))?,
            offsets: open(OFFSETS, offset_bytes)?,
            form: Form {
                is_narrow: description.token_bytes == 2,
                has_links: description.recipe.links,
            },
            base: base.to_owned(),
            description,
        }))
    }

    /// The description.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The path without extension.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Reads every pair and checks it. `progress` gets the number of pairs so far.
    ///
    /// # Errors
    /// When a file cannot be read or a pair is damaged.
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<(), DataError> {
        let mut done = 0;
        let count = self.description.pairs;
        self.read(count, 0..count, |_| {
            done += 1;
            progress(done);
        })
    }

    /// Reads `count` pairs by their numbers. Ascending numbers are read fastest.
    pub(super) fn read(
        &self,
        count: u64,
        numbers: impl Iterator<Item = u64>,
        mut visit: impl FnMut(&Record),
    ) -> Result<(), DataError> {
        let Description { pairs, bytes, .. } = self.description;
        // Pairs that are far from each other are read one by one.
        let span = |length: u64| {
            if length / count.max(1) < SPAN / 8 {
                SPAN as usize
            } else {
                0
            }
        };
        let mut offsets = Ranges::new(&self.offsets, (pairs + 1) * 8, span((pairs + 1) * 8));
        let mut records = Ranges::new(&self.pairs, bytes, span(bytes));
        let mut record = Record::default();
        for number in numbers {
            let entry = offsets.get(number * 8, 16);
            let entry = entry.map_err(|error| self.unreadable(OFFSETS, number, error))?;
            let (start, end) = (offset(&entry[..8]), offset(&entry[8..]));
            let length = end.checked_sub(start).filter(|_| end <= bytes);
            let length = length.and_then(|length| usize::try_from(length).ok());
            let length = length.ok_or_else(|| self.damaged(OFFSETS, number))?;
            let fits = match records.get(start, self.form.head()) {
                Ok(head) => self.form.length(head) == Some(length as u64),
                Err(_) => false,
            };
            // A damaged offset must not make the buffer large.
            if !fits {
                return Err(self.damaged(PAIRS, number));
            }
            let found = records.get(start, length);
            let found = found.map_err(|error| self.unreadable(PAIRS, number, error))?;
            if !self.form.read(number, found, &mut record) {
                return Err(self.damaged(PAIRS, number));
            }
            visit(&record);
        }
        Ok(())
    }

    fn damaged(&self, extension: &str, number: u64) -> DataError {
        DataError::Prepared {
            path: with_extension(&self.base, extension),
            reason: format!("pair {number} is damaged"),
        }
    }

    fn unreadable(&self, extension: &str, number: u64, error: io::Error) -> DataError {
        DataError::Prepared {
            path: with_extension(&self.base, extension),
            reason: format!("pair {number} cannot be read: {error}"),
        }
    }
}

fn offset(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    whole.copy_from_slice(bytes);
    u64::from_le_bytes(whole)
}
