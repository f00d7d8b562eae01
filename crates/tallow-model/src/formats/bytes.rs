//! The bytes of a file of weights.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

/// The bytes of a file: mapped into memory, or read.
///
/// A mapped file costs no memory of its own and is read where it is used. Tallow replaces files of weights by renaming
/// others, so a map keeps its contents; no other program may shorten the file meanwhile, as with every map.
#[derive(Debug)]
pub(crate) enum FileBytes {
    Mapped(memmap2::Mmap),
    Read(Vec<u8>),
}

impl FileBytes {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the map is read-only. Nobody shortens or changes the file while it is open (see above).
        #[allow(unsafe_code)]
        let map = unsafe { memmap2::Mmap::map(&file) };
        match map {
            Ok(map) if map.len() as u64 == file.metadata()?.len() => Ok(Self::Mapped(map)),
            // Pipes and some file systems cannot be mapped.
            _ => Ok(Self::Read(std::fs::read(path)?)),
        }
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Read(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_can_and_cannot_be_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        for contents in [&b"some numbers"[..], b""] {
            std::fs::write(&path, contents).unwrap();
            assert_eq!(&*FileBytes::open(&path).unwrap(), contents);
        }
        assert!(FileBytes::open(folder.path()).is_err());
        assert!(FileBytes::open(&folder.path().join("absent")).is_err());
    }
}
