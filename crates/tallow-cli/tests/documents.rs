//! The documents agree with the program.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may panic like the test itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn tallow(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tallow"))
        .current_dir(directory)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Every key with its default, as `explain` prints them for a nearly empty config.
fn keys() -> BTreeMap<String, Option<String>> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("least.toml"), "[data]\ntrain = [{ tsv = \"x\" }]\n").unwrap();
    let (code, explained, error) = tallow(folder.path(), &["explain", "least.toml"]);
    assert_eq!(code, 0, "{error}");
    let mut section = String::new();
    let mut keys = BTreeMap::new();
    for line in explained.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some(rest) = line.strip_prefix("# ") {
            keys.insert(format!("{section}{}", rest.split(' ').next().unwrap()), None);
        } else if let Some((key, rest)) = line.split_once(" = ") {
            let value = rest.rsplit_once(" # ").unwrap().0.trim();
            keys.insert(format!("{section}{key}"), Some(value.to_string()));
        }
    }
    keys
}

#[test]
fn every_key_stands_in_format_md_with_its_default() {
    let document = std::fs::read_to_string(root().join("FORMAT.md")).unwrap();
    let keys = keys();
    assert!(keys.len() > 60, "{keys:?}");
    for (key, value) in keys {
        let row = document.lines().find(|line| line.starts_with(&format!("| `{key}` |")));
        let Some(row) = row else {
            panic!("FORMAT.md has no row for {key}")
        };
        let default = row.split('|').nth(2).unwrap().trim().trim_matches('`').to_string();
        let same = match value.as_deref() {
            // The name comes from the file, the corpora from the config.
            _ if ["name", "data.train"].contains(&key.as_str()) => true,
            None => default == "unset",
            Some(value) => match (value.parse::<f64>(), default.replace('_', "").parse::<f64>()) {
                (Ok(value), Ok(default)) => (value - default).abs() <= 1e-7 * value.abs(),
                _ => value == default,
            },
        };
        assert!(
            same,
            "FORMAT.md gives {key} the default {default}, the program {value:?}"
        );
    }
}

/// The files below a directory, except fixtures, seeds and files built by cargo.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !path.is_dir() {
            found.push(path);
        } else if !["target", "fixtures", "seeds", "data", "runs"].contains(&name.as_str()) && !name.starts_with('.') {
            files(&path, found);
        }
    }
}

/// No tool wraps these lines. Tables, code and program output in Markdown may be longer.
#[test]
fn comments_and_documents_keep_to_120_columns() {
    let mut all = Vec::new();
    files(&root(), &mut all);
    let mut long = Vec::new();
    let mut seen = 0;
    for path in &all {
        let extension = path.extension().unwrap_or_default();
        let is_text = |line: &str| match extension.to_str() {
            Some("md") => !line.starts_with('|') && !line.starts_with("    "),
            _ => line.trim_start().starts_with("//") && !line.trim_start().starts_with("//! |"),
        };
        if extension != "md" && extension != "rs" {
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(path).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            if line.chars().count() > 120 && is_text(line) {
                long.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert!(seen > 200, "{seen}");
    assert!(long.is_empty(), "longer than 120 columns: {long:#?}");
}

/// Every link to a file leads to one, and no place is left to be filled in.
#[test]
fn links_lead_somewhere() {
    let mut all = Vec::new();
    files(&root(), &mut all);
    let mut links = 0;
    for path in all.iter().filter(|path| path.extension().is_some_and(|e| e == "md")) {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(!text.contains("@@"), "{}: a placeholder", path.display());
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.contains(char::is_whitespace) {
                continue;
            }
            links += 1;
            let to = path.with_file_name("").join(target);
            assert!(to.exists(), "{}: {target} does not exist", path.display());
        }
    }
    assert!(links > 20, "{links}");
}

#[test]
fn shipped_configs_are_valid() {
    for entry in std::fs::read_dir(root().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        let (code, _, error) = tallow(&root(), &["explain", path.to_str().unwrap()]);
        assert_eq!(code, 0, "{error}");
    }
}

/// Every command has a short and a long help, and the long help has worked examples.
#[test]
fn help() {
    let (_, help, _) = tallow(&root(), &["--help"]);
    assert!(
        help.contains("EXAMPLES") && help.contains("tallow train configs/numbers-en-de.toml"),
        "{help}"
    );
    for command in [
        "train",
        "translate",
        "eval",
        "score",
        "average",
        "check",
        "verify",
        "export",
        "toy",
        "chart",
        "completions",
    ] {
        let (code, long, _) = tallow(&root(), &[command, "--help"]);
        assert!(
            code == 0 && long.contains("EXAMPLES") && long.contains(&format!("tallow {command}")),
            "{long}"
        );
        let (_, short, _) = tallow(&root(), &[command, "-h"]);
        assert!(!short.contains("EXAMPLES") && short.len() < long.len());
        assert!(help.contains(command));
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script, _) = tallow(&root(), &["completions", shell]);
        assert!(code == 0 && script.contains("tallow"));
    }
}

/// `explain` shows the origin of each value.
#[test]
fn origins() {
    let config = "configs/numbers-en-de.toml";
    let (_, explained, _) = tallow(&root(), &["explain", config, "--set", "train.max_updates=7"]);
    let line = |start: &str| {
        explained
            .lines()
            .find(|line| line.starts_with(start))
            .unwrap()
            .to_string()
    };
    assert!(line("max_updates = 7").ends_with("# --set"));
    assert!(line("d_model = 128").ends_with(config));
    assert!(line("norm = \"post\"").ends_with("# default"));
}
