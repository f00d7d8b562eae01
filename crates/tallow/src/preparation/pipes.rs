//! Text that comes through a pipe. It can be read once only, but learning a vocabulary and encoding read it twice, and
//! so do other settings later. So it is kept in the folder of prepared corpora, compressed by zstd.

use super::{base_name, hash_of, keys};
use crate::config::Config;
use crate::error::{WithContext, bail};
use crate::notice::{Listener, Notice};
use crate::{Error, Result};
use std::fs::File;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};
use tallow_data::CorpusFiles;

/// The level of compression: fast, and a third of the size.
const LEVEL: i32 = 3;

/// What is done about pipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipes {
    /// They are read, and their text is kept.
    Read,
    /// The text that was kept before is used.
    Kept,
}

/// The config with files in place of pipes.
pub(super) fn without_pipes(config: &Config, folder: &Path, pipes: Pipes, listener: &dyn Listener) -> Result<Config> {
    let mut config = config.clone();
    let run = config.run_directory();
    let mut copies: Vec<(String, PathBuf, PathBuf)> = Vec::new();
    for (number, files) in config.data.train.iter_mut().enumerate() {
        // Two configs may both name standard input.
        let mut parts = keys(files);
        parts.push(run.to_string_lossy().into_owned());
        let name = format!("{}-{}", base_name(files), hash_of(&parts));
        for (key, path) in paths(files) {
            if let Some(path) = path
                && is_pipe(path)
            {
                let kept = folder.join(format!("{name}.{key}.zst"));
                let pipe = std::mem::replace(path, kept.clone());
                if copies.iter().any(|(_, other, _)| *other == pipe) {
                    bail!(
                        "data.train[{number}].{key}: {}: a pipe can be read once only, and another corpus has it",
                        pipe.display()
                    );
                }
                copies.push((format!("data.train[{number}].{key}"), pipe, kept));
            }
        }
    }
    if pipes == Pipes::Read {
        // Both sides at the same time: the program that writes them may wait for its readers.
        let read = std::thread::scope(|scope| {
            let threads: Vec<_> = copies
                .iter()
                .map(|(key, pipe, kept)| (key, kept, scope.spawn(move || keep(pipe, kept))))
                .collect();
            let joined = threads.into_iter().map(|(key, kept, thread)| match thread.join() {
                Ok(bytes) => Ok((key, kept, bytes?)),
                Err(_) => Err(Error::from(tallow_data::WorkerLost)),
            });
            joined.collect::<Result<Vec<_>>>()
        })?;
        // Nothing is replaced unless all of it has come.
        for (key, kept, bytes) in read {
            let aside = aside(kept);
            if bytes == 0 {
                // Nobody writes to the pipe now; what came through it before stays.
                let _ = std::fs::remove_file(&aside);
                continue;
            }
            std::fs::rename(&aside, kept).with_context(|| format!("cannot write {}", kept.display()))?;
            listener.notice(&Notice::Note(format!(
                "{key}: {bytes} bytes came through the pipe and are kept in {}",
                kept.display()
            )));
        }
    }
    for (key, pipe, kept) in &copies {
        if !kept.exists() {
            bail!(
                "{key}: {}: a pipe is read by `tallow prepare`, which keeps its text for training; nothing has come through it",
                pipe.display()
            );
        }
    }
    Ok(config)
}

/// The paths of the text of a corpus, with their keys.
fn paths(files: &mut CorpusFiles) -> [(&'static str, &mut Option<PathBuf>); 5] {
    [
        ("source", &mut files.source),
        ("target", &mut files.target),
        ("tsv", &mut files.tsv),
        ("tmx", &mut files.tmx),
        ("po", &mut files.po),
    ]
}

/// Whether a path is standard input (`-`), a named pipe or a device.
fn is_pipe(path: &Path) -> bool {
    let is_special = |found: std::fs::Metadata| !found.is_file() && !found.is_dir();
    path.as_os_str() == "-" || path.metadata().is_ok_and(is_special)
}

/// Copies what comes through a pipe into a file beside `kept`, and returns the number of bytes.
fn keep(pipe: &Path, kept: &Path) -> Result<u64> {
    let mut from: Box<dyn Read> = match pipe.as_os_str() == "-" {
        true => Box::new(stdin().lock()),
        false => Box::new(File::open(pipe).with_context(|| format!("cannot open {}", pipe.display()))?),
    };
    let mut copy = || {
        let mut encoder = zstd::Encoder::new(File::create(aside(kept))?, LEVEL)?;
        let bytes = std::io::copy(&mut from, &mut encoder)?;
        encoder.finish()?.sync_all()?;
        Ok::<u64, std::io::Error>(bytes)
    };
    copy().with_context(|| format!("cannot keep the text of {} in {}", pipe.display(), kept.display()))
}

/// The name of a file until all of its text has come.
fn aside(kept: &Path) -> PathBuf {
    kept.with_extension("zst.partial")
}
