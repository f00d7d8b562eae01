//! Names that stand for several files.

use std::path::{Path, PathBuf};

use crate::error::DataError;

/// The files that a path names, in the order of their names: one, or those of a pattern with `*`, `?` or `[...]`. A
/// file that has such characters in its own name stands for itself.
///
/// # Errors
/// A pattern that cannot be understood or that no file has, and folders that cannot be read.
pub(crate) fn expand(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let is_pattern = |text: &&str| text.contains(['*', '?', '[']) && path.symlink_metadata().is_err();
    let Some(pattern) = path.to_str().filter(is_pattern) else {
        return Ok(vec![path.to_owned()]);
    };
    let fault = |reason: String| DataError::Pattern {
        pattern: path.to_owned(),
        reason,
    };
    let found = glob::glob(pattern).map_err(|error| fault(error.to_string()))?;
    let mut files = found
        .collect::<Result<Vec<PathBuf>, _>>()
        .map_err(|error| fault(error.to_string()))?;
    if files.is_empty() {
        return Err(fault("no such file".into()));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_files_in_order() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for name in ["b.2.en", "b.1.en", "b.1.de", "[c].en"] {
            std::fs::write(at(name), "x\n").unwrap();
        }
        assert_eq!(expand(&at("b.*.en")).unwrap(), [at("b.1.en"), at("b.2.en")]);
        assert_eq!(expand(&at("[c].en")).unwrap(), [at("[c].en")]);
        // A name without a pattern need not exist.
        assert_eq!(expand(&at("d")).unwrap(), [at("d")]);
        for pattern in ["d*", "b.[1"] {
            let error = expand(&at(pattern)).unwrap_err().to_string();
            assert!(error.starts_with(&at(pattern).display().to_string()), "{error}");
        }
    }
}
