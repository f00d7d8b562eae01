//! The cache of the Hugging Face Hub, shared by all programs: `blobs/` holds the contents of files,
//! `snapshots/<commit>/` their names, `refs/<branch>` the commit that a branch pointed to. `hf-hub` writes it.

use hf_hub::{Cache, CacheRepo, Repo};
use std::io;
use std::path::{Path, PathBuf};

/// The part of the cache that belongs to one revision of a model.
#[derive(Debug)]
pub(super) struct CachedModel {
    cache: CacheRepo,
    folder: PathBuf,
    revision: String,
}

impl CachedModel {
    pub(super) fn new(cache: &Path, repository: Repo) -> Self {
        Self {
            folder: cache.join(repository.folder_name()),
            revision: repository.revision().to_owned(),
            cache: Cache::new(cache.to_owned()).repo(repository),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder with the file names of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache.pointer_path(commit)
    }

    /// The file with the contents that have arrived so far of an incomplete download. `name` is the Hub's name for the
    /// contents.
    pub(super) fn part(&self, name: &str) -> PathBuf {
        self.cache.blob_path(name).with_extension("part")
    }

    /// The last known commit of the revision: the noted one for a branch or tag; a commit is its own.
    pub(super) fn commit(&self) -> Option<String> {
        let itself = || Some(self.revision.clone()).filter(|commit| is_commit(commit));
        self.noted()
            .or_else(itself)
            .filter(|commit| self.snapshot(commit).is_dir())
    }

    /// Notes the present commit of the revision.
    pub(super) fn note(&self, commit: &str) -> io::Result<()> {
        match self.noted() {
            Some(noted) if noted == commit => Ok(()),
            _ => self.cache.create_ref(commit),
        }
    }

    /// The noted commit. `hf-hub` uses the whole text of the file, but a file written by hand or by a shell ends in a
    /// line feed.
    fn noted(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.folder.join("refs").join(&self.revision)).ok()?;
        Some(text.trim().to_owned()).filter(|text| is_commit(text))
    }
}

/// Whether a text can be the name of a commit, and thus of a folder.
pub(super) fn is_commit(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hf_hub::RepoType;

    #[test]
    fn revisions() {
        let folder = tempfile::tempdir().unwrap();
        let of = |revision: &str| {
            let repository = Repo::with_revision("some/model".to_owned(), RepoType::Model, revision.to_owned());
            CachedModel::new(folder.path(), repository)
        };
        assert_eq!(of("main").commit(), None);
        std::fs::create_dir_all(folder.path().join("models--some--model/snapshots/abc123")).unwrap();
        assert_eq!(of("abc123").commit().as_deref(), Some("abc123"));
        of("refs/pr/1").note("abc123").unwrap();
        assert_eq!(of("refs/pr/1").commit().as_deref(), Some("abc123"));
        for (text, expected) in [
            ("abc123\n", Some("abc123")),
            ("abc123\r\n", Some("abc123")),
            ("def456", None),
            ("../x", None),
            ("", None),
        ] {
            std::fs::write(folder.path().join("models--some--model/refs/main"), text).unwrap();
            assert_eq!(of("main").commit().as_deref(), expected, "{text:?}");
        }
    }
}
