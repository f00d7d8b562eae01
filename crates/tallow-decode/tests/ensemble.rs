//! Ensembles: models that translate together.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::specimen;
use specimen::{batch, model, sentence};
use tallow_decode::{DecodeConfig, DecodeError, Ensemble, Hypothesis, Translator, beam_search, search};
use tallow_model::PreparedTransformer;

fn config(beam: usize) -> DecodeConfig {
    DecodeConfig {
        beam,
        n_best: beam.min(3),
        max_length: 15,
        ..DecodeConfig::default()
    }
}

/// Asserts that the tokens are equal and the log-probabilities nearly equal.
fn assert_same(some: &[Vec<Hypothesis>], others: &[Vec<Hypothesis>]) {
    assert_eq!(some.len(), others.len());
    for (some, other) in some.iter().flatten().zip(others.iter().flatten()) {
        assert_eq!(some.tokens, other.tokens);
        assert!((some.log_probability - other.log_probability).abs() < 1e-4);
    }
}

#[test]
fn a_model_that_votes_with_itself_is_that_model() {
    let model = model(12, 1);
    let sources: Vec<Vec<u32>> = [3, 9, 1, 6]
        .iter()
        .map(|n| sentence(&model, 7 + *n as u64, *n))
        .collect();
    let twice = Ensemble::new(vec![model.clone(), model.clone()]).unwrap();
    for beam in [1, 4] {
        let alone = search(&model, &batch(&sources), &config(beam), 1, &[0, 1, 2, 3]).unwrap();
        assert_same(
            &search(&twice, &batch(&sources), &config(beam), 1, &[0, 1, 2, 3]).unwrap(),
            &alone,
        );
    }
}

/// The probabilities of the first token are the means of both models; a beam as wide as the vocabulary shows all of
/// them.
#[test]
fn models_vote() {
    let (one, other) = (model(12, 1), model(12, 2));
    let classes = one.architecture().classes();
    let sources = [sentence(&one, 3, 5)];
    let single = DecodeConfig {
        beam: classes,
        n_best: classes,
        max_length: 1,
        ..DecodeConfig::default()
    };
    let probabilities = |found: Vec<Vec<Hypothesis>>| {
        let mut of_tokens = vec![0.0; classes];
        for hypothesis in &found[0] {
            let token = hypothesis.tokens.first().copied().unwrap_or(one.architecture().eos_id);
            of_tokens[token as usize] = hypothesis.log_probability.exp();
        }
        of_tokens
    };
    let of_model = |model: &PreparedTransformer| probabilities(beam_search(model, &batch(&sources), &single).unwrap());
    let (first, second) = (of_model(&one), of_model(&other));
    let both = probabilities(
        beam_search(
            &Ensemble::new(vec![one.clone(), other]).unwrap(),
            &batch(&sources),
            &single,
        )
        .unwrap(),
    );
    let is_near = |token: usize| (both[token] - (first[token] + second[token]) / 2.0).abs() < 1e-6;
    assert!((0..classes).all(is_near));
    assert!(first.iter().zip(&second).any(|(a, b)| (a - b).abs() > 1e-3));
    assert!((both.iter().sum::<f64>() - 1.0).abs() < 1e-5);
}

#[test]
fn only_models_with_one_vocabulary_translate_together() {
    let error = Ensemble::new(vec![model(12, 1), model(12, 2), model(13, 3)]).unwrap_err();
    assert!(matches!(error, DecodeError::ForeignModel { number: 3 }), "{error}");
    let none = Ensemble::<PreparedTransformer>::new(Vec::new()).unwrap_err();
    assert!(matches!(none, DecodeError::NoModels), "{none}");
}

/// A server shares one translator between many threads.
#[test]
fn translators_can_be_held_and_shared() {
    fn is_held<T: Clone + Send + Sync + 'static>() {}
    is_held::<Translator>();
}
