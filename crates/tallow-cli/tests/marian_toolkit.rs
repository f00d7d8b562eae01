//! Models of the Marian toolkit on the command line: translation, scoring, verification and fine-tuning. The tests of
//! tallow-decode compare the translations with Marian's.
// Helpers of a test may panic like the test itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A folder with the models, and the lines of one as `source.txt`, `target.txt` and `marian.txt`.
fn project(model: &str) -> TempDir {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tallow-decode/tests/fixtures/marian-toolkit");
    let place = tempfile::tempdir().unwrap();
    for name in ["post-norm", "words"] {
        std::fs::create_dir(place.path().join(name)).unwrap();
        for file in std::fs::read_dir(fixtures.join(name)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), place.path().join(name).join(file.file_name())).unwrap();
        }
    }
    let lines = std::fs::read_to_string(fixtures.join(model).join("lines.txt")).unwrap();
    for (column, name) in ["source.txt", "target.txt", "marian.txt"].into_iter().enumerate() {
        let column: String = lines
            .lines()
            .map(|line| format!("{}\n", line.split('\t').nth(column).unwrap()))
            .collect();
        std::fs::write(place.path().join(name), column).unwrap();
    }
    place
}

fn tallow(at: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tallow"))
        .current_dir(at)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its arguments does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(at: &Path, name: &str) -> String {
    std::fs::read_to_string(at.join(name)).unwrap()
}

/// The error message of a command that must fail.
fn refused(at: &Path, arguments: &[&str]) -> String {
    let output = tallow(at, arguments, "one\n");
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn models_translate() {
    for model in ["post-norm", "words"] {
        let folder = project(model);
        let at = folder.path();
        let file = format!("{model}/model.npz");
        for name in [model, &file] {
            let arguments = ["translate", name, "--beam", "4", "--length-penalty", "1"];
            let output = tallow(at, &arguments, &text(at, "source.txt"));
            let translations = String::from_utf8(output.stdout).unwrap();
            assert_eq!(translations, text(at, "marian.txt"), "{name}");
        }
        // The beam comes from model.npz.decoder.yml.
        let output = tallow(
            at,
            &["eval", model, "--source", "source.txt", "--target", "target.txt"],
            "",
        );
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains("beam 12") && said.contains("exact match = 9"), "{said}");
        let output = tallow(at, &["verify", model], "");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.contains("a Marian model"), "{said}");
    }
}

#[test]
fn faults_name_the_file() {
    let folder = project("words");
    let at = folder.path();
    std::fs::remove_file(at.join("words/target.yml")).unwrap();
    for command in ["translate", "verify"] {
        let said = refused(at, &[command, "words"]);
        assert!(
            said.contains("model.npz.decoder.yml") && said.contains("target.yml is not in the folder"),
            "{said}"
        );
    }
    std::fs::write(at.join("words/target.yml"), "</s>: 0\n<unk>: 1\nein: 2\n").unwrap();
    for command in ["translate", "verify"] {
        let said = refused(at, &[command, "words"]);
        assert!(said.contains("target.yml") && said.contains("26 rows"), "{said}");
    }
    let weights = std::fs::read(at.join("words/model.npz")).unwrap();
    std::fs::write(at.join("words/model.npz"), &weights[..weights.len() / 2]).unwrap();
    for command in ["translate", "verify"] {
        let said = refused(at, &[command, "words"]);
        assert!(said.contains("model.npz") && said.contains("cut off"), "{said}");
    }
    std::fs::copy(at.join("post-norm/model.npz"), at.join("post-norm/best.npz")).unwrap();
    std::fs::rename(at.join("post-norm/model.npz"), at.join("post-norm/other.npz")).unwrap();
    let said = refused(at, &["translate", "post-norm"]);
    assert!(said.contains("name one of them: best.npz, other.npz"), "{said}");
}

#[test]
fn a_run_begins_with_a_model() {
    let folder = project("post-norm");
    let at = folder.path();
    let config = "init = \"post-norm\"\noutput = \"run\"\n[data]\n\
                  train = [{ source = \"source.txt\", target = \"target.txt\" }]\n\
                  valid = { source = \"source.txt\", target = \"target.txt\" }\n\
                  [train]\nmax_updates = 1\nlearning_rate = 1e-9\nwarmup_updates = 0\nvalidate_every = 1\nworkers = 1\n";
    std::fs::write(at.join("tune.toml"), config).unwrap();
    let output = tallow(at, &["train", "tune.toml"], "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record: Value = serde_json::from_str(&text(at, "run/run.json")).unwrap();
    let hashes = record["init"]["sha256"].as_object().unwrap();
    assert_eq!(hashes.keys().collect::<Vec<_>>(), ["model.npz", "vocab.spm"]);
    // The model is written in Tallow's form, with the positions of Marian, and translates as before.
    let config: Value = serde_json::from_str(&text(at, "run/best/config.json")).unwrap();
    assert_eq!(config["tallow_positions"], "sinusoidal-marian");
    let arguments = ["translate", "run", "--beam", "4", "--length-penalty", "1"];
    let output = tallow(at, &arguments, &text(at, "source.txt"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), text(at, "marian.txt"));
}
