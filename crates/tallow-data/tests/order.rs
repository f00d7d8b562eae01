//! The order of the data: the pairs of an epoch, how they are cut into batches, and how a run resumes.
#![allow(clippy::unwrap_used)] // Helpers here fail the test that calls them.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;

use tallow_data::{
    Batch, BatchStream, Corpus, Cursor, Cuts, DataConfig, DataError, Example, Filters, Pair, PairSource, ParallelText,
    PartOfPairs, ReadReport, Sampler, fixed_batches,
};

/// A text whose lines have these numbers of tokens.
fn text(lengths: &[(usize, usize)], weight: f64) -> ParallelText {
    let lines = |side: fn(&(usize, usize)) -> usize| lengths.iter().map(|pair| side(pair).to_string()).collect();
    let (source, target) = (lines(|pair| pair.0), lines(|pair| pair.1));
    ParallelText {
        source,
        target,
        weight,
        alignments: None,
        report: ReadReport::default(),
        files: Vec::new(),
    }
}

fn encode(lines: &[&str]) -> Result<Vec<Vec<u32>>, Infallible> {
    Ok(lines.iter().map(|line| (0..line.parse().unwrap()).collect()).collect())
}

fn corpus(texts: &[ParallelText]) -> Arc<Corpus> {
    Arc::new(Corpus::build(texts, 0, &Filters::NONE, encode, encode).unwrap())
}

/// Varying lengths; the two sides are somewhat similar.
fn lengths(count: usize) -> Vec<(usize, usize)> {
    (0..count)
        .map(|i| (3 + i * 7919 % 41, 2 + i * 7919 % 41 + i * 31 % 7))
        .collect()
}

fn sampler(corpus: &Arc<Corpus>, batch_tokens: usize, pool_pairs: usize, seed: u64) -> Sampler {
    let config = DataConfig {
        batch_tokens,
        pool_pairs,
        ..DataConfig::default()
    };
    Sampler::new(corpus.clone(), &config, seed)
}

/// How often each pair occurs in an epoch.
fn counts(plan: &[Vec<usize>]) -> HashMap<usize, usize> {
    let mut counts = HashMap::new();
    for &index in plan.iter().flatten() {
        *counts.entry(index).or_insert(0) += 1;
    }
    counts
}

#[test]
fn an_epoch_holds_every_pair_once_within_the_budget() {
    let corpus = corpus(&[text(&lengths(700), 1.0), text(&lengths(301), 1.0)]);
    for pool_pairs in [0, 1, 64, 5000] {
        for epoch in 0..3 {
            let plan = sampler(&corpus, 512, pool_pairs, 1).epoch(epoch).unwrap();
            let counts = counts(&plan);
            assert_eq!(counts.len(), 1001);
            assert!(counts.values().all(|&count| count == 1));
            for indices in &plan {
                assert!(!indices.is_empty());
                assert!(corpus.batch(indices).padded_tokens() <= 512);
            }
        }
    }
}

/// A corpus whose epochs cut tokens in two at random. The halves show from which token they come.
fn recut_corpus(lengths: &[(usize, usize)], longest: usize) -> Arc<Corpus> {
    let halves = |ids: &[u32], uniform: &mut dyn FnMut() -> f64| {
        let cut = |id: &u32| match uniform() < 0.3 {
            true => vec![1000 + id, 2000 + id],
            false => vec![*id],
        };
        ids.iter().flat_map(cut).collect()
    };
    let corpus = Corpus::build(&[text(lengths, 1.0)], 0, &Filters::NONE, encode, encode).unwrap();
    Arc::new(corpus.recut_with(Box::new(halves), Box::new(halves), longest))
}

/// The tokens before they were cut in two.
fn whole(tokens: &[u32]) -> Vec<u32> {
    let firsts = tokens.iter().filter(|token| **token < 2000);
    firsts.map(|token| token % 1000).collect()
}

