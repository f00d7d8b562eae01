//! The way to a cut leads to that cut.

// Helper functions outside `#[test]` unwrap as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::path::Path;

use tallow_text::{Cut, Kind, TextConfig, Tokenizer, Tokenizers};

fn text() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text.txt");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// A vocabulary as it was learned, and as the files of `MarianTokenizer`.
fn both_forms(kind: Kind) -> [Tokenizers; 2] {
    let config = TextConfig {
        kind,
        vocabulary: 700,
        ..TextConfig::default()
    };
    let learned = Tokenizers::shared(Tokenizer::learn(&config, text(), 1).unwrap());
    let place = tempfile::tempdir().unwrap();
    learned.save_marian_tokenizer(place.path()).unwrap();
    [learned, Tokenizers::open(place.path()).unwrap()]
}

#[test]
fn merges_end_with_the_cut() {
    for tokenizers in both_forms(Kind::Bpe) {
        let tokenizer = &tokenizers.source;
        let mut merged = 0;
        for line in text() {
            let ids = tokenizer.encode(&line).unwrap();
            let Cut::Merges(words) = tokenizer.cut(&ids) else {
                panic!("a BPE vocabulary has merges")
            };
            let last: Vec<u32> = words.iter().flat_map(|steps| steps.last().unwrap().clone()).collect();
            assert_eq!(last, ids, "{line}");
            for steps in &words {
                assert!(steps.windows(2).all(|pair| pair[1].len() == pair[0].len() - 1));
                let text = |ids: &Vec<u32>| -> String { ids.iter().filter_map(|id| tokenizer.piece(*id)).collect() };
                assert!(steps.iter().all(|step| text(step) == text(&steps[0])));
                merged += steps.len() - 1;
            }
        }
        assert!(merged > 1000, "{merged}");
    }
}

#[test]
fn the_best_cut_is_the_cut() {
    for tokenizers in both_forms(Kind::Unigram) {
        let tokenizer = &tokenizers.source;
        let mut rivals = 0;
        for line in text() {
            let ids = tokenizer.encode(&line).unwrap();
            let Cut::Best(runs) = tokenizer.cut(&ids) else {
                panic!("a unigram vocabulary has a best cut")
            };
            let best: Vec<u32> = runs.iter().flat_map(|ranked| ranked[0].ids.clone()).collect();
            // Bytes belong to no run.
            let text = |ids: &[u32]| -> String { ids.iter().filter_map(|id| tokenizer.piece(*id)).collect() };
            if text(&best) == text(&ids) {
                assert_eq!(best, ids, "{line}");
            }
            for ranked in &runs {
                assert!(ranked.is_sorted_by(|a, b| a.log_probability >= b.log_probability));
                let different: HashSet<&Vec<u32>> = ranked.iter().map(|cut| &cut.ids).collect();
                assert_eq!(different.len(), ranked.len());
                assert!(ranked.iter().all(|cut| text(&cut.ids) == text(&ranked[0].ids)));
                rivals += ranked.len() - 1;
            }
        }
        assert!(rivals > 100, "{rivals}");
    }
}
