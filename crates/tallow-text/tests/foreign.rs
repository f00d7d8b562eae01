//! Files that were not written here: valid files of other programs, and broken ones.

// Helper functions outside `#[test]` unwrap as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use tallow_text::{TextError, Tokenizer};

/// A tokenizer like BERT's: a template, truncation, padding and special added tokens.
fn bert() -> Value {
    let added = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [added(0, "[PAD]"), added(1, "[UNK]"), added(2, "[CLS]"), added(3, "[SEP]")],
        "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": false},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100,
                  "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "the": 4, "cat": 5, "##s": 6, "sat": 7}}
    })
}

/// A byte-level tokenizer like GPT-2's, with neither unknown piece nor padding, and with dropout.
fn gpt() -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 5, "content": "<|endoftext|>", "single_word": false, "lstrip": false,
                          "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": 0.5, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": {"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġab": 4, "<|endoftext|>": 5},
                  "merges": [["a", "b"], ["Ġ", "ab"]]}
    })
}

fn open(value: &Value) -> Result<Tokenizer, TextError> {
    Tokenizer::from_json(&value.to_string())
}

#[test]
fn a_bert_file_is_used_without_its_trimmings() {
    let tokenizer = open(&bert()).unwrap();
    assert_eq!((tokenizer.eos_id(), tokenizer.unk_id(), tokenizer.pad_id()), (3, 1, 8));
    // [PAD] is not the last piece, so one is appended.
    assert_eq!(tokenizer.vocabulary_size(), 9);
    // No [CLS], no cut after four pieces, no padding to sixteen.
    assert_eq!(
        tokenizer.encode("the cats sat the cats").unwrap(),
        [4, 5, 6, 7, 4, 5, 6]
    );
    assert_eq!(
        tokenizer.pieces("the cats dog").unwrap(),
        ["the", "cat", "##s", "[UNK]"]
    );
    assert_eq!(tokenizer.decode(&[2, 4, 5, 6, 1, 3, 0]).unwrap(), "the cats [UNK]");
    // The model has whole words for these: they must not end or pad a line.
    assert_eq!(tokenizer.encode("the [SEP] [PAD] sat").unwrap(), [4, 1, 1, 7]);
}

#[test]
fn missing_pieces_are_appended() {
    let tokenizer = open(&gpt()).unwrap();
    assert_eq!((tokenizer.eos_id(), tokenizer.unk_id(), tokenizer.pad_id()), (5, 6, 7));
    assert_eq!(tokenizer.vocabulary_size(), 8);
    assert_eq!((tokenizer.piece(7), tokenizer.id("<pad>")), (Some("<pad>"), Some(7)));
    assert_eq!(tokenizer.decode(&[3, 4, 5, 7]).unwrap(), "ab ab");
}

#[test]
fn dropout_is_off() {
    let tokenizer = open(&gpt()).unwrap();
    for _ in 0..50 {
        assert_eq!(tokenizer.encode("ab ab").unwrap(), [3, 4]);
    }
}

#[test]
fn the_file_is_kept_byte_by_byte() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("a.json"), directory.path().join("b.json"));
    let text = serde_json::to_string_pretty(&bert()).unwrap() + "\n\n";
    std::fs::write(&first, &text).unwrap();
    let tokenizer = Tokenizer::open(&first).unwrap();
    tokenizer.save(&second).unwrap();
    assert_eq!(std::fs::read_to_string(&second).unwrap(), text);
    assert_eq!(Tokenizer::open(&second).unwrap().sha256(), tokenizer.sha256());
}

#[test]
fn the_digest_is_that_of_the_file() {
    // SHA256SUMS was written by Python.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tokenizers/word.json");
    let listed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tokenizers/SHA256SUMS");
    let listed = std::fs::read_to_string(listed).unwrap();
    let expected = listed
        .lines()
        .find_map(|line| line.strip_suffix("  word.json"))
        .unwrap();
    assert_eq!(Tokenizer::open(path.as_ref()).unwrap().sha256(), expected);
}

#[track_caller]
fn assert_refused(value: &Value, parts: &[&str]) {
    let message = open(value).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn a_file_without_an_end_is_refused() {
    let mut value = bert();
    value["added_tokens"].as_array_mut().unwrap().pop();
    value["model"]["vocab"].as_object_mut().unwrap().remove("[SEP]");
    assert_refused(&value, &["end of a sentence", "</s>", "[SEP]"]);
}

#[test]
fn merges_outside_the_vocabulary_are_refused() {
    let mut value = gpt();
    value["model"]["merges"] = json!([["ab", "Ġab"]]);
    assert_refused(&value, &["\"ab\"", "\"Ġab\"", "not in the vocabulary"]);
    value["model"]["merges"] = json!(["ab Ġab"]);
    assert_refused(&value, &["not in the vocabulary"]);
    value["model"]["merges"] = json!(["abab"]);
    assert_refused(&value, &[]);
    value["model"]["merges"] = json!(["c d"]);
    assert_refused(&value, &[]);
}

#[test]
fn renumbered_added_tokens_are_refused() {
    let mut value = gpt();
    value["added_tokens"][0]["id"] = json!(50_256);
    assert_refused(&value, &["<|endoftext|>", "50256", "5"]);
}

#[test]
fn stray_ids_are_refused() {
    let mut value = gpt();
    value["model"]["vocab"]["Ġab"] = json!(4_000_000_000_u32);
    assert_refused(&value, &["4000000000"]);
}

#[test]
fn broken_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broken.json");
    let whole = gpt().to_string();
    for length in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        std::fs::write(&path, whole.get(..length).unwrap_or("[")).unwrap();
        let message = Tokenizer::open(&path).unwrap_err().to_string();
        assert!(message.contains("broken.json"), "{message}");
    }
    for text in [
        "null",
        "[]",
        "{}",
        "3",
        r#"{"version": "9.0"}"#,
        r#"{"version": "1.0", "model": {"type": "BPE"}}"#,
    ] {
        std::fs::write(&path, text).unwrap();
        let message = Tokenizer::open(&path).unwrap_err().to_string();
        assert!(message.contains("broken.json"), "{text}: {message}");
    }
    std::fs::write(&path, b"\xff\xfe").unwrap();
    assert!(Tokenizer::open(&path).unwrap_err().to_string().contains("broken.json"));
}