#[test]
fn every_epoch_cuts_anew_within_the_budget() {
    let corpus = recut_corpus(&lengths(700), 1000);
    let sampler = sampler(&corpus, 512, 0, 1);
    let mut seen: HashMap<u64, HashSet<[Vec<u32>; 2]>> = HashMap::new();
    for epoch in 0..3 {
        for indices in sampler.epoch(epoch).unwrap() {
            let batch = sampler.batch(epoch, &indices).unwrap();
            assert!(batch.padded_tokens() <= 512);
            assert_eq!(batch, sampler.batch(epoch, &indices).unwrap());
            for example in batch.examples {
                let pair = corpus.pair(example.id as usize);
                assert_eq!(
                    (whole(&example.source), whole(&example.target)),
                    (pair.source.into(), pair.target.into())
                );
                // The end token is not cut.
                assert_eq!((example.source.last(), example.target.last()), (Some(&0), Some(&0)));
                seen.entry(example.id)
                    .or_default()
                    .insert([example.source, example.target]);
            }
        }
    }
    assert_eq!(seen.len(), 700);
    let different: usize = seen.values().map(HashSet::len).sum();
    assert!(
        different > 3 * 700 - 20,
        "{different} different cuts of 700 pairs in 3 epochs"
    );
}

/// A pair that occurs many times in a corpus, with the same sentence on both sides. Its sides and its copies are all
/// cut differently, and the number of threads changes nothing.
#[test]
fn sides_and_copies_are_cut_independently() {
    let corpus = recut_corpus(&[(40, 40); 64], 1000);
    let sampler = sampler(&corpus, 512, 0, 1);
    let all: Vec<usize> = (0..corpus.len()).collect();
    let examples = sampler.batch(0, &all).unwrap().examples;
    let pattern = |tokens: &[u32]| -> Vec<bool> { tokens.iter().map(|token| *token >= 1000).collect() };
    let sources: HashSet<Vec<bool>> = examples.iter().map(|example| pattern(&example.source)).collect();
    assert!(sources.len() > 60, "{} cuts of 64 copies", sources.len());
    let alike = |example: &&Example| pattern(&example.source) == pattern(&example.target);
    assert_eq!(examples.iter().filter(alike).count(), 0);
    for threads in [2, 3, 64, 100] {
        assert_eq!(
            sampler.clone().with_threads(threads).epoch(0).unwrap(),
            sampler.epoch(0).unwrap()
        );
    }
}

#[test]
fn cuts_depend_on_the_seed_and_resume_where_they_were() {
    let corpus = recut_corpus(&lengths(700), 1000);
    let items = |seed, cursor, count| -> Vec<(Batch, Cursor)> {
        let stream = BatchStream::start(sampler(&corpus, 512, 64, seed), cursor, 2).unwrap();
        stream.take(count).map(Result::unwrap).collect()
    };
    let whole = items(1, Cursor::default(), 200);
    assert!(whole[199].1.epoch > 0);
    for start in [1, 57, 150] {
        assert_eq!(items(1, whole[start - 1].1, 200 - start), whole[start..]);
    }
    assert_ne!(items(2, Cursor::default(), 5), whole[..5]);
}

#[test]
fn cuts_that_become_too_long_are_not_made() {
    let corpus = recut_corpus(&lengths(700), 20);
    let sampler = sampler(&corpus, 512, 0, 1);
    let all: Vec<usize> = (0..corpus.len()).collect();
    for example in sampler.batch(4, &all).unwrap().examples {
        let pair = corpus.pair(example.id as usize);
        for (cut, tokens) in [(example.source, pair.source), (example.target, pair.target)] {
            assert!(cut.len() <= 20.max(tokens.len()));
            assert!(tokens.len() <= 20 || cut == tokens);
        }
    }
}

#[test]
fn batches_are_as_large_as_the_budget_allows() {
    // With </s>, the longer side has 11 tokens: 5 rows make 55, and a sixth would make 66.
    let corpus = corpus(&[text(&[(3, 10); 23], 1.0)]);
    let mut sizes: Vec<usize> = sampler(&corpus, 65, 0, 1)
        .epoch(0)
        .unwrap()
        .iter()
        .map(Vec::len)
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [3, 5, 5, 5, 5]);
}

