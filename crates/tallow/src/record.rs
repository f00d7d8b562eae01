//! The fingerprint of a run, and the time and memory that it takes.

use crate::Result;
use crate::config::{Composed, Config, Origin};
use crate::error::WithContext;
use crate::humanize::{duration, memory};
use std::fmt;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use tallow_data::{Corpus, FileRecord};
use tallow_ops::Compute;
use tallow_text::Tokenizers;
use tallow_train::{Fingerprint, TimingLine, read_log};

/// The properties that a resumed run must share with its checkpoint: seed, text, tokenizers, config and machine.
///
/// # Errors
/// When the config cannot be written as TOML.
pub fn fingerprint(
    config: &Config,
    train: &[&FileRecord],
    valid: &[&Corpus],
    tokenizers: &Tokenizers,
    workers: usize,
) -> Result<Fingerprint> {
    let flat = |config: &Config| -> Result<Vec<(String, String)>> {
        Ok(config.flat()?.into_iter().filter(|(key, _)| key != "seed").collect())
    };
    let mut defaults = flat(&Config::default())?;
    for (key, value) in before_there_were(config) {
        defaults.retain(|(known, _)| *known != key);
        defaults.push((key, value));
    }
    Ok(Fingerprint {
        seed: config.seed,
        data: train.iter().map(|file| file.sha256.clone()).collect(),
        valid: valid
            .iter()
            .flat_map(|corpus| corpus.files())
            .map(|file| file.sha256.clone())
            .collect(),
        tokenizers: vec![tokenizers.source.sha256(), tokenizers.target.sha256()],
        config: flat(config)?,
        defaults,
        workers,
        instruction_set: match Compute::from(config.train.compute).unit_name() {
            Some(unit) => format!("{}+{unit}", tallow_ops::instruction_set()),
            None => tallow_ops::instruction_set().to_string(),
        },
    })
}

/// Values for keys that did not exist yet when older runs began, where those runs did not behave like today's default.
fn before_there_were(config: &Config) -> Vec<(String, String)> {
    let mut before = vec![("train.initialisation".to_owned(), "\"xavier\"".to_owned())];
    // Older versions learned vocabularies from untrimmed lines. The key does not affect vocabularies from elsewhere.
    if config.text.learns() && config.init.is_none() {
        before.push(("text.trim".to_owned(), "false".to_owned()));
    }
    before
}

/// For keys that nobody has set, takes the values that a run began with, because the defaults may have been different
/// in the version that began it. `began_with` is the config in the checkpoint to resume from.
///
/// # Errors
/// When the config cannot be written as TOML.
pub(crate) fn keep_what_a_run_began_with(composed: &mut Composed, began_with: &[(String, String)]) -> Result<()> {
    composed.keep_defaults_of(began_with)?;
    let is_learned = composed.config.text.learns() && composed.config.init.is_none();
    if is_learned && composed.origin(Some("text"), "trim") == Origin::Default {
        // A run from before this key existed does not trim.
        let trim = began_with.iter().find(|(key, _)| key == "text.trim");
        composed.config.text.trim = trim.is_some_and(|(_, value)| value == "true");
    }
    Ok(())
}

/// The peak memory of this process, if the system reports it.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Notes in `timing.jsonl` that a process begins to train.
pub(crate) fn began(path: &Path, update: u64) -> Result<()> {
    note(
        path,
        &TimingLine::ProcessBegan {
            process_began_at_update: update,
        },
    )
}

fn note(path: &Path, line: &TimingLine) -> Result<()> {
    let write = || {
        let line = serde_json::to_string(line)?;
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        // An incomplete last line must not spoil this one.
        let mut last = [b'\n'];
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        let begin = if last == [b'\n'] { "" } else { "\n" };
        writeln!(file, "{begin}{line}")
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Time and memory used by all processes that trained a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TimeSpent {
    /// Seconds of all processes except killed ones.
    pub seconds: f64,
    /// The largest peak memory of any process in bytes, if the system reports it.
    pub peak_bytes: Option<u64>,
    /// The number of processes that trained.
    pub processes: usize,
    /// The number of processes that were killed. They have noted only their beginning.
    pub killed: usize,
}

impl fmt::Display for TimeSpent {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} in all", duration(self.seconds))?;
        match (self.processes, self.killed) {
            (0 | 1, _) => {}
            (count, 0) => write!(f, " ({count} parts)")?,
            (count, killed) => write!(f, " ({count} parts; {killed} of them, killed, not counted)")?,
        }
        match self.peak_bytes {
            Some(bytes) => write!(f, ", at most {} of memory", memory(bytes as f64)),
            None => Ok(()),
        }
    }
}

/// Notes in `timing.jsonl` the training time and the peak memory of this process. The result is the total of all
/// processes of the run.
pub(crate) fn spent(path: &Path, seconds: f64, peak_bytes: Option<u64>) -> Result<TimeSpent> {
    note(
        path,
        &TimingLine::ProcessEnded {
            process_seconds: seconds,
            peak_bytes,
        },
    )?;
    let (mut begun, mut processes) = (0_usize, Vec::new());
    // An edited file is no reason to end a run with an error.
    for line in read_log(path)?.filter_map(Result::ok) {
        match line {
            TimingLine::ProcessBegan { .. } => begun += 1,
            TimingLine::ProcessEnded {
                process_seconds,
                peak_bytes,
            } => processes.push((process_seconds, peak_bytes)),
            TimingLine::Training { .. } | TimingLine::Validation { .. } => {}
        }
    }
    let total: f64 = processes.iter().map(|(seconds, _)| seconds).sum();
    let most = processes.iter().filter_map(|(_, peak)| *peak).max();
    let killed = begun.saturating_sub(processes.len());
    Ok(TimeSpent {
        seconds: total,
        peak_bytes: most,
        processes: processes.len() + killed,
        killed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_run_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("timing.jsonl");
        began(&path, 0).unwrap();
        let one = spent(&path, 61.0, Some(1_000_000)).unwrap().to_string();
        assert_eq!(
            one,
            format!("{} in all, at most {} of memory", duration(61.0), memory(1e6))
        );
        began(&path, 5).unwrap();
        let two = spent(&path, 120.0, Some(2_000_000)).unwrap().to_string();
        let told = format!(
            "{} in all (2 parts), at most {} of memory",
            duration(181.0),
            memory(2e6)
        );
        assert_eq!(two, told);
        // The process was killed while it wrote; a last part follows.
        began(&path, 7).unwrap();
        let torn = std::fs::read_to_string(&path).unwrap() + "{\"update\": 8, \"sec";
        std::fs::write(&path, torn).unwrap();
        began(&path, 7).unwrap();
        let three = spent(&path, 60.0, None).unwrap().to_string();
        assert!(three.starts_with(&duration(241.0)), "{three}");
        assert!(three.contains("(4 parts; 1 of them, killed, not counted)"), "{three}");
    }
}
