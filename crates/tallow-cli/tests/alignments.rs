//! Word alignments: training that is guided by them, the heads that tell them, and the files that hold them.
// Helpers of a test may panic like the test itself.
#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const WORDS: [[&str; 2]; 8] = [
    ["one", "eins"],
    ["two", "zwei"],
    ["three", "drei"],
    ["four", "vier"],
    ["five", "fünf"],
    ["six", "sechs"],
    ["seven", "sieben"],
    ["eight", "acht"],
];

/// Lines of words in an order without a pattern, their translations, in which every two words change their places, and
/// the alignments.
fn corpus(lines: usize) -> [String; 3] {
    let (mut source, mut target, mut alignments) = (String::new(), String::new(), String::new());
    for line in 0..lines {
        let length = 3 + line % 4;
        let word = |place: usize| WORDS[(line * 7 + place * place * 3 + line * place / 5) % 8];
        let of_source: Vec<&str> = (0..length).map(|place| word(place)[0]).collect();
        let other = |place: usize| if (place ^ 1) < length { place ^ 1 } else { place };
        let of_target: Vec<&str> = (0..length).map(|place| word(other(place))[1]).collect();
        source += &(of_source.join(" ") + "\n");
        target += &(of_target.join(" ") + "\n");
        let links: Vec<String> = (0..length).map(|place| format!("{place}-{}", other(place))).collect();
        alignments += &(links.join(" ") + "\n");
    }
    [source, target, alignments]
}

fn run(at: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    let pipes = command
        .current_dir(at)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    // A command that refuses its flags reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// The output and the messages of a command that must succeed.
fn printed(at: &Path, arguments: &[&str], input: &str) -> (String, String) {
    let output = run(at, arguments, input);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {said}");
    (String::from_utf8(output.stdout).unwrap(), said)
}

/// The messages of a command that must fail.
fn refused(at: &Path, arguments: &[&str]) -> String {
    let output = run(at, arguments, "");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && !said.contains("panicked"), "{said}");
    said
}

fn project(at: &Path) {
    for (name, text) in ["a.en", "a.de", "a.align"].iter().zip(corpus(400)) {
        std::fs::write(at.join(name), text).unwrap();
    }
    let config = "[text]\nkind = \"bpe\"\nvocabulary = 75\nbyte_fallback = false\n[data]\n\
                  batch_tokens = 600\ntrain = [{ source = \"a.en\", target = \"a.de\", alignments = \"a.align\" }]\n\
                  [model]\nd_model = 64\nheads = 4\nfeed_forward = 128\ndropout = 0.0\nencoder_layers = 2\ndecoder_layers = 2\n\
                  [train]\nmax_updates = 200\ncheckpoint_every = 200\nvalidate_every = 200\nlog_every = 10\nworkers = 2\n\
                  learning_rate = 0.003\nguided_alignment = 0.5\n[decode]\nbeam = 1\n";
    std::fs::write(at.join("run.toml"), config).unwrap();
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_head_learns_the_alignments_and_tells_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    project(at);
    printed(at, &["train", "run.toml"], "");
    let metrics = std::fs::read_to_string(at.join("runs/run/metrics.jsonl")).unwrap();
    let losses: Vec<f64> = metrics
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["alignment_loss"].as_f64())
        .collect();
    // At the beginning, attention is spread over the 3 to 14 pieces of a sentence.
    assert!(losses[0] > 1.0 && losses[losses.len() - 1] < 0.3, "{losses:?}");
    // The files of the alignments are part of the record of the run.
    let record = json(&at.join("runs/run/run.json"));
    assert_eq!(record["data"].as_array().unwrap().len(), 3, "{record:#}");
    assert_eq!(
        json(&at.join("runs/run/best/generation_config.json"))["alignment_heads"],
        serde_json::json!([[1, 0]])
    );

    // Forced translations of other lines: every two words are linked crosswise.
    let [source, target, alignments] = corpus(440);
    let rest = |text: &str| -> Vec<String> { text.lines().skip(400).map(str::to_owned).collect() };
    let (source, target, alignments) = (rest(&source), rest(&target), rest(&alignments));
    let columns: Vec<String> = source.iter().zip(&target).map(|(a, b)| format!("{a}\t{b}\n")).collect();
    let arguments = [
        "translate",
        "runs/run",
        "--input-format",
        "tsv",
        "--alignments",
        "found",
        "--max-length",
        "40",
    ];
    printed(at, &arguments, &columns.concat());
    let found = std::fs::read_to_string(at.join("found")).unwrap();
    let mut counts = (0, 0);
    for (found, expected) in found.lines().zip(&alignments) {
        let found: Vec<&str> = found.split(' ').collect();
        counts.0 += expected.split(' ').filter(|link| found.contains(link)).count();
        counts.1 += expected.split(' ').count();
    }
    assert!(counts.0 * 10 > counts.1 * 9, "{counts:?}");

    // The same, by the command that compares heads.
    let text = ["--source", "a.en", "--target", "a.de"];
    let given = [
        &[
            "alignment-heads",
            "runs/run",
            "--format",
            "json",
            "--alignments",
            "a.align",
        ],
        &text[..],
    ]
    .concat();
    let (scores, said) = printed(at, &given, "");
    let scores: Vec<Value> = scores.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(scores.len(), 2 * (4 + 1));
    assert_eq!(scores[0]["heads"], serde_json::json!([[1, 0]]), "{scores:?}");
    assert!(scores[0]["error_rate"].as_f64().unwrap() < 0.15, "{scores:?}");
    assert!(said.contains("[[1,0]]"), "{said}");
    // A lexicon of the text agrees.
    let (scores, _) = printed(at, &["alignment-heads", "runs/run", "--lines", "100"], "");
    assert!(scores.starts_with("layer 1 head 0 "), "{scores}");
}

