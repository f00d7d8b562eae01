//! Suggestions for `tallow train --resume` if there is no run of the config's own name.

use crate::arguments::{ConfigArguments, TrainArguments};
use crate::commands::train::resume_command;
use anyhow::{Error, anyhow};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tallow::config::parse_value;
use tallow::{Composed, Config};
use tallow_train::RunDirectory;
use toml::Value;

/// The largest number of runs in the message, newest first.
const MOST: usize = 5;

/// The largest number of changed values in a suggested command. If there are more, or longer ones, the command uses the
/// run's own config.
const MOST_CHANGES: usize = 3;
const LONGEST_CHANGE: usize = 60;

/// The error that there is no run to resume. It lists other runs, with a command for each.
pub(super) fn no_run(named: &Path, given: &Composed, arguments: &TrainArguments) -> Error {
    let mut message = format!(
        "{}: there is no run to resume; leave out --resume to begin",
        named.display()
    );
    let found = candidates(named, &given.config, &arguments.config.config);
    let mut others = found.iter();
    // Checksums take time, so only the runs that are shown are checked.
    let usable = others
        .by_ref()
        .filter_map(|candidate| Some((candidate, candidate.update()?)));
    let shown: Vec<_> = usable.take(MOST).collect();
    if !shown.is_empty() {
        message += ". These runs beside it are saved, the newest first; go on with one of them by";
    }
    for (candidate, update) in shown {
        let command = candidate.command(given, arguments);
        message += &format!("\n  {command}      # update {update}");
    }
    match others.len() {
        0 => {}
        1 => message += "\nand an older one",
        older => message += &format!("\nand {older} older ones"),
    }
    anyhow!(message)
}

/// A run that can be resumed.
struct Candidate {
    path: PathBuf,
    config: Config,
    changed: Option<SystemTime>,
}

/// The saved runs beside the named one that train on the same text, or whose name begins with the config's name.
fn candidates(named: &Path, config: &Config, file: &Path) -> Vec<Candidate> {
    let parent = match named.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let mut found: Vec<Candidate> = std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Candidate::open(named.with_file_name(entry.file_name())))
        .filter(|candidate| {
            let name = candidate.path.file_name().unwrap_or_default().to_string_lossy();
            candidate.path != named && (candidate.config.data.train == config.data.train || name.starts_with(&*stem))
        })
        .collect();
    found.sort_by(|a, b| b.changed.cmp(&a.changed).then_with(|| a.path.cmp(&b.path)));
    found
}

impl Candidate {
    fn open(path: PathBuf) -> Option<Self> {
        let run = RunDirectory::new(&path);
        if !run.record().exists() {
            return None;
        }
        let config = toml::from_str(&std::fs::read_to_string(run.config()).ok()?).ok()?;
        run.saved_updates().ok()?.last()?;
        let changed = |file: PathBuf| file.metadata().ok()?.modified().ok();
        let changed = changed(run.metrics()).or_else(|| changed(run.config()));
        Some(Self { path, config, changed })
    }

    /// The update that the run would resume from.
    fn update(&self) -> Option<u64> {
        RunDirectory::new(&self.path).intact_update().ok()?.0
    }

    /// The command that resumes this run unchanged. It uses the given config with settings for the differences. If
    /// there are many differences, it uses the config that the run has saved.
    fn command(&self, given: &Composed, arguments: &TrainArguments) -> String {
        let typed = &arguments.config;
        let is_place = |set: &&String| ["name", "output"].contains(&key_of(set));
        let kept: Vec<String> = typed.set.iter().filter(|set| !is_place(set)).cloned().collect();
        let (config, mut set) = match self.changes(given, &kept) {
            Some(changes) => (typed.config.clone(), [kept, changes].concat()),
            None => (RunDirectory::new(&self.path).config(), Vec::new()),
        };
        let is_own = set.is_empty() && config != typed.config;
        if !is_own || self.config.run_directory() != self.path {
            set.extend(self.place(given.config.output.is_some() || is_own));
        }
        resume_command(&ConfigArguments { config, set }, arguments)
    }

    /// The setting that selects this run: its name, if that is enough.
    fn place(&self, needs_output: bool) -> Option<String> {
        let name = self.path.file_name()?.to_string_lossy();
        let (key, value) = if !needs_output && Path::new("runs").join(&*name) == self.path {
            ("name", name)
        } else {
            ("output", self.path.to_string_lossy())
        };
        Some(format!("{key}={}", literal(&value)))
    }

    /// The differences between this run and the given config, as settings. `None` if these would be many or long.
    fn changes(&self, given: &Composed, set: &[String]) -> Option<Vec<String>> {
        let (ours, theirs) = (self.config.flat().ok()?, given.config.flat().ok()?);
        let is_compared = |key: &str| {
            // Only the run's config has the shape of the model of `init`.
            let is_of_init = given.config.init.is_some() && key.starts_with("model.");
            let is_set = set.iter().any(|set| key_of(set) == key);
            let is_kept = key
                .split_once('.')
                .is_some_and(|(section, key)| given.is_kept(section, key));
            !(is_of_init || is_set || is_kept || ["name", "output"].contains(&key))
        };
        let value =
            |of: &[(String, String)], key: &str| of.iter().find(|(known, _)| known == key).map(|(_, v)| v.clone());
        let mut changes = Vec::new();
        for (key, theirs) in theirs.iter().filter(|(key, _)| is_compared(key)) {
            // The command line cannot unset a value.
            let ours = value(&ours, key)?;
            if ours != *theirs {
                changes.push(format!("{key}={ours}"));
            }
        }
        for (key, ours) in ours
            .iter()
            .filter(|(key, _)| is_compared(key) && value(&theirs, key).is_none())
        {
            changes.push(format!("{key}={ours}"));
        }
        let is_short = changes.len() <= MOST_CHANGES && changes.iter().all(|change| change.len() <= LONGEST_CHANGE);
        is_short.then_some(changes)
    }
}

/// The key of `section.key=value`.
fn key_of(set: &str) -> &str {
    set.split('=').next().unwrap_or(set).trim()
}

/// A text in the form that `--set` takes. It has quotes only if it would be read as another type without them.
fn literal(text: &str) -> String {
    let value = Value::String(text.to_owned());
    if parse_value(text) == value {
        text.to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        assert_eq!(literal("short"), "short");
        assert_eq!(literal("2024"), "\"2024\"");
        assert_eq!(literal("true"), "\"true\"");
    }
}
