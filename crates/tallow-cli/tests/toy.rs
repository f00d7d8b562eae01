//! A whole run as a user would do it: a corpus, a config, training, evaluation, translation.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may panic like the test itself.

use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn tallow(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tallow"))
        .current_dir(directory)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const CONFIG: &str = r#"
[text]
kind = "char"
byte_fallback = false
[data]
train = [{ source = "train.en", target = "train.de" }]
valid = { source = "valid.en", target = "valid.de" }
test = { source = "test.en", target = "test.de" }
batch_tokens = 3000
[model]
d_model = 64
feed_forward = 128
encoder_layers = 2
decoder_layers = 2
heads = 4
dropout = 0.05
[train]
max_updates = 400
learning_rate = 4e-3
schedule = "cosine"
warmup_updates = 200
validate_every = 200
checkpoint_every = 200
metric = "exact-match"
average_last = 2
workers = 2
[decode]
beam = 2
length_penalty = 0.5
max_length = 60
[score]
tokenize = "char"
[card]
license = "mit"
notes = "Numbers **only**."
"#;

/// The numbers below 1,000: after training on most of them, at least 95 % of the unseen ones are right. A broken model,
/// mask or search does not reach this.
#[test]
fn numbers_that_were_never_seen() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let toy = [
        "toy",
        "numbers",
        "--output",
        ".",
        "--maximum",
        "999",
        "--train",
        "850",
        "--valid",
        "50",
        "--test",
        "100",
    ];
    tallow(at, &toy, "");
    std::fs::write(at.join("run.toml"), CONFIG).unwrap();
    let output = tallow(at, &["train", "run.toml"], "");
    let said = text(&output.stderr);
    assert!(text(&output.stdout).contains("exact match = "), "{said}");
    assert!(said.contains("tallow translate runs/run"), "{said}");

    let record: Value = serde_json::from_str(&std::fs::read_to_string(at.join("runs/run/run.json")).unwrap()).unwrap();
    let exact = record["results"]["test"]["exact_match"].as_f64().unwrap();
    assert!(exact >= 95.0, "{exact} % of unseen numbers are right\n{said}");
    assert_eq!(record["workers"], 2);
    // The picture of the run shows the score that the config asks for.
    let chart = tallow(at, &["chart", "runs/run"], "");
    let picture = text(&chart.stdout);
    assert!(
        picture.starts_with("<svg ") && picture.contains("exact on the validation set"),
        "{picture}"
    );
    let mut unmeasured = Command::new(env!("CARGO_BIN_EXE_tallow"));
    unmeasured
        .current_dir(at)
        .args(["chart", "runs/run", "--metric", "ter"]);
    let unmeasured = unmeasured.output().unwrap();
    assert_eq!(unmeasured.status.code(), Some(1));
    assert!(text(&unmeasured.stderr).contains("no validation of these runs has measured ter"));
    // The scored translations are saved, to be read and scored again.
    assert_eq!(record["results"]["test"]["translations"], "test.translations.txt");
    let translations = std::fs::read_to_string(at.join("runs/run/test.translations.txt")).unwrap();
    let references = std::fs::read_to_string(at.join("test.de")).unwrap();
    let (lines, right) = translations
        .lines()
        .zip(references.lines())
        .fold((0, 0), |(lines, right), (a, b)| (lines + 1, right + i32::from(a == b)));
    assert_eq!(
        (translations.lines().count(), lines, f64::from(right)),
        (100, 100, exact)
    );
    let parts = record["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["part"].as_str().unwrap());
    assert_eq!(
        parts.collect::<Vec<_>>(),
        ["train", "train", "valid", "valid", "test", "test"]
    );
    for name in [
        "config.toml",
        "metrics.jsonl",
        "timing.jsonl",
        "best/model.safetensors",
        "checkpoints/400/state/state.json",
    ] {
        assert!(at.join("runs/run").join(name).is_file(), "{name} is missing");
    }

    // The card of the best model has the test scores, that of a checkpoint does not.
    let card = std::fs::read_to_string(at.join("runs/run/best/README.md")).unwrap();
    let signature = record["results"]["test"]["scores"][0]["signature"].as_str().unwrap();
    assert!(signature.contains("tok:char"), "{signature}");
    for part in [
        "---\nlanguage:\n- \"en\"\n- \"de\"\nlicense: \"mit\"\npipeline_tag: translation\nlibrary_name: transformers\n",
        "    - type: chrf\n      value: ",
        "\n---\n\n# run\n\nA Transformer that translates from `en` to `de`",
        "validation set, greedy: BLEU ",
        &format!("| `{}` |", signature.replace('|', "\\|")),
        &format!("| exact match | {exact:.1} % |"),
        "Numbers **only**.",
        "MarianMTModel.from_pretrained",
        "ctranslate2.Translator",
        "| train | train.en | `",
        "Pairs of sentences: 850 in train, 50 in valid, 100 in test.",
        "max_updates = 400",
        "The model is under mit.",
    ] {
        assert!(card.contains(part), "{part}\n{card}");
    }
    let toml = card.split("```toml").nth(1).unwrap();
    assert!(
        !toml.contains("Numbers **only**") && !card.contains(at.to_str().unwrap()),
        "{card}"
    );
    let card = std::fs::read_to_string(at.join("runs/run/checkpoints/400/README.md")).unwrap();
    assert!(
        card.contains("after update 400") && card.contains("<!-- scores -->"),
        "{card}"
    );

    // A person may change a card. Resuming adds scores to it and touches nothing else.
    let place = at.join("runs/run/best/README.md");
    let mine = std::fs::read_to_string(&place)
        .unwrap()
        .replace("Numbers **only**.", "My words.");
    std::fs::write(&place, &mine).unwrap();
    let resume = ["train", "run.toml", "--resume", "--set", "card.license=cc-by-4.0"];
    let said = text(&tallow(at, &resume, "").stderr);
    assert!(said.contains("changed since: card.license"), "{said}");
    assert!(said.contains("best/README.md by hand"), "{said}");
    assert_eq!(std::fs::read_to_string(&place).unwrap(), mine);

    // `eval` finds the test set of the run and agrees.
    let eval = tallow(at, &["eval", "runs/run", "--metrics", "bleu,chrf,ter", "--json"], "");
    let scores: Value = serde_json::from_str(&text(&eval.stdout)).unwrap();
    assert_eq!(
        scores
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["name"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["BLEU", "chrF2", "TER", "exact match", "perplexity"]
    );

    assert_eq!(scores[3]["score"].as_f64().unwrap(), exact);
    let files = ["score", "runs/run/test.translations.txt", "--reference", "test.de"];
    let score = tallow(at, &[&files[..], &["--metrics", "exact-match"]].concat(), "");
    assert_eq!(text(&score.stdout), format!("exact match = {exact:.1}\n"));
    assert!((1.0..2.0).contains(&scores[4]["score"].as_f64().unwrap()), "{scores}");

    // A filter: one line out for every line in, whatever it contains, and only on standard output.
    let input = "one hundred and twenty-three\n\n   \nseven\r\nno\0number \u{1F600} <pad> </s>\nlast";
    let output = tallow(at, &["translate", "runs/run"], input);
    let translated = text(&output.stdout);
    let lines: Vec<&str> = translated.split_terminator('\n').collect();
    assert_eq!(lines.len(), 6, "{translated}");
    assert_eq!(lines[0], "einhundertdreiundzwanzig");
    assert_eq!((lines[1], lines[3]), ("", "sieben"));

    // The same lines with other batches and workers give the same text.
    let again = tallow(
        at,
        &[
            "translate",
            "runs/run",
            "--workers",
            "1",
            "--set",
            "decode.batch_tokens=1",
        ],
        input,
    );
    assert_eq!(text(&again.stdout), translated);

    // Scores, tokens, n-best and attention as JSON.
    let json = [
        "translate",
        "runs/run",
        "--format",
        "json",
        "--n-best",
        "2",
        "--attention",
    ];
    let line = text(&tallow(at, &json, "forty-two\n").stdout);
    let object: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["translation"], "zweiundvierzig");
    let candidates = object["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 2);
    assert!(candidates[0]["score"].as_f64() >= candidates[1]["score"].as_f64());
    let (rows, columns) = (
        object["attention"]["target"].as_array().unwrap(),
        object["attention"]["source"].as_array().unwrap(),
    );
    let weights = object["attention"]["weights"].as_array().unwrap();
    assert_eq!(weights.len(), rows.len());
    for row in weights {
        let row: Vec<f64> = row.as_array().unwrap().iter().map(|w| w.as_f64().unwrap()).collect();
        assert_eq!(row.len(), columns.len());
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-4);
    }

    // The scoring settings of the run hold for `eval`, unless a flag changes them.
    assert_eq!(scores[0]["signature"], signature);
    let eval = tallow(at, &["eval", "runs/run", "--tokenize", "13a"], "");
    assert!(text(&eval.stdout).contains("tok:13a"), "{}", text(&eval.stdout));

    // An exported model keeps its card and the search settings of the run.
    tallow(at, &["export", "runs/run", "--output", "exported"], "");
    let exported = std::fs::read_to_string(at.join("exported/README.md")).unwrap();
    assert!(exported.contains("| exact match | "), "{exported}");
    let average = tallow(at, &["average", "runs/run", "--last", "9", "--output", "averaged"], "");
    let said = text(&average.stderr);
    assert!(said.contains("runs/run keeps 2 checkpoints, not 9 (--last)"), "{said}");
    // Its score equals the one that the end of training found for the same average.
    let record = std::fs::read_to_string(at.join("runs/run/average.json")).unwrap();
    let found: Value = serde_json::from_str(&record).unwrap();
    let [loss, exact] = ["loss", "exact_match"].map(|key| found["valid"][key].as_f64().unwrap());
    let line = text(&average.stdout);
    assert!(line.starts_with(&format!("valid loss {loss:.3}  ppl ")), "{line}");
    assert!(line.ends_with(&format!("exact* {exact:.1}\n")), "{line}");
    for directory in ["runs/run/best", "exported", "averaged"] {
        let generation = std::fs::read_to_string(at.join(directory).join("generation_config.json")).unwrap();
        let generation: Value = serde_json::from_str(&generation).unwrap();
        assert_eq!(
            (&generation["num_beams"], &generation["length_penalty"]),
            (&2.into(), &0.5.into()),
            "{directory}"
        );
    }

    // An average of checkpoints is a model like any other.
    assert_eq!(
        text(&tallow(at, &["translate", "averaged", "--beam", "1"], "forty-two\n").stdout)
            .lines()
            .count(),
        1
    );
    let card = std::fs::read_to_string(at.join("averaged/README.md")).unwrap();
    assert!(
        card.contains("the average of `200`, `400`; validation set, greedy: BLEU "),
        "{card}"
    );
    // A run among several models stands for its best model.
    let models = ["runs/run", "runs/run/checkpoints/200"];
    tallow(at, &["average", models[0], models[1], "--output", "mixed"], "");
    let card = std::fs::read_to_string(at.join("mixed/README.md")).unwrap();
    assert!(card.contains("the average of `best`, `200`; validation"), "{card}");
    // Without its validation text, the average is still made.
    std::fs::rename(at.join("valid.en"), at.join("elsewhere")).unwrap();
    let average = tallow(at, &["average", "runs/run", "--last", "2", "--output", "unscored"], "");
    let said = text(&average.stderr);
    assert!(said.contains("not validated: ") && said.contains("valid.en"), "{said}");
    let card = std::fs::read_to_string(at.join("unscored/README.md")).unwrap();
    assert!(card.contains("the average of `200`, `400`, not validated."), "{card}");
}

#[test]
fn tokenizers_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    tallow(
        at,
        &[
            "toy", "copy", "--output", ".", "--train", "200", "--valid", "10", "--test", "10",
        ],
        "",
    );
    let config =
        "[text]\nvocabulary = 300\n[data]\ntrain = [{ source = \"train.source\", target = \"train.target\" }]\n";
    std::fs::write(at.join("run.toml"), config).unwrap();
    tallow(at, &["tokenizer", "train", "run.toml", "--output", "tokenizer"], "");
    let lines = "12 7 3\n\ncafé </s>\n";
    let pieces = text(&tallow(at, &["tokenizer", "encode", "tokenizer"], lines).stdout);
    assert!(pieces.starts_with('▁'), "{pieces}");
    let ids = text(&tallow(at, &["tokenizer", "encode", "tokenizer", "--ids"], lines).stdout);
    assert_eq!(
        text(&tallow(at, &["tokenizer", "decode", "tokenizer"], &ids).stdout),
        lines
    );
}
