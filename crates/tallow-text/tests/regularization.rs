//! Cuts drawn at random give the same text as the line, and vary as the config asks.

// Helper functions outside `#[test]` unwrap as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::path::Path;

use tallow_text::{Kind, SubwordSampler, TextConfig, TextError, Tokenizer, Tokenizers};

fn text() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text.txt");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Lines of the text, and lines that look like pieces.
fn lines() -> Vec<String> {
    let hostile = [
        "",
        "   ",
        "</s> <unk><pad> a</s>b",
        "<0x41><0xE2><0x96><0x81>",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "▁ ▁▁",
        "漢字 🙂 e\u{301} \u{10ffff}",
        "< <<a> <",
    ];
    let hostile = hostile.map(str::to_owned);
    text().into_iter().step_by(7).chain(hostile).collect()
}

fn config(kind: Kind, byte_fallback: bool) -> TextConfig {
    TextConfig {
        kind,
        vocabulary: 700,
        byte_fallback,
        ..TextConfig::default()
    }
}

fn dropout(rate: f64) -> TextConfig {
    TextConfig {
        bpe_dropout: rate,
        ..config(Kind::Bpe, true)
    }
}

fn alpha(alpha: f64) -> TextConfig {
    TextConfig {
        unigram_alpha: Some(alpha),
        ..config(Kind::Unigram, true)
    }
}

fn learned(kind: Kind, byte_fallback: bool) -> Tokenizers {
    Tokenizers::shared(Tokenizer::learn(&config(kind, byte_fallback), text(), 1).unwrap())
}

/// A directory as other programs write it.
fn marian(tokenizers: &Tokenizers) -> Tokenizers {
    let place = tempfile::tempdir().unwrap();
    tokenizers.save_marian_tokenizer(place.path()).unwrap();
    Tokenizers::open(place.path()).unwrap()
}

fn sampler(tokenizers: &Tokenizers, config: &TextConfig) -> SubwordSampler {
    let [source, _] = tokenizers.samplers(config).unwrap().unwrap();
    source
}

