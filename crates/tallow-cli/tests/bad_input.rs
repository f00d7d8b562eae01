//! What a person reads when something is wrong: one clear error that names the file, line or key, and exit code 1.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may give up like the test itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

fn tallow(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tallow"))
        .current_dir(directory)
        .args(arguments)
        .output()
        .unwrap()
}

/// Runs a command that must fail, and returns what it said.
fn error_of(directory: &Path, arguments: &[&str]) -> String {
    let output = tallow(directory, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?} wrote data before it failed");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

/// A folder with a corpus and a config that trains on it.
fn project(source: &[u8], target: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.en"), source).unwrap();
    std::fs::write(folder.path().join("a.de"), target).unwrap();
    let config = "[text]\nkind = \"char\"\nbyte_fallback = false\n[data]\n\
                  train = [{ source = \"a.en\", target = \"a.de\" }]\n\
                  [model]\nd_model = 8\nheads = 2\nfeed_forward = 8\nencoder_layers = 1\ndecoder_layers = 1\n\
                  [train]\nmax_updates = 2\nworkers = 1\n";
    std::fs::write(folder.path().join("run.toml"), config).unwrap();
    folder
}

fn trained() -> (TempDir, PathBuf) {
    let folder = project(b"one\ntwo\nthree\n", b"eins\nzwei\ndrei\n");
    let output = tallow(folder.path(), &["train", "run.toml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let run = folder.path().join("runs/run");
    (folder, run)
}

#[test]
fn configs() {
    let folder = project(b"a\n", b"b\n");
    let at = folder.path();
    assert_says(&error_of(at, &["train", "nowhere.toml"]), &["nowhere.toml"]);
    std::fs::write(at.join("broken.toml"), "[train\n").unwrap();
    assert_says(&error_of(at, &["train", "broken.toml"]), &["broken.toml", "line 1"]);
    std::fs::write(
        at.join("wrong.toml"),
        "[train]\nmax_update = 1\n[model]\nheads = 3\nd_model = 8\n",
    )
    .unwrap();
    let said = error_of(at, &["train", "wrong.toml"]);
    assert_says(
        &said,
        &[
            "wrong.toml",
            "train.max_update: unknown key; did you mean train.max_updates?",
        ],
    );
    let set = [
        "train",
        "run.toml",
        "--set",
        "train.optimizer=sgd",
        "--set",
        "model.nrom=pre",
    ];
    assert_says(
        &error_of(at, &set),
        &["train.optimizer", "adamw", "did you mean model.norm?"],
    );
}

#[test]
fn corpora() {
    let folder = project(b"a\nb\nc\n", b"x\ny\n");
    let said = error_of(folder.path(), &["train", "run.toml"]);
    assert_says(&said, &["a.en", "a.de", "3", "2"]);
    let folder = project(b"a\nb\xff\n", b"x\ny\n");
    assert_says(
        &error_of(folder.path(), &["train", "run.toml"]),
        &["a.en", "line 2", "UTF-8"],
    );
    let folder = project(b"", b"");
    assert_says(&error_of(folder.path(), &["train", "run.toml"]), &["a.en"]);
    let folder = project(b"a\n", b"x\n");
    std::fs::remove_file(folder.path().join("a.de")).unwrap();
    assert_says(&error_of(folder.path(), &["train", "run.toml"]), &["a.de"]);
}

/// CRLF, a byte order mark, NUL, empty lines and a very long line are no errors: they are handled and counted.
#[test]
fn odd_corpora_train() {
    let mut source = b"\xef\xbb\xbfone\r\ntwo\0\n\n".to_vec();
    source.extend(vec![b'x'; 100_000]);
    source.push(b'\n');
    let folder = project(&source, b"eins\nzwei\nleer\nlang\n");
    let output = tallow(folder.path(), &["train", "run.toml"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_says(&said, &["2 training pairs"]);
    assert!(
        said.contains("empty") && said.contains("long"),
        "what was dropped is not said:\n{said}"
    );
}

#[test]
fn model_directories() {
    let (folder, run) = trained();
    let at = folder.path();
    assert_says(&error_of(at, &["translate", "nowhere"]), &["nowhere"]);
    assert_says(&error_of(at, &["translate", "."]), &["config.toml"]);
    let weights = run.join("best/model.safetensors");
    let good = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &good[..good.len() / 2]).unwrap();
    assert_says(&error_of(at, &["translate", "runs/run"]), &["model.safetensors"]);
    let text = String::from_utf8_lossy(&good).replace("final_layer_norm.weight", "final_layer_nrom.weight");
    if text.len() == good.len() {
        std::fs::write(&weights, text.as_bytes()).unwrap();
        assert_says(
            &error_of(at, &["translate", "runs/run"]),
            &["final_layer_norm.weight is missing"],
        );
    }
    std::fs::write(&weights, &good).unwrap();
    std::fs::write(run.join("best/tokenizer.json"), "{}").unwrap();
    assert_says(&error_of(at, &["translate", "runs/run"]), &["tokenizer.json"]);
}

/// What training does not accept any more is no reason not to use the model of a run that had it.
#[test]
fn runs_of_before() {
    let (folder, run) = trained();
    let at = folder.path();
    let config = std::fs::read_to_string(run.join("config.toml")).unwrap();
    let changed = |line: &str| match line.split(" = ").next() {
        Some("epsilon") => "epsilon = 0.0\n".to_string(),
        Some("min_learning_rate") => "min_learning_rate = 0.5\n".to_string(),
        Some("schedule") => "schedule = \"linear\"\n".to_string(),
        _ => format!("{line}\n"),
    };
    let config: String = config.lines().map(changed).collect();
    std::fs::write(run.join("config.toml"), &config).unwrap();
    std::fs::write(at.join("before.toml"), &config).unwrap();
    let output = tallow(at, &["eval", "runs/run", "--source", "a.en", "--target", "a.de"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let error = error_of(at, &["train", "before.toml", "--resume"]);
    assert_says(
        &error,
        &["train.epsilon: 0 is not", "train.min_learning_rate: 0.5 is above"],
    );
}

#[test]
fn commands() {
    let (folder, _) = trained();
    let at = folder.path();
    assert_says(
        &error_of(at, &["train", "run.toml"]),
        &["runs/run", "--resume", "--overwrite", "name"],
    );
    assert_says(
        &error_of(at, &["train", "run.toml", "--set", "name=new", "--resume"]),
        &["no run to resume"],
    );
    let changed = ["train", "run.toml", "--resume", "--set", "data.max_length=50"];
    assert_says(&error_of(at, &changed), &["data.max_length: 50 instead of 100"]);
    assert_says(
        &error_of(at, &["score", "a.en", "--reference", "run.toml"]),
        &["run.toml", "a.en"],
    );
    assert_says(&error_of(at, &["eval", "runs/run"]), &["data.test", "--source"]);
    assert_says(
        &error_of(at, &["translate", "runs/run", "--beam", "0"]),
        &["decode.beam"],
    );
    assert_says(
        &error_of(at, &["translate", "runs/run", "--set", "decode.bean=2"]),
        &["bean"],
    );
    assert_says(
        &error_of(at, &["average", "runs/run", "--output", "runs"]),
        &["runs", "exists"],
    );
    for last in ["0", "1"] {
        let error = error_of(at, &["average", "runs/run", "--last", last, "--output", "none"]);
        assert_says(&error, &[&format!("--last {last}"), "at least 2"]);
        assert!(!at.join("none").exists());
    }
    if !cfg!(feature = "cuda") {
        let said = error_of(at, &["translate", "runs/run", "--device", "cuda"]);
        assert_says(&said, &["without CUDA", "--device cpu"]);
    }
    // What is typed wrong is a usage error.
    for wrong in [
        &["translate"][..],
        &["train", "run.toml", "--device", "gpu"],
        &["toy", "trains", "-o", "x"],
    ] {
        assert_eq!(tallow(at, wrong).status.code(), Some(2), "{wrong:?}");
    }
}
