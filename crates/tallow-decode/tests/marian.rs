//! Comparison of the searches with Hugging Face's `generate` on PyTorch (`scripts/fixtures/marian_model.py`).

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::path::Path;
use tallow_decode::{DecodeConfig, Hypothesis, Search, SentenceRequest, search};
use tallow_model::{InferenceCompute, PreparedTransformer, Tokens, open};

const BEAM: usize = 4;

/// A fixture: the model, its source sentences and PyTorch's results.
struct Case {
    name: &'static str,
    model: PreparedTransformer,
    source: Tokens,
    expected: HashMap<String, Tensor>,
}

impl Case {
    fn all() -> Vec<Self> {
        let names = [
            "tied-relu",
            "tied-swish",
            "tied-gelu",
            "separate-tables",
            "separate-tables-and-output",
        ];
        names.into_iter().map(Self::open).collect()
    }

    fn open(name: &'static str) -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tallow-model/tests/fixtures/marian");
        let directory = fixtures.join(name);
        let expected = candle_core::safetensors::load(directory.join("expected.safetensors"), &Device::Cpu).unwrap();
        let model = open(&directory, &Device::Cpu)
            .unwrap()
            .for_inference()
            .unwrap()
            .prepare(InferenceCompute::F32)
            .unwrap();
        let pad = model.architecture().source_pad_id();
        let rows: Vec<Vec<u32>> = expected["source"].to_dtype(DType::U32).unwrap().to_vec2().unwrap();
        let sentences: Vec<Vec<u32>> = rows
            .into_iter()
            .map(|row| row.into_iter().filter(|id| *id != pad).collect())
            .collect();
        Self {
            name,
            source: Tokens::new(&sentences, &Device::Cpu).unwrap(),
            model,
            expected,
        }
    }

    /// Generated ids without `</s>` and padding. Every hypothesis of the fixtures ends with `</s>`.
    fn ids(&self, name: &str) -> Vec<Vec<u32>> {
        let tensor = self.expected[name].to_dtype(DType::U32).unwrap();
        let width = *tensor.dims().last().unwrap();
        let ids = tensor.flatten_all().unwrap().to_vec1::<u32>().unwrap();
        let until_end = |row: &[u32]| row.iter().copied().take_while(|id| *id != 0).collect();
        ids.chunks(width).map(until_end).collect()
    }

    fn search(&self, config: &DecodeConfig) -> Vec<Vec<Hypothesis>> {
        search(&self.model, &self.source, config, 0, &[]).unwrap()
    }
}

/// The search settings of the fixtures. Hugging Face's maximum length includes the initial `<pad>`.
fn config(patience: f64) -> DecodeConfig {
    DecodeConfig {
        beam: BEAM,
        n_best: BEAM,
        max_length: 19,
        patience,
        ..DecodeConfig::default()
    }
}

/// Greedy search finds PyTorch's tokens.
#[test]
fn greedy() {
    for case in Case::all() {
        let config = DecodeConfig {
            beam: 1,
            n_best: 1,
            ..config(1.0)
        };
        let found: Vec<Vec<u32>> = case
            .search(&config)
            .into_iter()
            .map(|mut h| h.remove(0).tokens)
            .collect();
        assert_eq!(found, case.ids("greedy.ids"), "{}", case.name);
    }
}

/// With `early_stopping`, a sentence is done when four hypotheses have ended, as with Hugging Face's setting of this
/// name. All four are the same, in the same order, with the same scores.
#[test]
fn early_stopping_is_hugging_faces() {
    for case in Case::all() {
        let config = DecodeConfig {
            early_stopping: true,
            ..config(1.0)
        };
        let found: Vec<Hypothesis> = case.search(&config).concat();
        let ids = case.ids("beam_early_stopping_true.ids");
        let scores = case.expected["beam_early_stopping_true.scores"].flatten_all().unwrap();
        let scores = scores.to_vec1::<f32>().unwrap();
        assert_eq!(found.len(), scores.len());
        for (i, hypothesis) in found.iter().enumerate() {
            let what = format!("{}, hypothesis {i}", case.name);
            assert_eq!(hypothesis.tokens, ids[i], "{what}");
            assert!(
                (hypothesis.score - f64::from(scores[i])).abs() < 5e-6,
                "{what}: {hypothesis:?}"
            );
            assert!(hypothesis.finished, "{what}");
        }
    }
}

