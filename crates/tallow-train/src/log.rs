//! The logs of a run, as lines of JSON.

use crate::{RunDirectory, TrainError};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file of JSON lines that is appended to.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    file: File,
}

impl Lines {
    /// Opens the file, cut to `bytes` if it is longer.
    fn open(path: PathBuf, bytes: Option<u64>) -> Result<Self, TrainError> {
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

    fn write(&mut self, value: &Value) -> Result<u64, TrainError> {
        let mut write = || {
            self.file.write_all(format!("{value}\n").as_bytes())?;
            self.file.stream_position()
        };
        write().map_err(TrainError::file(&self.path))
    }

    fn length(&mut self) -> Result<u64, TrainError> {
        self.file.stream_position().map_err(TrainError::file(&self.path))
    }
}

/// `metrics.jsonl`, which a repeated run writes again byte by byte, and `timing.jsonl`, which it does not.
#[derive(Debug)]
pub(crate) struct Log {
    metrics: Lines,
    timing: Lines,
}

impl Log {
    /// Opens the logs of a run. Metrics beyond `metrics_bytes` were logged after the checkpoint that is resumed from,
    /// and will be logged again.
    pub(crate) fn open(run: &RunDirectory, metrics_bytes: u64) -> Result<Self, TrainError> {
        Ok(Self {
            metrics: Lines::open(run.metrics(), Some(metrics_bytes))?,
            timing: Lines::open(run.timing(), None)?,
        })
    }

    pub(crate) fn metric(&mut self, value: &Value) -> Result<(), TrainError> {
        self.metrics.write(value).map(|_| ())
    }

    pub(crate) fn time(&mut self, value: &Value) -> Result<(), TrainError> {
        self.timing.write(value).map(|_| ())
    }

    /// Bytes of `metrics.jsonl` so far, all of them on disk.
    pub(crate) fn synced_metrics_bytes(&mut self) -> Result<u64, TrainError> {
        self.metrics
            .file
            .sync_all()
            .map_err(TrainError::file(&self.metrics.path))?;
        self.metrics.length()
    }
}

/// Writes a JSON file, aside and renamed.
pub(crate) fn write_json(path: &Path, value: &Value) -> Result<(), TrainError> {
    let aside = path.with_extension("partial");
    std::fs::write(&aside, format!("{value:#}\n")).map_err(TrainError::file(&aside))?;
    std::fs::rename(&aside, path).map_err(TrainError::file(path))
}
