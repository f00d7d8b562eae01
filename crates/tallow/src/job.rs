//! Long jobs that write lines for lines, and go on where they were killed.
//!
//! While a job is unfinished, a journal lies beside its first output: `<output>.unfinished`. Its first line is a JSON
//! object that describes the job; each further one says how many lines of input are done, how long each output was
//! then, and the hash of the input so far. Outputs are synced before their lengths are noted, so what a journal says is
//! on disk.

use crate::error::{WithContext, bail};
use crate::{Begin, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The version of the journal.
const FORMAT: u64 = 1;

/// The first line of a journal.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    format: u64,
    /// Everything that the output depends on, besides the input.
    job: Map<String, Value>,
}

/// What is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    /// Lines of the input.
    lines: u64,
    /// The lengths of the outputs in bytes.
    bytes: Vec<u64>,
    /// The SHA-256 of the lines of the input, each with its line break, in hexadecimal.
    input_sha256: String,
}

/// The outputs of a job.
#[derive(Debug)]
pub struct Job {
    outputs: Vec<(PathBuf, File)>,
    journal_path: PathBuf,
    journal: File,
    done: Progress,
    /// The input lines so far.
    input: Sha256,
}

impl Job {
    /// The path of the journal of a job with this first output.
    pub fn journal_of(output: &Path) -> PathBuf {
        let mut name = output.as_os_str().to_owned();
        name.push(".unfinished");
        name.into()
    }

    /// Opens the outputs of a job. `job` describes everything that they depend on, besides the input.
    ///
    /// [`Begin::Resume`] goes on with an unfinished job, or begins a new one if there is no output yet; the lines that
    /// are done must then be passed to [`Self::skip`].
    ///
    /// # Errors
    /// When an output exists and must not be replaced, the unfinished job is another one, or a file cannot be written.
    pub fn open(outputs: &[PathBuf], mut job: Map<String, Value>, begin: Begin) -> Result<Self> {
        let Some(first) = outputs.first() else {
            bail!("a job needs an output");
        };
        // The files may move together.
        let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        job.insert("outputs".into(), outputs.iter().map(name).collect());
        let journal_path = Self::journal_of(first);
        let is_unfinished = journal_path.exists();
        let existing = outputs.iter().find(|path| path.exists());
        match (begin, is_unfinished, existing) {
            (Begin::New, true, _) => Err(crate::Error::UnfinishedJob { path: first.clone() }),
            (Begin::New, false, Some(path)) => Err(crate::Error::OutputExists { path: path.clone() }),
            (Begin::Resume, false, Some(path)) => Err(crate::Error::NoJob { path: path.clone() }),
            (Begin::Resume, true, _) => Self::resume(outputs, &journal_path, &job),
            (Begin::New | Begin::Resume, false, None) | (Begin::Overwrite, ..) => {
                Self::begin(outputs, journal_path, job)
            }
        }
    }

