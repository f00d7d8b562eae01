//! Pairs that occurred before, found in bounded memory.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::bit_set::BitSet;
use crate::corpus_files::CorpusFiles;
use crate::error::DataError;
use crate::lines::is_blank;
use crate::pair_reader::PairReader;
use crate::text_record::TextRecord;

/// Pairs whose hashes are in memory at once: 2^20, which is 32 MiB.
const PAIRS_IN_MEMORY: usize = 1 << 20;

/// The beginning of the names of folders for files.
const FOLDER: &str = "occurrences-";

/// Files that the hashes are divided among when there are more.
const FILES: usize = 128;

/// Bytes of an entry in a file.
const ENTRY: usize = 24;

/// The hash of a pair and its number. Two different pairs among 10^10 have the same hash of 128 bits with a probability
/// of 10^-19.
type Entry = (u128, u64);

/// The lines, from 0, of each corpus whose pair occurred earlier, in the same corpus or in one before it. Pairs with a
/// blank side do not count. The hashes of many pairs are kept in files in `folder`, which are removed at the end.
/// `progress` gets the number of pairs read so far.
///
/// # Errors
/// Every error of [`PairReader`], text that has other hashes than its record, and files that cannot be written or read.
pub fn duplicates(
    corpora: &[(CorpusFiles, TextRecord)],
    folder: &Path,
    progress: impl FnMut(u64),
) -> Result<Vec<BitSet>, DataError> {
    find(corpora, folder, PAIRS_IN_MEMORY, progress)
}

fn find(
    corpora: &[(CorpusFiles, TextRecord)],
    folder: &Path,
    most: usize,
    mut progress: impl FnMut(u64),
) -> Result<Vec<BitSet>, DataError> {
    let mut occurrences = Occurrences::with_memory(folder, most);
    let (mut number, mut ends) = (0, Vec::new());
    for (files, record) in corpora {
        let mut reader = PairReader::open(files)?;
        for pair in &mut reader {
            let pair = pair?;
            if !is_blank(&pair.source) && !is_blank(&pair.target) {
                occurrences.add(&pair.source, &pair.target, number)?;
            }
            number += 1;
            progress(number);
        }
        ends.push(number);
        record.must_be_of(reader)?;
    }
    occurrences.beyond(1, &ends)
}

/// Removes the folders that processes which were killed have left here. No other process may be looking for repeated
/// pairs in this folder.
///
/// # Errors
/// A folder that cannot be removed.
pub fn remove_leftovers(folder: &Path) -> Result<(), DataError> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(FOLDER) {
            std::fs::remove_dir_all(entry.path()).map_err(|error| DataError::Write {
                path: entry.path(),
                error,
            })?;
        }
    }
    Ok(())
}

/// The occurrences of pairs, by hashes. Beyond a limit of memory, they are kept in files.
pub(crate) struct Occurrences {
    folder: PathBuf,
    most: usize,
    entries: Vec<Entry>,
    files: Option<EntryFiles>,
}

impl Occurrences {
    /// Nothing yet. `folder` is for files, which are removed at the end.
    pub(crate) fn new(folder: &Path) -> Self {
        Self::with_memory(folder, PAIRS_IN_MEMORY)
    }

    fn with_memory(folder: &Path, most: usize) -> Self {
        Self {
            folder: folder.to_owned(),
            most,
            entries: Vec::new(),
            files: None,
        }
    }

    /// Adds pair number `number`; numbers ascend.
    pub(crate) fn add(&mut self, source: &str, target: &str, number: u64) -> Result<(), DataError> {
        self.entries.push((hash(source, target), number));
        if self.entries.len() >= self.most {
            let files = match &mut self.files {
                Some(files) => files,
                none => none.insert(EntryFiles::new(&self.folder)?),
            };
            files.write(&mut self.entries)?;
        }
        Ok(())
    }

    /// The pairs that occurred more than `allowed` times before, by corpus and by their numbers within it. `ends` are
    /// the numbers behind the last pair of each corpus.
    pub(crate) fn beyond(mut self, allowed: u32, ends: &[u64]) -> Result<Vec<BitSet>, DataError> {
        let mut sets = vec![BitSet::default(); ends.len()];
        match self.files {
            None => mark(self.entries, allowed, ends, &mut sets),
            Some(mut files) => {
                files.write(&mut self.entries)?;
                for entries in files.read()? {
                    mark(entries?, allowed, ends, &mut sets);
                }
            }
        }
        Ok(sets)
    }
}

/// Adds the numbers of all but the first `allowed` entries of each hash to the sets of their corpora.
fn mark(mut entries: Vec<Entry>, allowed: u32, ends: &[u64], sets: &mut [BitSet]) {
    entries.sort_unstable();
    let (mut before, mut times) = (None, 0);
    for (hash, number) in entries {
        times = if before == Some(hash) { times + 1 } else { 1 };
        before = Some(hash);
        if times > allowed {
            let corpus = ends.partition_point(|end| *end <= number);
            let first = corpus.checked_sub(1).map_or(0, |before| ends[before]);
            sets[corpus].insert(number - first);
        }
    }
}

