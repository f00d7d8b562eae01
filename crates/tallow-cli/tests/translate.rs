//! What `tallow translate` and `tallow score-pairs` are asked for on the command line; long jobs that are killed.
// Helpers of a test may panic like the test itself.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod small_model;

use serde_json::Value;
use small_model::model;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const LINES: [&str; 4] = [
    "The old lighthouse stands.",
    "The harbour sleeps.",
    "",
    "The old harbour stands and sleeps.",
];

fn command(at: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command.current_dir(at).args(arguments);
    command
}

fn run(at: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = command(at, arguments);
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    // A command that refuses its flags reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The output of a command that must succeed.
fn printed(at: &Path, arguments: &[&str], input: &str) -> String {
    let output = run(at, arguments, input);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn lines(text: &str) -> Vec<&str> {
    text.split_terminator('\n').collect()
}

fn json_lines(text: &str) -> Vec<Value> {
    lines(text)
        .into_iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

const SHORT: [&str; 4] = ["translate", "model", "--max-length", "24"];

#[test]
fn prefixes_and_phrases() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    model(at);
    let input = LINES.join("\n") + "\n";
    let for_all = printed(
        at,
        &[&SHORT[..], &["--prefix", "Der alte", "--phrase", "Hafen"]].concat(),
        &input,
    );
    let translations = lines(&for_all);
    assert_eq!(translations.len(), 4);
    for (line, translation) in LINES.iter().zip(&translations) {
        let is_asked = translation.starts_with("Der alte") && translation.contains("Hafen");
        assert!(
            if line.is_empty() {
                translation.is_empty()
            } else {
                is_asked
            },
            "{translation}"
        );
    }
    // The same in columns and as JSON; what a line asks for comes in addition.
    let in_columns: String = LINES.iter().map(|line| format!("{line}\tDer alte\tHafen\n")).collect();
    assert_eq!(
        printed(at, &[&SHORT[..], &["--input-format", "tsv"]].concat(), &in_columns),
        for_all
    );
    let as_json = |line: &&str| format!("{}\n", serde_json::json!({ "source": line, "phrases": ["Hafen"] }));
    let objects: String = LINES.iter().map(as_json).collect();
    let prefix = &["--input-format", "json", "--prefix", "Der alte"];
    assert_eq!(printed(at, &[&SHORT[..], prefix].concat(), &objects), for_all);

    for (arguments, input, expected) in [
        (
            &["--input-format", "json"][..],
            "{}\n",
            "line 1 of the input is not a JSON object with a source",
        ),
        (
            &["--phrase", "Hafen", "--beam", "1"],
            "The harbour.\n",
            "which need a decode.beam of 2 or more",
        ),
        (
            &["--phrase", &"Hafen ".repeat(30)],
            "The harbour.\n",
            "line 1: its prefix and phrases need",
        ),
    ] {
        let output = run(at, &[&SHORT[..], arguments].concat(), input);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(expected), "{}", said(&output));
    }
    let output = run(at, &[&SHORT[..], &["--groups", "2"]].concat(), "a\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("--groups (decode.groups: decode.beam = 5"),
        "{}",
        said(&output)
    );
}

/// A model beside itself is itself; a model with another vocabulary is refused.
#[test]
fn ensembles() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    model(at);
    let input = LINES.join("\n") + "\n";
    let alone = printed(at, &SHORT, &input);
    assert_eq!(
        printed(at, &[&["translate", "model"], &SHORT[1..]].concat(), &input),
        alone
    );
    let toolkit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tallow-decode/tests/fixtures/marian-toolkit");
    let other = std::fs::read_dir(toolkit)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir())
        .unwrap();
    let output = run(at, &["translate", "model", other.to_str().unwrap()], &input);
    assert_eq!(output.status.code(), Some(1));
    let expected = "source vocabulary is not that of model; only models with the same vocabularies translate together";
    assert!(said(&output).contains(expected), "{}", said(&output));
}