fn uniform(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Checks that every cut is in the vocabulary, gives the same text, and has no piece that text cannot have.
#[track_caller]
fn assert_says_the_same(tokenizer: &Tokenizer, sampler: &SubwordSampler) {
    let mut uniform = uniform(11);
    let mut differ = 0;
    for line in lines() {
        let ids = tokenizer.encode(&line).unwrap();
        let expected = tokenizer.decode(&ids).unwrap();
        for _ in 0..4 {
            let cut = sampler.sample(&ids, &mut uniform);
            assert_eq!(tokenizer.decode(&cut).unwrap(), expected, "{ids:?} {cut:?}");
            let odd = |id: &&u32| (**id == tokenizer.eos_id() || **id == tokenizer.pad_id()) && !ids.contains(id);
            assert_eq!(cut.iter().find(odd), None, "{line:?}");
            differ += usize::from(cut != ids);
        }
    }
    assert!(differ > 5, "{differ} cuts differ");
}

#[test]
fn cuts_say_the_same() {
    for bytes in [true, false] {
        let bpe = learned(Kind::Bpe, bytes);
        let unigram = learned(Kind::Unigram, bytes);
        for rate in [0.1, 0.5, 1.0] {
            assert_says_the_same(&bpe.source, &sampler(&bpe, &dropout(rate)));
        }
        for power in [0.0, 0.3, 1.0] {
            assert_says_the_same(&unigram.source, &sampler(&unigram, &alpha(power)));
        }
        let (bpe, unigram) = (marian(&bpe), marian(&unigram));
        assert_says_the_same(&bpe.source, &sampler(&bpe, &dropout(0.3)));
        assert_says_the_same(&unigram.source, &sampler(&unigram, &alpha(0.3)));
    }
}

/// If almost no merge is dropped, the cuts are those of the `tokenizers` library and of the SentencePiece model.
#[test]
fn cuts_without_chance_are_those_of_the_tokenizer() {
    for bytes in [true, false] {
        let bpe = learned(Kind::Bpe, bytes);
        for tokenizers in [bpe.clone(), marian(&bpe)] {
            let sampler = sampler(&tokenizers, &dropout(1e-300));
            for line in lines() {
                let ids = tokenizers.source.encode(&line).unwrap();
                assert_eq!(sampler.sample(&ids, &mut uniform(1)), ids, "{line:?}");
            }
        }
        let unigram = learned(Kind::Unigram, bytes);
        for tokenizers in [unigram.clone(), marian(&unigram)] {
            // Only the best cut remains; among equally good cuts, any may be drawn.
            let sampler = sampler(&tokenizers, &alpha(1e6));
            let all = lines();
            let same = all.iter().filter(|line| {
                let ids = tokenizers.source.encode(line).unwrap();
                sampler.sample(&ids, &mut uniform(1)) == ids
            });
            let same = same.count();
            assert!(same * 10 >= all.len() * 9, "{same} of {}", all.len());
        }
    }
}

#[test]
fn pieces_become_shorter_with_the_rate() {
    let bpe = learned(Kind::Bpe, true);
    let pieces = |rate: f64| {
        let sampler = sampler(&bpe, &dropout(rate));
        let mut uniform = uniform(5);
        let cut = |line: &String| sampler.sample(&bpe.source.encode(line).unwrap(), &mut uniform).len();
        text().iter().map(cut).sum::<usize>()
    };
    let counts = [1e-300, 0.1, 0.5, 1.0].map(pieces);
    assert!(counts.is_sorted(), "{counts:?}");
    assert!(counts[1] * 10 > counts[0] * 11, "{counts:?}");
    // Only single characters, except those that are spelled in bytes.
    let characters: HashSet<u32> = text()
        .iter()
        .flat_map(|line| {
            let ids = bpe.source.encode(line).unwrap();
            sampler(&bpe, &dropout(1.0)).sample(&ids, &mut uniform(1))
        })
        .collect();
    for id in characters {
        let piece = bpe.source.piece(id).unwrap();
        assert!(piece.chars().count() == 1 || piece.starts_with("<0x"), "{piece}");
    }
}

#[test]
fn the_vocabulary_must_be_of_the_kind() {
    for (tokenizers, config, key) in [
        (learned(Kind::Unigram, true), dropout(0.1), "text.bpe_dropout: needs"),
        (learned(Kind::Word, false), dropout(0.1), "text.bpe_dropout: needs"),
        (learned(Kind::Char, true), dropout(0.1), "text.bpe_dropout: needs"),
        (learned(Kind::Bpe, true), alpha(0.1), "text.unigram_alpha: needs"),
        (
            marian(&learned(Kind::Bpe, true)),
            alpha(0.1),
            "text.unigram_alpha: needs",
        ),
        (
            marian(&learned(Kind::Unigram, true)),
            dropout(0.1),
            "text.bpe_dropout: needs",
        ),
    ] {
        let error: TextError = tokenizers.samplers(&config).unwrap_err();
        assert!(error.to_string().starts_with(key), "{error}");
    }
    // Pieces that do not show the spaces between words, as in a tokenizer of plain words.
    let json = r#"{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": null, "decoder": null, "model": {"type": "BPE", "vocab": {"</s>": 0, "a": 1, "b": 2, "ab": 3},
        "merges": [["a", "b"]]}}"#;
    let plain_words = Tokenizers::shared(Tokenizer::from_json(json).unwrap());
    let error = plain_words.samplers(&dropout(0.1)).unwrap_err();
    assert!(error.to_string().contains("show where words begin"), "{error}");
    let metaspace = json.replace(
        r#"{"type": "Whitespace"}"#,
        r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}"#,
    );
    let metaspace = Tokenizers::shared(Tokenizer::from_json(&metaspace).unwrap());
    assert!(metaspace.samplers(&dropout(0.1)).unwrap().is_some());
    let plain = config(Kind::Bpe, true);
    assert!(learned(Kind::Bpe, true).samplers(&plain).unwrap().is_none());
}
