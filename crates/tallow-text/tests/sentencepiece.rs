//! Learned vocabularies as SentencePiece models: the bytes equal those of the message in Python, and the ids equal
//! those that the SentencePiece library gives (`scripts/fixtures/sentencepiece_ids.py`).

// Helper functions outside `#[test]` unwrap as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use tallow_text::{TextError, Tokenizer, Tokenizers};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::open(&fixtures().join(format!("tokenizers/{name}.json"))).unwrap()
}

#[test]
fn bytes_and_ids_are_those_of_the_library() {
    let text = std::fs::read_to_string(fixtures().join("sentencepiece_ids.json")).unwrap();
    let fixture: Value = serde_json::from_str(&text).unwrap();
    let lines: Vec<&str> = fixture["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    let models = fixture["models"].as_object().unwrap();
    assert!(lines.len() > 100 && models.len() == 4);
    for (name, expected) in models {
        let tokenizer = tokenizer(name);
        let digest = Sha256::digest(tokenizer.to_sentencepiece().unwrap());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(expected["sha256"], digest, "{name}");
        for (line, ids) in lines.iter().zip(expected["ids"].as_array().unwrap()) {
            let ours = Value::from(tokenizer.encode(line).unwrap());
            assert_eq!(ours, *ids, "{name}: {line:?}");
        }
    }
}

/// A tokenizer that SentencePiece cannot express is refused, and the error names the key that causes it.
#[test]
fn others_are_refused() {
    for (name, reason) in [
        ("word", "text.kind"),
        ("bpe-nfkc-no-bytes", "text.normalization"),
        ("unigram-nfc-no-bytes", "text.normalization"),
    ] {
        let error = tokenizer(name).to_sentencepiece().unwrap_err().to_string();
        assert!(error.contains(reason), "{name}: {error}");
    }
    // One merge fewer than the pieces allow: SentencePiece would still apply it.
    let mut json: Value = serde_json::from_str(tokenizer("bpe").to_json().unwrap()).unwrap();
    json["model"]["merges"].as_array_mut().unwrap().pop();
    let error = Tokenizer::from_json(&json.to_string())
        .unwrap()
        .to_sentencepiece()
        .unwrap_err();
    assert!(matches!(error, TextError::NoSentencePiece { .. }));
}

/// The files of Hugging Face's tokenizer, joint and separate; none are written if a side cannot be expressed.
#[test]
fn marian_files() {
    let names = |directory: &Path| {
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let read = |path: PathBuf| -> Value { serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap() };
    let (bpe, unigram) = (tokenizer("bpe"), tokenizer("unigram"));

    let place = tempfile::tempdir().unwrap();
    Tokenizers::shared(bpe.clone())
        .save_marian_tokenizer(place.path())
        .unwrap();
    let common = ["source.spm", "target.spm", "tokenizer_config.json", "vocab.json"];
    assert_eq!(names(place.path()), common);
    let vocabulary = read(place.path().join("vocab.json"));
    assert_eq!(vocabulary.as_object().unwrap().len(), bpe.vocabulary_size());
    for id in 0..bpe.vocabulary_size() as u32 {
        assert_eq!(vocabulary[bpe.piece(id).unwrap()], id);
    }
    assert_eq!(
        read(place.path().join("tokenizer_config.json"))["separate_vocabs"],
        false
    );

    let place = tempfile::tempdir().unwrap();
    Tokenizers::separate(bpe.clone(), unigram.clone())
        .save_marian_tokenizer(place.path())
        .unwrap();
    assert_eq!(names(place.path()).len(), 5);
    assert_eq!(
        read(place.path().join("tokenizer_config.json"))["separate_vocabs"],
        true
    );
    assert_eq!(read(place.path().join("target_vocab.json"))["<pad>"], unigram.pad_id());
    assert_eq!(
        std::fs::read(place.path().join("target.spm")).unwrap(),
        unigram.to_sentencepiece().unwrap()
    );

    let place = tempfile::tempdir().unwrap();
    let error = Tokenizers::separate(bpe, tokenizer("word"))
        .save_marian_tokenizer(place.path())
        .unwrap_err();
    assert!(matches!(error, TextError::NoSentencePiece { .. }));
    assert!(names(place.path()).is_empty());
}