#[test]
fn alignments_and_scores_of_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    model(at);
    let input = LINES.join("\n") + "\n";
    let found = printed(
        at,
        &[&SHORT[..], &["--format", "json", "--alignments", "pairs"]].concat(),
        &input,
    );
    let objects = json_lines(&found);
    let alignments = std::fs::read_to_string(at.join("pairs")).unwrap();
    assert_eq!(lines(&alignments).len(), LINES.len());
    for ((line, object), pairs) in LINES.iter().zip(&objects).zip(lines(&alignments)) {
        let words = |text: &str| text.split_whitespace().count();
        let target = words(object["translation"].as_str().unwrap());
        assert_eq!(pairs.is_empty(), line.is_empty());
        for pair in pairs.split_whitespace() {
            let (from, to) = pair.split_once('-').unwrap();
            assert!(
                from.parse::<usize>().unwrap() < words(line) && to.parse::<usize>().unwrap() < target,
                "{pair}"
            );
        }
    }

    // A search gives its translations the scores that they get as pairs, if the text is cut into the same pieces.
    let mut pairs = String::new();
    for object in &objects {
        pairs += &format!(
            "{}\t{}\n",
            object["source"].as_str().unwrap(),
            object["translation"].as_str().unwrap()
        );
    }
    let scored = json_lines(&printed(at, &["score-pairs", "model", "--format", "json"], &pairs));
    let plain = printed(at, &["score-pairs", "model"], &pairs);
    let mut equal = 0;
    for ((scored, object), plain) in scored.iter().zip(&objects).zip(lines(&plain)) {
        let best = &object["candidates"][0];
        let columns: Vec<&str> = plain.split('\t').collect();
        if object["source"] == "" {
            assert_eq!((&scored["score"], plain), (&Value::Null, "nan\tnan\t0"));
            continue;
        }
        let logs: Vec<f64> = scored["token_log_probabilities"]
            .as_array()
            .unwrap()
            .iter()
            .map(|x| x.as_f64().unwrap())
            .collect();
        assert_eq!(columns[2], logs.len().to_string());
        assert!((columns[1].parse::<f64>().unwrap() - logs.iter().sum::<f64>()).abs() < 1e-4);
        if best["finished"] == true && best["tokens"] == scored["tokens"] {
            assert_eq!(best["log_probability"], scored["log_probability"]);
            equal += 1;
        }
    }
    assert!(equal > 0, "no translation has the same pieces again");
    std::fs::write(at.join("s"), "a\nb\n").unwrap();
    std::fs::write(at.join("t"), "a\n").unwrap();
    let output = run(at, &["score-pairs", "model", "--source", "s", "--target", "t"], "");
    assert!(
        said(&output).contains("more lines than its 1 translations"),
        "{}",
        said(&output)
    );
    let output = run(at, &["score-pairs", "model"], "no tab\n");
    assert!(said(&output).contains("line 1 has 1 columns"), "{}", said(&output));
}

/// A job that is killed at random moments and resumed writes what an uninterrupted one writes, with several lines of
/// output for a line of input.
#[test]
fn a_killed_job_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    model(at);
    let many: String = (0..1500).map(|i| format!("{} {i}\n", LINES[i % 4])).collect();
    std::fs::write(at.join("input"), &many).unwrap();
    let common = [&SHORT[..], &["--input", "input", "--n-best", "2"]].concat();
    let expected = printed(at, &common, "");
    let job = [&common[..], &["--output", "found", "--alignments", "pairs"]].concat();
    let notes = || std::fs::read_to_string(at.join("found.unfinished")).map_or(0, |text| text.lines().count());
    let mut kills = 0;
    loop {
        let before = notes();
        let mut child = command(at, &[&job[..], &["--resume"]].concat())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // At least one block is done; then any moment.
        while child.try_wait().unwrap().is_none() && notes() <= before {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(kills * 7 % 40));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        // Killed when all was done and the process was about to end: there is nothing to resume.
        if !at.join("found.unfinished").exists() {
            break;
        }
    }
    assert!(kills > 0);
    assert_eq!(std::fs::read_to_string(at.join("found")).unwrap(), expected);
    assert_eq!(lines(&std::fs::read_to_string(at.join("pairs")).unwrap()).len(), 1500);
    assert!(!at.join("found.unfinished").exists());

    let refused = |extra: &[&str], expected: &str| {
        let output = run(at, &[&job[..], extra].concat(), "");
        assert!(
            !output.status.success() && said(&output).contains(expected),
            "{}",
            said(&output)
        );
    };
    refused(
        &[],
        "this file exists already. Replace it with --overwrite, or give another --output",
    );
    refused(
        &["--resume"],
        "there is nothing to resume. To translate anew, use --overwrite",
    );
    // An unfinished job with other settings.
    let mut child = command(at, &[&job[..], &["--overwrite"]].concat())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while notes() == 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    refused(
        &[],
        "this is the output of an unfinished job. Go on with --resume, or begin anew with --overwrite",
    );
    refused(
        &["--resume", "--seed", "7"],
        "the unfinished job was begun with another seed; begin anew with --overwrite",
    );
    // No file stands for two.
    for files in [
        &["--input", "input", "--output", "./input", "--overwrite"][..],
        &["--input", "input", "--output", "new", "--alignments", "./new"],
        &["--input", "input", "--output", "new", "--alignments", "new.unfinished"],
        &["--input", "input", "--alignments", "model/../input", "--overwrite"],
    ] {
        let output = run(at, &[&SHORT[..], files].concat(), "");
        assert!(
            output.status.code() == Some(2) && said(&output).contains("stands for two"),
            "{}",
            said(&output)
        );
    }
    assert!(std::fs::read_to_string(at.join("input")).unwrap() == many && !at.join("new").exists());
    let output = run(at, &["translate", "model", "--resume"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("--resume and --overwrite need --output FILE"),
        "{}",
        said(&output)
    );
}

