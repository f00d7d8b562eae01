//! The directory of a run: what lies where.

use crate::TrainError;
use std::path::{Path, PathBuf};

/// The extension of a directory that is being written.
const ASIDE: &str = "partial";
/// The extension of a directory that is being replaced.
const OLD: &str = "old";

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

    /// Sets right what a process that was killed while it replaced a directory has left behind: a directory between its
    /// two renames gets its old content back, and what was written aside and not finished goes. Call it before
    /// [`Self::saved_updates`] when a run is to be resumed, and only then: another process may be writing.
    ///
    /// # Errors
    /// When a directory cannot be read, renamed or removed.
    pub fn recover(&self) -> Result<(), TrainError> {
        let checkpoints = self.checkpoints();
        for parent in [self.path(), &checkpoints] {
            if !parent.is_dir() {
                continue;
            }
            for entry in std::fs::read_dir(parent).map_err(TrainError::file(parent))? {
                let path = entry.map_err(TrainError::file(parent))?.path();
                let place = path.with_extension("");
                let ours = place == self.best() || (parent == checkpoints && update_of(&place).is_some());
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some(OLD) if ours && !place.exists() => {
                        std::fs::rename(&path, &place).map_err(TrainError::file(&path))?;
                    }
                    Some(OLD | ASIDE) if ours => {
                        std::fs::remove_dir_all(&path).map_err(TrainError::file(&path))?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
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
            // A checkpoint being written has another name until it is complete.
            updates.extend(update_of(&entry.map_err(TrainError::file(&path))?.path()));
        }
        updates.sort_unstable();
        Ok(updates)
    }
}

fn update_of(checkpoint: &Path) -> Option<u64> {
    checkpoint.file_name()?.to_str()?.parse().ok()
}

/// Where a directory is written before it takes its place.
pub(crate) fn aside(place: &Path) -> PathBuf {
    place.with_extension(ASIDE)
}

/// Puts a directory that was written aside in place of another, so that one of the two is always complete.
pub(crate) fn replace_directory(new: &Path, place: &Path) -> Result<(), TrainError> {
    sync_directory(new)?;
    let old = place.with_extension(OLD);
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

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path).unwrap();
        std::fs::write(path.join("file"), text).unwrap();
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path.join("file")).unwrap()
    }

    #[test]
    fn a_directory_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("best");
        for text in ["1", "2"] {
            write(&aside(&place), text);
            replace_directory(&aside(&place), &place).unwrap();
            assert_eq!(read(&place), text);
        }
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_process_left_is_set_right() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(root.path());
        run.recover().unwrap();
        // Killed between the renames: the old directory is complete, and so may be the new one, but nobody has said so.
        write(&root.path().join("best.old"), "best");
        write(&root.path().join("best.partial"), "half");
        write(&run.checkpoints().join("30.old"), "30");
        // Killed after them.
        write(&run.checkpoints().join("20.old"), "older");
        write(&run.checkpoints().join("20"), "20");
        // Killed while writing.
        write(&run.checkpoints().join("40.partial"), "half");
        // Somebody else's.
        write(&root.path().join("mine.old"), "mine");
        write(&run.checkpoints().join("notes.partial"), "notes");
        run.recover().unwrap();
        assert_eq!(read(&run.best()), "best");
        assert_eq!(run.saved_updates().unwrap(), [20, 30]);
        assert_eq!(
            (read(&run.checkpoint(20)), read(&run.checkpoint(30))),
            ("20".into(), "30".into())
        );
        let names = |path: &Path| {
            let entries = std::fs::read_dir(path).unwrap();
            let mut names: Vec<String> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(root.path()), ["best", "checkpoints", "mine.old"]);
        assert_eq!(names(&run.checkpoints()), ["20", "30", "notes.partial"]);
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
