//! What configs say about data beyond the corpora: several sets to score on, stages, changed pairs, a program that
//! scores.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers here fail the test that calls them.

mod program;

use program::{fault, printed, run};
use std::path::Path;

const NUMBERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/numbers-en-de");

const CONFIG: &str = r#"
[text]
vocabulary = 400

[data]
train = [
    { name = "long", source = "train.en", target = "train.de" },
    { name = "short", source = "short.en", target = "short.de" },
]
valid = [
    { name = "a", source = "valid.en", target = "valid.de" },
    { name = "b", source = "test.en", target = "test.de" },
]
test = [
    { name = "x", source = "test.en", target = "test.de" },
    { name = "y", source = "valid.en", target = "valid.de" },
]
augment = { placeholders = 0.3, upper_case = 0.2 }
batch_tokens = 256

[[data.stage]]
name = "first"
weights = { short = 1 }
updates = 5

[[data.stage]]
weights = { long = 1, short = 0.5 }

[model]
d_model = 16
heads = 2
feed_forward = 16
encoder_layers = 1
decoder_layers = 1

[train]
max_updates = 12
validate_every = 6
checkpoint_every = 4
workers = 1
samples = 0
"#;

fn corpus(at: &Path) {
    for side in ["en", "de"] {
        for (from, to, lines) in [
            ("train", "train", 400),
            ("train.short", "short", 100),
            ("valid", "valid", 12),
            ("test", "test", 8),
        ] {
            let text = std::fs::read_to_string(format!("{NUMBERS}/{from}.{side}")).unwrap();
            let lines: Vec<&str> = text.lines().take(lines).collect();
            std::fs::write(at.join(format!("{to}.{side}")), lines.join("\n") + "\n").unwrap();
        }
    }
    std::fs::write(at.join("run.toml"), CONFIG).unwrap();
}

#[test]
fn sets_stages_and_changes_from_one_config() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    corpus(at);
    let script = "valid_command=['sh', '-c', 'wc -l < $2', 'sh']";
    let train = [
        "train",
        "run.toml",
        "--set",
        &format!("train.{script}"),
        "--set",
        "train.metric=command",
    ];
    let output = run(at, &train);
    let (out, said) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(output.status.success(), "{said}");
    for part in [
        "stage 1 of 2: first",
        "stage 2 of 2",
        "a: loss",
        "b: loss",
        "command* 10.0000",
        "command* 8.0000",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    assert!(out.contains("x:\n") && out.contains("y:\n"), "{out}");
    let run_at = at.join("runs/run");
    for (file, lines) in [
        ("test.x.translations.txt", 8),
        ("test.y.translations.txt", 12),
        ("validation/a.references.txt", 12),
    ] {
        let text = std::fs::read_to_string(run_at.join(file)).unwrap();
        assert_eq!(text.lines().count(), lines, "{file}");
    }
    let record: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(run_at.join("run.json")).unwrap()).unwrap();
    assert_eq!(record["pairs"]["valid"], 20);
    assert!(record["results"]["tests"]["y"]["scores"].is_array());
    assert_eq!(record["results"]["best"]["metric"], "command");
    let metrics = std::fs::read_to_string(run_at.join("metrics.jsonl")).unwrap();
    assert!(metrics.contains(r#"{"update":0,"stage":"first"}"#) && metrics.contains(r#"{"update":5,"stage":"2"}"#));
    assert!(metrics.contains(r#""sets":{"a":{"loss":"#), "{metrics}");
    let card = std::fs::read_to_string(run_at.join("best/README.md")).unwrap();
    assert!(
        card.contains("| test set x,") && card.contains("| test set y,"),
        "{card}"
    );
    assert_eq!(card.matches("type: translation").count(), 2);
    // The sets of the run by name.
    let first = printed(at, &["eval", "runs/run", "--metrics", "bleu"]);
    assert_eq!(
        first,
        printed(at, &["eval", "runs/run", "--name", "x", "--metrics", "bleu"])
    );
    assert!(!printed(at, &["eval", "runs/run", "--valid", "--name", "b"]).is_empty());
    let said = fault(at, &["eval", "runs/run", "--name", "z"]);
    assert!(
        said.contains("data.test has no set named \"z\"; the names are x, y"),
        "{said}"
    );
    assert!(
        !printed(at, &["report", "runs/run", "--output", "report.html"]).is_empty() || at.join("report.html").exists()
    );
    // The checks look at every set.
    let said = String::from_utf8(run(at, &["check", "run.toml"]).stdout).unwrap();
    assert!(
        said.contains("data.valid[1]") && said.contains("data.test[0]"),
        "{said}"
    );
}

#[test]
fn a_stopped_run_of_stages_and_changes_goes_on_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    corpus(at);
    printed(at, &["train", "run.toml", "--set", "name=whole"]);
    let killed = [
        "train",
        "run.toml",
        "--set",
        "name=killed",
        "--set",
        "train.keep_last=9",
    ];
    printed(at, &killed);
    let run_at = at.join("runs/killed");
    // As if the process had died after the checkpoint of update 4, in the first stage.
    for later in ["8", "12"] {
        std::fs::remove_dir_all(run_at.join("checkpoints").join(later)).unwrap();
    }
    let before = std::fs::read(run_at.join("metrics.jsonl")).unwrap();
    printed(at, &[&killed[..], &["--resume"]].concat());
    assert!(before == std::fs::read(run_at.join("metrics.jsonl")).unwrap());
    let weights =
        |run: &str| std::fs::read(at.join("runs").join(run).join("checkpoints/12/model.safetensors")).unwrap();
    assert!(weights("whole") == weights("killed"));
}

#[test]
fn faults_of_sets_stages_and_changes_come_together() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    corpus(at);
    let set = |key: &str| ["--set".to_owned(), key.to_owned()];
    let sets = [
        set("data.stage=[{weights={long=1}}, {weights={other=1}, updates=3}]"),
        set("data.augment={typos=2}"),
        set("data.valid=[{source='valid.en', target='valid.de'}, {name='mean', source='valid.en', target='valid.de'}]"),
        set("train.valid_set=c"),
        set("train.metric=command"),
    ]
    .concat();
    let arguments: Vec<&str> = ["train", "run.toml"]
        .into_iter()
        .chain(sets.iter().map(String::as_str))
        .collect();
    let said = fault(at, &arguments);
    for part in [
        "data.stage[0]: this stage never ends",
        "data.stage[1].weights.other: no such corpus; the names in data.train are long, short",
        "data.augment.typos: 2 must be a probability",
        "data.valid[0].name: of several sets, each needs a name",
        "data.valid[1].name: \"mean\"",
        "train.valid_set: \"c\"",
        "train.metric: \"command\" is the number of your own program",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}
