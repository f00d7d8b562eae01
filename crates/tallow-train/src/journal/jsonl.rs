//! Files of JSON lines.

use crate::TrainError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Error, ErrorKind, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// A file of JSON lines to which lines are appended.
#[derive(Debug)]
pub(super) struct Appended {
    path: PathBuf,
    file: File,
}

impl Appended {
    /// Opens the file, and cuts it to `bytes` if it is longer.
    pub(super) fn open(path: PathBuf, bytes: Option<u64>) -> Result<Self, TrainError> {
        let open = || -> std::io::Result<File> {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)?;
            if let Some(bytes) = bytes
                && file.metadata()?.len() > bytes
            {
                file.set_len(bytes)?;
            }
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().map_err(TrainError::file(&path))?;
        Ok(Self { path, file })
    }

    pub(super) fn write(&mut self, line: &impl Serialize) -> Result<(), TrainError> {
        let mut write = || {
            let text = serde_json::to_string(line)?;
            self.file.write_all(format!("{text}\n").as_bytes())
        };
        write().map_err(TrainError::file(&self.path))
    }

    /// The length of the file, after all of it has been written to disk.
    pub(super) fn synced_bytes(&mut self) -> Result<u64, TrainError> {
        let mut synced = || {
            self.file.sync_all()?;
            self.file.stream_position()
        };
        synced().map_err(TrainError::file(&self.path))
    }
}

/// Reads the lines of a log: [`MetricsLine`](crate::MetricsLine) of `metrics.jsonl`, or
/// [`TimingLine`](crate::TimingLine) of `timing.jsonl`. The run may still be in progress.
///
/// An incomplete line is left out. It occurs when a process was killed, or when it is about to write the rest.
///
/// # Errors
/// When the file cannot be opened. Each line can be an error too, if it cannot be read or is not valid.
pub fn read_log<T: DeserializeOwned>(path: &Path) -> Result<LogLines<T>, TrainError> {
    let file = File::open(path).map_err(TrainError::file(path))?;
    Ok(LogLines {
        path: path.to_owned(),
        file: BufReader::new(file),
        line: 0,
        is_broken: false,
        of: PhantomData,
    })
}

/// The lines of a log, from [`read_log`].
#[derive(Debug)]
pub struct LogLines<T> {
    path: PathBuf,
    file: BufReader<File>,
    line: u64,
    is_broken: bool,
    of: PhantomData<T>,
}

impl<T: DeserializeOwned> Iterator for LogLines<T> {
    type Item = Result<T, TrainError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = Vec::new();
        while !self.is_broken {
            bytes.clear();
            self.line += 1;
            match self.file.read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    // Otherwise the same error would repeat for ever.
                    self.is_broken = true;
                    return Some(Err(TrainError::file(&self.path)(error)));
                }
            }
            let line = bytes.strip_suffix(b"\n");
            let is_last = line.is_none();
            match serde_json::from_slice(line.unwrap_or(&bytes)) {
                Ok(line) => return Some(Ok(line)),
                // This also happens inside a file: the next process began a new line.
                Err(error) if error.is_eof() || is_last => {}
                Err(error) => {
                    let fault = format!("line {} is not one of this log: {error}", self.line);
                    return Some(Err(TrainError::file(&self.path)(Error::new(
                        ErrorKind::InvalidData,
                        fault,
                    ))));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TimingLine;

    fn read(text: &str) -> Vec<Result<TimingLine, String>> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("timing.jsonl");
        std::fs::write(&path, text).unwrap();
        let lines = read_log(&path).unwrap();
        lines.map(|line| line.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn torn_lines_are_left_out() {
        let began = "{\"process_began_at_update\":7}\n";
        let line = TimingLine::ProcessBegan {
            process_began_at_update: 7,
        };
        let of_one = [Ok(line.clone())];
        for torn in [
            "",
            "{",
            "{\"update\":8,\"sec",
            "{\"update\":8,\"seconds\":1",
            "\u{fffd}",
            "{\"process_began_at_update\":",
        ] {
            assert_eq!(read(&format!("{began}{torn}")), of_one, "{torn}");
        }
        assert_eq!(read(&format!("{{\"update\":8,\"sec\n{began}")), of_one);
        // A complete line without its line end.
        assert_eq!(read(began.trim_end()), of_one);
    }

    #[test]
    fn other_lines_are_errors() {
        for other in ["{\"process\":7}\n", "sixty\n", "7\n"] {
            let found = read(&format!("{{\"process_began_at_update\":7}}\n{other}"));
            let error = found[1].as_ref().unwrap_err();
            assert!(
                found.len() == 2 && error.contains("timing.jsonl: line 2 is not one of this log"),
                "{error}"
            );
        }
        // A line that cannot be read gives one error, not an endless list of them.
        let place = tempfile::tempdir().unwrap();
        let errors = read_log::<TimingLine>(place.path()).map_or(1, |lines| lines.take(9).count());
        assert_eq!(errors, 1);
        let missing = read_log::<TimingLine>(Path::new("/nowhere/timing.jsonl")).map(|_| ());
        assert!(missing.unwrap_err().to_string().starts_with("/nowhere/timing.jsonl: "));
    }
}
