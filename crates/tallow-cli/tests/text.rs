//! Special contents of a text, from learning to translation: language tags, NUL, white space, lines without content,
//! and normalization.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may panic like the test itself.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const CONFIG: &str = "name = \"run\"\n[text]\nvocabulary = 320\n[data]\ntrain = [{ source = \"s\", target = \"t\" }]\n\
                      valid = { source = \"s\", target = \"t\" }\n[model]\nd_model = 16\nfeed_forward = 32\n\
                      encoder_layers = 1\ndecoder_layers = 1\nheads = 2\n[train]\nmax_updates = 2\nsamples = 0\n";

/// A config, and a text of 50 lines.
fn project(source: &dyn Fn(usize) -> String, target: &dyn Fn(usize) -> String) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let lines = |line: &dyn Fn(usize) -> String| (1..=50).map(|i| line(i) + "\n").collect::<String>();
    std::fs::write(folder.path().join("run.toml"), CONFIG).unwrap();
    std::fs::write(folder.path().join("s"), lines(source)).unwrap();
    std::fs::write(folder.path().join("t"), lines(target)).unwrap();
    folder
}

/// Runs a command that must succeed; the result is its output and its messages.
fn tallow(at: &Path, arguments: &[&str], input: &str) -> (String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tallow"))
        .current_dir(at)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {said}");
    (String::from_utf8(output.stdout).unwrap(), said)
}

fn number(i: usize) -> String {
    format!("a b {i}")
}

#[test]
fn language_tags_are_pieces_from_learning_to_translation() {
    let tag = |i: usize| [">>deu<<", ">>fra<<"][i % 2];
    let folder = project(&|i| format!("{} a b {i}", tag(i)), &number);
    let at = folder.path();
    let (_, said) = tallow(at, &["train", "run.toml"], "");
    assert!(
        said.contains("lines begin with language tags, which are pieces of their own: >>deu<<, >>fra<<\n"),
        "{said}"
    );
    assert!(!said.contains("note:"), "{said}");
    let (checks, _) = tallow(at, &["verify", "runs/run"], "");
    assert!(!checks.contains("FAULTY"), "{checks}");
    let pieces = |line: &str| tallow(at, &["tokenizer", "encode", "runs/run"], line).0;
    assert!(
        pieces(">>fra<< a b\n").starts_with(">>fra<< ▁a"),
        "{}",
        pieces(">>fra<< a b\n")
    );

    let input = ">>deu<< a b 1\n>>ita<< a b 1\n>>ita<<a\n>>deu<< \t\n";
    let (translations, said) = tallow(at, &["translate", "runs/run", "--format", "json"], input);
    let warning =
        "warning: 2 lines begin with a language tag that the model does not have (>>ita<<); it has >>deu<<, >>fra<<";
    assert!(said.contains(warning), "{said}");
    let last = translations.lines().last().unwrap();
    assert!(
        last.contains("\"translation\":\"\"") && last.contains("\"parts\":0"),
        "{last}"
    );

    // Normalized text has no such pieces.
    let set = ["--set", "text.normalization=nfc", "--set", "name=nfc"];
    let (_, said) = tallow(at, &[&["train", "run.toml"][..], &set].concat(), "");
    assert!(
        said.contains(
            "note: 50 source lines begin with what may be a language tag, such as >>fra<<: text.normalization"
        ),
        "{said}"
    );
}

#[test]
fn a_model_without_tags_says_so() {
    let folder = project(&number, &number);
    tallow(folder.path(), &["train", "run.toml"], "");
    let (_, said) = tallow(folder.path(), &["translate", "runs/run"], ">>deu<< a b 1\n>>> 1 << 2\n");
    let warning = "warning: 1 line begins with a language tag that the model does not have (>>deu<<); it has none, and reads them as text";
    assert!(said.contains(warning), "{said}");
}

/// Files that other programs could not open are not written. Files that they can open mean the same there.
#[test]
fn nul_in_a_text() {
    for set in [&[][..], &["--set", "text.byte_fallback=false"]] {
        let folder = project(&|i| format!("a b \0 {i}"), &number);
        let at = folder.path();
        tallow(at, &[&["train", "run.toml"][..], set].concat(), "");
        let (checks, _) = tallow(at, &["verify", "runs/run"], "");
        assert!(
            checks.contains("SentencePiece models") && !checks.contains("FAULTY"),
            "{checks}"
        );
        let model = std::fs::read(at.join("runs/run/best/source.spm")).unwrap();
        // A piece that is a NUL: field 1 of a piece, with one byte.
        assert!(!model.windows(3).any(|bytes| bytes == b"\x0a\x01\x00"));
    }
}

#[test]
fn white_space_says_nothing() {
    let folder = project(&number, &number);
    let at = folder.path();
    tallow(at, &["train", "run.toml", "--set", "train.max_updates=20"], "");
    let translate = |input: &str| tallow(at, &["translate", "runs/run"], input).0;
    for blank in [" \n", "\t\n", "\u{a0}\u{3000}\n", "\u{200b}\n", "\u{feff}\u{feff}\n"] {
        assert_eq!(translate(blank), "\n", "{blank:?}");
    }
    let plain = translate("a b 1\n");
    for line in [" a b 1\n", "a b 1 \t\n", "\u{a0}a  b   1\n"] {
        assert_eq!(translate(line), plain, "{line:?}");
    }
}

#[test]
fn references_that_cannot_be_written_are_told() {
    let folder = project(&number, &|i| format!("sag … nein {i}"));
    let set = ["--set", "text.normalization=nfkc"];
    let (_, said) = tallow(folder.path(), &[&["train", "run.toml"][..], &set].concat(), "");
    let note = "note: data.valid: 50 references of 50 cannot be written with this vocabulary: line 1, \"sag … nein 1\", becomes \
                \"sag ... nein 1\"; no translation will equal them; with text.normalization = \"none\"";
    assert!(said.contains(note), "{said}");
}
