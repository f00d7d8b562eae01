//! `tallow check` passes sound configs and names every fault that is planted in a corpus.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may panic like the test itself.

use serde_json::Value;
use std::path::Path;
use std::process::Command;
use tallow_ops::Compute;
use tempfile::TempDir;

const WORDS: [(&str, &str); 9] = [
    ("one", "eins"),
    ("two", "zwei"),
    ("three", "drei"),
    ("four", "vier"),
    ("five", "fünf"),
    ("thirteen", "dreizehn"),
    ("hundred", "hundert"),
    ("thousand", "tausend"),
    ("seventeen", "siebzehn"),
];

/// Sentences of two to eight words, unique below a million, and their translations.
fn pairs(first: usize, count: usize) -> (Vec<String>, Vec<String>) {
    let pair = |i: usize| {
        let length = 2 + (i * 7919 / 13) % 7;
        // The digits of a number that is unique to the line.
        let digits = (0..length.max(6)).map(|place| (i / 9usize.pow(place as u32)) % 9);
        let chosen: Vec<(&str, &str)> = digits.map(|digit| WORDS[digit]).collect();
        let join = |side: &dyn Fn(&(&str, &str)) -> String| chosen.iter().map(side).collect::<Vec<_>>().join(" ");
        // Long sentences begin with words of their own.
        let more = |word: &str| vec![word; (i * 31) % 9].join(" ");
        (
            format!("{} {}", more("and"), join(&|pair| pair.0.into()))
                .trim()
                .to_owned(),
            format!("{} {}", more("und"), join(&|pair| pair.1.into()))
                .trim()
                .to_owned(),
        )
    };
    (first..first + count).map(pair).unzip()
}

fn write(at: &Path, name: &str, lines: &[String]) {
    std::fs::write(at.join(name), lines.join("\n") + "\n").unwrap();
}

fn project() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (name, first, count) in [("train", 0, 1200), ("valid", 2000, 60), ("test", 3000, 60)] {
        let (source, target) = pairs(first, count);
        write(at, &format!("{name}.en"), &source);
        write(at, &format!("{name}.de"), &target);
    }
    let config = "[text]\nkind = \"word\"\nvocabulary = 40\nbyte_fallback = false\n[data]\nbatch_tokens = 300\n\
                  train = [{ source = \"train.en\", target = \"train.de\" }]\n\
                  valid = { source = \"valid.en\", target = \"valid.de\" }\n\
                  test = { source = \"test.en\", target = \"test.de\" }\n\
                  [model]\nd_model = 32\nheads = 2\nfeed_forward = 64\nencoder_layers = 1\ndecoder_layers = 1\n\
                  [train]\nmax_updates = 100\nvalidate_every = 50\nworkers = 2\n";
    std::fs::write(at.join("run.toml"), config).unwrap();
    folder
}

/// Runs the check and returns its exit code and its report.
fn check(at: &Path, extra: &[&str]) -> (Option<i32>, Value) {
    let arguments = [&["check", "run.toml", "--json"], extra].concat();
    let output = Command::new(env!("CARGO_BIN_EXE_tallow"))
        .current_dir(at)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
    // The current work is shown, but is not part of the report.
    assert!(said.starts_with("reading data.train[0] ...\n"), "{said}");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    (output.status.code(), report)
}

/// The findings with this verdict, as `of: found`.
fn findings(report: &Value, verdict: &str) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap();
    let of_verdict = checks.iter().filter(|check| check["verdict"] == verdict);
    let text = |check: &Value| {
        format!(
            "{}: {}",
            check["of"].as_str().unwrap(),
            check["found"].as_str().unwrap()
        )
    };
    let found: Vec<String> = of_verdict.map(text).collect();
    if verdict != "ok" {
        assert_eq!(report[verdict], found.len());
    }
    found
}

