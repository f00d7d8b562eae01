//! The toy corpora: their spelling, their files, and the shipped corpora.
#![allow(clippy::unwrap_used)] // Helpers here fail the test that calls them.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};
use tallow_data::toy::{self, Toy, ToyOptions, numbers};
use tallow_data::{CorpusFiles, DataError, ParallelText};

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn small(toy: Toy) -> ToyOptions {
    ToyOptions {
        train: 60,
        valid: 10,
        test: 20,
        ..toy.options()
    }
}

/// All million numbers are compared with num2words; see fixtures/number_words.py.
#[test]
fn numbers_are_spelled_as_by_num2words() {
    let mut spelled = 0;
    for line in include_str!("fixtures/number_words.txt").lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (first, last): (u32, u32) = (fields[0].parse().unwrap(), fields[1].parse().unwrap());
        let mut digest = Sha256::new();
        for number in first..=last {
            digest.update(format!("{}\t{}\n", numbers::english(number), numbers::german(number)));
        }
        let sum: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sum, fields[2], "numbers {first} to {last}");
        spelled += last - first + 1;
    }
    assert_eq!(spelled, 1_000_000);
}

#[test]
fn the_shipped_corpus_is_what_the_generator_writes() {
    let directory = tempfile::tempdir().unwrap();
    let report = toy::write(Toy::Numbers, &Toy::Numbers.options(), directory.path()).unwrap();
    let shipped = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/numbers-en-de"));
    let expected = [
        "all.round.de",
        "all.round.en",
        "all.small.de",
        "all.small.en",
        "test.de",
        "test.en",
        "train.de",
        "train.en",
        "train.short.de",
        "train.short.en",
        "unseen.round.de",
        "unseen.round.en",
        "unseen.small.de",
        "unseen.small.en",
        "valid.de",
        "valid.en",
    ];
    assert_eq!(names(shipped), expected);
    assert_eq!(names(directory.path()), expected);
    for name in expected {
        let content = fs::read(shipped.join(name)).unwrap();
        assert!(
            content == fs::read(directory.path().join(name)).unwrap(),
            "{name} differs"
        );
        assert!(content.len() < 2_000_000, "{name} is too large");
    }
    let lines: Vec<usize> = report.files.iter().map(|(_, lines)| *lines).collect();
    let pairs: Vec<usize> = lines.chunks(2).map(|files| files[0]).collect();
    assert_eq!(pairs, [20_000, 500, 1_000, 384, 142, 1_899, 61, 1_000]);
    let text = ParallelText::open(&CorpusFiles::two_files(
        shipped.join("test.en"),
        shipped.join("test.de"),
    ))
    .unwrap();
    assert_eq!(text.report.lines, 1_000);
}

#[test]
fn sequences_have_parts_of_the_test_set_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    for toy in [Toy::Reverse, Toy::Copy, Toy::Sort] {
        let directory = directory.path().join(toy.name());
        toy::write(toy, &small(toy), &directory).unwrap();
        let mut expected = Vec::new();
        for split in ["test.beyond", "test.inside", "test", "train", "valid"] {
            expected.extend(["source", "target"].map(|side| format!("{split}.{side}")));
        }
        assert_eq!(names(&directory), expected);
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
        for side in ["source", "target"] {
            let parts = [
                read(&format!("test.inside.{side}")),
                read(&format!("test.beyond.{side}")),
            ]
            .concat();
            let (mut parts, whole) = (parts.lines().collect::<Vec<_>>(), read(&format!("test.{side}")));
            let mut whole: Vec<&str> = whole.lines().collect();
            parts.sort_unstable();
            whole.sort_unstable();
            assert_eq!(parts, whole);
        }
    }
}

#[test]
fn another_seed_makes_another_corpus() {
    let directory = tempfile::tempdir().unwrap();
    for toy in Toy::ALL {
        let write = |seed: u64, name: &str| {
            let directory = directory.path().join(name);
            toy::write(toy, &ToyOptions { seed, ..small(toy) }, &directory).unwrap();
            fs::read(directory.join(if toy == Toy::Numbers {
                "train.en"
            } else {
                "train.source"
            }))
            .unwrap()
        };
        assert_ne!(write(1, &format!("{toy}-1")), write(2, &format!("{toy}-2")));
    }
}

#[test]
fn files_of_another_corpus_are_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let options = small(Toy::Numbers);
    let report = toy::write(Toy::Numbers, &options, directory.path()).unwrap();
    // Writing the same corpus again restores missing files and changes nothing else.
    fs::remove_file(directory.path().join("valid.de")).unwrap();
    assert_eq!(toy::write(Toy::Numbers, &options, directory.path()).unwrap(), report);
    assert_eq!(names(directory.path()).len(), report.files.len());

    fs::write(directory.path().join("test.de"), "mine\n").unwrap();
    fs::remove_file(directory.path().join("train.en")).unwrap();
    let error = toy::write(Toy::Numbers, &options, directory.path()).unwrap_err();
    assert!(
        matches!(&error, DataError::Exists { path } if path.ends_with("test.de")),
        "{error}"
    );
    assert_eq!(fs::read_to_string(directory.path().join("test.de")).unwrap(), "mine\n");
    assert!(
        !directory.path().join("train.en").exists(),
        "nothing is written when one file is in the way"
    );
}

#[test]
fn bad_options_and_names_say_what_would_be_right() {
    let directory = tempfile::tempdir().unwrap();
    let message = |options: &ToyOptions| {
        toy::write(Toy::Numbers, options, directory.path())
            .unwrap_err()
            .to_string()
    };
    let expected = "toy numbers: 20000 + 500 + 1000 different numbers are more than there are up to 999; \
                    ask for fewer pairs or for a larger maximum";
    assert_eq!(
        message(&ToyOptions {
            maximum: 999,
            ..Toy::Numbers.options()
        }),
        expected
    );
    let expected = "toy numbers: train, valid and test need at least one pair each";
    assert_eq!(
        message(&ToyOptions {
            test: 0,
            ..Toy::Numbers.options()
        }),
        expected
    );
    let error = "revers".parse::<Toy>().unwrap_err();
    assert_eq!(
        error,
        "there is no toy \"revers\"; there are numbers, reverse, copy, sort"
    );
    for toy in Toy::ALL {
        assert_eq!(toy.to_string().parse(), Ok(toy));
        assert!(!toy.description().is_empty());
    }
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = toy::write(Toy::Copy, &small(Toy::Copy), &file.join("below"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("file/below"), "{error}");
}