    fn begin(outputs: &[PathBuf], journal_path: PathBuf, job: Map<String, Value>) -> Result<Self> {
        let create = |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
        // With the journal first, an output without a journal is complete.
        let journal = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&journal_path);
        let mut journal = journal.with_context(|| format!("cannot write {}", journal_path.display()))?;
        lock(&journal, &outputs[0])?;
        journal.set_len(0)?;
        let description = Description { format: FORMAT, job };
        writeln!(journal, "{}", serde_json::to_string(&description)?)?;
        journal.sync_data()?;
        let opened = outputs.iter().map(|path| Ok((path.clone(), create(path)?)));
        Ok(Self {
            outputs: opened.collect::<Result<_>>()?,
            journal_path,
            journal,
            done: Progress {
                bytes: vec![0; outputs.len()],
                ..Progress::default()
            },
            input: Sha256::new(),
        })
    }

    fn resume(outputs: &[PathBuf], journal_path: &Path, job: &Map<String, Value>) -> Result<Self> {
        let name = journal_path.display();
        let journal = OpenOptions::new().read(true).write(true).open(journal_path);
        let mut journal = journal.with_context(|| format!("cannot write {name}"))?;
        lock(&journal, &outputs[0])?;
        let mut text = String::new();
        journal
            .read_to_string(&mut text)
            .with_context(|| format!("cannot read {name}"))?;
        let other = |reason: String| crate::Error::OtherJob {
            path: outputs[0].clone(),
            reason,
        };
        let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let Some(first) = lines.next() else {
            // Killed while the journal was begun.
            drop(journal);
            return Self::begin(outputs, journal_path.to_owned(), job.clone());
        };
        let Ok(description) = serde_json::from_str::<Description>(first) else {
            return Err(other(format!("{name} is not the journal of a job")));
        };
        if description.format != FORMAT {
            let format = description.format;
            return Err(other(format!("its journal has version {format}, not {FORMAT}")));
        }
        let differing = differences(&description.job, job);
        if !differing.is_empty() {
            let differing = differing.join(", ");
            return Err(other(format!("the unfinished job was begun with another {differing}")));
        }
        let mut done = Progress {
            bytes: vec![0; outputs.len()],
            ..Progress::default()
        };
        for line in lines {
            done = serde_json::from_str(line).with_context(|| format!("{name}: the journal is damaged"))?;
        }
        if done.bytes.len() != outputs.len() {
            bail!(
                "{name}: the job had {} outputs, not {}",
                done.bytes.len(),
                outputs.len()
            );
        }
        let mut opened = Vec::new();
        for (path, bytes) in outputs.iter().zip(&done.bytes) {
            // The output of a job that was killed at its beginning may not be there yet.
            let file = OpenOptions::new()
                .write(true)
                .create(*bytes == 0)
                .truncate(false)
                .open(path);
            let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
            let length = file.metadata()?.len();
            if length < *bytes {
                let path = path.display();
                return Err(other(format!(
                    "{path} has {length} bytes, but the job had written {bytes}"
                )));
            }
            file.set_len(*bytes)?;
            file.seek(SeekFrom::End(0))?;
            opened.push((path.clone(), file));
        }
        // Half a line may be at the end.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        journal.set_len(whole as u64)?;
        journal.seek(SeekFrom::End(0))?;
        Ok(Self {
            outputs: opened,
            journal_path: journal_path.to_owned(),
            journal,
            done,
            input: Sha256::new(),
        })
    }

    /// The number of input lines that were done when the job was opened, or are done since.
    pub fn lines(&self) -> u64 {
        self.done.lines
    }

    /// Passes over the lines that were done before: the first [`Self::lines`] of the input.
    ///
    /// # Errors
    /// When the input has fewer, or they are not the lines of the unfinished job.
    pub fn skip<E: Into<crate::Error>>(&mut self, input: &mut impl Iterator<Item = Result<String, E>>) -> Result<()> {
        for number in 0..self.done.lines {
            let Some(line) = input.next() else {
                let done = self.done.lines;
                return Err(self.other(format!("the input has {number} lines, but {done} of them are done")));
            };
            self.read(&line.map_err(Into::into)?);
        }
        if self.done.lines > 0 && hexadecimal(&self.input) != self.done.input_sha256 {
            let done = self.done.lines;
            return Err(self.other(format!(
                "the first {done} lines of the input are not those of the unfinished job"
            )));
        }
        Ok(())
    }

    fn other(&self, reason: String) -> crate::Error {
        let path = self.outputs.first().map(|(path, _)| path.clone()).unwrap_or_default();
        crate::Error::OtherJob { path, reason }
    }

    fn read(&mut self, line: &str) {
        self.input.update(line);
        self.input.update("\n");
    }

    /// Appends to each output what belongs to further lines of the input.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn append(&mut self, input: &[impl AsRef<str>], texts: &[impl AsRef<str>]) -> Result<()> {
        for line in input {
            self.read(line.as_ref());
        }
        for (((path, file), bytes), text) in self.outputs.iter_mut().zip(&mut self.done.bytes).zip(texts) {
            let text = text.as_ref().as_bytes();
            let written = file.write_all(text).and_then(|()| file.sync_data());
            written.with_context(|| format!("cannot write {}", path.display()))?;
            *bytes += text.len() as u64;
        }
        self.done.lines += input.len() as u64;
        self.done.input_sha256 = hexadecimal(&self.input);
        let line = serde_json::to_string(&self.done)? + "\n";
        let written = self.journal.write_all(line.as_bytes());
        written.with_context(|| format!("cannot write {}", self.journal_path.display()))
    }

    /// Ends the job: all its lines are done.
    ///
    /// # Errors
    /// When the journal cannot be removed.
    pub fn finish(self) -> Result<()> {
        drop(self.journal);
        let removed = std::fs::remove_file(&self.journal_path);
        removed.with_context(|| format!("cannot remove {}", self.journal_path.display()))
    }
}

/// Makes sure that no other process works on a job. The lock ends with the process.
fn lock(journal: &File, output: &Path) -> Result<()> {
    match journal.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!("{}: another process is writing this file", output.display())
        }
        // Some network drives have no locks.
        Ok(()) | Err(std::fs::TryLockError::Error(_)) => Ok(()),
    }
}

