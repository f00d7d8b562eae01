//! Messages that are worth showing, but are not errors.

use crate::TestScores;
use crate::humanize::{agreeing, counted, duration, memory, thousands};
use std::fmt;
use std::path::PathBuf;
use tallow_train::{Ending, Observer, Silent};

/// A message. Its text has one or more lines.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// A vocabulary was learned.
    Learned {
        /// The number of pieces on each side.
        pieces: usize,
        /// The kind of vocabulary, by its name in configs.
        kind: String,
        /// Whether both sides share one vocabulary.
        is_shared: bool,
        /// The time that learning took.
        seconds: f64,
    },
    /// A vocabulary is used that was learned before, from the same text.
    KnownVocabulary {
        /// The folder of the vocabulary.
        path: PathBuf,
        /// The number of pieces of the source side.
        pieces: usize,
    },
    /// A corpus was prepared.
    Prepared {
        /// The number of pairs.
        pairs: u64,
        /// The path of its files, without extension.
        path: PathBuf,
        /// The size of its files.
        bytes: u64,
        /// The time that it took.
        seconds: f64,
    },
    /// Lines begin with language tags, which have become pieces of their own. The text lists the tags.
    LanguageTags(String),
    /// Training begins with the model of this directory.
    BeginsWith(PathBuf),
    /// The size of a corpus, and the lines dropped from it.
    Corpus(String),
    /// The size of the training data.
    Pairs {
        /// The number of sentence pairs.
        pairs: usize,
        /// The number of source tokens.
        source_tokens: u64,
        /// The number of target tokens.
        target_tokens: u64,
    },
    /// A checkpoint that is not used, with the reason.
    NotUsed(String),
    /// A run should be resumed, but has nothing saved.
    NothingSaved(PathBuf),
    /// A run is resumed.
    Resuming {
        /// The run's directory.
        path: PathBuf,
        /// The update that it continues from.
        update: u64,
        /// Differences between then and now, each as one line.
        changes: Vec<String>,
    },
    /// The best model was scored on the test set.
    Tested(TestScores),
    /// Training has ended.
    Ended {
        /// The reason.
        ending: Ending,
        /// The last update.
        update: u64,
        /// The number of validations without improvement that ends training.
        patience: u64,
    },
    /// Another process is fetching this file, and this one waits for it.
    Waiting(String),
    /// The Hugging Face Hub sends nothing, so the files in its cache are used.
    FromCache {
        /// The model.
        model: String,
        /// The reason why the Hub sends nothing.
        reason: String,
    },
    /// Something that may or may not be intended.
    Note(String),
    /// A warning that translations may be wrong.
    Warning(String),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Learned {
                pieces,
                kind,
                is_shared,
                seconds,
            } => {
                let sides = if *is_shared { "for both sides" } else { "on each side" };
                write!(f, "learned {pieces} {kind} pieces {sides} ({})", duration(*seconds))
            }
            Self::KnownVocabulary { path, pieces } => write!(
                f,
                "using the {} of {}, learned from this text before",
                counted(*pieces, "piece"),
                path.display()
            ),
            Self::Prepared {
                pairs,
                path,
                bytes,
                seconds,
            } => write!(
                f,
                "prepared {} as {}.*, {} ({})",
                counted(*pairs, "pair"),
                path.display(),
                memory(*bytes as f64),
                duration(*seconds)
            ),
            Self::LanguageTags(tags) => write!(
                f,
                "lines begin with language tags, which are pieces of their own: {tags}"
            ),
            Self::BeginsWith(directory) => write!(
                f,
                "beginning with the weights and tokenizers of {}",
                directory.display()
            ),
            Self::Corpus(report) => f.write_str(report),
            Self::Pairs {
                pairs,
                source_tokens,
                target_tokens,
            } => {
                let [pairs, source, target] =
                    [*pairs as u64, *source_tokens, *target_tokens].map(|count| thousands(count as f64));
                write!(f, "{pairs} training pairs, {source} source and {target} target tokens")
            }
            Self::NotUsed(fault) => write!(f, "not used: {fault}"),
            Self::Tested(test) => write!(f, "test set, {} lines, beam {}:", test.lines, test.beam),
            Self::NothingSaved(path) => {
                write!(f, "{}: nothing had been saved; beginning anew", path.display())
            }
            Self::Resuming { path, update, changes } => {
                write!(f, "resuming {} from update {update}", path.display())?;
                changes
                    .iter()
                    .try_for_each(|change| write!(f, "\n  changed since: {change}"))
            }
            Self::Ended {
                ending: Ending::Converged,
                update,
                patience,
            } => write!(
                f,
                "no better model in {}: training ends after update {update}",
                agreeing(*patience, "validation", "validations")
            ),
            Self::Ended {
                ending: Ending::Interrupted,
                update,
                ..
            } => write!(f, "stopped after update {update}; everything is saved"),
            Self::Ended { update, .. } => write!(f, "training ends after update {update}"),
            Self::Waiting(file) => write!(f, "{file}: waiting for another process that fetches it"),
            Self::FromCache { model, reason } => write!(
                f,
                "{model}: the Hub sends nothing ({reason}); using the files of its cache"
            ),
            Self::Note(note) => write!(f, "note: {note}"),
            Self::Warning(warning) => f.write_str(warning),
        }
    }
}

/// Work that takes a while, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// What is done, in words.
    pub what: &'static str,
    /// The number of lines that are done.
    pub done: u64,
    /// The number of all lines, if it is known.
    pub all: Option<u64>,
}

impl Work {
    /// Work on lines.
    pub fn new(what: &'static str, done: u64, all: Option<u64>) -> Self {
        Self { what, done, all }
    }
}

/// A listener to everything that happens: in training (as an [`Observer`]), and elsewhere.
pub trait Listener: Observer {
    /// Receives a message.
    fn notice(&self, notice: &Notice);

    /// Hears how far a longer work is; called for every line. Does nothing unless it is overridden.
    fn working(&self, _work: &Work) {}
}

impl Listener for Silent {
    fn notice(&self, _: &Notice) {}
}