/// A directory of 8-bit weights is a quarter of the size, verifies, and translates in 8-bit integers by itself.
#[test]
fn directories_of_8_bit_weights() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    model(at);
    printed(at, &["export", "model", "--compute", "int8", "--output", "small"], "");
    let size = |name: &str| {
        std::fs::metadata(at.join(name).join("model.safetensors"))
            .unwrap()
            .len() as f64
    };
    let share = size("small") / size("model");
    assert!((0.25..0.4).contains(&share), "{share}");
    let checks = printed(at, &["verify", "small"], "");
    assert!(
        checks.contains("a Tallow (8-bit weights) model") && !checks.contains("FAULTY"),
        "{checks}"
    );
    let input = LINES.join("\n") + "\n";
    let translate = |extra: &[&str]| {
        printed(
            at,
            &[&["translate", "small", "--max-length", "24", "--format", "json"], extra].concat(),
            &input,
        )
    };
    assert_eq!(translate(&[]), translate(&["--compute", "int8"]));
    assert_ne!(translate(&[]), translate(&["--compute", "f32"]));
    // Rounding again changes nothing.
    printed(at, &["export", "small", "--compute", "int8", "--output", "again"], "");
    let weights = |name: &str| std::fs::read(at.join(name).join("model.safetensors")).unwrap();
    let differing = weights("small")
        .iter()
        .zip(weights("again"))
        .filter(|(a, b)| *a != b)
        .count();
    assert!(
        weights("small").len() == weights("again").len() && differing < 100,
        "{differing}"
    );

    std::fs::write(at.join("s"), &input).unwrap();
    std::fs::write(at.join("t"), &input).unwrap();
    let compare = [
        "eval",
        "model",
        "--source",
        "s",
        "--target",
        "t",
        "--compare-compute",
        "--max-length",
        "24",
    ];
    let table = printed(at, &compare, "");
    let rows: Vec<&str> = lines(&table)
        .into_iter()
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert!(
        rows.starts_with(&["compute", "f32"]) && rows.contains(&"int8"),
        "{table}"
    );
    let objects: Value = serde_json::from_str(&printed(at, &[&compare[..], &["--json"]].concat(), "")).unwrap();
    let objects = objects.as_array().unwrap();
    assert_eq!(
        (&objects[0]["compute"], &objects[0]["different_translations"]),
        (&"f32".into(), &0.into())
    );
    let last = objects.last().unwrap();
    let smaller = last["weights_mebibytes"].as_f64().unwrap() / objects[0]["weights_mebibytes"].as_f64().unwrap();
    assert!(last["compute"] == "int8" && smaller < 0.6, "{smaller}");
}

