//! The directory of a run and its files.

use crate::json_file::write_json;
use crate::{TrainError, checksum};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// The extension of a directory that is being written.
const ASIDE: &str = "partial";
/// The extension of a directory that is being replaced. Not `old`, because people name their own copies so.
const OLD: &str = "replaced";
/// The extension of a directory that is being removed.
const REMOVED: &str = "removed";
/// The file that is locked by the process that trains in the directory.
const LOCK: &str = "run.lock";
/// The translations of the test set.
const TEST_TRANSLATIONS: &str = "translations.txt";
/// The file that marks a checkpoint as one that led to divergence.
const DIVERGED: &str = "state/diverged.json";

/// A run directory: `config.toml`, `run.json`, the tokenizer, `metrics.jsonl`, `timing.jsonl`, `events/`,
/// `checkpoints/<update>/` and `best/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDirectory(PathBuf);

impl RunDirectory {
    /// Extensions for the other names that a directory of a run may have while it is written, replaced or removed.
    pub const TRANSIENT: [&str; 3] = [ASIDE, OLD, REMOVED];

    /// The run at a path. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The path of the run.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The config of the run.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// The record of the run: seeds, hashes, versions, scores.
    pub fn record(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// The log of metrics, which is the same when the run is repeated.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// The log of times and speeds.
    pub fn timing(&self) -> PathBuf {
        self.0.join("timing.jsonl")
    }

    /// The best model's translations of the test set, one line for each source line; of several sets, those of the one
    /// with this name.
    pub fn test_translations(&self, set: Option<&str>) -> PathBuf {
        let name = set.map_or(String::new(), |set| format!("{set}."));
        self.0.join(format!("test.{name}{TEST_TRANSLATIONS}"))
    }

    /// The files that the program of `train.valid_command` gets, and what it prints.
    pub fn validation(&self) -> PathBuf {
        self.0.join("validation")
    }

    /// The page about the run, if training keeps one.
    pub fn report(&self) -> PathBuf {
        self.0.join("report.html")
    }

    /// TensorBoard's events.
    pub fn events(&self) -> PathBuf {
        self.0.join("events")
    }

    /// The best model: a model directory with its tokenizer.
    pub fn best(&self) -> PathBuf {
        self.0.join("best")
    }

    /// The place of the best model between the two renames of its replacement.
    pub fn replaced_best(&self) -> PathBuf {
        self.best().with_extension(OLD)
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

    /// Repairs the effects of a process that was killed while it replaced a directory. A directory between its two
    /// renames gets its old content back, and unfinished directories written aside are removed. Call it before
    /// [`Self::saved_updates`] to resume a run, and only then: another process may be writing.
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
                    Some(OLD | ASIDE | REMOVED) if ours => {
                        std::fs::remove_dir_all(&path).map_err(TrainError::file(&path))?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Locks the run for this process, for the lifetime of the result or of the process.
    ///
    /// # Errors
    /// [`TrainError::Locked`] when another process has the lock, and an error when the directory cannot be written.
    pub fn lock(&self) -> Result<File, TrainError> {
        let path = self.0.join(LOCK);
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(TrainError::file(&path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(TrainError::Locked { path: self.0.clone() }),
            // Some network file systems have no locks; then training goes on without one.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
        }
    }

    /// Marks a checkpoint after which, until the run diverged, no loss was finite or all came from exploded weights.
    /// The run does not resume from it.
    ///
    /// # Errors
    /// When the mark cannot be written.
    pub(crate) fn mark_diverged(&self, update: u64, diverged_at: u64) -> Result<(), TrainError> {
        write_json(
            &self.checkpoint(update).join(DIVERGED),
            &serde_json::json!({ "update": diverged_at }),
        )
    }

    /// The fault of a marked checkpoint.
    pub(crate) fn divergence(&self, update: u64) -> Option<String> {
        self.checkpoint(update).join(DIVERGED).exists().then(|| {
            format!("it led to divergence, whatever the learning rate ({DIVERGED}; without that file it is used)")
        })
    }

    /// The reason why a checkpoint must not be used, if there is one: it led to divergence, or its files have changed.
    /// A checkpoint from before checksums existed is used unchecked.
    pub fn fault(&self, update: u64) -> Option<String> {
        let path = self.checkpoint(update);
        self.divergence(update).or_else(|| match checksum::check(&path) {
            Err(faults) if checksum::has(&path) => Some(faults.join(", ")),
            _ => None,
        })
    }

    /// The most recent usable checkpoint: its files are unchanged, as far as there are checksums, and the run did not
    /// diverge directly after it. Also returns the faults of the checkpoints after it, newest first.
    ///
    /// # Errors
    /// When the directory of checkpoints cannot be read.
    pub fn intact_update(&self) -> Result<(Option<u64>, Vec<String>), TrainError> {
        let mut damaged = Vec::new();
        for update in self.saved_updates()?.into_iter().rev() {
            match self.fault(update) {
                None => return Ok((Some(update), damaged)),
                Some(fault) => damaged.push(format!("{}: {fault}", self.checkpoint(update).display())),
            }
        }
        Ok((None, damaged))
    }

    /// Removes a directory of a run, and its remains under transient names. It is renamed first, so that a directory
    /// with the name of a checkpoint or of a best model is always complete.
    ///
    /// # Errors
    /// When the directory cannot be renamed or removed.
    pub fn remove(directory: &Path) -> Result<(), TrainError> {
        let clear = |extension: &str| {
            let path = directory.with_extension(extension);
            match path.exists() {
                true => std::fs::remove_dir_all(&path).map_err(TrainError::file(&path)),
                false => Ok(()),
            }
        };
        clear(REMOVED)?;
        if directory.exists() {
            let removed = directory.with_extension(REMOVED);
            std::fs::rename(directory, &removed).map_err(TrainError::file(directory))?;
        }
        Self::TRANSIENT.into_iter().try_for_each(clear)
    }

    /// Removes a checkpoint.
    ///
    /// # Errors
    /// As [`Self::remove`].
    pub(crate) fn remove_checkpoint(&self, update: u64) -> Result<(), TrainError> {
        Self::remove(&self.checkpoint(update))
    }

    /// The updates with complete checkpoints, oldest first.
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
            // A checkpoint has another name while it is being written.
            updates.extend(update_of(&entry.map_err(TrainError::file(&path))?.path()));
        }
        updates.sort_unstable();
        Ok(updates)
    }
}

fn update_of(checkpoint: &Path) -> Option<u64> {
    checkpoint.file_name()?.to_str()?.parse().ok()
}

/// The place where a directory is written before it gets its final name.
pub(crate) fn aside(place: &Path) -> PathBuf {
    place.with_extension(ASIDE)
}

/// Replaces a directory by one that was written aside. One of the two is complete at any time.
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

/// Asks the system to write every file of a directory to disk.
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
    // Some systems cannot open directories for this; there the rename alone must suffice.
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
        // Killed between the renames: the old directory is complete. The new one may be too, but this is not certain.
        write(&root.path().join("best.replaced"), "best");
        write(&root.path().join("best.partial"), "half");
        write(&run.checkpoints().join("30.replaced"), "30");
        // Killed after the renames.
        write(&run.checkpoints().join("20.replaced"), "older");
        // Killed while a checkpoint was removed.
        write(&run.checkpoints().join("10.removed"), "half");
        write(&run.checkpoints().join("20"), "20");
        // Killed while writing.
        write(&run.checkpoints().join("40.partial"), "half");
        // A directory of the user.
        write(&root.path().join("best.old"), "mine");
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
        assert_eq!(names(root.path()), ["best", "best.old", "checkpoints"]);
        assert_eq!(names(&run.checkpoints()), ["20", "30", "notes.partial"]);
    }

