//! The translation of a sentence does not depend on its batch.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::specimen;
use candle_core::DType;
use specimen::{batch, model, model_of, sentence};
use tallow_decode::{DecodeConfig, Hypothesis, search};
use tallow_model::{InferenceCompute, PreparedTransformer};

fn beam(beam: usize) -> DecodeConfig {
    DecodeConfig {
        beam,
        n_best: beam.min(3),
        max_length: 25,
        ..DecodeConfig::default()
    }
}

fn sampling() -> DecodeConfig {
    DecodeConfig {
        sample: true,
        n_best: 3,
        max_length: 25,
        ..DecodeConfig::default()
    }
}

fn tokens(hypotheses: &[Hypothesis]) -> Vec<&[u32]> {
    hypotheses.iter().map(|h| h.tokens.as_slice()).collect()
}

/// Asserts that the tokens are equal and the log-probabilities agree to a tolerance.
fn assert_same(what: &str, some: &[Hypothesis], others: &[Hypothesis], tolerance: f32) {
    assert_eq!(tokens(some), tokens(others), "{what}");
    let logs = |hypotheses: &[Hypothesis]| -> Vec<f32> {
        hypotheses
            .iter()
            .flat_map(|h| h.token_log_probabilities.clone())
            .collect()
    };
    let (some, others) = (logs(some), logs(others));
    assert_eq!(some.len(), others.len(), "{what}");
    for (a, b) in some.iter().zip(&others) {
        assert!((a - b).abs() <= tolerance, "{what}: {a} and {b}");
    }
}

/// Sentences of very different lengths, whose translations end at different steps.
fn sources(model: &PreparedTransformer, seed: u64) -> Vec<Vec<u32>> {
    let lengths = [3, 11, 1, 6, 27, 6, 2, 14];
    let number = |(i, length): (usize, &usize)| sentence(model, 50 * seed + i as u64, *length);
    lengths.iter().enumerate().map(number).collect()
}

/// The same holds, to the bit, with products in other number formats.
#[test]
fn translations_belong_to_sentences_in_every_format() {
    for compute in [InferenceCompute::Bf16, InferenceCompute::Int8] {
        for seed in 0..3 {
            let model = model(18, seed).transformer().unwrap().prepare(compute).unwrap();
            for config in [beam(1), beam(4), sampling()] {
                let what = format!("{compute:?}, model {seed}, {config:?}");
                regroup(&what, &model, &sources(&model, seed), &config, 0.0);
            }
        }
    }
}

/// A sentence has the same translation alone, with all others, in the opposite order and in halves, by greedy search,
/// beam search and sampling alike. Greedy and beam search ignore sentence numbers; sampling follows them.
///
/// In f32 the log-probabilities are equal too, to the bit. In f64 Candle's own operations run; their order of additions
/// depends on the other sentences. Very sharp models, which magnify every difference, show that the differences are
/// only rounding.
#[test]
fn translations_belong_to_sentences() {
    for (sharpness, dtype, tolerance) in [(1.0, DType::F32, 0.0), (2.0, DType::F32, 0.0), (2.0, DType::F64, 1e-6)] {
        for seed in 0..3 {
            let model = model_of(18, seed, sharpness, 0.0, dtype);
            for config in [beam(1), beam(4), sampling()] {
                let what = format!("{dtype:?}, model {seed}, {config:?}");
                regroup(&what, &model, &sources(&model, seed), &config, tolerance);
            }
        }
    }
}

/// Compares the translations of sentences in several groupings with those of all together.
fn regroup(what: &str, model: &PreparedTransformer, sources: &[Vec<u32>], config: &DecodeConfig, tolerance: f32) {
    let run = |chosen: &[usize]| -> Vec<(usize, Vec<Hypothesis>)> {
        let sentences: Vec<&Vec<u32>> = chosen.iter().map(|i| &sources[*i]).collect();
        let numbers: Vec<u64> = chosen.iter().map(|i| 1000 + *i as u64).collect();
        let found = search(model, &batch(&sentences), config, 5, &numbers).unwrap();
        chosen.iter().copied().zip(found).collect()
    };
    let together = run(&[0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(
        together
            .iter()
            .any(|(i, found)| tokens(found) != tokens(&together[(i + 1) % 8].1)),
        "{what}: all sentences have one translation, the test shows nothing"
    );
    let mut others = run(&[7, 6, 5, 4, 3, 2, 1, 0]);
    others.extend(run(&[0, 2, 4, 6]));
    others.extend(run(&[5, 1, 7, 3]));
    others.extend((0..8).flat_map(|i| run(&[i])));
    for (i, hypotheses) in &others {
        assert_same(&format!("{what}, sentence {i}"), hypotheses, &together[*i].1, tolerance);
    }
}

/// Samples are a function of the seed and the sentence's number: the same seed and number give the same bits, others
/// give other samples, and the samples of one sentence differ.
#[test]
fn samples_are_functions_of_seed_and_number() {
    let model = model(18, 1);
    let sources = sources(&model, 1);
    let run = |seed: u64, first: u64| {
        let numbers: Vec<u64> = (0..8).map(|i| first + i).collect();
        search(&model, &batch(&sources), &sampling(), seed, &numbers).unwrap()
    };
    let once = run(7, 0);
    assert_eq!(once, run(7, 0));
    for other in [run(8, 0), run(7, 100)] {
        let different = once.iter().zip(&other).filter(|(a, b)| tokens(a) != tokens(b)).count();
        assert!(different >= 6, "{different}");
    }
    let varied = once
        .iter()
        .filter(|found| tokens(found).windows(2).any(|pair| pair[0] != pair[1]));
    assert!(varied.count() >= 6);
    // A smaller number of samples gives the first ones.
    let one = DecodeConfig {
        n_best: 1,
        ..sampling()
    };
    let fewer = search(&model, &batch(&sources), &one, 7, &[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
    for (one, three) in fewer.iter().zip(&once) {
        assert!(tokens(three).contains(&one[0].tokens.as_slice()));
    }
}

/// Sampling is greedy search at a temperature close to zero, or with only the most probable piece.
#[test]
fn cold_samples_are_greedy() {
    let model = model(18, 2);
    let sources = sources(&model, 2);
    let source = batch(&sources);
    let numbers = [0, 1, 2, 3, 4, 5, 6, 7];
    let greedy = search(&model, &source, &beam(1), 0, &[]).unwrap();
    for config in [
        DecodeConfig {
            temperature: 1e-6,
            ..sampling()
        },
        DecodeConfig { top_k: 1, ..sampling() },
        DecodeConfig {
            top_p: 1e-6,
            ..sampling()
        },
    ] {
        for (samples, greedy) in search(&model, &source, &config, 3, &numbers)
            .unwrap()
            .iter()
            .zip(&greedy)
        {
            assert_eq!(samples.len(), 3);
            for sample in samples {
                assert_eq!(sample.tokens, greedy[0].tokens, "{config:?}");
                // A draw needs the whole row, so its probabilities are computed in another order.
                assert!(
                    (sample.log_probability - greedy[0].log_probability).abs() < 1e-5,
                    "{config:?}"
                );
            }
        }
    }
}