fn read(at: &Path, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(at.join(name)).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// A model that lacks a part on purpose is not faulty for that.
#[test]
fn parts_that_are_left_out_are_no_faults() {
    let folder = project();
    for set in [
        &[
            "--set",
            "model.cross_attention=false",
            "--set",
            "model.encoder_layers=0",
        ][..],
        &["--set", "model.causal_mask=false"],
    ] {
        let (_, report) = check(folder.path(), set);
        assert_eq!(findings(&report, "faulty"), Vec::<String>::new(), "{set:?}");
    }
}

#[test]
fn what_is_right_passes() {
    let folder = project();
    let (code, report) = check(folder.path(), &["--ranks", "6", "--link", "1"]);
    assert_eq!(
        (code, findings(&report, "faulty"), findings(&report, "look")),
        (Some(0), vec![], vec![])
    );
    let ok = findings(&report, "ok").join("\n");
    for proof in [
        "a gradient reaches every parameter",
        "neighbours in a batch change no result",
        "no position looks ahead",
        "cached decoding equals uncached",
        "one batch can be overfitted",
        "resuming is exact",
    ] {
        assert!(ok.contains(proof), "{proof}: {ok}");
    }
    // d = 32, f = 64, 40 pieces with <pad>: there are 24 words.
    let parameters = report["model"]["parameters"].as_u64().unwrap();
    let vocabulary = report["model"]["vocabulary_parameters"].as_u64().unwrap();
    // An attention has 4 d (d + 1) numbers and a norm 2 d, a feed-forward sublayer has 2 d f + d + f and a norm.
    let attention = 4 * 32 * 33 + 64;
    assert_eq!(parameters - vocabulary, 3 * attention + 2 * (2 * 32 * 64 + 96 + 64));
    // Multiplications and additions, once forward and twice backward. The keys and values of the cross-attention belong
    // to the source.
    let [attention, feed_forward] = [4 * 32 * 32, 2 * 32 * 64];
    let flops = &report["model"]["training_flops_per_source_token"];
    assert_eq!(*flops, 6 * (attention + feed_forward + attention / 2));
    assert!(report["speed"]["target_tokens_per_second"].as_f64().unwrap() > 0.0);
    // The other ways to multiply that this processor has.
    for (name, compute) in [
        ("f32", None),
        ("bf16x3", Some(Compute::Bf16x3)),
        ("bf16", Some(Compute::Bf16)),
    ] {
        let has = compute.is_some_and(|compute| compute.unit_name().is_some());
        let speed = report["other_speeds"][name].as_f64();
        assert_eq!(speed.is_some_and(|speed| speed > 0.0), has, "{name}: {speed:?}");
    }
    // More processes are never expected to be more efficient.
    let expected = report["processes"]["expected"].as_array().unwrap();
    let processes: Vec<u64> = expected.iter().map(|of| of["processes"].as_u64().unwrap()).collect();
    assert_eq!(processes, [1, 2, 4, 6]);
    let efficiency: Vec<f64> = expected.iter().map(|of| of["efficiency"].as_f64().unwrap()).collect();
    assert!(
        (efficiency[0] - 1.0).abs() < 1e-6 && efficiency.is_sorted_by(|a, b| a >= b),
        "{efficiency:?}"
    );
    assert_eq!(report["processes"]["network"]["gbits"], 1.0);
    assert_eq!(report["tokens"][0]["pairs"], 1200);
    // No files are left behind.
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    let expected = [
        "run.toml", "runs", "test.de", "test.en", "train.de", "train.en", "valid.de", "valid.en",
    ];
    assert_eq!(names, expected);
    assert_eq!(std::fs::read_dir(folder.path().join("runs")).unwrap().count(), 0);
}

#[test]
fn a_shifted_corpus_is_found() {
    let folder = project();
    let at = folder.path();
    let mut target = read(at, "train.de");
    target.remove(500);
    write(at, "train.de", &target);
    // If a line is missing from the source, the corpus cannot be read. The check says where to look.
    let (code, report) = check(at, &[]);
    let found = findings(&report, "faulty").join("\n");
    assert!(code == Some(1) && found.starts_with("data.train[0]: "), "{found}");
    let advice = report["checks"][0]["advice"].as_str().unwrap();
    let line: usize = advice
        .split("about line ")
        .nth(1)
        .unwrap()
        .split(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!((490..=510).contains(&line), "{advice}");
    // With an additional line at the end, every pair after the missing line is wrong.
    target.push("eins zwei".into());
    write(at, "train.de", &target);
    let (code, report) = check(at, &[]);
    let found = findings(&report, "faulty").join("\n");
    assert_eq!(code, Some(1));
    assert!(
        found.contains("to 1,200: the translations stand 1 line further up"),
        "{found}"
    );
    // In a completely different order.
    target.sort();
    write(at, "train.de", &target);
    let found = findings(&check(at, &[]).1, "faulty").join("\n");
    assert!(found.contains("have nothing to do with each other"), "{found}");
}

#[test]
fn oddities_are_named_with_their_lines() {
    let folder = project();
    let at = folder.path();
    let mut source = read(at, "train.en");
    let mut target = read(at, "train.de");
    source[10].clear();
    (source[21], target[21]) = (source[20].clone(), target[20].clone());
    target[30] = source[30].clone();
    target[40].push('\u{fffd}');
    target[50] += " fÃ¼nf";
    source[60].push('\u{7}');
    source[70] = "and ".repeat(30) + &source[70];
    write(at, "train.en", &source);
    write(at, "train.de", &target);
    let crlf = read(at, "valid.en").join("\r\n") + "\r\n";
    std::fs::write(at.join("valid.en"), format!("\u{feff}{crlf}")).unwrap();
    let (code, report) = check(at, &[]);
    let found = findings(&report, "look").join("\n");
    assert_eq!(code, Some(0), "{:?}", findings(&report, "faulty"));
    for expected in [
        "data.train[0]: 1 pair with an empty side (line 11)",
        "data.train[0]: 1 pair occurred before (line 22)",
        "data.train[0]: 1 pair with the same text on both sides (line 31)",
        "data.train[0]: 1 pair with the replacement character U+FFFD (line 41)",
        "data.train[0]: 1 pair with garbled letters, such as Ã¼ for ü (line 51)",
        "data.train[0]: 1 pair with control characters (line 61)",
        "data.train[0]: 1 pair with very different lengths (line 71)",
        "data.valid: 60 lines end in CR LF",
        "data.valid: 1 file begins with a byte order mark",
    ] {
        assert!(found.contains(expected), "{expected}\n{found}");
    }
    let dropped = findings(&report, "ok").join("\n");
    assert!(
        dropped.contains("kept 1199 of 1200 pairs; dropped 1 empty (line 11)"),
        "{dropped}"
    );
    // Bytes that are not UTF-8 cannot be read. The other corpora are still checked.
    std::fs::write(at.join("train.de"), b"f\xfcnf\n").unwrap();
    let (code, report) = check(at, &[]);
    let found = findings(&report, "faulty");
    assert!(
        code == Some(1) && found.len() == 1 && found[0].contains("train.de: line 1: not UTF-8"),
        "{found:?}"
    );
    assert!(findings(&report, "ok").join("\n").contains("data.test"));
}

#[test]
fn text_that_is_trained_on_or_foreign_is_found() {
    let folder = project();
    let at = folder.path();
    let (source, target) = (read(at, "train.en"), read(at, "train.de"));
    write(at, "test.en", &source[..60]);
    write(at, "test.de", &target[..60]);
    let set = "data.valid={ source = \"valid.de\", target = \"valid.en\" }";
    let (code, report) = check(at, &["--set", set, "--set", "data.max_length=10"]);
    let found = findings(&report, "faulty").join("\n");
    assert_eq!(code, Some(1));
    assert!(
        found.contains("data.test: 60 pairs are trained on, too (lines 1, 2, 3, ...)"),
        "{found}"
    );
    assert!(found.contains("data.valid: source and target are swapped"), "{found}");
    let look = findings(&report, "look").join("\n");
    assert!(look.contains("too long"), "{look}");
    // A vocabulary of other text.
    write(at, "test.en", &vec!["quatre vingt dix".to_owned(); 60]);
    let (_, report) = check(at, &[]);
    let found = findings(&report, "faulty").join("\n");
    assert!(
        found.contains("data.test: 75.00 % of 240 source tokens are unknown pieces"),
        "{found}"
    );
    // No pair is left.
    let (code, report) = check(at, &["--set", "data.max_length=2"]);
    assert!(code == Some(1) && findings(&report, "faulty").join("\n").contains("data.train: "));
}

/// The check calls text faulty that training could not validate, and training refuses it before it begins. Divergence
/// is reported together with the rest of the report.
#[test]
fn what_training_would_die_of_is_found() {
    let folder = project();
    let at = folder.path();
    let tallow = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tallow"))
            .current_dir(at)
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let limits: Vec<String> = [
        "data.max_length",
        "decode.max_length",
        "decode.max_source_length",
        "model.max_positions",
    ]
    .iter()
    .map(|key| format!("{key}=10"))
    .chain(["model.positions=learned".to_owned()])
    .collect();
    let limits: Vec<&str> = limits.iter().flat_map(|set| ["--set", set]).collect();
    let (code, report) = check(at, &limits);
    let found = findings(&report, "faulty").join("\n");
    assert!(
        code == Some(1) && found.contains("data.valid: line ") && found.contains("more than the 10 learned"),
        "{found}"
    );
    let (code, said) = tallow(&[&["train", "run.toml"], &limits[..]].concat());
    assert!(
        code == Some(1) && said.contains("more than the 10 learned positions"),
        "{said}"
    );
    // A run that refuses long lines still validates and tests; only `translate` and `eval` refuse.
    let fail = ["--set", "decode.long_lines=fail", "--set", "decode.max_source_length=8"];
    let short = [
        "--set",
        "train.max_updates=2",
        "--set",
        "decode.max_length=4",
        "--set",
        "decode.beam=1",
    ];
    let (code, report) = check(at, &[&fail[..], &["--set", "train.r_drop=1"]].concat());
    let passes_twice = 2 * 6 * (4 * 32 * 32 + 2 * 32 * 64 + 2 * 32 * 32);
    assert_eq!(report["model"]["training_flops_per_source_token"], passes_twice);
    assert!(
        code == Some(0)
            && findings(&report, "look")
                .join("\n")
                .contains("8 tokens of decode.max_source_length")
    );
    let (code, said) = tallow(&[&["train", "run.toml"], &fail[..], &short[..]].concat());
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = tallow(&[&["eval", "runs/run"], &fail[..]].concat());
    assert!(
        code == Some(1) && said.contains("tokens of decode.max_source_length"),
        "{said}"
    );
    // Divergence.
    let diverge = [
        "--set",
        "train.learning_rate=1e30",
        "--set",
        "train.warmup_updates=0",
        "--set",
        "train.clip_norm=0",
    ];
    let (code, report) = check(at, &diverge);
    let found = findings(&report, "faulty").join("\n");
    assert!(
        code == Some(1) && found.contains("had no finite loss or gradient"),
        "{found}"
    );
    assert!(findings(&report, "ok").join("\n").contains("resuming is exact"));
}

/// Short targets, labels, small sets and words ordered by length are not faults.
#[test]
fn what_is_odd_but_sane_passes() {
    let folder = project();
    let at = folder.path();
    let (source, _) = pairs(0, 1200);
    let labels: Vec<String> = (0..1200)
        .map(|i| ["good", "bad", "so"][((i * 2_654_435_761) >> 13) % 3].to_owned())
        .collect();
    for name in ["train", "valid", "test"] {
        let count = if name == "train" { 1200 } else { 60 };
        write(at, &format!("{name}.en"), &source[..count]);
        write(at, &format!("{name}.de"), &labels[..count]);
    }
    let (source, target) = pairs(5000, 60);
    let mut odd = source.clone();
    odd[3].push('\u{7}');
    write(at, "valid.en", &odd);
    write(at, "valid.de", &target);
    let set = ["--set", "data.test={ source = \"valid.en\", target = \"valid.de\" }"];
    let (_, report) = check(at, &set);
    let found = findings(&report, "faulty");
    // Labels of eight sentences cannot be learned without the words of the validation set. Nothing else is wrong.
    let expected = |fault: &&String| !fault.contains("unknown pieces");
    assert_eq!(found.iter().filter(expected).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Invisible characters, and references that the vocabulary cannot write.
#[test]
fn what_cannot_be_seen_is_found() {
    let folder = project();
    let at = folder.path();
    let mut source = read(at, "train.en");
    source[7].insert(0, '\u{feff}');
    source[9] = "\u{200b}".into();
    write(at, "train.en", &source);
    let mut target = read(at, "valid.de");
    target[4] = "drei … ﬁnf".into();
    write(at, "valid.de", &target);
    let set = [
        "--set",
        "text.kind=char",
        "--set",
        "text.vocabulary=330",
        "--set",
        "text.byte_fallback=true",
        "--set",
        "text.normalization=nfkc",
    ];
    let (_, report) = check(at, &set);
    assert_eq!(
        report["corpora"][0]["invisible"],
        serde_json::json!({ "count": 1, "lines": [8] })
    );
    assert_eq!(
        report["corpora"][0]["empty"],
        serde_json::json!({ "count": 1, "lines": [10] })
    );
    let found = findings(&report, "look").join("\n");
    for part in [
        "1 pair with invisible characters: byte order marks",
        "1 pair with an empty side (line 10)",
        "1 reference of 60 cannot be written with this vocabulary: line 5, \"drei … ﬁnf\", becomes \"drei ... finf\"",
    ] {
        assert!(found.contains(part), "{part}\n{found}");
    }
}

/// A check that cannot begin does not touch existing files.
#[test]
fn what_lies_in_its_way_is_not_touched() {
    let folder = project();
    let place = folder.path().join("runs/run.check");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("mine"), "mine").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tallow"))
        .current_dir(folder.path())
        .args(["check", "run.toml"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("remove it first"));
    assert_eq!(std::fs::read_to_string(place.join("mine")).unwrap(), "mine");
}
