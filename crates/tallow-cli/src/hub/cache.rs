//! The cache of the Hugging Face Hub, which all programs share: `blobs/` holds the contents of files, `snapshots/<commit>/`
//! their names, `refs/<branch>` the commit that a branch was at.

use std::io;
use std::path::{Path, PathBuf};

/// The part of the cache that belongs to one model.
#[derive(Debug)]
pub(super) struct CachedModel {
    folder: PathBuf,
}

impl CachedModel {
    pub(super) fn new(cache: &Path, name: &str) -> Self {
        Self {
            folder: cache.join(format!("models--{}", name.replace('/', "--"))),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the files of a commit have their names.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The commit that a revision was at when it was last looked at: a branch or tag by its note, a commit by itself.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        let noted = std::fs::read_to_string(self.reference(revision)).ok();
        // Written by hand or by a shell, it ends in a line feed.
        let noted = noted.map(|text| text.trim().to_owned()).filter(|text| is_commit(text));
        let itself = || Some(revision.to_owned()).filter(|commit| is_commit(commit));
        noted.or_else(itself).filter(|commit| self.snapshot(commit).is_dir())
    }

    /// Notes the commit that a revision is at now.
    pub(super) fn note(&self, revision: &str, commit: &str) -> io::Result<()> {
        let path = self.reference(revision);
        if std::fs::read_to_string(&path).is_ok_and(|text| text.trim() == commit) {
            return Ok(());
        }
        std::fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        std::fs::write(path, commit)
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.folder.join("refs").join(revision)
    }

    /// The file that holds contents of this name.
    pub(super) fn blob(&self, name: &str) -> PathBuf {
        self.folder.join("blobs").join(name)
    }

    /// Gives the contents of a blob their name in a commit.
    pub(super) fn link(&self, blob: &str, commit: &str, file: &str) -> io::Result<()> {
        let path = self.snapshot(commit).join(file);
        std::fs::create_dir_all(self.snapshot(commit))?;
        // A link that leads nowhere is replaced.
        if path.symlink_metadata().is_ok() {
            std::fs::remove_file(&path)?;
        }
        place(&self.blob(blob), &Path::new("../../blobs").join(blob), &path)
    }
}

#[cfg(unix)]
fn place(_blob: &Path, relative: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(relative, path)
}

#[cfg(not(unix))]
fn place(blob: &Path, _relative: &Path, path: &Path) -> io::Result<()> {
    std::fs::rename(blob, path)
}

/// Whether a text can be the name of a commit, and so of a folder.
pub(super) fn is_commit(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions() {
        let folder = tempfile::tempdir().unwrap();
        let model = CachedModel::new(folder.path(), "some/model");
        assert_eq!(model.commit("main"), None);
        std::fs::create_dir_all(model.snapshot("abc123")).unwrap();
        assert_eq!(model.commit("abc123").as_deref(), Some("abc123"));
        model.note("refs/pr/1", "abc123").unwrap();
        assert_eq!(model.commit("refs/pr/1").as_deref(), Some("abc123"));
        for (text, expected) in [
            ("abc123\n", Some("abc123")),
            ("abc123\r\n", Some("abc123")),
            ("def456", None),
            ("../x", None),
            ("", None),
        ] {
            std::fs::write(model.folder().join("refs/main"), text).unwrap();
            assert_eq!(model.commit("main").as_deref(), expected, "{text:?}");
        }
    }
}