#[test]
fn a_pair_longer_than_the_budget_is_a_batch_of_its_own() {
    let corpus = corpus(&[text(&[(2, 2), (500, 2), (2, 2), (2, 600)], 1.0)]);
    let mut plan = sampler(&corpus, 20, 0, 1).epoch(0).unwrap();
    for batch in &mut plan {
        batch.sort_unstable();
    }
    plan.sort();
    assert_eq!(plan, [vec![0, 2], vec![1], vec![3]]);
}

#[test]
fn a_corpus_smaller_than_one_batch_is_one_batch() {
    let corpus = corpus(&[text(&[(2, 2), (3, 3)], 1.0)]);
    let sampler = sampler(&corpus, 4096, 100_000, 1);
    assert_eq!(sampler.epoch(0).unwrap().len(), 1);
    let cursors: Vec<Cursor> = BatchStream::start(sampler, Cursor::default(), 2)
        .unwrap()
        .take(3)
        .map(|item| item.unwrap().1)
        .collect();
    assert_eq!(cursors, [1, 2, 3].map(Cursor::epoch));
}

#[test]
fn padding_is_small_and_pools_trade_it_for_mixing() {
    let corpus = corpus(&[text(&lengths(5000), 1.0)]);
    let padding = |pool_pairs| {
        let plan = sampler(&corpus, 1024, pool_pairs, 1).epoch(0).unwrap();
        let batches: Vec<Batch> = plan.iter().map(|indices| corpus.batch(indices)).collect();
        let cells: usize = batches
            .iter()
            .map(|batch| batch.examples.len() * (batch.source_length() + batch.target_length()))
            .sum();
        let tokens: usize = batches
            .iter()
            .map(|batch| batch.source_tokens() + batch.target_tokens())
            .sum();
        1.0 - tokens as f64 / cells as f64
    };
    let (sorted, pooled, unsorted) = (padding(0), padding(500), padding(1));
    assert!(sorted < 0.06, "{sorted}");
    assert!(pooled < 0.15, "{pooled}");
    // Pools of one pair are not sorted at all, and each batch has one pair.
    assert_eq!(unsorted, 0.0);
    assert!(sorted < pooled);
}

#[test]
fn order_and_composition_change_with_epoch_and_seed_only() {
    let corpus = corpus(&[text(&lengths(1000), 1.0)]);
    let plan = sampler(&corpus, 512, 0, 1).epoch(4).unwrap();
    assert_eq!(sampler(&corpus, 512, 0, 1).epoch(4).unwrap(), plan);
    let composition = |plan: &[Vec<usize>]| -> HashSet<Vec<usize>> {
        let sorted = |batch: &Vec<usize>| {
            let mut batch = batch.clone();
            batch.sort_unstable();
            batch
        };
        plan.iter().map(sorted).collect()
    };
    for other in [
        sampler(&corpus, 512, 0, 1).epoch(5).unwrap(),
        sampler(&corpus, 512, 0, 2).epoch(4).unwrap(),
    ] {
        let (one, two) = (composition(&plan), composition(&other));
        let shared = one.intersection(&two).count();
        assert!(
            shared * 10 < one.len(),
            "{shared} of {} batches are the same",
            one.len()
        );
    }
    // The order is random, not from short to long.
    let longest: Vec<usize> = plan
        .iter()
        .map(|indices| corpus.batch(indices).padded_tokens() / indices.len())
        .collect();
    let rises = longest.windows(2).filter(|pair| pair[0] <= pair[1]).count();
    assert!(
        rises * 10 > longest.len() * 3 && rises * 10 < longest.len() * 7,
        "{rises} of {}",
        longest.len()
    );
}

