//! What is known of a corpus's text after it was read once: its hashes and counts. So text that has not changed since
//! is not read again.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::corpus_files::{CorpusFiles, CorpusForm};
use crate::error::DataError;
use crate::lines::{FileRecord, ReadReport};
use crate::pair_reader::PairReader;
use crate::parallel::name_of;
use crate::prepared::{read_json, write_json};
use crate::shards::expand;

const VERSION: u32 = 1;

/// Text that was written shortly before it was read may be written once more within the resolution of its time stamp.
const RESOLUTION: Duration = Duration::from_secs(2);

/// The length and the time of change of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp {
    bytes: u64,
    /// Since 1970.
    modified: Duration,
}

/// Keys of a corpus that change its text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// The languages of a translation memory.
    pub languages: Option<[String; 2]>,
    /// What is put before source and target lines.
    pub prefixes: [Option<String>; 2],
}

impl Reading {
    /// How a corpus is read.
    pub fn of(files: &CorpusFiles) -> Self {
        Self {
            languages: files.languages.clone(),
            prefixes: [files.source_prefix.clone(), files.target_prefix.clone()],
        }
    }
}

/// The hashes and counts of a corpus's text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextRecord {
    version: u32,
    /// The files of the text, with their hashes.
    pub files: Vec<FileRecord>,
    /// The file of word alignments, if there is one.
    pub alignments: Option<FileRecord>,
    /// The counts of reading: `lines` and `empty` count pairs, the rest is summed over the files.
    pub report: ReadReport,
    /// How the files are read: the number of pairs and their text depend on it.
    reading: Reading,
    /// Of the files and then of the word alignments.
    stamps: Vec<Stamp>,
    /// When reading began, since 1970.
    read: Duration,
}

impl TextRecord {
    /// Reads the text of a corpus. `progress` gets the number of pairs so far.
    ///
    /// # Errors
    /// Every error of [`PairReader`].
    pub fn read(files: &CorpusFiles, mut progress: impl FnMut(u64)) -> Result<Self, DataError> {
        let read = since_1970(SystemTime::now());
        let mut reader = PairReader::open(files)?;
        let mut pairs = 0;
        for pair in &mut reader {
            pair?;
            pairs += 1;
            progress(pairs);
        }
        let (report, records, alignments) = reader.finish();
        let paths = records.iter().chain(&alignments).map(|file| file.path.as_path());
        Ok(Self {
            version: VERSION,
            reading: Reading::of(files),
            stamps: paths.map(stamp).collect::<Result<_, _>>()?,
            files: records,
            alignments,
            report,
            read,
        })
    }

    /// Opens the record that was saved here, if there is one and its files have not changed since.
    pub fn open(path: &Path, files: &CorpusFiles) -> Option<Self> {
        let record: Self = read_json(path).ok()??;
        let is_fresh = record.version == VERSION && record.is_of(files).unwrap_or(false);
        is_fresh.then_some(record)
    }

    /// Saves the record.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), DataError> {
        write_json(path, self)
    }

    /// Fails if the files that were read for another purpose are not those of the record.
    pub(crate) fn must_be_of(&self, read: PairReader) -> Result<(), DataError> {
        let (_, files, _) = read.finish();
        let hashes = |files: &[FileRecord]| files.iter().map(|file| file.sha256.clone()).collect::<Vec<_>>();
        match hashes(&files) == hashes(&self.files) {
            true => Ok(()),
            false => Err(DataError::Changed { name: name_of(&files) }),
        }
    }

    /// The files of the text and the word alignments.
    pub fn all_files(&self) -> impl Iterator<Item = &FileRecord> {
        self.files.iter().chain(&self.alignments)
    }

    /// Whether these are the files of the record, unchanged.
    fn is_of(&self, files: &CorpusFiles) -> Result<bool, DataError> {
        let mut paths = Vec::new();
        match files.form() {
            Ok(CorpusForm::TwoFiles { source, target }) => {
                let (sources, targets) = (expand(source)?, expand(target)?);
                if sources.len() != targets.len() {
                    return Ok(false);
                }
                for (source, target) in sources.into_iter().zip(targets) {
                    paths.extend([source, target]);
                }
            }
            Ok(CorpusForm::Tsv(path) | CorpusForm::Tmx(path) | CorpusForm::Po(path)) => paths.extend(expand(path)?),
            Err(found) => return Err(DataError::CorpusForm { found }),
        }
        paths.extend(files.alignments.clone());
        if !self.all_files().map(|file| &file.path).eq(&paths) || self.reading != Reading::of(files) {
            return Ok(false);
        }
        let stamps = paths.iter().map(|path| stamp(path)).collect::<Result<Vec<_>, _>>()?;
        let is_settled = |stamp: &Stamp| stamp.modified + RESOLUTION < self.read;
        Ok(stamps == self.stamps && stamps.iter().all(is_settled))
    }
}

fn stamp(path: &Path) -> Result<Stamp, DataError> {
    let read = || {
        let found = fs::metadata(path)?;
        // A pipe is never the same.
        let modified = if found.is_file() {
            found.modified()?
        } else {
            SystemTime::now()
        };
        Ok(Stamp {
            bytes: found.len(),
            modified: since_1970(modified),
        })
    };
    read().map_err(|error| DataError::Open {
        path: path.to_owned(),
        error,
    })
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_text_is_read_again() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let write = |name: &str, text: &str, age: u64| {
            std::fs::write(at(name), text).unwrap();
            let file = std::fs::File::options().append(true).open(at(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        write("a.en", "a\nb\n", 100);
        write("a.de", "A\n\n", 100);
        write("a.links", "0-0\n\n", 100);
        let files = CorpusFiles {
            alignments: Some(at("a.links")),
            ..CorpusFiles::two_files(at("a.en"), at("a.de"))
        };
        let record = TextRecord::read(&files, |_| {}).unwrap();
        assert_eq!((record.report.lines, record.report.empty), (2, 1));
        record.save(&at("record")).unwrap();
        assert_eq!(TextRecord::open(&at("record"), &files), Some(record.clone()));
        // Other files, or no record.
        let others = CorpusFiles::two_files(at("a.de"), at("a.en"));
        assert_eq!(TextRecord::open(&at("record"), &others), None);
        assert_eq!(TextRecord::open(&at("nothing"), &files), None);
        for (name, text, age) in [
            ("a.en", "a\nb\nc\n", 100),
            ("a.de", "A\n\n", 99),
            ("a.links", "0-0\n\n", 0),
        ] {
            write(name, text, age);
            assert_eq!(TextRecord::open(&at("record"), &files), None, "{name}");
            write("a.en", "a\nb\n", 100);
            let record = TextRecord::read(&files, |_| {}).unwrap();
            record.save(&at("record")).unwrap();
            // Text that was written a moment ago may still change without a trace.
            let is_known = TextRecord::open(&at("record"), &files).is_some();
            assert_eq!(is_known, age > 0, "{name}");
        }
        std::fs::write(at("record"), "{}").unwrap();
        assert_eq!(TextRecord::open(&at("record"), &files), None);
    }
}
