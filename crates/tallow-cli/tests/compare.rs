//! `tallow compare`: files, models, groups, faults.
// Helpers of a test may panic like the test itself.
#![allow(clippy::unwrap_used, clippy::panic)]

mod program;
mod small_model;

use program::{fault, printed};
use serde_json::Value;
use small_model::model;
use std::path::Path;
use std::process::Command;

fn write(at: &Path, name: &str, lines: &[&str]) {
    std::fs::write(at.join(name), lines.join("\n") + "\n").unwrap();
}

const REFERENCE: [&str; 4] = [
    "Ein Hund läuft über die grüne Wiese .",
    "Zwei Männer <b>sitzen</b> auf einer Bank .",
    "Eine Frau liest .",
    "Kinder spielen im Wasser und lachen laut miteinander .",
];

fn files(at: &Path) {
    write(at, "reference", &REFERENCE);
    write(
        at,
        "a",
        &[
            "Ein Hund läuft auf der Wiese .",
            "Zwei Männer sitzen auf Bank .",
            "Eine Frau liest .",
            "Kinder spielen im Wasser .",
        ],
    );
    write(
        at,
        "b",
        &[
            REFERENCE[0],
            "Männer <b>sitzen</b> Bank .",
            "Eine Frau schreibt .",
            "Kinder spielen im Wasser und lachen .",
        ],
    );
}

#[test]
fn files_of_translations_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    files(at);
    write(at, "labels", &["animals", "people", "people", "people"]);
    write(at, "train", &["Ein Hund läuft ."; 12]);
    let arguments = [
        "compare",
        "a",
        "b",
        "--reference",
        "reference",
        "--labels",
        "labels",
        "--train",
        "train",
        "--metrics",
        "bleu,ter,exact-match",
        "--html",
        "page.html",
    ];
    let text = printed(at, &arguments);
    for expected in [
        "4 lines, 1 reference; paired bootstrap, 1,000 trials, seed 12345",
        "BLEU|nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|",
        "TER (less is better)",
        "TER by words of the reference  lines ",
        "below 5",
        "animals",
        "F1 by occurrences of a word in the training text  words",
        "10 to 99",
        "line 1  chrF ",
        "  b: Ein Hund läuft [über die grüne] Wiese .",
        "lost most",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    // Scores are those of `tallow score`.
    let json: Value = serde_json::from_str(&printed(at, &[&arguments[..], &["--json"]].concat())).unwrap();
    let scored = printed(at, &["score", "b", "--reference", "reference", "--json", "-w", "4"]);
    let scored: Value = serde_json::from_str(&scored).unwrap();
    let found = json["metrics"][0]["systems"][1]["score"].as_f64().unwrap();
    assert!(
        (found - scored[0]["score"].as_f64().unwrap()).abs() < 1e-4,
        "{found} {scored}"
    );
    assert!(json["metrics"][0]["systems"][0]["p_value"].is_null());
    let changes = &json["changes"][0];
    let counts = ["better", "worse", "same"].map(|key| changes[key].as_u64().unwrap());
    assert_eq!(counts, [3, 1, 0], "{changes}");
    let page = std::fs::read_to_string(at.join("page.html")).unwrap();
    assert!(!page.contains("<b>sitzen") && page.contains("\\u003cb>sitzen"));
    assert!(
        !page.contains("of all pages */"),
        "a place of the template was not filled"
    );
}

/// Models translate the source, the same as `tallow translate`; runs with commas between them are one system.
#[test]
fn models_and_runs_of_a_system_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    model(at);
    let source = ["The old harbour sleeps.", "The lighthouse stands."];
    write(at, "source", &source);
    let translated = printed(at, &["translate", "model", "--input", "source"]);
    std::fs::write(at.join("lines"), &translated).unwrap();
    write(at, "reference", &["Der alte Hafen schläft.", "Der Leuchtturm steht."]);
    let common = [
        "--source",
        "source",
        "--reference",
        "reference",
        "--json",
        "--trials",
        "20",
    ];
    let compare = |systems: &[&str]| -> Value {
        let arguments = [&["compare"], systems, &common].concat();
        serde_json::from_str(&printed(at, &arguments)).unwrap()
    };
    let found = compare(&["lines", "model"]);
    assert_eq!(found["changes"][0]["same"], 2);
    assert_eq!(
        found["metrics"][1]["systems"][0]["score"],
        found["metrics"][1]["systems"][1]["score"]
    );
    let groups = compare(&["lines,reference", "reference,reference,reference"]);
    let systems = &groups["metrics"][1]["systems"];
    assert_eq!(systems[1]["score"], 100.0);
    assert_eq!(systems[1]["runs"]["scores"].as_array().unwrap().len(), 3);
    assert_eq!(systems[1]["runs"]["deviation"], 0.0);
    assert!(systems[1]["runs"]["p_value"].as_f64().unwrap() > 0.05);
    assert!(systems[0]["runs"]["half_width"].as_f64().unwrap() > systems[0]["runs"]["deviation"].as_f64().unwrap());
}

