//! Ids and decoded lines are those of the Python package `tokenizers` on the same `tokenizer.json`.
//!
//! The files `fixtures/tokenizers/*.json` were learned here, and `fixtures/tokenizer_ids.json` was written by
//! `scripts/fixtures/tokenizer_ids.py`. The script describes how to make both anew.

// Helper functions outside `#[test]` unwrap as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tallow_text::{Kind, Normalization, TextConfig, Tokenizer};

#[derive(Deserialize)]
struct Fixture {
    lines: Vec<String>,
    tokenizers: BTreeMap<String, Expected>,
}

#[derive(Deserialize)]
struct Expected {
    vocabulary: usize,
    ids: Vec<Vec<u32>>,
    decoded: Vec<String>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn configs() -> Vec<(&'static str, TextConfig)> {
    let config = |kind, vocabulary, byte_fallback, normalization| TextConfig {
        kind,
        vocabulary,
        byte_fallback,
        normalization,
        trim: false,
        ..TextConfig::default()
    };
    let trimmed = |config| TextConfig { trim: true, ..config };
    vec![
        ("bpe", config(Kind::Bpe, 600, true, Normalization::None)),
        ("bpe-nfkc-no-bytes", config(Kind::Bpe, 350, false, Normalization::Nfkc)),
        ("unigram", config(Kind::Unigram, 560, true, Normalization::None)),
        (
            "unigram-nfc-no-bytes",
            config(Kind::Unigram, 300, false, Normalization::Nfc),
        ),
        ("word", config(Kind::Word, 120, true, Normalization::None)),
        ("char", config(Kind::Char, 420, true, Normalization::None)),
        ("bpe-trim", trimmed(config(Kind::Bpe, 600, true, Normalization::None))),
        (
            "unigram-nfkc-trim",
            trimmed(config(Kind::Unigram, 560, true, Normalization::Nfkc)),
        ),
    ]
}

#[test]
fn ids_and_text_are_those_of_the_python_package() {
    let text = std::fs::read_to_string(fixtures().join("tokenizer_ids.json")).unwrap();
    let fixture: Fixture = serde_json::from_str(&text).unwrap();
    assert_eq!(fixture.tokenizers.len(), configs().len());
    assert!(fixture.lines.len() > 40);
    for (name, expected) in &fixture.tokenizers {
        let tokenizer = Tokenizer::open(&fixtures().join(format!("tokenizers/{name}.json"))).unwrap();
        assert_eq!(tokenizer.vocabulary_size(), expected.vocabulary, "{name}");
        let batch = tokenizer.encode_batch(&fixture.lines, 3).unwrap();
        for (index, line) in fixture.lines.iter().enumerate() {
            let ids = tokenizer.encode(line).unwrap();
            assert_eq!(ids, expected.ids[index], "{name}: {line:?}");
            assert_eq!(ids, batch[index], "{name}: {line:?} in a batch");
            assert_eq!(
                tokenizer.decode(&ids).unwrap(),
                expected.decoded[index],
                "{name}: {line:?}"
            );
        }
    }
}

#[test]
fn learning_gives_the_fixtures_again() {
    for (name, config) in configs() {
        // The last bit of logarithms may differ between machines, and in rare cases a rounded score with it.
        if config.kind == Kind::Unigram {
            continue;
        }
        let learned = Tokenizer::learn_from_files(&config, &[fixtures().join("text.txt")], 2).unwrap();
        let stored = Tokenizer::open(&fixtures().join(format!("tokenizers/{name}.json"))).unwrap();
        assert_eq!(learned, stored, "{name}");
    }
}

#[test]
#[ignore = "writes the fixture tokenizers; only to be run when the learning changes on purpose"]
fn write_tokenizers() {
    for (name, config) in configs() {
        let tokenizer = Tokenizer::learn_from_files(&config, &[fixtures().join("text.txt")], 1).unwrap();
        tokenizer
            .save(&fixtures().join(format!("tokenizers/{name}.json")))
            .unwrap();
    }
}
