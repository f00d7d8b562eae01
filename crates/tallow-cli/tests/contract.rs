//! The translation of a line depends only on the model, the line and the search settings. Texts, tokens and scores are
//! the same, to the bit, for every batch size, number of workers, order of lines and neighbouring lines.
// Helpers of a test may panic like the test itself.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod small_model;

use small_model::model;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines to translate: all of Multi30k's test set if its place is known, otherwise some of the shipped corpus. Empty,
/// blank and long lines are added.
fn lines() -> Vec<String> {
    #[allow(clippy::disallowed_methods)] // A test may read the place of the text from the environment.
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

/// The output of `tallow translate` for these lines, as JSON with all scores.
fn translate(at: &Path, lines: &[String], extra: &[&str]) -> Vec<String> {
    let input = at.join("input");
    std::fs::write(&input, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command
        .current_dir(at)
        .args(["translate", "model", "--input", "input", "--format", "json"]);
    let output = command
        .args(["--max-length", "30", "--set", "decode.max_source_length=60"])
        .args(extra)
        .output()
        .unwrap();
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
    // Greedy, with a beam, and at random; random draws depend on the line number.
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

/// Long lines are split, cut or refused, as `decode.long_lines` says. JSON says which lines, and standard error how
/// many.
#[test]
fn long_lines_are_handled_as_the_config_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    model(at);
    let sentences = [
        "The old lighthouse stands.",
        "The harbour sleeps.",
        "The old harbour stands.",
    ];
    let input = format!("The harbour.\n{}\n", sentences.join(" "));
    std::fs::write(at.join("input"), &input).unwrap();
    std::fs::write(at.join("alone"), sentences.join("\n")).unwrap();
    let translate = |input: &str, long_lines: &str| {
        let set = format!("decode.long_lines={long_lines}");
        let limit = "decode.max_source_length=32";
        Command::new(env!("CARGO_BIN_EXE_tallow"))
            .current_dir(at)
            .args([
                "translate",
                "model",
                "--input",
                input,
                "--format",
                "json",
                "--max-length",
                "12",
            ])
            .args(["--attention", "--set", limit, "--set", &set])
            .output()
            .unwrap()
    };
    let objects = |output: &std::process::Output| -> Vec<serde_json::Value> {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let alone = objects(&translate("alone", "fail"));
    let texts: Vec<&str> = alone
        .iter()
        .map(|object| object["translation"].as_str().unwrap())
        .collect();
    let output = translate("input", "split");
    let split = objects(&output);
    assert_eq!((&split[0]["parts"], &split[1]["parts"]), (&1.into(), &3.into()));
    assert_eq!(split[1]["cut_source_tokens"], 0);
    assert_eq!(split[1]["translation"], texts.join(" "));
    assert_eq!(split[1]["attention"].as_array().unwrap().len(), 3);
    assert!(split[0]["attention"].is_object());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("1 line was longer than 32 tokens") && said.contains("sentence by sentence"),
        "{said}"
    );
    let output = translate("input", "truncate");
    let cut = objects(&output);
    assert_eq!((&cut[1]["parts"], &cut[1]["source_tokens"]), (&1.into(), &32.into()));
    assert!(cut[1]["cut_source_tokens"].as_u64().unwrap() > 0);
    assert!(String::from_utf8(output.stderr).unwrap().contains("and cut there"));
    let output = translate("input", "fail");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.starts_with("error: line 2 has more than the 32 tokens of decode.max_source_length"),
        "{said}"
    );
}

/// `tallow eval` and `tallow translate` both translate in blocks. They give the same translations, also when sampling,
/// where the random draws depend on the line number.
#[test]
fn eval_translates_as_translate_does() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    model(at);
    // One line more than a block has.
    let lines: String = (0..4097).map(|i| format!("the harbour {i}\n")).collect();
    std::fs::write(at.join("input"), lines).unwrap();
    let tallow = |arguments: &[&str]| {
        let search = ["--sample", "--temperature", "1.5", "--seed", "5", "--max-length", "4"];
        let output = Command::new(env!("CARGO_BIN_EXE_tallow"))
            .current_dir(at)
            .args(arguments)
            .args(search)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let expected = tallow(&["translate", "model", "--input", "input"]);
    let files = ["--source", "input", "--target", "input", "--output", "found"];
    tallow(&[&["eval", "model"], &files[..]].concat());
    let found = std::fs::read_to_string(at.join("found")).unwrap();
    assert_eq!(found.lines().count(), 4097);
    assert!(found == expected, "eval and translate differ");
}