/// The same system twice does not differ, standard input is a system, and several runs say which sentences are shown.
#[test]
fn systems_may_be_alike_or_from_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    files(at);
    let same = printed(at, &["compare", "a", "a", "--reference", "reference"]);
    assert!(!same.contains("0.0010 *") && same.contains("0.0010"), "{same}");
    let piped = Command::new(env!("CARGO_BIN_EXE_tallow"))
        .current_dir(at)
        .args(["compare", "a", "-", "--reference", "reference", "--json"])
        .stdin(std::fs::File::open(at.join("b")).unwrap())
        .output()
        .unwrap();
    let found: Value = serde_json::from_slice(&piped.stdout).unwrap();
    assert_eq!(found["changes"][0]["better"], 3);
    let runs = printed(at, &["compare", "a,b", "b,a", "--reference", "reference"]);
    assert!(runs.contains("(first run of each)"), "{runs}");
}

/// The flags of BLEU's tokenization, for all commands that score.
#[test]
fn lines_are_cut_by_a_named_model() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    files(at);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tallow-score/tests/fixtures");
    let packed = std::fs::File::open(fixtures.join("learned_flores101.model.gz")).unwrap();
    let mut whole = std::fs::File::create(at.join("small.model")).unwrap();
    std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut whole).unwrap();
    let score = ["score", "b", "--reference", "reference", "--tokenize"];
    let by_model = ["spm", "--sentencepiece", "small.model"];
    let scored = printed(at, &[&score[..], &by_model].concat());
    assert!(scored.contains("tok:flores101|"), "{scored}");
    assert_ne!(scored, printed(at, &[&score[..], &["13a"]].concat()));
    let scored = printed(at, &[&score[..], &["zh"]].concat());
    assert!(scored.contains("tok:zh|"), "{scored}");
    let arguments = [
        "compare",
        "a",
        "b",
        "--reference",
        "reference",
        "--train",
        "reference",
        "--tokenize",
    ];
    let compared = printed(at, &[&arguments[..], &by_model].concat());
    for expected in ["tok:flores101|", "F1 by occurrences of a word"] {
        assert!(compared.contains(expected), "{expected}\n{compared}");
    }
    let cases: [(&[&str], &[&str]); 6] = [
        (
            &["ja-mecab"],
            &["--tokenize", "MeCab", "char or flores200", "sacreBLEU itself"],
        ),
        (&["ko-mecab"], &["--tokenize", "MeCab"]),
        (
            &["v14"],
            &["possible values", "13a, intl, zh, char, flores200, flores101, none"],
        ),
        (
            &["flores200"],
            &["flores200_sacrebleu_tokenizer_spm.model", "set it by --sentencepiece"],
        ),
        (
            &["13a", "--sentencepiece", "small.model"],
            &["--sentencepiece (", "13a does not use"],
        ),
        (
            &["flores200", "--sentencepiece", "b"],
            &["score.sentencepiece: b is not a SentencePiece model"],
        ),
    ];
    for (given, expected) in cases {
        let told = fault(at, &[&score[..], given].concat());
        for part in expected {
            assert!(told.contains(part), "{given:?}, {part}: {told}");
        }
    }
}

#[test]
fn faults_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    files(at);
    model(at);
    write(at, "short", &["a", "b"]);
    let cases: [(&[&str], &str); 10] = [
        (&["-", "-", "--reference", "reference"], "only one system"),
        (
            &["a,", "b", "--reference", "reference"],
            "nothing before or after a comma",
        ),
        (&["a", "b"], "give --reference"),
        (&["a", "--reference", "reference"], "2 values required"),
        (
            &["a", "none", "--reference", "reference"],
            "none: neither a file of translations nor a model",
        ),
        (
            &["a", "short", "--reference", "reference"],
            "short: 2 lines, but the references have 4",
        ),
        (
            &["a", "model", "--reference", "reference"],
            "give the lines to translate with --source",
        ),
        (
            &["a", "b", "--reference", "reference", "--labels", "short"],
            "short: 2 lines, but 4 to compare",
        ),
        (
            &["a", "b", "--reference", "reference", "--reference", "short"],
            "short: 2 lines, but reference has 4",
        ),
        (
            &["a,b", "b", "--reference", "reference", "--test", "randomization"],
            "as many runs of each",
        ),
    ];
    for (arguments, expected) in cases {
        let told = fault(at, &[&["compare"], arguments].concat());
        assert!(told.contains(expected), "{arguments:?}: {told}");
    }
}
