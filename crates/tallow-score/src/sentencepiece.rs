//! The file of the SentencePiece model by which BLEU cuts lines.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tallow_text::SentencePieceModel;

/// A file with a SentencePiece model. In a config it is a path. The file is read when a line is first cut by it, and
/// then only once: copies share the model, because it has hundreds of thousands of pieces, and every validation needs
/// it. Two are equal if their paths are.
#[derive(Clone)]
pub struct SentencePieceFile {
    path: PathBuf,
    /// The model, or why there is none.
    opened: Arc<OnceLock<Result<Arc<SentencePieceModel>, String>>>,
}

impl SentencePieceFile {
    /// The file at this path. Nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            opened: Arc::default(),
        }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model.
    ///
    /// # Errors
    /// Says why the file cannot be used.
    pub(crate) fn open(&self) -> Result<Arc<SentencePieceModel>, String> {
        let open = || SentencePieceModel::open(&self.path).map(Arc::new);
        self.opened
            .get_or_init(|| open().map_err(|error| error.to_string()))
            .clone()
    }
}

impl fmt::Debug for SentencePieceFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(formatter)
    }
}

impl PartialEq for SentencePieceFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for SentencePieceFile {}

impl Serialize for SentencePieceFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.path.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SentencePieceFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PathBuf::deserialize(deserializer).map(Self::new)
    }
}
