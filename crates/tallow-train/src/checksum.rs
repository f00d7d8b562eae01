//! The checksums of a directory's files: `SHA256SUMS`, in the form of the program `sha256sum`.

use crate::{CARD_FILE, TrainError};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// The name of the file.
pub const CHECKSUMS_FILE: &str = "SHA256SUMS";

/// Writes the checksums of all files below a directory except its card. Scores are added to the card later, and people
/// may rewrite it.
///
/// # Errors
/// When a file cannot be read, or the checksums cannot be written.
pub(crate) fn write(directory: &Path) -> Result<(), TrainError> {
    let names = files_below(directory)?;
    let mut text = String::new();
    for name in names
        .iter()
        .filter(|name| ![CHECKSUMS_FILE, CARD_FILE].contains(&name.as_str()))
    {
        let path = directory.join(name);
        let sum = sha256(&path).map_err(TrainError::file(&path))?;
        text += &format!("{sum}  {name}\n");
    }
    let path = directory.join(CHECKSUMS_FILE);
    std::fs::write(&path, text).map_err(TrainError::file(&path))
}

/// Replaces a file of a directory, and its checksum if it has one. Both are written aside first.
///
/// # Errors
/// When a file cannot be read or written.
pub fn replace_file(directory: &Path, name: &str, contents: &str) -> Result<(), TrainError> {
    let put = |name: &str, contents: &str| {
        let (path, aside) = (directory.join(name), directory.join(format!("{name}.partial")));
        std::fs::write(&aside, contents).map_err(TrainError::file(&aside))?;
        std::fs::rename(&aside, &path).map_err(TrainError::file(&path))
    };
    put(name, contents)?;
    if !has(directory) {
        return Ok(());
    }
    let path = directory.join(CHECKSUMS_FILE);
    let sums = std::fs::read_to_string(&path).map_err(TrainError::file(&path))?;
    let file = directory.join(name);
    let sum = sha256(&file).map_err(TrainError::file(&file))?;
    let line = |line: &str| match line.split_once("  ") {
        Some((_, of)) if of == name => format!("{sum}  {name}\n"),
        _ => format!("{line}\n"),
    };
    put(CHECKSUMS_FILE, &sums.lines().map(line).collect::<String>())
}

/// Whether a directory has checksums.
pub(crate) fn has(directory: &Path) -> bool {
    directory.join(CHECKSUMS_FILE).exists()
}

/// Compares the files of a directory with its checksums. Files without a checksum are ignored.
///
/// # Errors
/// A list of all files that are missing or changed, or the reason why the checksums cannot be read.
pub fn check(directory: &Path) -> Result<(), Vec<String>> {
    let path = directory.join(CHECKSUMS_FILE);
    let text = std::fs::read_to_string(&path).map_err(|error| vec![format!("{CHECKSUMS_FILE}: {error}")])?;
    let mut faults = Vec::new();
    for line in text.lines() {
        let Some((sum, name)) = line.split_once("  ") else {
            faults.push(format!("{CHECKSUMS_FILE}: {line:?} is not a checksum"));
            continue;
        };
        // The file may come from anyone: only names inside the directory are read.
        let is_inside = Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let path = directory.join(name);
        if !is_inside || (path.exists() && !path.is_file()) {
            faults.push(format!("{CHECKSUMS_FILE}: {name:?} is no file in this directory"));
            continue;
        }
        match sha256(&path) {
            Ok(found) if found == sum => {}
            Ok(_) => faults.push(format!("{name} is not what was written")),
            Err(error) => faults.push(format!("{name}: {error}")),
        }
    }
    if text.is_empty() {
        faults.push(format!("{CHECKSUMS_FILE} is empty"));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// The files below a directory, sorted, as relative paths with `/` on every system.
///
/// # Errors
/// When a directory cannot be read.
pub(crate) fn files_below(directory: &Path) -> Result<Vec<String>, TrainError> {
    let mut names = Vec::new();
    collect(directory, "", &mut names)?;
    names.sort();
    Ok(names)
}

fn collect(root: &Path, below: &str, names: &mut Vec<String>) -> Result<(), TrainError> {
    let directory: PathBuf = root.join(below);
    for entry in std::fs::read_dir(&directory).map_err(TrainError::file(&directory))? {
        let entry = entry.map_err(TrainError::file(&directory))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let name = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        if entry.path().is_dir() {
            collect(root, &name, names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}

/// The SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_found() {
        let place = tempfile::tempdir().unwrap();
        let at = place.path();
        std::fs::create_dir(at.join("state")).unwrap();
        std::fs::write(at.join("a"), "abc").unwrap();
        std::fs::write(at.join("state/b"), "").unwrap();
        assert!(check(at).unwrap_err()[0].contains(CHECKSUMS_FILE));
        write(at).unwrap();
        // The output of `printf abc | sha256sum`, and the checksum of an empty file.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n\
                        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  state/b\n";
        assert_eq!(std::fs::read_to_string(at.join(CHECKSUMS_FILE)).unwrap(), expected);
        assert_eq!(check(at), Ok(()));
        // Writing again includes neither the checksums themselves nor a card.
        std::fs::write(at.join(CARD_FILE), "theirs").unwrap();
        write(at).unwrap();
        assert_eq!(check(at), Ok(()));
        std::fs::write(at.join("notes"), "mine").unwrap();
        std::fs::write(at.join(CARD_FILE), "mine").unwrap();
        assert_eq!(check(at), Ok(()));
        std::fs::write(at.join("a"), "abd").unwrap();
        std::fs::remove_file(at.join("state/b")).unwrap();
        let faults = check(at).unwrap_err();
        assert!(
            faults.len() == 2 && faults[0].starts_with("a is not") && faults[1].starts_with("state/b: "),
            "{faults:?}"
        );
        for hostile in ["/dev/zero", "../x", "state"] {
            std::fs::write(at.join(CHECKSUMS_FILE), format!("00  {hostile}\n")).unwrap();
            assert!(
                check(at).unwrap_err()[0].contains("no file in this directory"),
                "{hostile}"
            );
        }
        std::fs::write(at.join(CHECKSUMS_FILE), "").unwrap();
        assert!(check(at).is_err());
    }
}
