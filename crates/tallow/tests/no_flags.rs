//! No text of a library names a flag of the command line: the libraries serve other programs, too.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may panic like the test itself.

use std::path::{Path, PathBuf};

/// The crates whose texts only users of the command line read.
const NOT_LIBRARIES: [&str; 2] = ["tallow-cli", "tallow-fuzz"];

/// Flags that a text may name: a file, the flag, and the reason.
const ALLOWED: [(&str, &str, &str); 6] = [
    ("tallow/src/card/mod.rs", "--form", CARD),
    ("tallow/src/card/mod.rs", "--model", CARD),
    ("tallow/src/card/mod.rs", "--model_path", CARD),
    ("tallow/src/card/mod.rs", "--output", CARD),
    ("tallow/src/card/mod.rs", "--output_dir", CARD),
    ("tallow/src/card/mod.rs", "--vocab_paths", CARD),
];
const CARD: &str = "a card of a model shows commands of a shell";

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The Rust files below a directory. (`config/synonyms.txt` says on purpose how the command line calls what other
/// trainers have in their configs.)
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            false => {}
        }
    }
}

/// The flags in a file, each with its line: two dashes and a word. Comments and unit tests do not count.
fn flags(text: &str) -> Vec<(usize, String)> {
    let program = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let mut found = Vec::new();
    for (number, line) in (1..).zip(program.lines()) {
        if line.trim_start().starts_with("//") {
            continue;
        }
        for (at, _) in line.match_indices("--") {
            let is_in_word = line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-' || c == '_');
            let word: String = line[at + 2..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
                .collect();
            if !is_in_word && word.starts_with(|c: char| c.is_ascii_lowercase()) {
                found.push((number, format!("--{word}")));
            }
        }
    }
    found
}

#[test]
fn no_text_of_a_library_names_a_flag() {
    let crates = crates();
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&crates).unwrap() {
        let path = entry.unwrap().path();
        if !NOT_LIBRARIES.iter().any(|name| path.ends_with(name)) {
            files(&path.join("src"), &mut all);
        }
    }
    assert!(all.len() > 150, "{}", all.len());
    let (mut named, mut unused) = (Vec::new(), ALLOWED.to_vec());
    for path in all {
        let name = path.strip_prefix(&crates).unwrap().to_str().unwrap().replace('\\', "/");
        for (line, flag) in flags(&std::fs::read_to_string(&path).unwrap()) {
            unused.retain(|allowed| (allowed.0, allowed.1) != (name.as_str(), flag.as_str()));
            if !ALLOWED
                .iter()
                .any(|allowed| (allowed.0, allowed.1) == (name.as_str(), flag.as_str()))
            {
                named.push(format!("{name}:{line}: {flag}"));
            }
        }
    }
    assert!(
        named.is_empty(),
        "a library names a flag; name the situation: {named:#?}"
    );
    assert!(unused.is_empty(), "these need no permission any more: {unused:#?}");
}

#[test]
fn how_flags_are_found() {
    let text = "// --no\nlet a = \"say --set x=1 or `--dry-run`\"; // and --more\nlet b = \"a--b models--c -- d\";\n\
                #[cfg(test)]\nmod tests {\n\"--test\"";
    let of = |line, flag: &str| (line, flag.to_owned());
    assert_eq!(flags(text), [of(2, "--set"), of(2, "--dry-run"), of(2, "--more")]);
}
