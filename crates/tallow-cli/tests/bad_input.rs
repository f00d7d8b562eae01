//! Messages about faults: one clear error that names the file, line or key, and exit code 1.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may panic like the test itself.

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

/// Runs a command that must fail, and returns its error message.
fn error_of(directory: &Path, arguments: &[&str]) -> String {
    refusal(directory, arguments, 1)
}

/// Runs a command with wrong usage, and returns its error message.
fn usage_error_of(directory: &Path, arguments: &[&str]) -> String {
    refusal(directory, arguments, 2)
}

fn refusal(directory: &Path, arguments: &[&str], code: i32) -> String {
    let output = tallow(directory, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
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
        "train.optimizer=adagrad",
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

/// CRLF, a byte order mark, NUL, empty lines and a very long line are not errors: they are handled and counted.
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

/// A run's model remains usable even if training no longer accepts the run's config.
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
    for command in ["train", "explain", "check"] {
        let error = usage_error_of(at, &[command, "run.toml", "--set", "nonsense"]);
        assert_says(&error, &["--set nonsense: write it as section.key=value"]);
    }
    // Only one checkpoint, and one of two.
    let average = ["average", "runs/run", "--output", "none"];
    assert_says(
        &error_of(at, &average),
        &["keeps 1 checkpoint; an average is of at least 2", "train.keep_last"],
    );
    std::fs::create_dir_all(at.join("runs/run/checkpoints/3/state")).unwrap();
    std::fs::write(at.join("runs/run/checkpoints/3/state/diverged.json"), "{}").unwrap();
    assert_says(
        &error_of(at, &average),
        &[
            "not used: runs/run/checkpoints/3: it led to divergence",
            "keeps 2 checkpoints, of which 1 can be used",
        ],
    );
    // Without a best model, translation skips the damaged checkpoint, too, and says so.
    std::fs::remove_dir_all(at.join("runs/run/best")).unwrap();
    let translate = ["translate", "runs/run", "--input", "a.en"];
    let output = tallow(at, &translate);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_says(&said, &["not used: runs/run/checkpoints/3: it led to divergence"]);
    std::fs::remove_dir_all(at.join("runs/run/checkpoints/2")).unwrap();
    assert_says(
        &error_of(at, &translate),
        &[
            "no best model",
            "every checkpoint",
            "checkpoints/3: it led to divergence",
        ],
    );
    assert_says(
        &error_of(at, &["average", "runs/run", "--output", "runs"]),
        &["runs", "exists"],
    );
    for last in ["0", "1"] {
        let error = usage_error_of(at, &["average", "runs/run", "--last", last, "--output", "none"]);
        assert_says(&error, &[&format!("--last {last}"), "at least 2"]);
        assert!(!at.join("none").exists());
    }
    if !cfg!(feature = "cuda") {
        let said = error_of(at, &["translate", "runs/run", "--device", "cuda"]);
        assert_says(&said, &["without CUDA", "--device cpu"]);
    }
    // A mistyped setting is a usage error.
    for wrong in [
        &["translate"][..],
        &["train", "run.toml", "--device", "gpu"],
        &["toy", "trains", "-o", "x"],
    ] {
        assert_eq!(tallow(at, wrong).status.code(), Some(2), "{wrong:?}");
    }
}

/// Senseless search settings are wrong usage, even if only their combination is wrong. The message names the flag.
#[test]
fn search_settings() {
    let (folder, _) = trained();
    let at = folder.path();
    let error = |flags: &[&str]| usage_error_of(at, &[&["translate", "runs/run"], flags].concat());
    assert_says(
        &error(&["--beam", "0"]),
        &["--beam (decode.beam: 0 is not between 1 and 1024)"],
    );
    assert_says(
        &error(&["--n-best", "9", "--beam", "4"]),
        &["--n-best (decode.n_best: 9 is not between 1 and decode.beam = 4)"],
    );
    assert_says(
        &error(&["--min-length", "9", "--max-length", "8"]),
        &["--min-length", "between 1 and decode.max_length = 8"],
    );
    assert_says(&error(&["--set", "decode.beam=wide"]), &["--set decode.beam: ", "wide"]);
    assert_says(
        &error(&["--set", "decode.patience=0"]),
        &["--set decode.patience: 0 is not between"],
    );
    assert_says(
        &error(&["--set", "decode.bean=2"]),
        &["--set decode.bean: unknown key; did you mean decode.beam?"],
    );
    assert_says(
        &error(&["--set", "decode.lr=1"]),
        &["there is train.learning_rate, but only keys of [decode] can be set here"],
    );
    assert_says(&error(&["--set", "beam=2"]), &["only keys of [decode]"]);
    assert_says(&error(&["--set", "decode.beam"]), &["decode.key=value"]);
    // A negative number is a value. The message says why it is wrong.
    assert_says(
        &error(&["--length-penalty", "-1"]),
        &["--length-penalty (decode.length_penalty: -1 is not between 0 and 10)"],
    );
    assert_says(
        &error(&["--max-length", "-1"]),
        &["--max-length", "whole number, 0 or more"],
    );
    assert_says(&error(&["--num-beams", "4"]), &["here it is '--beam'"]);
    assert_says(&error(&["--attention"]), &["on a terminal", "--format json"]);
    let two = error(&["--temperature", "0", "--top-p", "7"]);
    assert_says(
        &two,
        &["--temperature (decode.temperature: 0", "--top-p (decode.top_p: 7"],
    );
    let evaluated = [
        "eval", "runs/run", "--source", "a.en", "--target", "a.de", "--beam", "0",
    ];
    assert_says(&usage_error_of(at, &evaluated), &["--beam (decode.beam"]);
}

/// A model that has learned twelve positions, copied away from its run: longer lines are split or cut, and no length
/// can be set beyond the positions.
#[test]
fn learned_positions() {
    let folder = project(b"one\ntwo\nthree\n", b"eins\nzwei\ndrei\n");
    let at = folder.path();
    let mut training = vec!["train", "run.toml", "--set", "model.positions=learned"];
    for set in [
        "model.max_positions=12",
        "data.max_length=12",
        "decode.max_length=12",
        "decode.max_source_length=12",
    ] {
        training.extend(["--set", set]);
    }
    let output = tallow(at, &training);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(at.join("runs/run/best"), at.join("alone")).unwrap();
    // The lengths in the files for other programs may exceed the table of positions.
    let path = at.join("alone/generation_config.json");
    let settings = std::fs::read_to_string(&path).unwrap();
    assert!(settings.contains("\"max_length\": 12"), "{settings}");
    std::fs::write(&path, settings.replace("\"max_length\": 12", "\"max_length\": 512")).unwrap();

    std::fs::write(at.join("long"), "two\none one one one one one one one one one\nthree\n").unwrap();
    for (flags, lines) in [
        (&[][..], 3),
        (&["--beam", "1"], 3),
        (&["--sample"], 3),
        (&["--n-best", "2"], 6),
        // Never ends by itself, so it is cut at the last position.
        (&["--min-length", "12", "--format", "json", "--attention"], 3),
        (&["--set", "decode.long_lines=truncate"], 3),
    ] {
        let output = tallow(at, &[&["translate", "alone", "--input", "long"], flags].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{flags:?}: {said}");
        assert_eq!(
            String::from_utf8(output.stdout).unwrap().lines().count(),
            lines,
            "{flags:?}"
        );
        assert_says(&said, &["longer than 12 tokens"]);
    }
    let error = |flags: &[&str]| usage_error_of(at, &[&["translate", "alone", "--input", "long"], flags].concat());
    assert_says(
        &error(&["--max-length", "13"]),
        &["--max-length (decode.max_length: 13 is more than the 12 positions"],
    );
    assert_says(
        &error(&["--set", "decode.max_source_length=13"]),
        &["--set decode.max_source_length: 13 is more than the 12 positions"],
    );
    // A test set with a line that is too long still has scores, and the perplexity of its other lines.
    std::fs::write(at.join("short"), "eins\neins eins eins eins\ndrei\n").unwrap();
    let evaluation = ["eval", "alone", "--source", "long", "--target", "short"];
    let output = tallow(at, &evaluation);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_says(&said, &["leaves out 1 of 3 pairs"]);
    assert_says(&String::from_utf8(output.stdout).unwrap(), &["BLEU", "perplexity = "]);
    assert_says(
        &usage_error_of(at, &[&evaluation[..], &["--max-length", "13"]].concat()),
        &["--max-length"],
    );
    std::fs::write(at.join("short"), "eins\n".repeat(3)).unwrap();
    std::fs::write(at.join("long"), "one one one one one\n".repeat(3)).unwrap();
    let output = tallow(at, &[&evaluation[..], &["--json"]].concat());
    let scores = String::from_utf8(output.stdout).unwrap();
    assert!(scores.contains("\"score\": null"), "{scores}");
}

/// Files that are not text are refused by name, before anything is translated, scored or trained on.
#[test]
fn files_that_are_no_text() {
    let (folder, _) = trained();
    let at = folder.path();
    for (name, bytes, way_out) in [
        (
            "x.zst",
            &b"\x28\xb5\x2f\xfd\x04\x50\x29\0\0one\n"[..],
            "the zstd data is damaged or incomplete",
        ),
        ("x.xz", b"\xfd7zXZ\0\0\x04\n", "`xz -dc`"),
        ("x.bz2", b"BZh91AY&SY\n", "`bzip2 -dc`"),
        ("x.txt", b"\xff\xfeo\0n\0e\0\n\0", "UTF-16"),
    ] {
        std::fs::write(at.join(name), bytes).unwrap();
        for command in [
            &["translate", "runs/run", "--input", name][..],
            &["eval", "runs/run", "--source", name, "--target", "a.de"],
            &["score", name, "--reference", "a.de"],
            &["score", "a.de", "--reference", name],
        ] {
            let said = error_of(at, command);
            assert_says(&said, &[name, way_out]);
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        let corpus = format!("data.train=[{{source=\"{name}\", target=\"a.de\"}}]");
        assert_says(
            &error_of(at, &["train", "run.toml", "--set", "name=other", "--set", &corpus]),
            &[name, way_out],
        );
    }
    // A single bad byte is replaced, and the message uses the singular.
    std::fs::write(at.join("latin1"), b"gr\xfcn\n").unwrap();
    let output = tallow(at, &["translate", "runs/run", "--input", "latin1"]);
    assert_says(
        &String::from_utf8(output.stderr).unwrap(),
        &["1 line was not valid UTF-8"],
    );
}
