//! Writing files.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::error::TextError;

/// Writes a file: to one beside it first, which is then renamed, so that no half-written file is ever seen under this
/// name.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write(path: &Path, contents: &[u8]) -> Result<(), TextError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        // The error that matters is the first one; there may be nothing to remove.
        let _ = fs::remove_file(&temporary);
        TextError::Write {
            path: path.to_owned(),
            source,
        }
    })
}
