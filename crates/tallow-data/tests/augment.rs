//! Changed pairs in batches: which epochs have them, what joined pairs look like, and that nothing else changes.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use tallow_data::{
    AugmentConfig, Augmentation, Cuts, DataConfig, DataError, Example, Link, Pair, PairSource, PartOfPairs, Sampler,
};

const END: u32 = 0;
const PREFIX: u32 = 1;
const SPACE: u32 = ' ' as u32;

/// Pairs of one word each, `w0`, `w1` and so on, one token for each character; those of the second half have a prefix.
#[derive(Debug)]
struct Words {
    count: usize,
    cuts: Cuts,
}

fn tokens(text: &str) -> Vec<u32> {
    text.chars().map(|c| if c == '>' { PREFIX } else { c as u32 }).collect()
}

fn text(tokens: &[u32]) -> Option<String> {
    let character = |token: &u32| {
        if *token == PREFIX {
            Some('>')
        } else {
            char::from_u32(*token)
        }
    };
    tokens.iter().map(character).collect()
}

/// As `text`, but without the space behind a prefix that was taken away.
fn bare_text(tokens: &[u32]) -> Option<String> {
    Some(text(tokens)?.trim_start().to_owned())
}

impl Words {
    fn line(&self, number: usize) -> String {
        match number < self.count / 2 {
            true => format!("w{number}"),
            false => format!("> w{number}"),
        }
    }
}

impl PairSource for Words {
    fn parts(&self) -> Vec<PartOfPairs> {
        let part = |pairs| PartOfPairs { pairs, weight: 1.0 };
        vec![part(0..self.count / 2), part(self.count / 2..self.count)]
    }

    fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    fn read(&self, indices: &[usize], visit: &mut dyn FnMut(Pair<'_>)) -> Result<(), DataError> {
        for index in indices {
            let mut source = tokens(&self.line(*index));
            source.push(END);
            let link = Link {
                source: 0,
                target: 0,
                is_sure: true,
            };
            visit(Pair {
                id: *index as u64,
                source: &source,
                target: &source,
                links: &[link],
            });
        }
        Ok(())
    }
}

const NONE: AugmentConfig = AugmentConfig {
    upper_case: 0.0,
    title_case: 0.0,
    typos: 0.0,
    punctuation: 0.0,
    placeholders: 0.0,
    merge: 0.0,
};

fn words_of(tokens: &[u32]) -> Vec<u32> {
    let mut words = 0;
    let number = |token: &u32| {
        words += u32::from(*token == SPACE);
        words
    };
    tokens.iter().map(number).collect()
}

fn sampler(config: AugmentConfig, longest: usize) -> Sampler {
    let count = 400;
    let to_text = || -> tallow_data::ToText { Box::new(bare_text) };
    let to_tokens = || -> tallow_data::ToTokens { Box::new(|text| Some(tokens(text))) };
    let prefix = [Some(">".to_owned()), Some(">".to_owned())];
    let augmentation = Augmentation {
        config,
        to_text: [to_text(), to_text()],
        to_tokens: [to_tokens(), to_tokens()],
        prefixes: vec![(0..count / 2, [None, None]), (count / 2..count, prefix)],
    };
    let cuts = Cuts::default()
        .with_words(Box::new(words_of), Box::new(words_of))
        .augmented(augmentation, longest);
    let config = DataConfig {
        batch_tokens: 200,
        pool_pairs: 150,
        ..DataConfig::default()
    };
    Sampler::new(Arc::new(Words { count, cuts }), &config, 3)
}

fn examples(sampler: &Sampler, epoch: u64) -> Vec<Example> {
    let mut all = Vec::new();
    for number in 0..sampler.windows() {
        let window = sampler.window(epoch, number).unwrap();
        all.extend((0..window.len()).flat_map(|batch| window.batch(batch).examples));
    }
    all
}

fn lines(examples: &[Example]) -> Vec<[String; 2]> {
    let line = |tokens: &[u32]| text(tokens.strip_suffix(&[END]).unwrap()).unwrap();
    examples
        .iter()
        .map(|pair| [line(&pair.source), line(&pair.target)])
        .collect()
}

#[test]
fn changed_pairs_are_a_share_and_the_same_again() {
    let upper = AugmentConfig {
        upper_case: 0.25,
        ..NONE
    };
    let sampler = sampler(upper, 100);
    let first = lines(&examples(&sampler, 0));
    assert_eq!(first.len(), 400);
    let changed = first.iter().filter(|[source, _]| source.contains('W')).count();
    assert!((60..140).contains(&changed), "{changed}");
    assert!(first.iter().all(|[source, target]| source == target));
    assert_eq!(first, lines(&examples(&sampler.clone().with_threads(3), 0)));
    assert_ne!(
        first
            .iter()
            .filter(|[source, _]| source.contains('W'))
            .collect::<Vec<_>>(),
        lines(&examples(&sampler, 1))
            .iter()
            .filter(|[source, _]| source.contains('W'))
            .collect::<Vec<_>>()
    );
}

#[test]
fn changes_that_are_too_long_are_not_made() {
    let long = AugmentConfig {
        placeholders: 1.0,
        ..NONE
    };
    // `> w399</s>` has seven tokens: no room for anything.
    let stays = lines(&examples(&sampler(long.clone(), 7), 0));
    let length = |line: &str| line.chars().count();
    assert!(stays.iter().all(|[source, _]| length(source) <= 6), "{stays:?}");
    let short = stays.iter().filter(|[source, _]| source.starts_with('w'));
    assert!(short.filter(|[source, _]| source.contains(' ')).count() > 20);
    let changed = lines(&examples(&sampler(long, 100), 0));
    let is_changed = |line: &str| line.trim_start_matches("> ").contains([' ', '<']);
    assert!(changed.iter().all(|[source, _]| is_changed(source)));
    assert!(changed.iter().filter(|[source, _]| source.starts_with("> ")).count() == 200);
}

#[test]
fn joined_pairs_keep_every_word_once_and_their_links() {
    let merge = AugmentConfig { merge: 0.5, ..NONE };
    for epoch in 0..3 {
        let found = examples(&sampler(merge.clone(), 100), epoch);
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut most = 0;
        for (example, [source, target]) in found.iter().zip(lines(&found)) {
            assert_eq!(source, target);
            // The words come one after another without a space in this vocabulary: `w1w25`; a prefix comes once.
            let bare = source.strip_prefix("> ").unwrap_or(&source);
            assert!(!bare.contains('>'), "{source}");
            let words: Vec<&str> = bare.split('w').skip(1).map(str::trim).collect();
            let is_second = source.starts_with('>');
            for word in &words {
                assert_eq!(word.parse::<usize>().unwrap() >= 200, is_second, "{source}");
                *seen.entry((*word).to_owned()).or_default() += 1;
            }
            most = most.max(words.len());
            assert_eq!(example.source.iter().filter(|token| **token == END).count(), 1);
            assert!(example.links.len() >= words.len(), "{source}: {:?}", example.links);
        }
        assert_eq!((seen.len(), seen.values().max(), most), (400, Some(&1), 4));
        assert!(found.len() < 320, "{}", found.len());
    }
    // Nothing longer than allowed.
    let found = examples(&sampler(merge, 9), 0);
    assert!(found.iter().all(|example| example.source.len() <= 9));
    assert!(found.iter().any(|example| example.source.len() > 7));
}
