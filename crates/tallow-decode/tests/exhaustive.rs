//! Comparison of the searches with an enumeration of all sequences, on models with a tiny vocabulary.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::enumeration;
use crate::specimen;
use candle_core::{DType, Device};
use enumeration::{MAX_LENGTH, Sequence, VOCABULARY, enumerate};
use specimen::{batch, model, model_of, sentence};
use std::collections::HashMap;
use tallow_decode::{DecodeConfig, Hypothesis, LengthNormalization, beam_search, search};
use tallow_model::{Pass, PreparedTransformer, Tokens};

/// More than all continuations of all live hypotheses at any step, so nothing is ever pruned.
const WIDE: usize = 400;

fn config(length_penalty: f64, length_normalization: LengthNormalization) -> DecodeConfig {
    DecodeConfig {
        beam: WIDE,
        n_best: 25,
        max_length: MAX_LENGTH,
        patience: 1000.0,
        length_penalty,
        length_normalization,
        ..DecodeConfig::default()
    }
}

/// A beam so wide that nothing is pruned finds the best of all sequences, best first: for several models and penalties,
/// with both normalisations, for each of several sentences searched together. The twenty-five best have the scores of
/// the enumeration, each its own.
#[test]
fn a_wide_beam_is_exhaustive() {
    for seed in 0..4 {
        let model = model(VOCABULARY, seed);
        let sources = [sentence(&model, seed, 4), sentence(&model, 100 + seed, 2)];
        let everything: Vec<Vec<Sequence>> = sources.iter().map(|source| enumerate(&model, source)).collect();
        for sequences in &everything {
            // Together they are all possible sequences.
            let total: f64 = sequences.iter().map(|sequence| sequence.log_probability.exp()).sum();
            assert_eq!(sequences.len(), 1 + 4 + 16 + 64 + 256);
            assert!((total - 1.0).abs() < 1e-5, "{total}");
        }
        for normalization in [LengthNormalization::Plain, LengthNormalization::Wu] {
            for penalty in [0.0, 0.6, 1.0, 2.0] {
                let config = config(penalty, normalization);
                let found = beam_search(&model, &batch(&sources), &config).unwrap();
                for (hypotheses, sequences) in found.iter().zip(&everything) {
                    compare(hypotheses, sequences, &config);
                }
            }
        }
    }
}

fn compare(hypotheses: &[Hypothesis], sequences: &[Sequence], config: &DecodeConfig) {
    let score = |sequence: &Sequence| config.score(sequence.log_probability, sequence.length);
    let mut best: Vec<f64> = sequences.iter().map(score).collect();
    best.sort_by(|a, b| b.total_cmp(a));
    let by_tokens: HashMap<&[u32], &Sequence> = sequences.iter().map(|s| (s.tokens.as_slice(), s)).collect();
    assert_eq!(hypotheses.len(), config.n_best);
    for (hypothesis, best) in hypotheses.iter().zip(best) {
        let sequence = by_tokens[hypothesis.tokens.as_slice()];
        assert!(
            (hypothesis.score - best).abs() < 1e-5,
            "{hypothesis:?}: the best left has {best}"
        );
        assert!(
            (hypothesis.score - score(sequence)).abs() < 1e-5,
            "{hypothesis:?} {sequence:?}"
        );
        assert!(
            (hypothesis.log_probability - sequence.log_probability).abs() < 2e-5,
            "{hypothesis:?} {sequence:?}"
        );
        assert_eq!(hypothesis.finished, sequence.finished);
        assert_eq!(hypothesis.token_log_probabilities.len(), sequence.length);
    }
}

