//! The vocabularies of the Marian toolkit. Whether lines get Marian's own ids is tested in tallow-decode, which
//! compares its translations.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use tallow_text::{TextError, Tokenizer, Tokenizers};

const WORDS: &str = "</s>: 0\n<unk>: 1\none: 2\n\"-\": 3\n\"\\\"\": 4\ntwo: 5\n";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/marian")
        .join(name)
}

/// Opens one vocabulary for both sides.
fn open(name: &str, contents: &[u8], rows: usize) -> Result<Tokenizers, TextError> {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(name);
    fs::write(&path, contents).unwrap();
    Tokenizers::open_marian([&path, &path], [rows, rows])
}

/// Checks that a copy of the tokenizers gives the same ids and texts.
fn check_copy(tokenizers: &Tokenizers, lines: &[&str]) {
    let place = tempfile::tempdir().unwrap();
    tokenizers.save(place.path()).unwrap();
    let copy = Tokenizers::open(place.path()).unwrap();
    assert_eq!(copy.is_shared(), tokenizers.is_shared());
    let both = |of: fn(&Tokenizers) -> &Tokenizer| (of(tokenizers).clone(), of(&copy).clone());
    for (ours, theirs) in [both(|sides| &sides.source), both(|sides| &sides.target)] {
        for line in lines {
            let ids = ours.encode(line).unwrap();
            assert_eq!(ids, theirs.encode(line).unwrap());
            assert_eq!(ours.decode(&ids).unwrap(), theirs.decode(&ids).unwrap());
        }
    }
}

#[test]
fn words_stand_between_spaces() {
    let tokenizers = open("vocab.yml", WORDS.as_bytes(), 6).unwrap();
    assert!(tokenizers.is_shared());
    let tokenizer = &tokenizers.source;
    assert_eq!((tokenizer.vocabulary_size(), tokenizer.pad_id()), (7, 6));
    assert_eq!((tokenizer.eos_id(), tokenizer.unk_id()), (0, 1));
    // A word in another case, with another space, or a whole phrase is a different word.
    for (line, ids) in [
        ("one - two", &[2, 3, 5][..]),
        ("  one   \" ", &[2, 4]),
        ("One two-one", &[1, 1]),
        ("one\ttwo", &[1]),
        ("one </s> <pad> <unk>", &[2, 1, 1, 1]),
        ("", &[]),
    ] {
        assert_eq!(tokenizer.encode(line).unwrap(), ids, "{line:?}");
    }
    assert_eq!(tokenizer.decode(&[2, 3, 5, 0]).unwrap(), "one - two");
    check_copy(&tokenizers, &["one - two", "three", ""]);
}

#[test]
fn other_lists() {
    let json = r#"{"eos": 0, "UNK": 1, "two": 3, "one": 2}"#;
    let tokenizer = open("vocab.json", json.as_bytes(), 4).unwrap().source;
    assert_eq!(tokenizer.encode("one two three").unwrap(), [2, 3, 1]);
    // Words beyond the model's size are unknown.
    let tokenizer = open("vocab.yml", WORDS.as_bytes(), 4).unwrap().source;
    assert_eq!(tokenizer.encode("one - two").unwrap(), [2, 3, 1]);
    let place = tempfile::tempdir().unwrap();
    let [source, target] = ["a.yml", "b.yml"].map(|name| place.path().join(name));
    fs::write(&source, WORDS).unwrap();
    fs::write(&target, "</s>: 0\n<unk>: 1\neins: 2\n").unwrap();
    let tokenizers = Tokenizers::open_marian([&source, &target], [6, 3]).unwrap();
    assert!(!tokenizers.is_shared());
    assert_eq!(tokenizers.target.encode("eins one").unwrap(), [2, 1]);
    check_copy(&tokenizers, &["one eins"]);
}

