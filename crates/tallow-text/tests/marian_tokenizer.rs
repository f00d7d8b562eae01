//! The files of Hugging Face's `MarianTokenizer`: ids and text are those of the SentencePiece library
//! (`scripts/fixtures/sentencepiece_models.py`). Damaged files are tested too.

// Helper functions outside `#[test]` unwrap as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use tallow_text::{SentencePieceModel, TextConfig, TextError, Tokenizer, Tokenizers};

const DIRECTORIES: [&str; 4] = ["separate", "joint", "languages", "crafted"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/marian")
        .join(name)
}

/// A copy of a valid directory, to be damaged by a test.
fn copy(name: &str) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for file in Tokenizers::file_names().filter(|file| fixture(name).join(file).exists()) {
        std::fs::copy(fixture(name).join(file), place.path().join(file)).unwrap();
    }
    place
}

#[test]
fn ids_and_text_are_those_of_the_library() {
    for name in DIRECTORIES {
        let expected: Value =
            serde_json::from_str(&std::fs::read_to_string(fixture(name).join("ids.json")).unwrap()).unwrap();
        let lines = expected["lines"].as_array().unwrap();
        assert!(lines.len() > 150);
        let tokenizers = Tokenizers::open(&fixture(name)).unwrap();
        for (side, tokenizer) in [("source", &tokenizers.source), ("target", &tokenizers.target)] {
            for (i, line) in lines.iter().enumerate() {
                let what = format!("{name}, {side}: {line}");
                let line = line.as_str().unwrap();
                let ids: Vec<u32> = serde_json::from_value(expected[side]["ids"][i].clone()).unwrap();
                assert_eq!(tokenizer.encode(line).unwrap(), ids, "{what}");
                let known: Vec<u32> = ids.into_iter().filter(|id| *id != tokenizer.unk_id()).collect();
                let text = expected[side]["text"][i].as_str().unwrap();
                // The library leaves spaces at the end that normalization would have removed.
                let keeps_spaces = (name, side) == ("separate", "target");
                let trim = |text: &str| {
                    if keeps_spaces {
                        text.to_owned()
                    } else {
                        text.trim_matches(' ').to_owned()
                    }
                };
                assert_eq!(trim(&tokenizer.decode(&known).unwrap()), trim(text), "{what}");
                if let (Some(control), Some(text)) =
                    (tokenizer.id("<s>"), expected[side]["text_with_controls"][i].as_str())
                {
                    let ids = [&[control], known.as_slice(), &[control]].concat();
                    assert_eq!(trim(&tokenizer.decode(&ids).unwrap()), trim(text), "{what}");
                }
            }
        }
    }
}

/// A model alone gives the pieces behind the same ids.
#[test]
fn pieces_are_those_of_the_library() {
    for name in ["crafted", "joint"] {
        let json = |file: &str| -> Value {
            serde_json::from_str(&std::fs::read_to_string(fixture(name).join(file)).unwrap()).unwrap()
        };
        let (expected, vocabulary) = (json("ids.json"), json("vocab.json"));
        let id = |piece: &str| vocabulary.get(piece).filter(|_| piece != "</s>").cloned();
        let model = SentencePieceModel::open(&fixture(name).join("source.spm")).unwrap();
        let lines = expected["lines"].as_array().unwrap();
        for (line, ids) in lines.iter().zip(expected["source"]["ids"].as_array().unwrap()) {
            let pieces = model.pieces(line.as_str().unwrap());
            let found = pieces
                .iter()
                .map(|piece| id(piece).unwrap_or_else(|| vocabulary["<unk>"].clone()));
            assert_eq!(*ids, found.collect::<Value>(), "{name}: {line}");
        }
    }
    let error = SentencePieceModel::open(&fixture("joint").join("vocab.json")).unwrap_err();
    assert!(matches!(error, TextError::SentencePiece { .. }), "{error}");
    let error = SentencePieceModel::open(Path::new("missing.spm")).unwrap_err();
    assert!(error.to_string().contains("missing.spm"), "{error}");
}