/// A search for one translation stops as soon as no hypothesis can overtake the best one, and the result is still the
/// best of all. Some of these models end at once with a probability near one. With a large length penalty, a hypothesis
/// can then win although it has a bad score until it is long; a search that drops it too early fails this test.
#[test]
fn stopping_early_loses_nothing() {
    for seed in 0..10 {
        for bias_of_end in [0.0, 6.0] {
            let model = model_of(VOCABULARY, seed, 1.5, bias_of_end, DType::F32);
            let source = sentence(&model, seed, 3);
            let sequences = enumerate(&model, &source);
            for (normalization, penalty) in [
                (LengthNormalization::Plain, 0.0),
                (LengthNormalization::Plain, 1.0),
                (LengthNormalization::Plain, 8.0),
                (LengthNormalization::Wu, 1.0),
                (LengthNormalization::Wu, 10.0),
            ] {
                let config = DecodeConfig {
                    n_best: 1,
                    ..config(penalty, normalization)
                };
                let found = beam_search(&model, &batch(&[&source]), &config).unwrap();
                compare(&found[0], &sequences, &config);
            }
        }
    }
}

/// A search returns as many translations as requested, even where it could stop early: models that end at once would
/// otherwise be done with one. The enumeration gives each translation the same probability.
#[test]
fn as_many_as_asked_for() {
    for seed in 0..5 {
        for bias_of_end in [0.0, 6.0] {
            let model = model_of(VOCABULARY, seed, 1.5, bias_of_end, DType::F32);
            let source = sentence(&model, seed, 3);
            let sequences = enumerate(&model, &source);
            for (early_stopping, patience) in [(true, 1.0), (true, 0.01), (false, 0.01), (false, 1.0)] {
                for (beam, n_best) in [(5, 5), (5, 2), (3, 3)] {
                    let config = DecodeConfig {
                        beam,
                        n_best,
                        early_stopping,
                        patience,
                        max_length: MAX_LENGTH,
                        ..DecodeConfig::default()
                    };
                    let found = beam_search(&model, &batch(&[&source, &source]), &config).unwrap();
                    for hypotheses in found {
                        assert_eq!(hypotheses.len(), n_best, "model {seed}, {config:?}");
                        assert!(hypotheses.windows(2).all(|pair| pair[0].score >= pair[1].score));
                        for (i, one) in hypotheses.iter().enumerate() {
                            assert!(hypotheses[..i].iter().all(|other| other.tokens != one.tokens));
                            let same = sequences.iter().find(|sequence| sequence.tokens == one.tokens).unwrap();
                            assert!((one.log_probability - same.log_probability).abs() < 1e-5);
                        }
                    }
                }
            }
        }
    }
}

/// For translations that end, a beam of one equals greedy search, token by token and score by score. Both take the most
/// probable token at every step, as the enumeration confirms.
#[test]
fn a_beam_of_one_is_greedy() {
    for seed in 0..12 {
        let model = model(VOCABULARY + 5, seed);
        let sources: Vec<Vec<u32>> = (0..4)
            .map(|i| sentence(&model, 10 * seed + i, 2 + i as usize))
            .collect();
        let source = batch(&sources);
        let config = DecodeConfig {
            beam: 1,
            max_length: 12,
            ..DecodeConfig::default()
        };
        let greedy = search(&model, &source, &config, 0, &[]).unwrap();
        assert_eq!(beam_search(&model, &source, &config).unwrap(), greedy, "model {seed}");
        for (hypotheses, source) in greedy.iter().zip(&sources) {
            assert_eq!(hypotheses[0].tokens, step_by_step(&model, source, 12));
        }
    }
}

/// The most probable token at every step, by teacher forcing of the tokens found so far.
fn step_by_step(model: &PreparedTransformer, source: &[u32], max_length: usize) -> Vec<u32> {
    let pad = model.architecture().target_pad_id();
    let encoded = model
        .transformer()
        .unwrap()
        .encode(&batch(&[source]), Pass::default())
        .unwrap();
    let mut input = vec![pad];
    for _ in 0..max_length {
        let target = Tokens::new(&[&input], &Device::Cpu).unwrap();
        let hidden = model
            .transformer()
            .unwrap()
            .decode(&target, &encoded, Pass::default())
            .unwrap();
        let logits = model
            .transformer()
            .unwrap()
            .logits(&hidden)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        let last = &logits[input.len() - 1];
        let best = (0..pad).max_by(|a, b| last[*a as usize].total_cmp(&last[*b as usize]));
        match best {
            Some(0) | None => break,
            Some(token) => input.push(token),
        }
    }
    input.split_off(1)
}
