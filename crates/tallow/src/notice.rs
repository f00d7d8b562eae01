//! What a person may want to know on the way, and is no error.

use crate::humanize::{agreeing, duration, thousands};
use std::fmt;
use std::path::PathBuf;
use tallow_train::{Ending, Observer, Silent};

/// Something worth telling. Its text is a line, or several.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// A vocabulary was learned.
    Learned {
        /// Its pieces, on each side.
        pieces: usize,
        /// Its kind, as configs call it.
        kind: String,
        /// Whether both sides have the same.
        is_shared: bool,
        /// How long it took.
        seconds: f64,
    },
    /// Lines begin with language tags, which have become pieces; these, as a list.
    LanguageTags(String),
    /// Training begins with a model of this directory.
    BeginsWith(PathBuf),
    /// What a corpus has, and what was dropped of it.
    Corpus(String),
    /// What there is to train on.
    Pairs {
        /// Pairs of sentences.
        pairs: usize,
        /// Tokens of their sources.
        source_tokens: usize,
        /// Tokens of their targets.
        target_tokens: usize,
    },
    /// A checkpoint that is passed over, and why.
    NotUsed(String),
    /// A run that was to be resumed has nothing saved.
    NothingSaved(PathBuf),
    /// A run goes on.
    Resuming {
        /// The run.
        path: PathBuf,
        /// After this update.
        update: u64,
        /// What is different from then, each as one line.
        changes: Vec<String>,
    },
    /// Training has come to an end.
    Ended {
        /// Why.
        ending: Ending,
        /// After this update.
        update: u64,
        /// Validations without a better model that end training.
        patience: u64,
    },
    /// Another process fetches this file; it is waited for.
    Waiting(String),
    /// Nothing comes from the Hugging Face Hub; what its cache has is used.
    FromCache {
        /// The model.
        model: String,
        /// Why nothing comes.
        reason: String,
    },
    /// Something that may be meant, and may not.
    Note(String),
    /// Translations are not what they seem.
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
                    [pairs, source_tokens, target_tokens].map(|count| thousands(*count as f64));
                write!(f, "{pairs} training pairs, {source} source and {target} target tokens")
            }
            Self::NotUsed(fault) => write!(f, "not used: {fault}"),
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
                "{model}: nothing comes from the Hub ({reason}); using what the cache has"
            ),
            Self::Note(note) => write!(f, "note: {note}"),
            Self::Warning(warning) => f.write_str(warning),
        }
    }
}

/// Somebody who wants to know: of what happens in training (as an [`Observer`]), and of all else.
pub trait Listener: Observer {
    /// Something is worth telling.
    fn notice(&self, notice: &Notice);
}

impl Listener for Silent {
    fn notice(&self, _: &Notice) {}
}