/// If both sides have the same files, there is one tokenizer; if they have the same list of pieces, one vocabulary.
#[test]
fn what_the_sides_share() {
    let shared = DIRECTORIES.map(|name| {
        let tokenizers = Tokenizers::open(&fixture(name)).unwrap();
        assert_eq!(tokenizers.source.eos_id(), 0);
        assert_eq!(
            tokenizers.source.pad_id() as usize + 1,
            tokenizers.source.vocabulary_size()
        );
        (tokenizers.is_shared(), tokenizers.is_shared_vocabulary())
    });
    assert_eq!(shared, [(false, false), (true, true), (false, true), (false, true)]);
}

/// A language code at the beginning of a line is a piece if the vocabulary has it, and otherwise the unknown piece, as
/// in transformers.
#[test]
fn language_codes() {
    let tokenizer = Tokenizers::open(&fixture("languages")).unwrap().source;
    assert_eq!(tokenizer.language_tags().collect::<Vec<_>>(), [">>deu<<", ">>fra<<"]);
    let text = tokenizer.encode("The train").unwrap();
    for (line, tag) in [
        (">>fra<<The train", ">>fra<<"),
        (">>ita<<The train", "<unk>"),
        (">> a <<The train", "<unk>"),
    ] {
        let ids = tokenizer.encode(line).unwrap();
        assert_eq!(
            (ids[0], &ids[1..]),
            (tokenizer.id(tag).unwrap(), text.as_slice()),
            "{line}"
        );
        let (found, rest) = tokenizer.split_language_tag(line).unwrap();
        assert_eq!((line.strip_suffix(rest), rest), (Some(found), "The train"));
    }
    for line in ["The >>fra<< train", ">>fra The train"] {
        let ids = tokenizer.encode(line).unwrap();
        assert!(!ids.contains(&tokenizer.id(">>fra<<").unwrap()), "{line}");
        assert_eq!(tokenizer.split_language_tag(line), None);
    }
    // To a model of one language, the tag is text; transformers removes it all the same.
    let tokenizer = Tokenizers::open(&fixture("joint")).unwrap().source;
    let (ours, theirs) = (
        tokenizer.encode(">>fra<<a"),
        tokenizer.encode_as_marian_tokenizer(">>fra<<a"),
    );
    assert!(ours.unwrap().len() > 3);
    assert_eq!(
        theirs.unwrap(),
        [&[tokenizer.unk_id()], tokenizer.encode("a").unwrap().as_slice()].concat()
    );
    assert_eq!(tokenizer.split_language_tag(">>fra<<a"), None);
}

/// Files are written as they were read, byte by byte, and clones of one side cannot be saved in another form.
#[test]
fn saved_as_read() {
    for name in DIRECTORIES {
        let tokenizers = Tokenizers::open(&fixture(name)).unwrap();
        let place = tempfile::tempdir().unwrap();
        tokenizers.save(place.path()).unwrap();
        let mut count = 0;
        for entry in std::fs::read_dir(place.path()).unwrap() {
            let path = entry.unwrap().path();
            let original = fixture(name).join(path.file_name().unwrap());
            assert_eq!(
                std::fs::read(&path).unwrap(),
                std::fs::read(original).unwrap(),
                "{}",
                path.display()
            );
            count += 1;
        }
        assert_eq!(count, if name == "separate" { 5 } else { 4 });
        let again = Tokenizers::open(place.path()).unwrap();
        assert_eq!(again.target, tokenizers.target);
        assert_eq!(again.source.sha256(), tokenizers.source.sha256());
        let error = tokenizers
            .source
            .save(&place.path().join("tokenizer.json"))
            .unwrap_err();
        assert!(error.to_string().contains("SentencePiece"), "{error}");
    }
    let place = copy("joint");
    std::fs::write(place.path().join("tokenizer.json"), "{}").unwrap();
    let tokenizers = Tokenizers::open(&fixture("joint")).unwrap();
    assert!(
        tokenizers
            .save(place.path())
            .unwrap_err()
            .to_string()
            .contains("tokenizer.json")
    );
}

