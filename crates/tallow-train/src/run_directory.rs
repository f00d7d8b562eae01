//! The directory of a run: what lies where.

use crate::TrainError;
use std::path::{Path, PathBuf};

/// A run directory: `config.toml`, `run.json`, the tokenizer, `metrics.jsonl`, `timing.jsonl`, `events/`,
/// `checkpoints/<update>/` and `best/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDirectory(PathBuf);

impl RunDirectory {
    /// The run that lies, or will lie, at a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The config as it was run.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// The record of the run: seeds, hashes, versions, scores.
    pub fn record(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// The log of everything that is the same whenever the run is repeated.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// The log of times and speeds.
    pub fn timing(&self) -> PathBuf {
        self.0.join("timing.jsonl")
    }

    /// TensorBoard's events.
    pub fn events(&self) -> PathBuf {
        self.0.join("events")
    }

    /// The best model: a model directory with its tokenizer.
    pub fn best(&self) -> PathBuf {
        self.0.join("best")
    }

    /// All checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.0.join("checkpoints")
    }

    /// The checkpoint of an update.
    pub fn checkpoint(&self, update: u64) -> PathBuf {
        self.checkpoints().join(update.to_string())
    }

    /// Whether this is the directory of a run.
    pub fn is_run(&self) -> bool {
        self.config().is_file() && (self.checkpoints().is_dir() || self.best().is_dir())
    }

    /// The updates that there are complete checkpoints of, oldest first.
    ///
    /// # Errors
    /// When the directory of checkpoints cannot be read.
    pub fn saved_updates(&self) -> Result<Vec<u64>, TrainError> {
        let path = self.checkpoints();
        if !path.is_dir() {
            return Ok(Vec::new());
        }
        let mut updates = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(TrainError::file(&path))? {
            let name = entry.map_err(TrainError::file(&path))?.file_name();
            // A checkpoint being written has another name until it is complete.
            updates.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        updates.sort_unstable();
        Ok(updates)
    }
}

/// Puts a directory that was written aside in place of another, so that one of the two is always complete.
pub(crate) fn replace_directory(new: &Path, place: &Path) -> Result<(), TrainError> {
    sync_directory(new)?;
    let old = place.with_extension("old");
    if old.exists() {
        std::fs::remove_dir_all(&old).map_err(TrainError::file(&old))?;
    }
    if place.exists() {
        std::fs::rename(place, &old).map_err(TrainError::file(place))?;
    }
    std::fs::rename(new, place).map_err(TrainError::file(place))?;
    if let Some(parent) = place.parent() {
        sync(parent)?;
    }
    if old.exists() {
        std::fs::remove_dir_all(&old).map_err(TrainError::file(&old))?;
    }
    Ok(())
}

/// Finishes a replacement that was interrupted between its two renames.
pub(crate) fn recover_directory(place: &Path) -> Result<(), TrainError> {
    let old = place.with_extension("old");
    if old.exists() && !place.exists() {
        std::fs::rename(&old, place).map_err(TrainError::file(&old))?;
    }
    Ok(())
}

/// Asks the system to have every file of a directory on disk.
fn sync_directory(path: &Path) -> Result<(), TrainError> {
    for entry in std::fs::read_dir(path).map_err(TrainError::file(path))? {
        let entry = entry.map_err(TrainError::file(path))?.path();
        if entry.is_dir() {
            sync_directory(&entry)?
        } else {
            sync(&entry)?
        }
    }
    sync(path)
}

fn sync(path: &Path) -> Result<(), TrainError> {
    // Directories cannot be opened for this on every system; there the rename alone must do.
    match std::fs::File::open(path) {
        Ok(file) => match file.sync_all() {
            Err(error) if path.is_file() => Err(TrainError::file(path)(error)),
            _ => Ok(()),
        },
        Err(error) if path.is_file() => Err(TrainError::file(path)(error)),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_replaced_and_recovered() {
        let root = tempfile::tempdir().unwrap();
        let (new, place) = (root.path().join("new"), root.path().join("best"));
        let write = |path: &Path, text: &str| {
            std::fs::create_dir_all(path).unwrap();
            std::fs::write(path.join("file"), text).unwrap();
        };
        write(&new, "1");
        replace_directory(&new, &place).unwrap();
        write(&new, "2");
        replace_directory(&new, &place).unwrap();
        assert_eq!(std::fs::read_to_string(place.join("file")).unwrap(), "2");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
        // Killed between the renames.
        std::fs::rename(&place, root.path().join("best.old")).unwrap();
        recover_directory(&place).unwrap();
        assert_eq!(std::fs::read_to_string(place.join("file")).unwrap(), "2");
    }

    #[test]
    fn half_written_checkpoints_do_not_count() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(root.path());
        assert!(run.saved_updates().unwrap().is_empty());
        for name in ["30", "4", "50.partial", "notes"] {
            std::fs::create_dir_all(run.checkpoints().join(name)).unwrap();
        }
        assert_eq!(run.saved_updates().unwrap(), [4, 30]);
    }
}
