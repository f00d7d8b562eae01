//! A GPU computes the same as the CPU. These tests run only in builds with the feature `cuda`, and only if
//! `TALLOW_CUDA` names a device (`cuda` or `cuda:N`), because most machines that can build this have no GPU:
//!
//!     TALLOW_CUDA=cuda bash scripts/cuda-build.sh test --release --features cuda --test cuda
#![cfg(feature = "cuda")]
// Helpers of a test may panic like the test itself.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The GPU to test, if there is one.
fn gpu() -> Option<String> {
    let named = std::env::var("TALLOW_CUDA").ok().filter(|name| !name.is_empty());
    if named.is_none() {
        eprintln!("skipped: TALLOW_CUDA names no GPU");
    }
    named
}

/// Standard output of a command that must succeed.
fn tallow(at: &Path, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tallow"))
        .current_dir(at)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that fails early need not read its input; its exit status shows the failure.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Dropout at every site, several batches of different shapes, a subword vocabulary.
const CONFIG: &str = r#"
[text]
vocabulary = 120
byte_fallback = false
[data]
train = [{ source = "train.en", target = "train.de" }]
valid = { source = "valid.en", target = "valid.de" }
batch_tokens = 1000
[model]
d_model = 48
feed_forward = 96
encoder_layers = 2
decoder_layers = 2
heads = 3
dropout = 0.1
attention_dropout = 0.1
activation_dropout = 0.1
[train]
max_updates = 60
learning_rate = 4e-3
warmup_updates = 10
validate_every = 30
checkpoint_every = 30
log_every = 1
workers = 1
metric = "loss"
[decode]
beam = 4
max_length = 60
"#;

fn corpus(at: &Path) {
    let toy = "toy numbers --output . --maximum 999 --train 850 --valid 50 --test 100";
    tallow(at, &toy.split(' ').collect::<Vec<_>>(), "");
    std::fs::write(at.join("run.toml"), CONFIG).unwrap();
}

/// The losses of training and of validation that a run logged, in order.
fn losses(run: &Path) -> Vec<f64> {
    let log = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let loss = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["loss"].as_f64().or(line["valid"]["loss"].as_f64())
    };
    log.lines().filter_map(loss).collect()
}

/// Training, with both forms of the gradient, follows the CPU's losses to 1e-4 over twenty updates. After that,
/// rounding errors may have grown.
#[test]
fn training_follows_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    corpus(at);
    for (form, set) in [
        ("plain", "train.r_drop=0"),
        ("r-drop", "train.r_drop=2"),
        ("pre-norm", "model.norm=pre"),
        ("gelu", "model.activation=gelu"),
    ] {
        let run = |device: &str| {
            let output = format!("runs/{form}-{device}");
            let set_output = format!("output={output}");
            let arguments = [
                "train",
                "run.toml",
                "--device",
                device,
                "--set",
                set,
                "--set",
                &set_output,
            ];
            tallow(at, &arguments, "");
            losses(&at.join(output))
        };
        let (there, here) = (run(&gpu), run("cpu"));
        assert_eq!(there.len(), here.len(), "{form}");
        assert!(here.len() >= 62, "{form}: {} losses", here.len());
        for (i, (there, here)) in there.iter().zip(&here).enumerate() {
            let tolerance = if i < 20 { 1e-4 } else { 2e-2 };
            assert!(
                (there / here - 1.0).abs() < tolerance,
                "{form}, {i}: {there} and {here}"
            );
        }
    }
}

/// A model gives the same translations on both devices, with every search, and the same scores to 1e-4. Of a hundred
/// sampled translations one may differ, because rounding can change which token a random number selects.
#[test]
fn translations_are_the_cpus() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    corpus(at);
    // Trained long enough for clear decisions: rounding decides between nearly equal candidates.
    let train = "train run.toml --device cpu --set train.max_updates=400 --set train.validate_every=200";
    tallow(at, &train.split(' ').collect::<Vec<_>>(), "");
    let source = std::fs::read_to_string(at.join("test.en")).unwrap();
    for search in ["--beam 1", "--beam 5", "--sample --seed 3"] {
        let translate = |device: &str| -> Vec<Value> {
            let arguments = format!("translate runs/run --format json --device {device} {search}");
            let output = tallow(at, &arguments.split(' ').collect::<Vec<_>>(), &source);
            output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let (there, here) = (translate(&gpu), translate("cpu"));
        assert_eq!(here.len(), 100);
        assert_eq!(there.len(), 100);
        let differ = |(there, here): &(&Value, &Value)| there["translation"] != here["translation"];
        let others: Vec<_> = there.iter().zip(&here).filter(differ).collect();
        let allowed = usize::from(search.starts_with("--sample"));
        assert!(
            others.len() <= allowed,
            "{search}: {} differ, {:?}",
            others.len(),
            others.first()
        );
        for (there, here) in there.iter().zip(&here).filter(|pair| !differ(pair)) {
            let score = |of: &Value| of["candidates"][0]["score"].as_f64().unwrap();
            assert!((score(there) - score(here)).abs() < 1e-4, "{search}: {there} {here}");
        }
    }
}

/// Every proof about the model holds, and a stopped run can be resumed.
#[test]
fn proofs_and_resumption() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    corpus(at);
    let report = tallow(at, &["check", "run.toml", "--device", &gpu, "--json"], "");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["faulty"], 0, "{report}");

    let train = |more: &[&str]| {
        let mut arguments = vec!["train", "run.toml", "--device", &gpu];
        arguments.extend(more);
        tallow(at, &arguments, "")
    };
    train(&["--set", "train.max_updates=30"]);
    train(&["--resume", "--set", "train.max_updates=60"]);
    assert!(at.join("runs/run/checkpoints/60/model.safetensors").is_file());
    assert_eq!(losses(&at.join("runs/run")).len(), 62);
}
