//! Rules for every search: lengths, repetitions, order and number of results, valid settings.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::specimen;
use candle_core::Device;
use specimen::{batch, model, sentence};
use std::collections::HashSet;
use tallow_decode::{DecodeConfig, DecodeError, Hypothesis, search};
use tallow_model::{InferenceCompute, Initialisation, Params, Transformer};

/// A greedy search, beam searches of two widths, and sampling.
fn searches(base: &DecodeConfig) -> Vec<DecodeConfig> {
    let beam = |beam, n_best| DecodeConfig {
        beam,
        n_best,
        ..base.clone()
    };
    let sample = DecodeConfig {
        sample: true,
        ..beam(1, 6)
    };
    vec![beam(1, 1), beam(3, 3), beam(7, 4), sample]
}

/// All hypotheses of several sentences under several models.
fn found(config: &DecodeConfig) -> Vec<Vec<Hypothesis>> {
    let of_model = |seed| {
        let model = model(14, seed);
        let sources: Vec<Vec<u32>> = (0..5)
            .map(|i| sentence(&model, 10 * seed + i, 2 + 3 * i as usize))
            .collect();
        search(&model, &batch(&sources), config, 1, &[0, 1, 2, 3, 4]).unwrap()
    };
    (0..4).flat_map(of_model).collect()
}

/// Every search returns the requested number of results, best first. All differ, except that sampling may draw one
/// twice.
#[test]
fn n_best_are_sorted_and_distinct() {
    for config in searches(&DecodeConfig::default()) {
        for hypotheses in found(&config) {
            assert_eq!(hypotheses.len(), config.n_best);
            assert!(hypotheses.windows(2).all(|pair| pair[0].score >= pair[1].score));
            let distinct: HashSet<&Vec<u32>> = hypotheses.iter().map(|h| &h.tokens).collect();
            assert!(config.sample || distinct.len() == hypotheses.len());
            for hypothesis in hypotheses {
                assert!(hypothesis.token_log_probabilities.iter().all(|x| *x <= 0.0));
                // <pad> and </s> are never among the tokens.
                assert!(hypothesis.tokens.iter().all(|token| (1..13).contains(token)));
            }
        }
    }
}

/// The number of tokens of a translation, `</s>` included, is between the minimum and the maximum. Translations that
/// were cut at the maximum are marked as not finished.
#[test]
fn lengths() {
    for (min_length, max_length) in [(1, 1), (1, 7), (5, 7), (7, 7), (12, 40)] {
        let base = DecodeConfig {
            min_length,
            max_length,
            ..DecodeConfig::default()
        };
        let (mut finished, mut cut) = (0, 0);
        for config in searches(&base) {
            for hypothesis in found(&config).concat() {
                let length = hypothesis.token_log_probabilities.len();
                assert!(
                    (min_length..=max_length).contains(&length),
                    "{length} of {min_length} to {max_length}"
                );
                assert_eq!(length, hypothesis.tokens.len() + usize::from(hypothesis.finished));
                assert!(hypothesis.finished || length == max_length);
                if hypothesis.finished { finished += 1 } else { cut += 1 }
            }
        }
        assert!(max_length == 1 || min_length == max_length || finished > 0);
        assert!(cut > 0);
    }
}

/// With `no_repeat_ngram`, no sequence of this many tokens occurs twice; without it these models repeat themselves. If
/// not even single tokens may recur, a translation ends when all tokens have been used.
#[test]
fn repetitions() {
    let repeats = |tokens: &[u32], size: usize| {
        let windows: Vec<&[u32]> = tokens.windows(size).collect();
        windows.iter().collect::<HashSet<_>>().len() < windows.len()
    };
    let config = |no_repeat_ngram| DecodeConfig {
        no_repeat_ngram,
        min_length: 20,
        max_length: 30,
        ..DecodeConfig::default()
    };
    for size in [2, 3] {
        for search in searches(&config(size)) {
            assert!(
                found(&search).concat().iter().all(|h| !repeats(&h.tokens, size)),
                "{search:?}"
            );
        }
        let free = found(&config(0)).concat();
        assert!(free.iter().any(|h| repeats(&h.tokens, size)));
    }
    for search in searches(&config(1)) {
        for hypothesis in found(&search).concat() {
            assert!(!repeats(&hypothesis.tokens, 1), "{hypothesis:?}");
            // Twelve pieces are neither </s> nor <pad>.
            assert!(hypothesis.finished && hypothesis.tokens.len() <= 12, "{hypothesis:?}");
        }
    }
}

/// Invalid settings are rejected with their keys; weights that are not numbers give an error.
#[test]
fn clear_errors() {
    let model = model(8, 1);
    let source = batch(&[sentence(&model, 1, 3)]);
    let config = DecodeConfig {
        beam: 0,
        n_best: 3,
        ..DecodeConfig::default()
    };
    let error = search(&model, &source, &config, 0, &[0]).unwrap_err().to_string();
    assert!(
        error.contains("decode.beam") && error.contains("decode.n_best"),
        "{error}"
    );

    let params = Params::initialise(
        model.architecture(),
        Initialisation::Xavier,
        1,
        candle_core::DType::F32,
        &Device::Cpu,
    )
    .unwrap();
    let table = &params.get("model.shared.weight").unwrap().var;
    table.set(&(table.as_detached_tensor() * f64::NAN).unwrap()).unwrap();
    let broken = Transformer::for_inference(model.architecture(), &params, None)
        .unwrap()
        .prepare(InferenceCompute::F32)
        .unwrap();
    for config in searches(&DecodeConfig::default()) {
        let result = search(&broken, &source, &config, 0, &[0]);
        assert!(matches!(result, Err(DecodeError::NotFinite)), "{result:?}");
    }
}
