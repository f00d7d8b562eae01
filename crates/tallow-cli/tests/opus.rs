//! Models from elsewhere: translation, fine-tuning, writing, verification and export of one
//! (`scripts/fixtures/fine_tune.py`), and fetching one from a Hub.
// Helpers of a test may panic like the test itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

#[allow(dead_code, reason = "tests/hub.rs uses the rest")]
mod hub_server;

const TOKENIZER_FILES: [&str; 4] = ["source.spm", "target.spm", "vocab.json", "tokenizer_config.json"];

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/opus")
}

/// A folder with the model, `model`, and its texts.
fn project() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tallow-text/tests/fixtures/marian/languages");
    std::fs::create_dir(at.join("model")).unwrap();
    for name in TOKENIZER_FILES {
        std::fs::copy(tokenizer.join(name), at.join("model").join(name)).unwrap();
    }
    for name in ["generation_config.json", "model.safetensors"] {
        std::fs::copy(fixture().join("model").join(name), at.join("model").join(name)).unwrap();
    }
    // As in newer models of OPUS-MT; it limits nothing.
    let config = std::fs::read_to_string(fixture().join("model/config.json")).unwrap();
    let config = config.replace("\"max_position_embeddings\": 512", "\"max_position_embeddings\": 1024");
    assert!(config.contains("1024"));
    std::fs::write(at.join("model/config.json"), config).unwrap();
    for name in ["train.en", "train.de"] {
        std::fs::copy(fixture().join(name), at.join(name)).unwrap();
    }
    // All pairs are in one batch, so that every update uses the same text.
    let config = "init = \"model\"\n[data]\ntrain = [{ source = \"train.en\", target = \"train.de\" }]\n\
                  valid = { source = \"train.en\", target = \"train.de\" }\nbatch_tokens = 10000\n\
                  [model]\ndropout = 0.0\n\
                  [train]\nmax_updates = 10\nlog_every = 1\nlearning_rate = 0.001\nschedule = \"constant\"\n\
                  warmup_updates = 0\nlabel_smoothing = 0.1\nclip_norm = 1.0\nvalidate_every = 5\n\
                  checkpoint_every = 5\nmetric = \"loss\"\nworkers = 1\n";
    std::fs::write(at.join("tune.toml"), config).unwrap();
    folder
}

