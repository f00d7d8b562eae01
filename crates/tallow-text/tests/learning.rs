//! Learned vocabularies: their ids, their sizes, and that learning gives the same result every time.

// Helper functions outside `#[test]` unwrap as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use tallow_text::{Kind, TextConfig, TextError, Tokenizer, Tokenizers};

const KINDS: [Kind; 4] = [Kind::Bpe, Kind::Unigram, Kind::Word, Kind::Char];

fn text_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text.txt")
}

fn text() -> Vec<String> {
    std::fs::read_to_string(text_file())
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn config(kind: Kind, vocabulary: usize, byte_fallback: bool) -> TextConfig {
    TextConfig {
        kind,
        vocabulary,
        byte_fallback,
        ..TextConfig::default()
    }
}

#[test]
fn special_pieces_have_their_places() {
    for kind in KINDS {
        for byte_fallback in [false, true] {
            let tokenizer = Tokenizer::learn(&config(kind, 500, byte_fallback), text(), 2).unwrap();
            let size = tokenizer.vocabulary_size();
            assert_eq!((tokenizer.eos_id(), tokenizer.piece(0)), (0, Some("</s>")));
            assert_eq!((tokenizer.unk_id(), tokenizer.piece(1)), (1, Some("<unk>")));
            let last = size as u32 - 1;
            assert_eq!((tokenizer.pad_id(), tokenizer.piece(last)), (last, Some("<pad>")));
            assert_eq!(tokenizer.piece(size as u32), None);

            let has_bytes = byte_fallback && kind != Kind::Word;
            assert_eq!(tokenizer.id("<0x00>"), has_bytes.then_some(2), "{kind}");
            assert_eq!(tokenizer.id("<0xFF>"), has_bytes.then_some(257), "{kind}");
            for id in 0..size as u32 {
                assert_eq!(tokenizer.id(tokenizer.piece(id).unwrap()), Some(id), "{kind}");
            }
        }
    }
}

#[test]
fn the_size_is_the_one_asked_for_if_the_text_has_that_many() {
    for (kind, byte_fallback) in [
        (Kind::Bpe, false),
        (Kind::Bpe, true),
        (Kind::Unigram, false),
        (Kind::Word, false),
    ] {
        for vocabulary in [260, 300] {
            let vocabulary = vocabulary + if byte_fallback { 256 } else { 0 };
            let tokenizer = Tokenizer::learn(&config(kind, vocabulary, byte_fallback), text(), 1).unwrap();
            assert_eq!(tokenizer.vocabulary_size(), vocabulary, "{kind}");
        }
    }
    for kind in KINDS {
        let tokenizer = Tokenizer::learn(&config(kind, 8000, false), ["a b ab", "b a"], 1).unwrap();
        let size = tokenizer.vocabulary_size();
        assert!((6..20).contains(&size), "{kind}: {size}");
        assert_eq!(tokenizer.pad_id() as usize, size - 1);
    }
}

#[test]
fn words_are_ranked_by_frequency_then_code_point() {
    let tokenizer = Tokenizer::learn(&config(Kind::Word, 7, false), ["b a c a", "b d"], 1).unwrap();
    let pieces: Vec<&str> = (0..7).map(|id| tokenizer.piece(id).unwrap()).collect();
    assert_eq!(pieces, ["</s>", "<unk>", "▁a", "▁b", "▁c", "▁d", "<pad>"]);
    let tokenizer = Tokenizer::learn(&config(Kind::Word, 5, false), ["b a c a", "b d"], 1).unwrap();
    assert_eq!(tokenizer.encode("d a").unwrap(), [1, 2]);
}

#[test]
fn learning_does_not_depend_on_threads() {
    let text: Vec<String> = text().iter().cycle().take(2_000).cloned().collect();
    for kind in KINDS {
        let config = config(kind, 480, true);
        let one = Tokenizer::learn(&config, &text, 1).unwrap();
        for threads in [2, 3] {
            let other = Tokenizer::learn(&config, &text, threads).unwrap();
            assert_eq!(one.to_json(), other.to_json(), "{kind} with {threads} threads");
        }
        assert_eq!(
            one.encode_batch(&text[..200], 1).unwrap(),
            one.encode_batch(&text[..200], 4).unwrap()
        );
    }
}

#[test]
fn too_many_characters_are_an_error_unless_coverage_allows() {
    for kind in [Kind::Bpe, Kind::Unigram, Kind::Char] {
        let mut config = config(kind, 60, false);
        let error = Tokenizer::learn(&config, text(), 1).unwrap_err();
        let TextError::VocabularyTooSmall { minimum, .. } = error else {
            panic!("{kind}: {error}")
        };
        assert!(
            error.to_string().starts_with("text.vocabulary: 60 pieces are too few"),
            "{error}"
        );

        config.vocabulary = minimum - 1;
        assert!(Tokenizer::learn(&config, text(), 1).is_err(), "{kind}");
        config.vocabulary = minimum;
        let tokenizer = Tokenizer::learn(&config, text(), 1).unwrap();
        assert_eq!(tokenizer.vocabulary_size(), minimum, "{kind}");

        config.vocabulary = 60;
        config.character_coverage = 0.9;
        let tokenizer = Tokenizer::learn(&config, text(), 1).unwrap();
        assert!(tokenizer.encode("灯").unwrap().contains(&tokenizer.unk_id()), "{kind}");
    }
}

#[test]
fn faults_of_the_config_and_of_the_text_are_errors() {
    let error = Tokenizer::learn(&config(Kind::Bpe, 10, true), text(), 1).unwrap_err();
    assert!(
        error.to_string().starts_with("text.vocabulary: must be at least"),
        "{error}"
    );
    let error = Tokenizer::learn(&config(Kind::Bpe, 500, true), [""; 3], 1).unwrap_err();
    assert!(matches!(error, TextError::NoText), "{error}");
    let error = Tokenizer::learn_from_files(&config(Kind::Bpe, 500, true), &["no/such.txt"], 1).unwrap_err();
    assert!(error.to_string().contains("no/such.txt"), "{error}");
}

#[test]
fn a_joint_vocabulary_is_one_tokenizer() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(Kind::Bpe, 400, true);
    let pair = Tokenizers::learn(&config, ["the cat"], ["die Katze"], 1).unwrap();
    assert!(pair.is_shared());
    let both = Tokenizer::learn(&config, ["the cat", "die Katze"], 1).unwrap();
    assert_eq!(pair.source, both);

    pair.save(directory.path()).unwrap();
    let names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["tokenizer.json"]);
    for path in [directory.path().to_owned(), directory.path().join("tokenizer.json")] {
        let opened = Tokenizers::open(&path).unwrap();
        assert!(opened.is_shared());
        assert_eq!(opened.target, pair.target);
        assert_eq!(opened.source.sha256(), pair.source.sha256());
    }
}