/// The ids of pieces are those of the model; `vocab.json` of this fixture has the same ids.
#[test]
fn sentencepiece_models_have_ids_of_their_own() {
    let model = fixture("joint").join("source.spm");
    let theirs = Tokenizers::open(&fixture("joint")).unwrap();
    let rows = theirs.source.vocabulary_size() - 1;
    let ours = Tokenizers::open_marian([&model, &model], [rows, rows]).unwrap();
    assert!(ours.is_shared());
    assert_eq!(ours.source.pad_id() as usize, rows);
    let lines = ["The old lighthouse.", "Äpfel und Brot", "x \u{1f600}", ""];
    for line in lines {
        let ids = ours.source.encode(line).unwrap();
        assert_eq!(ids, theirs.source.encode(line).unwrap(), "{line}");
        assert_eq!(ours.source.decode(&ids).unwrap(), theirs.source.decode(&ids).unwrap());
    }
    check_copy(&ours, &lines);
    let refused = Tokenizers::open_marian([&model, &model], [rows, rows + 1]).unwrap_err();
    assert!(refused.to_string().contains("rows of the model"), "{refused}");
}

/// The form of OPUS-MT, and of `save_yaml`: SentencePiece models cut the text, and lists give the ids.
#[test]
fn lists_beside_sentencepiece_models() {
    let place = tempfile::tempdir().unwrap();
    let theirs = Tokenizers::open(&fixture("separate")).unwrap();
    theirs.save_yaml(place.path()).unwrap();
    let [source, target] = ["source.yml", "target.yml"].map(|name| place.path().join(name));
    for name in ["source.spm", "target.spm"] {
        fs::copy(fixture("separate").join(name), place.path().join(name)).unwrap();
    }
    let rows = [&theirs.source, &theirs.target].map(|side| side.pad_id() as usize);
    let ours = Tokenizers::open_marian([&source, &target], rows).unwrap();
    for line in ["The old lighthouse.", "Äpfel und Brot", "x \u{1f600}"] {
        assert_eq!(
            ours.source.encode(line).unwrap(),
            theirs.source.encode(line).unwrap(),
            "{line}"
        );
        assert_eq!(
            ours.target.encode(line).unwrap(),
            theirs.target.encode(line).unwrap(),
            "{line}"
        );
    }
    check_copy(&ours, &["The old lighthouse."]);
}

#[test]
fn what_does_not_fit_is_refused() {
    for (name, contents, rows, part) in [
        ("vocab.yml", WORDS, 7, "6 words or pieces for the 7 rows"),
        ("vocab.yml", "</s>: 0\none: 1\n", 2, "\"<unk>\" is none, but must be 1"),
        ("vocab.yml", "<unk>: 0\n</s>: 1\n", 2, "\"</s>\" is 1, but must be 0"),
        (
            "vocab.yml",
            "</s>: 0\n<unk>: 1\n<pad>: 2\n",
            3,
            "a \"<pad>\" of its own",
        ),
        ("vocab.yml", "</s>: 0\n<unk>: 1\na: 2\na: 3\n", 4, "occurs twice"),
        (
            "vocab.yml",
            "</s>: 0\n<unk>: 1\na: 2\nb: 2\n",
            4,
            "\"b\" has the id 2, which another word has",
        ),
        ("vocab.yml", "</s>: 0\n<unk>: 1\nhal", 3, "line 3"),
        ("vocab.yml", "", 3, "empty"),
        ("vocab.yml", "<!doctype html><p>Sign in", 3, "web page"),
        ("vocab.json", "{\"</s>\": 0, ", 3, "cut off"),
        ("vocab.json", "{\"</s>\": -1}", 3, "no id"),
        ("vocab.fsv", "words", 3, "neither a .spm nor a .yml"),
        ("vocab.spm", "words", 3, "not a SentencePiece model"),
    ] {
        let error = open(name, contents.as_bytes(), rows).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains(name), "{contents}: {error}");
    }
    let error = open("vocab.yml", b"</s>: 0\n\xff: 1\n", 3).unwrap_err().to_string();
    assert!(error.contains("UTF-8"), "{error}");
    let missing = Tokenizers::open_marian([Path::new("/nowhere/a.spm"), Path::new("/nowhere/b.spm")], [3, 3]);
    assert!(missing.unwrap_err().to_string().contains("/nowhere/a.spm"));
}