/// The files that learned tokenizers write for `MarianTokenizer` give the same ids when they are read again.
#[test]
fn written_files_give_the_same_ids() {
    let learned = fixture("..").join("tokenizers");
    for name in ["bpe", "unigram", "char"] {
        let tokenizer = Tokenizer::open(&learned.join(format!("{name}.json"))).unwrap();
        let place = tempfile::tempdir().unwrap();
        Tokenizers::shared(tokenizer.clone())
            .save_marian_tokenizer(place.path())
            .unwrap();
        let read = Tokenizers::open(place.path()).unwrap();
        assert!(read.is_shared());
        let text = std::fs::read_to_string(fixture("joint").join("ids.json")).unwrap();
        let lines: Value = serde_json::from_str(&text).unwrap();
        for line in lines["lines"].as_array().unwrap() {
            let line = line.as_str().unwrap();
            let ids = tokenizer.encode(line).unwrap();
            assert_eq!(read.source.encode(line).unwrap(), ids, "{name}: {line:?}");
            assert_eq!(
                read.source.decode(&ids).unwrap(),
                tokenizer.decode(&ids).unwrap(),
                "{name}: {line:?}"
            );
        }
    }
}

/// Marian's own vocabularies: every piece except `<pad>` with its id, quoted as Marian's readers expect.
#[test]
fn yaml() {
    let place = tempfile::tempdir().unwrap();
    let tokenizers = Tokenizers::open(&fixture("languages")).unwrap();
    tokenizers.save_yaml(place.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(place.path().join(name)).unwrap();
    assert_eq!(read("source.yml"), read("target.yml"));
    let text = read("source.yml");
    assert_eq!(text.lines().count(), tokenizers.source.vocabulary_size() - 1);
    assert!(text.starts_with("\"</s>\": 0\n\"<unk>\": 1\n"), "{text}");
    assert!(!text.contains("<pad>"));

    let attempt = |piece: &str| {
        let copy = copy("joint");
        let vocabulary = serde_json::json!({ "</s>": 0, "<unk>": 1, piece: 2, "<pad>": 3 });
        std::fs::write(copy.path().join("vocab.json"), vocabulary.to_string()).unwrap();
        let written = Tokenizers::open(copy.path()).unwrap().save_yaml(copy.path());
        written.map(|()| std::fs::read_to_string(copy.path().join("source.yml")).unwrap())
    };
    let quoted = attempt(r#"a"b\c: d"#).unwrap();
    assert!(quoted.ends_with("\"a\\\"b\\\\c: d\": 2\n"), "{quoted}");
    for piece in ["a\nb", "a\rb", r"\x41"] {
        assert!(
            attempt(piece).unwrap_err().to_string().contains("source.yml"),
            "{piece:?}"
        );
    }
}

/// A file that is missing or damaged anywhere gives one error that names it, or can still be used. No case panics.
#[test]
fn damaged_models() {
    for name in ["joint", "separate"] {
        let whole = std::fs::read(fixture(name).join("source.spm")).unwrap();
        let place = copy(name);
        let path = place.path().join("source.spm");
        let mut refused = 0;
        let mut attempt = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            match Tokenizers::open(place.path()) {
                Ok(tokenizers) => {
                    let ids = tokenizers
                        .source
                        .encode("Two  ﬁne \u{200b}CHILDREN é <sep> walk 灯 BC")
                        .unwrap();
                    tokenizers.source.decode(&ids).unwrap();
                }
                Err(error) => {
                    assert!(error.to_string().contains("source.spm"), "{error}");
                    refused += 1;
                }
            }
        };
        for length in (0..whole.len()).step_by(whole.len() / 60) {
            attempt(&whole[..length]);
        }
        // One wrong byte; the map of characters and the trainer's settings lie at the end.
        for at in (0..whole.len()).step_by(whole.len() / 300) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x95;
            attempt(&bytes);
        }
        assert!(refused > 30, "{refused}");
        std::fs::remove_file(&path).unwrap();
        // Without this file, nothing shows that these are the files of a MarianTokenizer.
        let error = Tokenizers::open(place.path()).unwrap_err().to_string();
        assert!(error.contains("source.spm"), "{error}");
    }
}

