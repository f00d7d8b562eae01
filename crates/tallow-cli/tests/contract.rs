//! The translation of a line is a function of the model, the line and the search settings: texts, tokens and scores are the
//! same, to the bit, whatever the size of batches, the number of workers, the order of the lines and their neighbours.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // Helpers of a test may give up like the test itself.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small model with the tokenizer that it was made with.
fn model(at: &Path) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let tokenizer = tests.join("../../tallow-text/tests/fixtures/marian/languages");
    std::fs::create_dir(at.join("model")).unwrap();
    for (folder, names) in [
        (
            tests.join("fixtures/opus/model"),
            &["config.json", "generation_config.json", "model.safetensors"][..],
        ),
        (
            tokenizer,
            &["source.spm", "target.spm", "vocab.json", "tokenizer_config.json"],
        ),
    ] {
        for name in names {
            std::fs::copy(folder.join(name), at.join("model").join(name)).unwrap();
        }
    }
}

/// Lines to translate: all of Multi30k's test set if its place is known, otherwise some of the shipped corpus; with lines
/// that are empty, blank or long.
fn lines() -> Vec<String> {
    #[allow(clippy::disallowed_methods)] // A test may ask the environment where the text is.
    let multi30k = std::env::var("TALLOW_MULTI30K").map(PathBuf::from);
    let path = match &multi30k {
        Ok(folder) => folder.join("test_2016_flickr.en"),
        Err(_) => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/numbers-en-de/test.en"),
    };
    let path = if path.exists() {
        path
    } else {
        path.with_extension("en.gz")
    };
    let mut lines = tallow_data::read_lines(&path).unwrap().lines;
    if multi30k.is_err() {
        lines.truncate(60);
    }
    println!("{}: {} lines (TALLOW_MULTI30K gives more)", path.display(), lines.len());
    lines.insert(7, String::new());
    lines.insert(9, "   ".to_owned());
    lines.insert(20, "the old lighthouse ".repeat(40));
    lines
}

/// What `tallow translate` prints for these lines, as JSON with all scores.
fn translate(at: &Path, lines: &[String], extra: &[&str]) -> Vec<String> {
    let input = at.join("input");
    std::fs::write(&input, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command
        .current_dir(at)
        .args(["translate", "model", "--input", "input", "--format", "json"]);
    let output = command.args(["--max-length", "30"]).args(extra).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let translations: Vec<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(
        translations.len(),
        lines.len(),
        "one line of output for every line of input"
    );
    translations
}

#[test]
fn translations_depend_on_their_line_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    model(at);
    let lines = lines();
    let reversed: Vec<String> = lines.iter().rev().cloned().collect();
    // Greedy, by beam, and by chance, which follows the number of the line.
    for (search, in_any_order) in [
        (&["--beam", "1"][..], true),
        (&["--beam", "4", "--n-best", "3"], true),
        (&["--sample", "--temperature", "1.5", "--seed", "3"], false),
    ] {
        let expected = translate(at, &lines, &[search, &["--workers", "1"]].concat());
        let different = expected.iter().collect::<std::collections::BTreeSet<_>>().len();
        assert!(
            2 * different > lines.len(),
            "{different} different translations prove little"
        );
        for (tokens, workers) in [
            ("1", "2"),
            ("150", "3"),
            ("2048", "2"),
            ("16777216", "1"),
            ("16777216", "2"),
        ] {
            let budget = format!("decode.batch_tokens={tokens}");
            let found = translate(
                at,
                &lines,
                &[search, &["--set", &budget, "--workers", workers]].concat(),
            );
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found, expected, "{search:?}, {tokens} tokens, {workers} workers");
            }
        }
        if in_any_order {
            let mut found = translate(at, &reversed, search);
            found.reverse();
            assert_eq!(found, expected, "{search:?}, reversed");
        }
        let found = translate(at, &lines, &[search, &["--interactive"]].concat());
        assert_eq!(found, expected, "{search:?}, one by one");
    }
}