    #[test]
    fn one_process_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(root.path());
        let lock = run.lock().unwrap();
        let error = run.lock().unwrap_err();
        assert!(
            matches!(&error, TrainError::Locked { path } if path == root.path()),
            "{error}"
        );
        drop(lock);
        assert!(run.lock().is_ok());
    }

    #[test]
    fn the_most_recent_checkpoint_that_is_intact() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(root.path());
        assert_eq!(run.intact_update().unwrap(), (None, vec![]));
        for update in [5, 10, 20] {
            write(&run.checkpoint(update), "good");
            checksum::write(&run.checkpoint(update)).unwrap();
        }
        assert_eq!(run.intact_update().unwrap(), (Some(20), vec![]));
        write(&run.checkpoint(20), "bad");
        std::fs::remove_file(run.checkpoint(10).join("file")).unwrap();
        let (update, damaged) = run.intact_update().unwrap();
        assert_eq!((update, damaged.len()), (Some(5), 2));
        assert!(
            damaged[0].contains("20: file is not") && damaged[1].contains("10: file: "),
            "{damaged:?}"
        );
        std::fs::remove_file(run.checkpoint(10).join(checksum::CHECKSUMS_FILE)).unwrap();
        assert_eq!(run.intact_update().unwrap().0, Some(10));
        run.remove_checkpoint(5).unwrap();
        assert_eq!(run.saved_updates().unwrap(), [10, 20]);
    }

    #[test]
    fn what_led_to_divergence_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(root.path());
        for update in [5, 10] {
            write(&run.checkpoint(update).join("state"), "good");
            checksum::write(&run.checkpoint(update)).unwrap();
        }
        run.mark_diverged(10, 21).unwrap();
        let (update, faults) = run.intact_update().unwrap();
        assert_eq!((update, faults.len()), (Some(5), 1));
        assert!(faults[0].contains("10: it led to divergence"), "{faults:?}");
        run.mark_diverged(5, 21).unwrap();
        assert_eq!(run.intact_update().unwrap().0, None);
        std::fs::remove_file(run.checkpoint(10).join(DIVERGED)).unwrap();
        assert_eq!(run.intact_update().unwrap(), (Some(10), vec![]));
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
