//! The directory of a run: where training begins, and what remains of an earlier run.

use super::Begin;
use crate::config::Config;
use crate::error::{WithContext, bail};
use crate::notice::{Listener, Notice};
use crate::{Error, Result, RunRecord};
use std::path::{Path, PathBuf};
use tallow_text::Tokenizers;
use tallow_train::RunDirectory;

/// The update to resume from, or `None` to begin a new run. An error explains why neither is possible.
pub(super) fn place_to_begin(run: &RunDirectory, how: Begin, listener: &dyn Listener) -> Result<Option<u64>> {
    let path = run.path().to_path_buf();
    if how == Begin::Resume {
        run.recover()?;
        let (update, damaged) = run.intact_update()?;
        if let Some(update) = update {
            damaged
                .into_iter()
                .for_each(|fault| listener.notice(&Notice::NotUsed(fault)));
            return Ok(Some(update));
        }
        if !damaged.is_empty() {
            return Err(Error::DamagedCheckpoints { path, faults: damaged });
        }
        if has_results(run) {
            return Err(Error::NoCheckpoint { path });
        }
        listener.notice(&Notice::NothingSaved(path));
    } else if how == Begin::New && has_results(run) {
        return Err(Error::RunExists { path });
    }
    if run.config().exists() && !run.record().exists() {
        return Err(Error::ForeignConfig {
            path: run.path().to_path_buf(),
        });
    }
    Ok(None)
}

/// Refuses to resume a run if its text, tokenizer and filters are unchanged but give a different number of pairs: its
/// cursor would point to another pair.
pub(super) fn refuse_other_pairs(run: &RunDirectory, found: usize) -> Result<()> {
    match RunRecord::read(&run.record()).pairs.train {
        Some(before) if before != found => bail!(
            "{}: this run has {before} training pairs, and its text makes {found} of them now: it was begun by a version of Tallow \
             that kept other lines, such as those of characters without width, control characters or a language tag alone. \
             Finish it with that version, or begin a new run with another `name` or `output`",
            run.path().display()
        ),
        _ => Ok(()),
    }
}

/// Whether a run has results that could be lost.
pub fn has_results(run: &RunDirectory) -> bool {
    // A link to a missing disk counts, too.
    let has = |path: PathBuf| path.symlink_metadata().is_ok();
    let has_checkpoints = match run.saved_updates() {
        Ok(updates) => !updates.is_empty() || (has(run.checkpoints()) && !run.checkpoints().is_dir()),
        Err(_) => true,
    };
    // Even without run.json, training would replace a model of this name and remove old checkpoints.
    has_checkpoints || has(run.best()) || has(run.replaced_best())
}

/// Writes the config of the run.
pub(super) fn write_config(run: &RunDirectory, config: &Config) -> Result<()> {
    write_text(&run.config(), &config.to_toml()?)
}

/// Writes a file, first aside, so that the earlier file survives a full disk.
pub(super) fn write_text(path: &Path, text: &str) -> Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".partial");
    let written = std::fs::write(&aside, text).and_then(|()| std::fs::rename(&aside, path));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Removes the files of an earlier run. `run.json`, which identifies the directory of a run, is removed last. Without
/// it, the files belong to somebody else and stay.
pub(super) fn clear(run: &RunDirectory) -> Result<()> {
    if !run.record().exists() {
        return Ok(());
    }
    for directory in [run.checkpoints(), run.best(), run.events(), run.validation()] {
        RunDirectory::remove(&directory)?;
    }
    let tokenizers = Tokenizers::file_names().map(|name| run.path().join(name));
    let others = [
        run.config(),
        run.metrics(),
        run.timing(),
        run.path().join("average.json"),
        run.record(),
    ];
    let written = RunRecord::read(&run.record()).translations().into_iter();
    let translations = written
        .map(|name| run.path().join(name))
        .chain([run.test_translations(None)]);
    for file in tokenizers
        .chain(translations)
        .chain(others)
        .filter(|file| file.exists())
    {
        std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(())
}

/// Keys that may change when a run is resumed. Keys of `[train]` change how the run continues, not what it is; the
/// others do not affect training.
pub fn may_change(key: &str) -> bool {
    const FIXED: [&str; 5] = [
        "train.initialisation",
        "train.optimizer",
        "train.ema_decay",
        "train.accumulate",
        "train.metric",
    ];
    const FREE: [&str; 9] = [
        "name",
        "output",
        "data.valid",
        "data.test",
        "data.prefetch_batches",
        "data.prepared",
        // The run has its vocabulary.
        "text.sample_lines",
        "score.metrics",
        // The same file may lie elsewhere by now.
        "score.sentencepiece",
    ];
    (key.starts_with("train.") && !FIXED.contains(&key))
        || key.starts_with("decode.")
        || key.starts_with("card.")
        || FREE.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_resumed_run_may_change() {
        for key in [
            "train.max_updates",
            "decode.beam",
            "data.valid",
            "score.metrics",
            "score.sentencepiece",
            "name",
        ] {
            assert!(may_change(key), "{key}");
        }
        for key in [
            "model.d_model",
            "text.kind",
            "data.train",
            "data.batch_tokens",
            "train.optimizer",
            "seed",
            "train.initialisation",
            "score.tokenize",
        ] {
            assert!(!may_change(key), "{key}");
        }
    }
}