/// A shortlist is learned from text, restricts what a line is translated with, and keeps every line independent.
#[test]
fn shortlists() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    model(at);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/opus");
    let text = ["train.en", "train.de"].map(|name| fixtures.join(name).to_string_lossy().into_owned());
    let learn = [
        "shortlist",
        "model",
        "--source",
        &text[0],
        "--target",
        &text[1],
        "--output",
    ];
    printed(
        at,
        &[&learn[..], &["list", "--frequent", "5", "--translations", "3"]].concat(),
        "",
    );
    let input = LINES.join("\n") + "\n";
    let restricted = [&SHORT[..], &["--format", "json", "--shortlist", "list"]].concat();
    let together = printed(at, &restricted, &input);
    assert_ne!(
        together,
        printed(at, &[&SHORT[..], &["--format", "json"]].concat(), &input)
    );
    for (line, together) in LINES.iter().zip(lines(&together)) {
        assert_eq!(printed(at, &restricted, &format!("{line}\n")).trim_end(), together);
    }
    // What is asked for is possible whatever the shortlist has.
    let asked = printed(
        at,
        &[&restricted[..], &["--phrase", "Hafen"]].concat(),
        "The harbour sleeps.\n",
    );
    assert!(asked.contains("Hafen"), "{asked}");

    let output = run(at, &[&learn[..], &["list"]].concat(), "");
    assert!(
        said(&output).contains("list: exists already; choose another --output"),
        "{}",
        said(&output)
    );
    let output = run(at, &[&SHORT[..], &["--shortlist", "absent"]].concat(), "a\n");
    assert!(said(&output).contains("absent: "), "{}", said(&output));
    let output = run(at, &["shortlist", "model", "--output", "other"], "");
    assert!(
        said(&output).contains("give text like that of its training with --source"),
        "{}",
        said(&output)
    );
}

/// Addresses, tags, numbers and emoji stand in the translations of a model that has never seen any, also in lines that
/// are translated in parts.
#[test]
fn text_that_is_not_translated() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let numbers = |i: usize| format!("a dog sees the cat {}\n", ["and sings", "or sleeps", "there"][i % 3]);
    let german = |i: usize| {
        format!(
            "ein Hund sieht die Katze {}\n",
            ["und singt", "oder schläft", "dort"][i % 3]
        )
    };
    std::fs::write(at.join("s"), (0..60).map(numbers).collect::<String>()).unwrap();
    std::fs::write(at.join("t"), (0..60).map(german).collect::<String>()).unwrap();
    let config = "name = \"run\"\n[text]\nvocabulary = 330\n[data]\ntrain = [{ source = \"s\", target = \"t\" }]\n\
                  valid = { source = \"s\", target = \"t\" }\n[model]\nd_model = 32\nfeed_forward = 64\n\
                  encoder_layers = 1\ndecoder_layers = 1\nheads = 2\n[train]\nmax_updates = 60\nsamples = 0\n\
                  [decode]\nmax_length = 200\n";
    std::fs::write(at.join("run.toml"), config).unwrap();
    printed(at, &["train", "run.toml"], "");
    let cases = [
        (
            "a dog sees https://example.org/a?b=1 there",
            &["https://example.org/a?b=1"][..],
        ),
        ("the cat <b>sings</b>, or 1,984 dogs", &["<b>", "</b>", "1,984"]),
        ("a dog sleeps 👍🏽 ask jane@example.org", &["👍🏽", "jane@example.org"]),
        ("a dog sees 7. the cat sees 25.", &["7", "25"]),
        ("a dog sees the cat", &[]),
    ];
    let input: String = cases.iter().map(|(line, _)| format!("{line}\n")).collect();
    let keep = ["translate", "runs/run", "--keep", "url,email,tag,number,emoji"];
    for extra in [&[][..], &["--split-sentences"], &["--compute", "int8"]] {
        let found = printed(at, &[&keep[..], extra].concat(), &input);
        for ((line, kept), translation) in cases.iter().zip(lines(&found)) {
            for text in *kept {
                assert!(translation.contains(text), "{text} of {line:?} in {translation:?}");
            }
        }
    }
    let output = run(at, &[&keep[..], &["--beam", "1"]].concat(), "a\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("--keep (decode.keep: needs a decode.beam of 2"),
        "{}",
        said(&output)
    );
}
