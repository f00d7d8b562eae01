//! `tallow init`: sets that share nothing, and a config that trains.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers here fail the test that calls them.

mod program;

use program::{fault, printed, run};
use std::collections::HashSet;
use std::path::Path;

const NUMBERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/numbers-en-de");

/// The first lines of the shipped corpus, with some repeated, some in capitals and some empty.
fn corpus(at: &Path) {
    for side in ["en", "de"] {
        let text = std::fs::read_to_string(format!("{NUMBERS}/train.{side}")).unwrap();
        let mut lines: Vec<String> = text.lines().take(1500).map(str::to_owned).collect();
        lines.extend(lines[..60].to_vec());
        lines.extend(
            lines[..200]
                .iter()
                .map(|line| format!("{}!", line.to_uppercase()))
                .collect::<Vec<_>>(),
        );
        lines.push(if side == "en" { String::new() } else { "eins".into() });
        std::fs::write(at.join(format!("all.{side}")), lines.join("\n") + "\n").unwrap();
    }
}

/// The lines of a set, as they are compared.
fn simple(at: &Path, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(at.join("en-de").join(name)).unwrap();
    let simple = |line: &str| line.trim_end_matches('!').to_lowercase();
    text.lines().map(simple).collect()
}

const INIT: [&str; 7] = ["init", "--source", "all.en", "--target", "all.de", "--output", "en-de"];

#[test]
fn the_sets_share_nothing_and_the_config_trains() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    corpus(at);
    let output = run(at, &INIT);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "en-de/en-de.toml\n");
    assert!(said.contains("1  pairs left out: a side is empty"), "{said}");
    for side in ["en", "de"] {
        let [train, valid, test] = ["train", "valid", "test"].map(|set| simple(at, &format!("{set}.{side}")));
        assert_eq!((valid.len(), test.len()), (68, 68));
        assert!(train.len() > 1400, "{}", train.len());
        let distinct: HashSet<&String> = valid.iter().chain(&test).collect();
        assert_eq!(distinct.len(), 136, "{side}");
        assert!(train.iter().all(|line| !distinct.contains(line)), "{side}");
    }
    // Lines still belong together.
    let all: HashSet<(String, String)> = simple_pairs(at);
    let [source, target] = ["en", "de"].map(|side| simple(at, &format!("test.{side}")));
    assert!(source.into_iter().zip(target).all(|pair| all.contains(&pair)));
    let config = std::fs::read_to_string(at.join("en-de/en-de.toml")).unwrap();
    for part in [
        "drop_duplicates = true",
        "source_language = \"en\"",
        "# twenty validations",
        "augment = {}",
    ] {
        assert!(config.contains(part), "{part}\n{config}");
    }
    let short = [
        "--set",
        "train.max_updates=2",
        "--set",
        "train.validate_every=2",
        "--set",
        "train.compute=f32",
    ];
    let train = [&["train", "en-de/en-de.toml"][..], &short].concat();
    let scores = printed(at, &train);
    assert!(scores.contains("BLEU"), "{scores}");
    assert!(at.join("runs/en-de/best/config.json").exists());
}

fn simple_pairs(at: &Path) -> HashSet<(String, String)> {
    let lines = |side: &str| std::fs::read_to_string(at.join(format!("all.{side}"))).unwrap();
    let simple = |line: &str| line.trim_end_matches('!').to_lowercase();
    lines("en")
        .lines()
        .map(simple)
        .zip(lines("de").lines().map(simple))
        .collect()
}

#[test]
fn the_same_seed_holds_the_same_pairs_out() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    corpus(at);
    let init = |output: &str, seed: &str| {
        let arguments = [
            "init", "--source", "all.en", "--target", "all.de", "-o", output, "--seed", seed,
        ];
        printed(at, &arguments);
        std::fs::read(at.join(output).join("valid.en")).unwrap()
    };
    assert_eq!(init("a", "1"), init("b", "1"));
    assert_ne!(init("c", "1"), init("d", "2"));
}

#[test]
fn one_error_for_each_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    corpus(at);
    let said = fault(at, &["init", "--source", "all.en"]);
    assert!(said.contains("--target"), "{said}");
    assert!(fault(at, &["init"]).contains("--source"));
    let said = fault(at, &[&INIT[..], &["--budget", "soon"]].concat());
    assert!(said.contains("8h, 45m"), "{said}");
    let said = fault(at, &[&INIT[..], &["--budget", "1s"]].concat());
    assert!(said.contains("give it more time"), "{said}");
    // Nothing is left behind, so the same command with more time works.
    assert!(!at.join("en-de").exists() && !at.join("en-de.partial").exists());
    let said = fault(at, &[&INIT[..], &["--languages", "english,de"]].concat());
    assert!(said.contains("card.source_language: \"english\""), "{said}");
    std::fs::create_dir(at.join("en-de")).unwrap();
    std::fs::write(at.join("en-de/mine"), "").unwrap();
    assert!(fault(at, &INIT).contains("exists already and is not empty"));
    std::fs::write(at.join("few.tsv"), "one\teins\n".repeat(20)).unwrap();
    let said = fault(at, &["init", "--tsv", "few.tsv", "-o", "few"]);
    assert!(
        said.contains("1 different pairs with text on both sides are too few"),
        "{said}"
    );
    assert!(!at.join("few").exists());
    let said = fault(at, &["init", "--tsv", "-", "-o", "few"]);
    assert!(said.contains("-: the text is read twice"), "{said}");
    std::fs::write(at.join("memory.tmx"), "").unwrap();
    let said = fault(at, &["init", "--tmx", "memory.tmx", "-o", "few"]);
    assert!(said.contains("needs the codes"), "{said}");
    let said = fault(at, &["init", "--tsv", "few.tsv", "-o", "we\"ir"]);
    assert!(said.contains("cannot be the name of a run"), "{said}");
    // One source with many targets, and one target with many sources: too little is left.
    let odd: String = (0..200)
        .map(|i| format!("one hundred and two\teinhundert{i} zwei drei\n"))
        .collect();
    std::fs::write(at.join("odd.tsv"), odd).unwrap();
    let said = fault(at, &["init", "--tsv", "odd.tsv", "-o", "few"]);
    assert!(said.contains("no pairs are fit to be held out"), "{said}");
    assert!(!at.join("few").exists() && !at.join("few.partial").exists());
}

/// A sentence that is most of the text stays in training, and takes no place from others.
#[test]
fn one_frequent_sentence_changes_little() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let words = ["one", "two", "three", "four", "five", "six", "seven"];
    let other = |i: usize| {
        let [a, b, c] = [i / 49 % 7, i / 7 % 7, i % 7];
        format!(
            "{} and {} and {}\t{} und {} und {}\n",
            words[a], words[b], words[c], words[c], words[b], words[a]
        )
    };
    let mut text: String = (0..300).map(other).collect();
    text.push_str(&"Thank you very much indeed\tVielen herzlichen Dank dafür\n".repeat(9000));
    std::fs::write(at.join("all.tsv"), text).unwrap();
    for seed in ["1", "2", "3"] {
        let arguments = [
            "init",
            "--tsv",
            "all.tsv",
            "--languages",
            "en,de",
            "-o",
            seed,
            "--seed",
            seed,
        ];
        let said = String::from_utf8(run(at, &arguments).stderr).unwrap();
        assert!(
            said.contains(" pairs to train on, 30 to validate, 30 to test"),
            "{said}"
        );
    }
}