/// Without `early_stopping`, Hugging Face goes on until four hypotheses have ended and no live one has a better score
/// *at its present length*. With endless patience, this search goes on until no live one can have a better score *at
/// any length*, as Hugging Face does with `early_stopping="never"`. It therefore sees every hypothesis that Hugging
/// Face sees, and finds the same four or better ones, rank by rank. In the fixtures the best one is always the same,
/// and so are most of the others.
#[test]
fn endless_patience_finds_at_least_as_much() {
    let (mut equal, mut all) = (0, 0);
    for case in Case::all() {
        let ids = case.ids("beam_early_stopping_false.ids");
        let scores = case.expected["beam_early_stopping_false.scores"].flatten_all().unwrap();
        let scores = scores.to_vec1::<f32>().unwrap();
        for (i, hypothesis) in case.search(&config(1000.0)).concat().iter().enumerate() {
            let what = format!("{}, hypothesis {i}: {hypothesis:?}, theirs {}", case.name, scores[i]);
            let better = hypothesis.score - f64::from(scores[i]);
            assert!(better > -5e-6, "{what}");
            if i % BEAM == 0 {
                assert_eq!(hypothesis.tokens, ids[i], "{what}");
            }
            if hypothesis.tokens == ids[i] {
                equal += 1;
                assert!(better < 5e-6, "{what}");
            }
            all += 1;
        }
    }
    assert!(4 * equal > 3 * all && equal < all, "{equal} of {all}");
}

/// The scores of given translations are the sums of PyTorch's log-probabilities; the searches give their own results
/// the same scores, to the bit.
#[test]
fn forced_scores_are_pytorchs() {
    for case in Case::all() {
        let architecture = case.model.architecture();
        let (classes, pad) = (architecture.classes(), architecture.target_pad_id());
        let labels: Vec<Vec<u32>> = case.expected["labels"].to_dtype(DType::U32).unwrap().to_vec2().unwrap();
        let logits = case.expected["logits"]
            .to_dtype(DType::F64)
            .unwrap()
            .to_vec3::<f64>()
            .unwrap();
        let forced = |targets: Vec<Vec<u32>>| {
            let requests: Vec<SentenceRequest> = targets.into_iter().map(SentenceRequest::forced).collect();
            let config = DecodeConfig {
                beam: 1,
                n_best: 1,
                max_length: 40,
                ..config(1.0)
            };
            Search::new(&config)
                .run(&case.model, &case.source, &requests)
                .unwrap()
                .concat()
        };
        let is_text = |id: &u32| *id != 0 && *id != pad;
        let targets: Vec<Vec<u32>> = labels
            .iter()
            .map(|row| row.iter().copied().filter(is_text).collect())
            .collect();
        for ((found, target), rows) in forced(targets.clone()).iter().zip(&targets).zip(&logits) {
            assert_eq!((&found.tokens, found.finished), (target, true));
            let ended = target.iter().copied().chain([0]);
            let log = |(row, label): (&Vec<f64>, u32)| {
                row[label as usize] - row[..classes].iter().map(|x| x.exp()).sum::<f64>().ln()
            };
            let expected: Vec<f64> = rows.iter().zip(ended).map(log).collect();
            assert_eq!(found.token_log_probabilities.len(), expected.len());
            for (got, expected) in found.token_log_probabilities.iter().zip(&expected) {
                assert!(
                    (f64::from(*got) - expected).abs() < 2e-5,
                    "{}: {got} {expected}",
                    case.name
                );
            }
            assert!((found.log_probability - expected.iter().sum::<f64>()).abs() < 1e-4);
        }
        let found: Vec<Hypothesis> = case
            .search(&config(1.0))
            .into_iter()
            .map(|mut hypotheses| hypotheses.remove(0))
            .collect();
        let again = forced(found.iter().map(|best| best.tokens.clone()).collect());
        assert_eq!(found, again, "{}", case.name);
    }
}

/// A score is the sum of the token log-probabilities, normalised by the length with `</s>`.
#[test]
fn scores_add_up() {
    for case in Case::all() {
        for hypothesis in case.search(&config(1.0)).concat() {
            let logs = &hypothesis.token_log_probabilities;
            assert_eq!(logs.len(), hypothesis.tokens.len() + 1);
            let sum: f64 = logs.iter().map(|x| f64::from(*x)).sum();
            assert!((hypothesis.log_probability - sum).abs() < 1e-9);
            assert!((hypothesis.score - sum / logs.len() as f64).abs() < 1e-9);
        }
    }
}