#[test]
fn separate_vocabularies_have_one_size() {
    for kind in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let config = TextConfig {
            shared: false,
            ..config(kind, 450, true)
        };
        let pair = Tokenizers::learn(&config, text(), ["a b", "b a"], 2).unwrap();
        assert!(!pair.is_shared());
        assert_eq!(pair.source.vocabulary_size(), pair.target.vocabulary_size(), "{kind}");
        assert_eq!(pair.source.pad_id(), pair.target.pad_id(), "{kind}");
        let first = pair.target.id("<extra0>").unwrap();
        assert_eq!(
            pair.target.piece(pair.target.pad_id() - 1).unwrap(),
            format!("<extra{}>", pair.target.pad_id() - first - 1)
        );
        assert_eq!(pair.source.id("<extra0>"), None);

        let mut ids = pair.target.encode("a b <extra0>").unwrap();
        assert!(!ids.contains(&first), "{kind}");
        ids.push(first);
        assert!(pair.target.decode(&ids).unwrap().starts_with("a b"), "{kind}");
        assert_eq!(pair.target.decode(&[first]).unwrap(), "", "{kind}");

        pair.save(directory.path()).unwrap();
        let opened = Tokenizers::open(directory.path()).unwrap();
        assert!(!opened.is_shared());
        assert_eq!(
            (opened.source, opened.target),
            (pair.source.clone(), pair.target.clone())
        );

        let error = Tokenizers::shared(pair.source).save(directory.path()).unwrap_err();
        assert!(matches!(error, TextError::AmbiguousTokenizer { .. }), "{error}");
    }
}

#[test]
fn folders_without_or_with_too_many_tokenizers_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let error = Tokenizers::open(directory.path()).unwrap_err();
    assert!(matches!(error, TextError::NoTokenizer { .. }), "{error}");
    for name in ["tokenizer.json", "tokenizer.source.json"] {
        std::fs::write(directory.path().join(name), "{}").unwrap();
    }
    let error = Tokenizers::open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("tokenizer.target.json"), "{error}");
    let error = Tokenizers::open(&directory.path().join("missing.json")).unwrap_err();
    assert!(error.to_string().contains("missing.json"), "{error}");
}

#[test]
fn a_saved_copy_is_the_same_and_nothing_else_remains() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokenizer.json");
    for kind in KINDS {
        let tokenizer = Tokenizer::learn(&config(kind, 450, true), text(), 1).unwrap();
        tokenizer.save(&path).unwrap();
        let opened = Tokenizer::open(&path).unwrap();
        assert_eq!(opened, tokenizer);
        assert_eq!(
            opened.encode(&text()[3]).unwrap(),
            tokenizer.encode(&text()[3]).unwrap()
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
    let error = Tokenizer::learn(&config(Kind::Char, 450, true), text(), 1)
        .unwrap()
        .save(&directory.path().join("none/tokenizer.json"))
        .unwrap_err();
    assert!(error.to_string().contains("none/tokenizer.json"), "{error}");
}