#[test]
fn heads_are_saved_for_translation() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    project(at);
    let plain = "data.train=[{ source = \"a.en\", target = \"a.de\" }]";
    let short = ["--set", "train.max_updates=3", "--set", plain];
    let refusal = refused(at, &[&["train", "run.toml"], &short[..]].concat());
    assert!(
        refusal.contains("train.guided_alignment: no corpus of data.train has `alignments`"),
        "{refusal}"
    );
    // Alignments without a weight have no effect.
    let off = ["--set", "train.max_updates=3", "--set", "train.guided_alignment=0"];
    printed(at, &[&["train", "run.toml"], &off[..]].concat(), "");
    let metrics = std::fs::read_to_string(at.join("runs/run/metrics.jsonl")).unwrap();
    assert!(!metrics.contains("alignment_loss"), "{metrics}");
    let generation = at.join("runs/run/best/generation_config.json");
    assert_eq!(json(&generation)["alignment_heads"], Value::Null);
    let attention = |extra: &[&str]| -> String {
        let arguments = [
            &[
                "translate",
                "runs/run",
                "--format",
                "json",
                "--attention",
                "--max-length",
                "5",
            ],
            extra,
        ]
        .concat();
        let (printed, _) = printed(at, &arguments, "one two three\n");
        serde_json::from_str::<Value>(&printed).unwrap()["attention"].to_string()
    };
    let usual = attention(&[]);
    let of_heads = |heads: &str| attention(&["--set", &format!("decode.alignment_heads={heads}")]);
    assert_eq!(of_heads("[[1, 0], [1, 1], [1, 2], [1, 3]]"), usual);
    let (_, said) = printed(at, &["alignment-heads", "runs/run", "--save"], "");
    let saved = json(&generation)["alignment_heads"].to_string();
    assert!(said.contains(&saved), "{said} {saved}");
    assert_eq!(attention(&[]), of_heads(&saved));
    // The directory is still whole, and the run can go on, with or without guidance.
    printed(at, &["verify", "runs/run/best"], "");
    let (_, said) = printed(
        at,
        &[
            "train",
            "run.toml",
            "--resume",
            "--set",
            "train.max_updates=4",
            "--set",
            "train.guided_alignment=0",
        ],
        "",
    );
    assert!(!said.contains("best is not the best model"), "{said}");
    let on = ["--set", "train.max_updates=6", "--set", "train.log_every=1"];
    printed(at, &[&["train", "run.toml", "--resume"], &on[..]].concat(), "");
    let metrics = std::fs::read_to_string(at.join("runs/run/metrics.jsonl")).unwrap();
    assert!(metrics.contains("alignment_loss"), "{metrics}");
    printed(at, &["alignment-heads", "runs/run", "--save"], "");
    // Heads that are not there are ignored in a file and refused on the command line.
    let text = std::fs::read_to_string(&generation).unwrap();
    std::fs::write(
        &generation,
        text.replace(&format!("{:#}", json(&generation)["alignment_heads"]), "[[9, 0]]"),
    )
    .unwrap();
    let said = refused(
        at,
        &["translate", "runs/run", "--set", "decode.alignment_heads=[[2, 0]]"],
    );
    assert!(
        said.contains(
            "decode.alignment_heads: layer 2, head 0: the decoder has 2 layers with 4 heads, both counted from 0"
        ),
        "{said}"
    );
}

#[test]
fn faulty_alignments_are_refused_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    project(at);
    let [_, _, alignments] = corpus(400);
    for (wrong, expected) in [
        (
            alignments.replacen("0-1 1-0 2-3", "0-1 1-0 2-9", 1),
            "a.align: line 2: \"2-9\" links no words of this pair",
        ),
        (
            alignments.clone() + "0-0\n",
            "a.align: 401 lines of alignments for 400 pairs",
        ),
        (
            "text\n".repeat(400),
            "a.align: line 1: \"text\" links no words of this pair",
        ),
    ] {
        std::fs::write(at.join("a.align"), wrong).unwrap();
        let said = refused(at, &["train", "run.toml"]);
        assert!(said.contains(expected), "{said}");
        assert!(!at.join("runs/run/config.toml").exists());
    }
    std::fs::remove_file(at.join("a.align")).unwrap();
    let said = refused(at, &["train", "run.toml"]);
    assert!(
        said.contains("data.train[0].alignments: a.align: no such file"),
        "{said}"
    );
    let said = refused(at, &["alignment-heads", "runs/run", "--alignments", "a.align"]);
    assert!(said.contains("--source"), "{said}");
}