fn tallow(at: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.current_dir(at).args(arguments).env("HF_HOME", at.join("hf"));
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs a command that must succeed, and returns its output.
fn printed(at: &Path, arguments: &[&str]) -> String {
    let output = tallow(at, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail, and returns its error message.
fn refused(at: &Path, arguments: &[&str]) -> String {
    let output = tallow(at, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
    assert!(!said(&output).contains("panicked"), "{}", said(&output));
    said(&output)
}

fn expected() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture().join("expected.json")).unwrap()).unwrap()
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

fn log(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Greedy and beam translations equal those of Hugging Face's `generate`.
#[test]
fn translations_are_those_of_transformers() {
    let folder = project();
    for (beam, key) in [("1", "beam_1"), ("4", "beam_4")] {
        let patience = "decode.patience=1000";
        let arguments = [
            "translate",
            "model",
            "--input",
            "train.en",
            "--beam",
            beam,
            "--set",
            patience,
        ];
        let translations = printed(folder.path(), &arguments);
        let expected: Vec<String> = serde_json::from_value(expected()[key].clone()).unwrap();
        assert_eq!(lines(&translations), expected, "beam {beam}");
    }
}

/// Ten updates have PyTorch's losses, and the written model has the form of the original.
#[test]
fn fine_tuning() {
    let folder = project();
    let at = folder.path();
    printed(at, &["train", "tune.toml"]);
    let run = at.join("runs/tune");
    let losses: Vec<f64> = log(&run)
        .iter()
        .filter_map(|line| line["loss"].as_f64())
        .take(10)
        .collect();
    let theirs: Vec<f64> = serde_json::from_value(expected()["losses"].clone()).unwrap();
    assert_eq!(losses.len(), 10);
    for (ours, theirs) in losses.iter().zip(&theirs) {
        assert!((ours - theirs).abs() < 2e-5 * theirs, "{losses:?}, theirs {theirs:?}");
    }
    for name in TOKENIZER_FILES {
        let (before, after) = (at.join("model").join(name), run.join("best").join(name));
        assert_eq!(std::fs::read(before).unwrap(), std::fs::read(after).unwrap(), "{name}");
    }
    assert!(!run.join("best/tokenizer.json").exists());
    let config = |path: PathBuf| -> Value { serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap() };
    let (before, after) = (
        config(at.join("model/config.json")),
        config(run.join("best/config.json")),
    );
    for key in [
        "d_model",
        "model_type",
        "vocab_size",
        "activation_function",
        "pad_token_id",
        "decoder_layers",
    ] {
        assert_eq!(before[key], after[key], "{key}");
    }
    assert_eq!(after["dropout"], 0.0);
    let record = config(run.join("run.json"));
    assert_eq!(record["init"]["model"], "model");
    assert_eq!(
        record["init"]["sha256"]["model.safetensors"].as_str().unwrap().len(),
        64
    );
    let verified = printed(at, &["verify", "runs/tune"]);
    assert!(
        verified.contains("a MarianMT model, 1+2 layers of width 24"),
        "{verified}"
    );
    // A run can begin with the fine-tuned model in turn.
    printed(
        at,
        &[
            "train",
            "tune.toml",
            "--set",
            "init=runs/tune/checkpoints/10",
            "--set",
            "name=again",
            "--set",
            "train.max_updates=1",
        ],
    );
    let first = log(&at.join("runs/again"))[0]["loss"].as_f64().unwrap();
    assert!((first - theirs[9]).abs() < 0.01, "{first}");
}

/// A run that began with another model is resumed without that model, and ends with the same bits.
#[test]
fn resuming() {
    let folder = project();
    let at = folder.path();
    printed(at, &["train", "tune.toml", "--set", "name=whole"]);
    printed(at, &["train", "tune.toml", "--set", "train.max_updates=5"]);
    std::fs::remove_dir_all(at.join("model")).unwrap();
    printed(at, &["train", "tune.toml", "--resume"]);
    let weights =
        |run: &str| std::fs::read(at.join("runs").join(run).join("checkpoints/10/model.safetensors")).unwrap();
    assert_eq!(weights("whole"), weights("tune"));
    let record = std::fs::read_to_string(at.join("runs/tune/run.json")).unwrap();
    assert!(record.contains("\"model\": \"model\""), "{record}");
}

#[test]
fn what_cannot_be_begun_with() {
    let folder = project();
    let at = folder.path();
    // A run that cannot begin does not touch an earlier run.
    printed(at, &["train", "tune.toml", "--set", "train.max_updates=1"]);
    let weights = std::fs::read(at.join("runs/tune/best/model.safetensors")).unwrap();
    let try_to = |set: &str| refused(at, &["train", "tune.toml", "--overwrite", "--set", set]);
    let error = try_to("model.d_model=64");
    assert!(error.contains("model.d_model: 64") && error.contains("24"), "{error}");
    let error = try_to("text.vocabulary=500");
    assert!(error.contains("[text]"), "{error}");
    let error = try_to("init=nowhere");
    assert!(error.contains("nowhere"), "{error}");
    // Weights with one value that is not a number.
    let path = at.join("model/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let good = bytes.clone();
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let error = refused(at, &["train", "tune.toml", "--overwrite"]);
    assert!(error.contains("not finite numbers"), "{error}");
    std::fs::write(&path, good).unwrap();
    // Tokenizers of another model.
    std::fs::write(
        at.join("model/vocab.json"),
        r#"{"</s>": 0, "<unk>": 1, "a": 2, "<pad>": 3}"#,
    )
    .unwrap();
    let error = refused(at, &["train", "tune.toml", "--overwrite"]);
    assert!(error.contains("model") && error.contains("4, 4"), "{error}");
    assert_eq!(
        std::fs::read(at.join("runs/tune/best/model.safetensors")).unwrap(),
        weights
    );
    assert!(at.join("runs/tune/checkpoints/1").exists());
    let verified = tallow(at, &["verify", "model"]);
    assert_eq!(verified.status.code(), Some(1));
    let report = String::from_utf8(verified.stdout).unwrap();
    assert!(
        report.contains("FAULTY") && report.contains("source: pieces: 4 instead of"),
        "{report}"
    );
}

/// The faults that `verify` finds in a model: the first of every kind that it knows.
#[test]
fn verifying() {
    let folder = project();
    let at = folder.path();
    let fine = printed(at, &["verify", "model"]);
    assert_eq!(
        lines(&fine).iter().filter(|line| line.starts_with("ok")).count(),
        8,
        "{fine}"
    );
    let report = |name: &str, change: &dyn Fn(String) -> String| -> String {
        let path = at.join("model").join(name);
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(before.clone())).unwrap();
        let output = tallow(at, &["verify", "model"]);
        std::fs::write(&path, before).unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let found = report("config.json", &|text| {
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["activation_function"] = "mish".into();
        config["normalize_before"] = true.into();
        config.to_string()
    });
    assert!(found.contains("mish") && found.contains("normalize_before"), "{found}");
    let found = report("generation_config.json", &|text| {
        text.replace("\"eos_token_id\": 0", "\"eos_token_id\": 5")
    });
    assert!(found.contains("eos_token_id: 5 instead of 0"), "{found}");
    let found = report("vocab.json", &|_| "{".to_owned());
    assert!(found.contains("vocab.json"), "{found}");
    // This vocabulary has almost no piece of the SentencePiece model.
    let found = report("vocab.json", &|text| {
        let ids: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
        let special = |piece: &String| ["</s>", "<unk>", "<pad>"].contains(&piece.as_str());
        let other = |piece: String| if special(&piece) { piece } else { format!("x{piece}") };
        Value::Object(ids.into_iter().map(|(piece, id)| (other(piece), id)).collect()).to_string()
    });
    assert!(found.contains("hardly of one model"), "{found}");
    std::fs::write(at.join("model/model.safetensors"), b"nothing").unwrap();
    let found = report("tokenizer_config.json", &|text| text);
    assert!(found.contains("FAULTY  model.safetensors"), "{found}");
}

/// An exported run is a directory for transformers. If that is impossible, the message says what is possible instead.
#[test]
fn exporting() {
    let folder = project();
    let at = folder.path();
    printed(at, &["export", "model", "--output", "out"]);
    let translate = |model: &str| printed(at, &["translate", model, "--input", "train.en"]);
    assert_eq!(translate("out"), translate("model"));
    assert!(refused(at, &["export", "model", "--output", "out"]).contains("exists already"));
    printed(at, &["export", "model", "--form", "marian", "--output", "npz"]);
    for name in ["model.npz", "source.yml", "target.yml", "source.spm"] {
        assert!(at.join("npz").join(name).exists(), "{name}");
    }
    let train = |name: &str, extra: &[&str]| {
        let data = "data.train=[{source=\"train.en\",target=\"train.de\"}]";
        std::fs::write(
            at.join("fresh.toml"),
            "[text]\nvocabulary = 320\n[model]\nd_model = 8\nheads = 2\n",
        )
        .unwrap();
        let name = format!("name={name}");
        let mut arguments = vec![
            "train",
            "fresh.toml",
            "--set",
            data,
            "--set",
            &name,
            "--set",
            "train.max_updates=1",
        ];
        arguments.extend(extra.iter().flat_map(|set| ["--set", *set]));
        let output = tallow(at, &arguments);
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    };
    assert!(!train("pre", &["model.norm=pre"]).contains("note:"));
    let error = refused(at, &["export", "runs/pre", "--output", "pre"]);
    assert!(
        error.contains("model.norm") && error.contains("--form marian"),
        "{error}"
    );
    assert!(!at.join("pre").exists());
    printed(at, &["export", "runs/pre", "--form", "marian", "--output", "pre"]);
    train("learned", &["model.norm=pre", "model.positions=learned"]);
    let error = refused(at, &["export", "runs/learned", "--output", "x"]);
    assert!(
        error.contains("model.positions") && !error.contains("--form marian"),
        "{error}"
    );
    let told = train("words", &["text.kind=word"]);
    assert!(
        told.contains("note: the model will lack") && told.contains("text.kind"),
        "{told}"
    );
    let error = refused(at, &["export", "runs/words", "--output", "x"]);
    assert!(error.contains("text.kind"), "{error}");
    // A SentencePiece model that differs from the tokenizer.json beside it. The language tag of one line is removed,
    // because with it there would be no tokenizer.json.
    let text = std::fs::read_to_string(at.join("train.en")).unwrap();
    std::fs::write(at.join("train.en"), text.replace(">>", "").replace("<<", "")).unwrap();
    train("plain", &[]);
    assert!(printed(at, &["verify", "runs/plain"]).contains("are those of tokenizer.json"));
    std::fs::copy(at.join("model/source.spm"), at.join("runs/plain/best/source.spm")).unwrap();
    let output = tallow(at, &["verify", "runs/plain"]);
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(
        report.contains("FAULTY  SHA256SUMS") && report.contains("source.spm is not what was written"),
        "{report}"
    );
    assert!(
        report.contains("FAULTY  SentencePiece models") && report.contains("by SentencePiece"),
        "{report}"
    );
    let verified = printed(at, &["verify", "runs/words"]);
    assert!(
        verified.contains("no files for MarianTokenizer") && verified.contains("text.kind"),
        "{verified}"
    );
}

/// A model on a Hub is fetched once, by branch or commit. Afterwards the cache works without the network.
#[test]
fn the_hub() {
    let folder = project();
    let at = folder.path();
    let server = hub_server::Server::start(at.join("model"));
    let run = |model: &str, extra: &[&str], endpoint: &str, offline: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
        command
            .current_dir(at)
            .args(["translate", model, "--input", "train.en"])
            .args(extra);
        command
            .env("HF_HOME", at.join("hf"))
            .env("HF_ENDPOINT", endpoint)
            .env("HF_HUB_OFFLINE", offline);
        command.output().unwrap()
    };
    let local = printed(at, &["translate", "model", "--input", "train.en"]);
    let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();

    let offline = run("some/model", &["--offline"], server.url(), "");
    assert!(
        !offline.status.success() && said(&offline).contains("not in the cache"),
        "{}",
        said(&offline)
    );
    assert!(server.requests().is_empty());
    let first = run("some/model", &[], server.url(), "");
    assert_eq!(text(&first), local, "{}", said(&first));
    let fetched = server.requests().len();
    assert_eq!(text(&run("some/model", &[], server.url(), "")), local);
    // Only the present commit of the branch is requested.
    assert_eq!(server.requests().len(), fetched + 1);
    for (model, extra, variable) in [
        ("some/model", &["--offline"][..], ""),
        ("some/model", &[], "1"),
        (&format!("some/model@{}", hub_server::COMMIT), &["--offline"], ""),
    ] {
        let output = run(model, extra, server.url(), variable);
        assert_eq!(text(&output), local, "{model}: {}", said(&output));
    }
    assert_eq!(server.requests().len(), fetched + 1);
    let other = run("some/model@v2", &["--offline"], server.url(), "");
    assert!(said(&other).contains("\"v2\""), "{}", said(&other));
    let missing = run("some/other", &[], server.url(), "");
    assert!(
        !missing.status.success() && said(&missing).contains("some/other"),
        "{}",
        said(&missing)
    );
    // The Hub is unreachable, the cache still works.
    let nobody = "http://127.0.0.1:9";
    let output = run("some/model", &[], nobody, "");
    assert_eq!(text(&output), local);
    assert!(
        said(&output).contains("using the files of its cache"),
        "{}",
        said(&output)
    );
    let output = printed(
        at,
        &[
            "train",
            "tune.toml",
            "--offline",
            "--set",
            "init=some/model",
            "--set",
            "train.max_updates=1",
        ],
    );
    assert!(output.is_empty(), "{output}");
    let record = std::fs::read_to_string(at.join("runs/tune/run.json")).unwrap();
    assert!(record.contains(hub_server::COMMIT), "{record}");
}
