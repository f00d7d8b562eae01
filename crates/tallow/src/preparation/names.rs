//! The names of what is prepared.

use sha2::{Digest, Sha256};
use std::path::Path;
use tallow_data::CorpusFiles;

/// The digits of a hash in a name. Entries with equal names would only replace each other.
const DIGITS: usize = 8;

/// The longest readable part of a name.
const LONGEST: usize = 60;

/// The readable beginning of the name: that of the corpus's first file, with `_` for unusual characters.
pub(super) fn base_name(files: &CorpusFiles) -> String {
    let given = [&files.source, &files.tsv, &files.tmx, &files.po];
    let path = given.into_iter().find_map(Option::as_deref);
    let name = path.and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    if name == "-" {
        return "stdin".into();
    }
    let usual = |c: char| {
        if c.is_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '_'
        }
    };
    name.chars().map(usual).take(LONGEST).collect()
}

/// The end of the name: digits of the hash of what the entry depends on.
pub(super) fn hash_of<S: AsRef<str>>(parts: &[S]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let hash = digest.finalize();
    hash.iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_and_different() {
        assert_eq!(base_name(&CorpusFiles::two_files("a/train.*.en", "b")), "train._.en");
        assert_eq!(base_name(&CorpusFiles::tsv("x y/grün z.tsv.gz")), "grün_z.tsv.gz");
        assert_eq!(base_name(&CorpusFiles::tsv("-")), "stdin");
        assert_eq!(hash_of(&["ab", "c"]).len(), DIGITS);
        assert_ne!(hash_of(&["ab", "c"]), hash_of(&["a", "bc"]));
    }
}