/// The hash so far, in hexadecimal.
pub(crate) fn hexadecimal(hash: &Sha256) -> String {
    tallow_data::hexadecimal(&hash.clone().finalize())
}

/// The keys whose values differ; of sections, the keys in them.
fn differences(a: &Map<String, Value>, b: &Map<String, Value>) -> Vec<String> {
    let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let of_key = |key: &String| match (a.get(key), b.get(key)) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => differences(a, b),
        (a, b) if a != b => vec![key.clone()],
        _ => Vec::new(),
    };
    keys.into_iter().flat_map(of_key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn described(seed: u64) -> Map<String, Value> {
        json!({ "seed": seed, "model": "m" }).as_object().cloned().unwrap()
    }

    fn lines(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("line {i}")).collect()
    }

    /// Does a job in blocks of three lines, up to a number of blocks; returns whether it is done.
    fn work(outputs: &[PathBuf], input: &[String], begin: Begin, blocks: usize) -> Result<bool> {
        let mut job = Job::open(outputs, described(1), begin)?;
        let mut reader = input.iter().cloned().map(Ok::<_, crate::Error>);
        job.skip(&mut reader)?;
        for _ in 0..blocks {
            let block: Vec<String> = reader.by_ref().take(3).collect::<Result<_>>()?;
            if block.is_empty() {
                job.finish()?;
                return Ok(true);
            }
            let upper: String = block.iter().map(|line| line.to_uppercase() + "\n").collect();
            let lengths: String = block.iter().map(|line| format!("{}\n", line.len())).collect();
            job.append(&block, &[upper, lengths])?;
        }
        Ok(false)
    }

    #[test]
    fn a_killed_job_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = ["a", "b"].map(|name| folder.path().join(name));
        let whole = ["c", "d"].map(|name| folder.path().join(name));
        let input = lines(20);
        assert!(work(&whole, &input, Begin::New, 99).unwrap());
        let journal = folder.path().join("a.unfinished");
        let append = |path: &Path, text: &str| {
            let mut file = OpenOptions::new().append(true).open(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let mut kills = 0;
        while !work(&outputs, &input, Begin::Resume, 1 + kills % 2).unwrap() {
            assert!(matches!(
                work(&outputs, &input, Begin::New, 1),
                Err(crate::Error::UnfinishedJob { .. })
            ));
            // Killed in the middle of an output, and in the middle of a note.
            append(&outputs[0], "LINE 99\nLI");
            append(&journal, "{\"lines\": 1");
            kills += 1;
        }
        assert!(kills > 3 && !journal.exists());
        for (one, other) in outputs.iter().zip(&whole) {
            assert_eq!(
                std::fs::read_to_string(one).unwrap(),
                std::fs::read_to_string(other).unwrap()
            );
        }
        // A complete output is neither replaced nor resumed by mistake.
        assert!(matches!(
            work(&outputs, &input, Begin::New, 9),
            Err(crate::Error::OutputExists { .. })
        ));
        assert!(matches!(
            work(&outputs, &input, Begin::Resume, 9),
            Err(crate::Error::NoJob { .. })
        ));
        assert!(work(&outputs, &input[..2], Begin::Overwrite, 9).unwrap());
        assert_eq!(std::fs::read_to_string(&outputs[0]).unwrap(), "LINE 0\nLINE 1\n");
    }

    #[test]
    fn another_job_is_not_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = ["a", "b"].map(|name| folder.path().join(name));
        let input = lines(20);
        assert!(!work(&outputs, &input, Begin::New, 2).unwrap());
        let error = Job::open(&outputs, described(2), Begin::Resume)
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("another seed"), "{error}");
        let error = work(&outputs, &input[..4], Begin::Resume, 1).unwrap_err().to_string();
        assert!(error.contains("4 lines, but 6"), "{error}");
        let mut changed = input.clone();
        changed[5].push('!');
        let error = work(&outputs, &changed, Begin::Resume, 1).unwrap_err().to_string();
        assert!(error.contains("the first 6 lines"), "{error}");
        std::fs::write(&outputs[1], "6\n").unwrap();
        let error = work(&outputs, &input, Begin::Resume, 1).unwrap_err().to_string();
        assert!(error.contains("b has 2 bytes"), "{error}");
        let renamed = ["a", "c"].map(|name| folder.path().join(name));
        let error = work(&renamed, &input, Begin::Resume, 1).unwrap_err().to_string();
        assert!(error.ends_with("another outputs"), "{error}");
        std::fs::write(folder.path().join("a.unfinished"), "no journal\n").unwrap();
        let error = work(&outputs, &input, Begin::Resume, 1).unwrap_err().to_string();
        assert!(error.contains("is not the journal"), "{error}");
    }
}