/// Plans must never change, because resumed runs depend on them. fixtures/plan.py computed these. With one window, the
/// versions before windows had the same.
#[test]
fn the_plan_of_a_seed_is_fixed() {
    let lengths = |longer: &[usize]| longer.iter().map(|length| (1, length - 1)).collect::<Vec<_>>();
    let first = text(&lengths(&[2, 2, 2, 3, 3, 3, 4, 4, 9]), 1.0);
    let second = text(&lengths(&[2, 3, 4, 5, 5]), 1.5);
    let corpus = corpus(&[first, second]);
    let plan = |pool_pairs, epoch| sampler(&corpus, 12, pool_pairs, 3).epoch(epoch).unwrap();
    let expected: [&[usize]; 6] = [
        &[11, 7, 11],
        &[12, 13],
        &[8],
        &[5, 4, 3, 10],
        &[9, 1, 9, 2, 0],
        &[6, 12],
    ];
    assert_eq!(plan(100, 0), expected);
    let expected: [&[usize]; 6] = [
        &[3, 5, 4, 10],
        &[11, 12],
        &[8],
        &[13, 13],
        &[10, 6, 7],
        &[9, 1, 0, 9, 2],
    ];
    assert_eq!(plan(0, 7), expected);
    let expected: [&[usize]; 7] = [
        &[12],
        &[9, 1, 9, 5],
        &[11, 7, 11],
        &[2, 0, 4, 3],
        &[10, 6],
        &[12, 13],
        &[8],
    ];
    assert_eq!(plan(8, 0), expected);
    let expected: [&[usize]; 8] = [
        &[8],
        &[12],
        &[5, 6],
        &[9, 1, 0, 3],
        &[13, 13],
        &[10, 7],
        &[9, 2, 4, 10],
        &[11],
    ];
    assert_eq!(plan(8, 7), expected);
}

/// Pairs that are made when they are read, for corpora of any size.
#[derive(Debug)]
struct Made {
    parts: Vec<PartOfPairs>,
    cuts: Cuts,
}

impl Made {
    fn new(sizes: &[(usize, f64)]) -> Arc<Self> {
        let mut end = 0;
        let part = |&(size, weight): &(usize, f64)| {
            end += size;
            let pairs = end - size..end;
            PartOfPairs { pairs, weight }
        };
        Arc::new(Self {
            parts: sizes.iter().map(part).collect(),
            cuts: Cuts::default(),
        })
    }
}

impl PairSource for Made {
    fn parts(&self) -> Vec<PartOfPairs> {
        self.parts.clone()
    }

    fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    fn read(&self, indices: &[usize], visit: &mut dyn FnMut(Pair<'_>)) -> Result<(), DataError> {
        assert!(indices.is_sorted());
        let tokens: Vec<u32> = (0..50).collect();
        for &index in indices {
            visit(Pair {
                id: index as u64,
                source: &tokens[..3 + index % 41],
                target: &tokens[..3 + index % 37],
                links: &[],
            });
        }
        Ok(())
    }
}

/// Around the ends of windows, and where orders cease to be tables.
#[test]
fn every_pair_occurs_as_often_as_its_weight_says() {
    const TABLE: usize = 1 << 20;
    let config = |pool_pairs| DataConfig {
        pool_pairs,
        batch_tokens: 2048,
        ..DataConfig::default()
    };
    let cases: [(&[(usize, f64)], usize); 9] = [
        (&[(999, 1.0)], 1000),
        (&[(1000, 1.0)], 1000),
        (&[(1001, 1.0)], 1000),
        (&[(3000, 0.5), (7, 1.0), (250, 3.25)], 500),
        (&[(TABLE - 1, 1.0)], 100_000),
        (&[(TABLE, 1.0)], TABLE),
        (&[(TABLE + 1, 1.0)], TABLE),
        (&[(TABLE, 1.0), (1, 1.0)], 100_000),
        (&[(TABLE + 3, 0.25), (TABLE / 2, 2.0)], 300_000),
    ];
    for (sizes, pool_pairs) in cases {
        let source = Made::new(sizes);
        let sampler = Sampler::new(source.clone(), &config(pool_pairs), 11);
        assert_eq!(sampler.windows(), sampler.epoch_pairs().div_ceil(pool_pairs as u64));
        let mut counts = vec![0_u32; source.pair_count()];
        for number in 0..sampler.windows() {
            let window = sampler.window(1, number).unwrap();
            for batch in 0..window.len() {
                window.pairs(batch).into_iter().for_each(|index| counts[index] += 1);
            }
        }
        assert!(sampler.window(1, sampler.windows()).unwrap().is_empty());
        for part in source.parts() {
            let (whole, rest) = (part.weight as u32, part.weight.fract() * part.pairs.len() as f64);
            let counts = &counts[part.pairs];
            let extra = counts.iter().filter(|count| **count == whole + 1).count();
            assert_eq!(extra, rest.round() as usize, "{sizes:?}");
            let usual = counts.iter().filter(|count| **count == whole).count();
            assert_eq!(usual, counts.len() - extra, "{sizes:?}");
        }
    }
}

/// A run may stop at any batch of a corpus with many windows, and at its ends.
#[test]
fn a_stream_with_windows_resumes_anywhere() {
    let corpus = corpus(&[text(&lengths(190), 1.0), text(&lengths(33), 1.5)]);
    let sampler = sampler(&corpus, 256, 40, 9);
    let take = |cursor, count| -> Vec<(Batch, Cursor)> {
        let stream = BatchStream::start(sampler.clone(), cursor, 2).unwrap();
        stream.take(count).map(Result::unwrap).collect()
    };
    let count = 2 * sampler.epoch(0).unwrap().len();
    let whole = take(Cursor::default(), count);
    let planned = (0..2).flat_map(|epoch| sampler.epoch(epoch).unwrap());
    let planned: Vec<Batch> = planned.map(|indices| corpus.batch(&indices)).collect();
    assert!(planned.iter().zip(&whole).all(|(planned, (batch, _))| planned == batch));
    for (done, (_, cursor)) in whole.iter().enumerate() {
        let rest = &whole[done + 1..];
        assert_eq!(take(*cursor, rest.len()), rest);
    }
}

/// Earlier versions counted the batches of a whole epoch. If it has one window, that is the same.
#[test]
fn cursors_of_earlier_versions_mean_the_same_or_are_refused() {
    let corpus = corpus(&[text(&lengths(90), 1.0)]);
    let cursor: Cursor = serde_json::from_str(r#"{"epoch": 3, "batch": 2}"#).unwrap();
    let batches = |cursor| {
        let stream = BatchStream::start(sampler(&corpus, 256, 90, 9), cursor, 2).unwrap();
        stream.take(30).map(Result::unwrap).collect::<Vec<_>>()
    };
    let today = Cursor {
        batch: 2,
        ..Cursor::epoch(3)
    };
    assert_eq!(batches(cursor), batches(today));
    let refused = |sampler: Sampler| {
        let error = BatchStream::start(sampler, cursor, 2).unwrap_err();
        assert!(matches!(error, DataError::EarlierOrder), "{error}");
    };
    refused(sampler(&corpus, 256, 89, 9));
    // One window, but not the order of a table any more.
    let config = DataConfig {
        pool_pairs: 0,
        ..DataConfig::default()
    };
    refused(Sampler::new(Made::new(&[((1 << 20) + 1, 1.0)]), &config, 9));
    refused(Sampler::new(Made::new(&[((1 << 20) + 1, 0.01), (9, 1.0)]), &config, 9));
}

#[test]
fn weights_set_how_often_a_pair_is_drawn() {
    let corpus = corpus(&[
        text(&lengths(100), 1.0),
        text(&lengths(101), 0.5),
        text(&lengths(100), 2.0),
        text(&lengths(100), 2.5),
        text(&lengths(3), 0.01),
    ]);
    let sampler = sampler(&corpus, 512, 0, 1);
    let mut halves = Vec::new();
    for epoch in 0..40 {
        let counts = counts(&sampler.epoch(epoch).unwrap());
        let times = |range: std::ops::Range<usize>, times| {
            range
                .filter(|index| counts.get(index).copied().unwrap_or(0) == times)
                .collect::<Vec<_>>()
        };
        assert_eq!(times(0..100, 1).len(), 100);
        // Half of 101, rounded.
        assert_eq!((times(100..201, 0).len(), times(100..201, 1).len()), (50, 51));
        assert_eq!(times(201..301, 2).len(), 100);
        assert_eq!((times(301..401, 2).len(), times(301..401, 3).len()), (50, 50));
        // A corpus never vanishes.
        assert_eq!(times(401..404, 1).len(), 1);
        halves.push(times(100..201, 1));
    }
    assert_eq!(
        halves.iter().collect::<HashSet<_>>().len(),
        40,
        "every epoch draws another half"
    );
    let drawn: HashSet<usize> = halves.into_iter().flatten().collect();
    assert_eq!(drawn.len(), 101, "in time every pair has its turn");
}

#[test]
fn two_corpora_of_equal_weight_draw_different_halves() {
    let corpus = corpus(&[text(&lengths(100), 0.5), text(&lengths(100), 0.5)]);
    let counts = counts(&sampler(&corpus, 512, 0, 1).epoch(0).unwrap());
    let half = |from: usize| {
        (0..100)
            .filter(|index| counts.contains_key(&(from + index)))
            .collect::<Vec<_>>()
    };
    assert_ne!(half(0), half(100));
}

#[test]
fn fixed_batches_hold_every_pair_once_from_short_to_long() {
    let corpus = corpus(&[text(&lengths(500), 3.0)]);
    let plan = fixed_batches(&corpus, 256);
    assert_eq!(plan, fixed_batches(&corpus, 256));
    assert!(counts(&plan).len() == 500 && plan.iter().map(Vec::len).sum::<usize>() == 500);
    let longest = |indices: &Vec<usize>| corpus.batch(indices).padded_tokens() / indices.len();
    assert!(plan.is_sorted_by_key(longest));
    assert!(plan.iter().all(|indices| corpus.batch(indices).padded_tokens() <= 256));
}

#[test]
fn a_stream_resumed_at_any_cursor_goes_on_the_same() {
    let corpus = corpus(&[text(&lengths(90), 1.0), text(&lengths(33), 1.5)]);
    let sampler = sampler(&corpus, 512, 0, 9);
    let per_epoch = sampler.epoch(0).unwrap().len();
    let take = |cursor, lookahead, count| -> Vec<(Batch, Cursor)> {
        let stream = BatchStream::start(sampler.clone(), cursor, lookahead).unwrap();
        stream.take(count).map(Result::unwrap).collect()
    };
    let whole = take(Cursor::default(), 4, 3 * per_epoch + 2);
    let planned: Vec<Batch> = (0..3)
        .flat_map(|epoch| sampler.epoch(epoch).unwrap())
        .map(|indices| corpus.batch(&indices))
        .collect();
    assert!(planned.iter().zip(&whole).all(|(planned, (batch, _))| planned == batch));
    assert!(whole.iter().any(|(_, cursor)| *cursor == Cursor::epoch(2)));
    for (done, (_, cursor)) in whole.iter().enumerate() {
        // A checkpoint stores the cursor as JSON.
        let stored = serde_json::to_string(cursor).unwrap();
        let cursor: Cursor = serde_json::from_str(&stored).unwrap();
        let rest = &whole[done + 1..];
        assert_eq!(take(cursor, done % 5, rest.len()), rest);
    }
}

#[test]
fn a_cursor_that_does_not_fit_the_data_is_refused() {
    let corpus = corpus(&[text(&lengths(100), 1.0)]);
    let sampler = sampler(&corpus, 512, 0, 1);
    let batches = sampler.epoch(6).unwrap().len();
    let cursor = |batch| Cursor {
        batch,
        ..Cursor::epoch(6)
    };
    for batch in [batches as u64, u64::MAX] {
        let error = BatchStream::start(sampler.clone(), cursor(batch), 1).unwrap_err();
        assert!(matches!(error, DataError::Cursor { epoch: 6, .. }));
        let expected = format!(
            "the data position to resume from is batch {batch} of window 0 of epoch 6, which has only {batches}: \
             the corpus, the seed, a key of [data] or the machine has changed since the checkpoint was written"
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn dropping_a_stream_in_the_middle_returns() {
    let corpus = corpus(&[text(&lengths(100), 1.0)]);
    for lookahead in [0, 1, 1000] {
        let mut stream = BatchStream::start(sampler(&corpus, 64, 0, 1), Cursor::default(), lookahead).unwrap();
        assert!(stream.next().unwrap().is_ok());
    }
}
