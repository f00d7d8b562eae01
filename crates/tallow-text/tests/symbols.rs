//! Pieces that are never cut: `text.symbols`, and the language tags at the beginning of lines. The ids are those of
//! transformers' `MarianTokenizer` (`scripts/fixtures/marian_tokenizer_ids.py`).

// Helper functions outside `#[test]` unwrap as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use serde_json::Value;
use tallow_text::{Kind, TextConfig, Tokenizers};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The directories of `fixtures/symbols/`, and how they were learned. Target lines have no tags.
fn configs() -> [(&'static str, TextConfig); 3] {
    let config = |kind, byte_fallback, trim, shared, vocabulary| TextConfig {
        kind,
        byte_fallback,
        trim,
        shared,
        vocabulary,
        symbols: ["<sep>", "{name}", "灯塔"].map(str::to_owned).into(),
        ..TextConfig::default()
    };
    [
        ("bpe", config(Kind::Bpe, true, true, true, 600)),
        ("char", config(Kind::Char, false, false, true, 300)),
        ("unigram-separate", config(Kind::Unigram, false, true, false, 300)),
    ]
}

fn text() -> (Vec<String>, Vec<String>) {
    let text = std::fs::read_to_string(fixtures().join("text.txt")).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let tagged = |(i, line): (usize, &String)| match i % 3 {
        0 => format!(">>deu<< {line}"),
        1 => format!(">>fra<<{line} <sep> {{name}}"),
        _ => format!("{line}<sep>{{name}}灯塔"),
    };
    (lines.iter().enumerate().map(tagged).collect(), lines)
}

fn learn(config: &TextConfig) -> Tokenizers {
    let (source, target) = text();
    Tokenizers::learn(config, source, target, 2).unwrap()
}

#[test]
fn symbols_and_tags_are_pieces() {
    for (name, config) in configs() {
        let tokenizers = learn(&config);
        let source = &tokenizers.source;
        assert_eq!(tokenizers.is_shared(), config.shared, "{name}");
        assert_eq!(source.vocabulary_size(), tokenizers.target.vocabulary_size());
        assert_eq!(
            source.language_tags().collect::<Vec<_>>(),
            [">>deu<<", ">>fra<<"],
            "{name}"
        );
        let pieces = source.pieces(">>fra<<a<sep>b {name}").unwrap();
        let expected = [">>fra<<", "▁a", "<sep>", "b", "▁", "{name}"];
        match config.kind {
            Kind::Char => assert_eq!(pieces, [">>fra<<", "▁", "a", "<sep>", "b", "▁", "{name}"]),
            _ => assert_eq!(pieces, expected, "{name}"),
        }
        // No learned piece contains a part of a symbol.
        let learned = (0..source.vocabulary_size() as u32).map(|id| source.piece(id).unwrap());
        let has_part = |piece: &&str| ["{", "<s", "<d", "灯"].iter().any(|part| piece.contains(part));
        let found: Vec<&str> = learned.filter(has_part).filter(|piece| *piece != "</s>").collect();
        assert_eq!(found, ["<sep>", "{name}", "灯塔"], "{name}");
        // Decoding gives the line back.
        let behind_tag = if config.trim { ">>deu<< a" } else { ">>deu<<  a" };
        for (line, expected) in [
            ("a<sep>b {name} 灯塔<sep>", "a<sep>b {name} 灯塔<sep>"),
            (">>deu<<a", ">>deu<< a"),
            // The boundary after the tag is a space, and with trim, spaces in a row are one.
            (">>deu<< a", behind_tag),
        ] {
            let ids = source.encode(line).unwrap();
            assert!(!ids.contains(&source.unk_id()), "{name}: {line}");
            assert_eq!(source.decode(&ids).unwrap(), expected, "{name}: {line}");
        }
    }
}

/// A side has tags if one in twenty of its own lines has one. The other side, which usually has none, does not count.
#[test]
fn tags_are_counted_side_by_side() {
    let source = |i: usize| {
        if i.is_multiple_of(13) {
            format!(" >>deu<< a{i}")
        } else {
            format!("a{i}")
        }
    };
    let source: Vec<String> = (0..100).map(source).collect();
    let target: Vec<String> = (0..100).map(|i| format!("b{i}")).collect();
    for shared in [true, false] {
        let config = TextConfig {
            vocabulary: 320,
            shared,
            ..TextConfig::default()
        };
        let tokenizers = Tokenizers::learn(&config, &source, &target, 1).unwrap();
        assert_eq!(
            tokenizers.source.language_tags().collect::<Vec<_>>(),
            [">>deu<<"],
            "{shared}"
        );
        assert_eq!(tokenizers.target.language_tags().count(), usize::from(shared));
    }
}

/// The learned vocabularies are those of the fixtures, and their ids are those of `MarianTokenizer`.
#[test]
fn ids_are_those_of_marian_tokenizer() {
    for (name, config) in configs() {
        let place = fixtures().join("symbols").join(name);
        let stored = Tokenizers::open(&place).unwrap();
        // The last bit of logarithms may differ between machines.
        if config.kind != Kind::Unigram {
            let learned = learn(&config);
            assert_eq!(
                (&learned.source, &learned.target),
                (&stored.source, &stored.target),
                "{name}"
            );
        }
        let ids: Value = serde_json::from_str(&std::fs::read_to_string(place.join("ids.json")).unwrap()).unwrap();
        let lines = ids["lines"].as_array().unwrap();
        assert!(lines.len() > 80);
        for (side, tokenizer) in [("source", &stored.source), ("target", &stored.target)] {
            for (line, expected) in lines.iter().zip(ids[side].as_array().unwrap()) {
                let line = line.as_str().unwrap();
                let expected: Vec<u32> = serde_json::from_value(expected.clone()).unwrap();
                assert_eq!(
                    tokenizer.encode_as_marian_tokenizer(line).unwrap(),
                    expected,
                    "{name}, {side}: {line:?}"
                );
                if tokenizer.language_tags().next().is_some() {
                    assert_eq!(tokenizer.encode(line).unwrap(), expected, "{name}, {side}: {line:?}");
                }
            }
        }
    }
}

#[test]
#[ignore = "writes the fixture tokenizers; only to be run when the learning changes on purpose"]
fn write_symbols() {
    for (name, config) in configs() {
        let place = fixtures().join("symbols").join(name);
        std::fs::create_dir_all(&place).unwrap();
        learn(&config).save(&place).unwrap();
    }
}

#[test]
fn a_few_lines_that_look_like_tags_are_text() {
    let mut lines = vec!["a line of text"; 30];
    lines.push(">>name<< text");
    let config = TextConfig {
        vocabulary: 300,
        ..TextConfig::default()
    };
    let source = Tokenizers::learn(&config, &lines, &lines, 1).unwrap().source;
    assert!(source.to_json().is_some());
    let ids = source.encode(">>name<< text").unwrap();
    assert_eq!(source.decode(&ids).unwrap(), ">>name<< text");
}