fn hash(source: &str, target: &str) -> u128 {
    let mut digest = Sha256::new();
    digest.update((source.len() as u64).to_le_bytes());
    digest.update(source);
    digest.update(target);
    let mut half = [0; 16];
    half.copy_from_slice(&digest.finalize()[..16]);
    u128::from_be_bytes(half)
}

/// Files of entries, divided by the beginnings of the hashes.
struct EntryFiles {
    /// Removes the files at the end.
    folder: tempfile::TempDir,
    files: Vec<BufWriter<File>>,
}

impl EntryFiles {
    fn new(folder: &Path) -> Result<Self, DataError> {
        let open = || {
            let folder = tempfile::Builder::new().prefix(FOLDER).tempdir_in(folder)?;
            let file = |number| File::create(folder.path().join(format!("{number}"))).map(BufWriter::new);
            let files = (0..FILES).map(file).collect::<Result<_, _>>()?;
            Ok(Self { folder, files })
        };
        open().map_err(|error| DataError::Write {
            path: folder.to_owned(),
            error,
        })
    }

    fn path(&self, number: usize) -> PathBuf {
        self.folder.path().join(number.to_string())
    }

    /// Writes entries and takes them out of the list.
    fn write(&mut self, entries: &mut Vec<Entry>) -> Result<(), DataError> {
        for (hash, number) in entries.drain(..) {
            let file = (hash >> 120) as usize % FILES;
            let mut entry = [0; ENTRY];
            entry[..16].copy_from_slice(&hash.to_le_bytes());
            entry[16..].copy_from_slice(&number.to_le_bytes());
            self.files[file].write_all(&entry).map_err(|error| DataError::Write {
                path: self.path(file),
                error,
            })?;
        }
        Ok(())
    }

    /// The entries of each file.
    fn read(mut self) -> Result<impl Iterator<Item = Result<Vec<Entry>, DataError>>, DataError> {
        for (number, file) in self.files.iter_mut().enumerate() {
            file.flush().map_err(|error| DataError::Write {
                path: self.folder.path().join(number.to_string()),
                error,
            })?;
        }
        Ok((0..FILES).map(move |number| {
            let read = || {
                let mut file = BufReader::new(File::open(self.path(number))?);
                let mut entries = Vec::new();
                let mut entry = [0; ENTRY];
                while !std::io::BufRead::fill_buf(&mut file)?.is_empty() {
                    file.read_exact(&mut entry)?;
                    let (mut hash, mut pair) = ([0; 16], [0; 8]);
                    hash.copy_from_slice(&entry[..16]);
                    pair.copy_from_slice(&entry[16..]);
                    entries.push((u128::from_le_bytes(hash), u64::from_le_bytes(pair)));
                }
                Ok(entries)
            };
            read().map_err(|error| DataError::Open {
                path: self.path(number),
                error,
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair_reader::PairOfLines;

    #[test]
    fn the_first_of_equal_pairs_stays() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        // Many pairs, of which some occur several times, and a pair that only seems to be one because of the tab.
        let line = |n: u64| format!("source {}\ttarget {}\n", n * n % 1009, n % 7);
        let first: String = (0..3000).map(line).collect();
        let second = format!("\tblank\n\tblank\nab\tc\na\tbc\n{}{}", line(5), line(10_000));
        std::fs::write(at("a.tsv"), &first).unwrap();
        std::fs::write(at("b.tsv"), &second).unwrap();
        let corpora = ["a.tsv", "b.tsv"].map(|name| {
            let files = CorpusFiles::tsv(at(name));
            let record = TextRecord::read(&files, |_| {}).unwrap();
            (files, record)
        });
        let mut seen = std::collections::HashSet::new();
        let expected: Vec<Vec<u64>> = corpora
            .iter()
            .map(|(files, _)| {
                let pairs = PairReader::open(files).unwrap().map(Result::unwrap);
                let repeated = |(line, pair): (u64, PairOfLines)| {
                    let is_repeated = !pair.source.is_empty() && !seen.insert((pair.source, pair.target));
                    is_repeated.then_some(line)
                };
                (0..).zip(pairs).filter_map(repeated).collect()
            })
            .collect();
        assert!(expected[0].len() > 100 && expected[1].contains(&4));
        for most in [1, 7, 500, PAIRS_IN_MEMORY] {
            let mut read = 0;
            let sets = find(&corpora, place.path(), most, |pairs| read = pairs).unwrap();
            let found: Vec<Vec<u64>> = sets
                .iter()
                .map(|set| (0..4000).filter(|line| set.contains(*line)).collect())
                .collect();
            assert_eq!((found, read), (expected.clone(), 3006), "{most}");
        }
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);
        std::fs::create_dir(at("occurrences-x")).unwrap();
        std::fs::write(at("occurrences-x").join("0"), "left").unwrap();
        remove_leftovers(place.path()).unwrap();
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);
        std::fs::write(at("a.tsv"), "a\tb\n").unwrap();
        let error = duplicates(&corpora, place.path(), |_| {}).unwrap_err();
        assert!(matches!(error, DataError::Changed { .. }), "{error}");
    }
}