#[test]
fn damaged_vocabularies() {
    let attempt = |contents: &str, parts: &[&str]| {
        let place = copy("joint");
        std::fs::write(place.path().join("vocab.json"), contents).unwrap();
        let error = Tokenizers::open(place.path()).unwrap_err().to_string();
        for part in ["vocab.json"].iter().chain(parts) {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    };
    attempt("", &[]);
    attempt("[1]", &[]);
    attempt(r#"{"</s>": 0, "<unk>": -1, "<pad>": 2}"#, &[]);
    attempt(r#"{"</s>": 0, "<unk>": 1}"#, &["<pad>"]);
    attempt(r#"{"</s>": 0, "<unk>": 1, "<pad>": 2, "a": 3}"#, &["<pad>", "3"]);
    attempt(r#"{"</s>": 0, "<unk>": 1, "a": 1, "<pad>": 2}"#, &["same id"]);
    attempt(r#"{"</s>": 0, "<unk>": 1, "<pad>": 4000000000}"#, &["4000000000"]);
    let place = copy("separate");
    std::fs::remove_file(place.path().join("target_vocab.json")).unwrap();
    let error = Tokenizers::open(place.path()).unwrap_err().to_string();
    assert!(error.contains("target_vocab.json"), "{error}");
}

/// The error names the thing that a failed download left in place of a file, and the way out.
#[test]
fn what_downloads_leave_behind() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    let spm = std::fs::read(fixture("joint").join("source.spm")).unwrap();
    let vocabulary = std::fs::read(fixture("joint").join("vocab.json")).unwrap();
    let cases: [(&str, &[u8], &str); 8] = [
        ("source.spm", pointer, "git lfs pull"),
        ("vocab.json", pointer, "git lfs pull"),
        ("tokenizer_config.json", pointer, "git lfs pull"),
        ("source.spm", b"", "empty"),
        ("vocab.json", b"", "empty"),
        ("vocab.json", b"<html>Sign in", "web page"),
        ("source.spm", &spm[..spm.len() / 2], "cut off"),
        ("vocab.json", &vocabulary[..vocabulary.len() / 2], "cut off"),
    ];
    for (name, contents, part) in cases {
        let place = copy("joint");
        std::fs::write(place.path().join(name), contents).unwrap();
        let error = Tokenizers::open(place.path()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(part), "{name}: {error}");
    }
    // A cut is noticed at any place among the pieces.
    for length in spm.len() / 4..spm.len() / 4 + 64 {
        let place = copy("joint");
        std::fs::write(place.path().join("source.spm"), &spm[..length]).unwrap();
        let error = Tokenizers::open(place.path()).unwrap_err().to_string();
        assert!(error.contains("cut off"), "{length}: {error}");
    }
}

/// A byte order mark is not part of JSON; written files have none.
#[test]
fn byte_order_marks() {
    let marked = |place: &Path, name: &str| {
        let text = std::fs::read(place.join(name)).unwrap();
        std::fs::write(place.join(name), [b"\xef\xbb\xbf", text.as_slice()].concat()).unwrap();
    };
    let line = "Two children walk";
    let place = copy("joint");
    let before = Tokenizers::open(place.path()).unwrap();
    marked(place.path(), "vocab.json");
    marked(place.path(), "tokenizer_config.json");
    let after = Tokenizers::open(place.path()).unwrap();
    assert_eq!(before.source.encode(line).unwrap(), after.source.encode(line).unwrap());
    let written = tempfile::tempdir().unwrap();
    after.save(written.path()).unwrap();
    let bytes = |place: &Path| std::fs::read(place.join("vocab.json")).unwrap();
    assert_eq!(bytes(written.path()), bytes(&fixture("joint")));

    let learned = Tokenizers::learn(
        &TextConfig {
            vocabulary: 300,
            ..TextConfig::default()
        },
        [line],
        [line],
        1,
    )
    .unwrap();
    learned.save(written.path()).unwrap();
    let path = written.path().join("tokenizer.json");
    let text = std::fs::read(&path).unwrap();
    marked(written.path(), "tokenizer.json");
    let opened = Tokenizer::open(&path).unwrap();
    assert_eq!(opened.to_json().unwrap().as_bytes(), text);
}
