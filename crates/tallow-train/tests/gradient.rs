//! Gradients that workers share and that are added up over batches.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::{DType, Device};
use tallow_data::{Batch, Example};
use tallow_model::{ActivationKind, Architecture, Initialisation, ModelConfig, Norm, Params, Transformer};
use tallow_ops::{Compute, Key, Path, Purpose, with_path};
use tallow_train::{DropoutKey, GradientOptions, Gradients, gradients};

const KEY: DropoutKey = DropoutKey {
    seed: 5,
    update: 17,
    micro_batch: 0,
};

/// Dropout at every site.
fn architecture() -> Architecture {
    Architecture {
        model: ModelConfig {
            d_model: 24,
            feed_forward: 40,
            encoder_layers: 2,
            decoder_layers: 2,
            heads: 3,
            dropout: 0.3,
            attention_dropout: 0.3,
            activation_dropout: 0.3,
            ..ModelConfig::default()
        },
        source_vocabulary: 20,
        target_vocabulary: 20,
        shared_vocabulary: true,
        eos_id: 0,
        unk_id: 1,
    }
}

struct Setting {
    params: Params,
    model: Transformer,
}

fn options(dropout: Option<DropoutKey>, workers: usize) -> GradientOptions {
    GradientOptions {
        r_drop: None,
        guided_alignment: None,
        label_smoothing: 0.1,
        dropout,
        compute: Compute::F32,
        workers,
    }
}

impl Setting {
    fn new() -> Self {
        let params = Params::initialise(&architecture(), Initialisation::Xavier, 1, DType::F32, &Device::Cpu).unwrap();
        let model = Transformer::for_training(&architecture(), &params, None).unwrap();
        Self { params, model }
    }

    fn gradients(&self, batch: &Batch, dropout: Option<DropoutKey>, workers: usize) -> Gradients {
        gradients(
            &self.model,
            &self.params,
            batch.clone(),
            options(dropout, workers),
            &Device::Cpu,
        )
        .unwrap()
    }
}

/// Pairs of very different lengths; one of them occurs twice, as in a corpus with repetitions.
fn batch() -> Batch {
    let sentence = |seed: u64, length: usize| -> Vec<u32> {
        let words = Key::new(seed, Purpose::Sampling).uniform(length);
        words.into_iter().map(|x| 2 + (x * 17.0) as u32).chain([0]).collect()
    };
    let lengths = [(3, 4), (12, 9), (1, 2), (7, 7), (0, 5), (20, 14), (5, 1), (6, 6)];
    let example = |(id, (source, target)): (u64, &(usize, usize))| Example {
        id,
        source: sentence(2 * id, *source),
        target: sentence(2 * id + 1, *target),
        links: Vec::new(),
    };
    let mut examples: Vec<Example> = (0..).zip(&lengths).map(example).collect();
    examples.push(examples[3].clone());
    Batch { examples }
}

fn values(gradients: &Gradients) -> Vec<Vec<f32>> {
    let values = |x: &candle_core::Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    gradients.tensors.iter().map(values).collect()
}

/// The loss and every gradient agree to 1e-5, relative to the largest number of the tensor if that is above one.
fn assert_near(what: &str, got: &Gradients, expected: &Gradients) {
    assert_eq!(got.target_tokens, expected.target_tokens, "{what}");
    assert!(
        (got.loss / expected.loss - 1.0).abs() < 1e-6,
        "{what}: {} {}",
        got.loss,
        expected.loss
    );
    for (i, (got, expected)) in values(got).iter().zip(values(expected)).enumerate() {
        let size = expected.iter().fold(1f32, |size, x| size.max(x.abs()));
        for (g, e) in got.iter().zip(&expected) {
            assert!((g - e).abs() <= 1e-5 * size, "{what}, tensor {i}: {g} instead of {e}");
        }
    }
}

/// The gradient is the same to 1e-5 for any number of workers, even more workers than sentences, with dropout of 0.3 at
/// every site: masks belong to sentences, not to workers.
#[test]
fn workers_change_rounding_only() {
    let setting = Setting::new();
    for dropout in [None, Some(KEY)] {
        let one = setting.gradients(&batch(), dropout, 1);
        for workers in [2, 3, 8, 50] {
            let many = setting.gradients(&batch(), dropout, workers);
            assert_near(&format!("{workers} workers, {dropout:?}"), &many, &one);
        }
    }
}

/// R-Drop: two passes of every sentence with different masks, on one worker. Without dropout, both passes are equal.
#[test]
fn passes_differ_by_their_dropout() {
    let setting = Setting::new();
    let with = |weight: Option<f64>, dropout, workers| {
        let options = GradientOptions {
            r_drop: weight,
            ..options(dropout, workers)
        };
        gradients(&setting.model, &setting.params, batch(), options, &Device::Cpu).unwrap()
    };
    let plain = with(None, None, 1);
    for weight in [0.0, 5.0] {
        assert_near("equal passes", &with(Some(weight), None, 1), &plain);
    }
    let (apart, free) = (with(Some(5.0), Some(KEY), 1), with(Some(0.0), Some(KEY), 1));
    assert!(apart.loss > 1.01 * free.loss, "{} {}", apart.loss, free.loss);
    assert_eq!(apart.target_tokens, plain.target_tokens);
    for workers in [2, 3, 50] {
        let many = with(Some(5.0), Some(KEY), workers);
        assert_near(&format!("{workers} workers"), &many, &apart);
    }
}

/// Guided alignment: links add to loss and gradient, however the batch is divided, and equal passes of R-Drop change
/// nothing.
#[test]
fn links_guide_whatever_the_workers() {
    let setting = Setting::new();
    let linked = || {
        let mut batch = batch();
        for (number, example) in batch
            .examples
            .iter_mut()
            .enumerate()
            .filter(|(number, _)| number % 3 != 1)
        {
            let (source, target) = (example.source.len() as u32, example.target.len() as u32);
            example.links = (0..target).map(|t| (t, (t + number as u32) % source)).collect();
            example.links.push((target - 1, 0));
            example.links.sort_unstable();
            example.links.dedup();
        }
        batch
    };
    let with = |weight: Option<f64>, r_drop, workers| {
        let options = GradientOptions {
            guided_alignment: weight,
            r_drop,
            ..options(None, workers)
        };
        gradients(&setting.model, &setting.params, linked(), options, &Device::Cpu).unwrap()
    };
    let (plain, guided) = (with(None, None, 1), with(Some(0.5), None, 1));
    assert!(guided.alignment_loss > 0.0 && guided.linked_tokens > 20);
    assert!((plain.loss + 0.5 * guided.alignment_loss - guided.loss).abs() < 1e-3 * guided.loss);
    assert_eq!((plain.alignment_loss, plain.linked_tokens), (0.0, guided.linked_tokens));
    for (r_drop, workers) in [(None, 2), (None, 50), (Some(0.0), 1), (Some(5.0), 3)] {
        let other = with(Some(0.5), r_drop, workers);
        assert_near(&format!("{r_drop:?}, {workers} workers"), &other, &guided);
        assert!((other.alignment_loss - guided.alignment_loss).abs() < 1e-4 * guided.alignment_loss);
        assert_eq!(other.linked_tokens, guided.linked_tokens);
    }
}

/// The same number of workers gives the same bits every time.
#[test]
fn the_same_workers_give_the_same_bits() {
    let setting = Setting::new();
    for workers in [1, 2, 3] {
        let once = setting.gradients(&batch(), Some(KEY), workers);
        for _ in 0..3 {
            let again = setting.gradients(&batch(), Some(KEY), workers);
            assert_eq!(once.loss.to_bits(), again.loss.to_bits());
            assert_eq!(values(&once), values(&again));
        }
    }
}

/// Dropout is on, and its masks differ by seed, update and batch within the update; without dropout, all results agree.
/// The two occurrences of a pair in one batch have different masks: the pair's number in the corpus does not matter.
#[test]
fn every_part_of_the_dropout_key_matters() {
    let setting = Setting::new();
    let loss = |dropout| setting.gradients(&batch(), dropout, 1).loss;
    let base = loss(Some(KEY));
    let others = [
        None,
        Some(DropoutKey { seed: 6, ..KEY }),
        Some(DropoutKey { update: 18, ..KEY }),
        Some(DropoutKey { micro_batch: 1, ..KEY }),
    ];
    for other in others {
        assert_ne!(base, loss(other), "{other:?}");
    }
    let mut renamed = batch();
    renamed.examples.iter_mut().for_each(|example| example.id += 1000);
    assert_eq!(base, setting.gradients(&renamed, Some(KEY), 1).loss);
    let twice = |count: usize| Batch {
        examples: vec![batch().examples[5].clone(); count],
    };
    let (one, two) = (
        setting.gradients(&twice(1), Some(KEY), 1),
        setting.gradients(&twice(2), Some(KEY), 1),
    );
    assert!(
        (two.loss - 2.0 * one.loss).abs() > 1e-3,
        "both have the masks of the first"
    );
}

/// The gradients of two halves of a batch add up to that of the whole: an update with accumulation equals the update of
/// one large batch.
#[test]
fn halves_add_up() {
    let setting = Setting::new();
    let whole = setting.gradients(&batch(), None, 2);
    let (first, second) = (batch().examples[..4].to_vec(), batch().examples[4..].to_vec());
    let mut sum = setting.gradients(&Batch { examples: first }, None, 2);
    sum.add(&setting.gradients(&Batch { examples: second }, None, 2))
        .unwrap();
    assert_near("two halves", &sum, &whole);
    assert_eq!(whole.target_tokens, batch().target_tokens());
    assert!((sum.norm(2).unwrap() / whole.norm(2).unwrap() - 1.0).abs() < 1e-6);
}

/// The loss is a sum over target tokens: a sentence's share does not depend on its batch.
#[test]
fn losses_are_sums_over_sentences() {
    let setting = Setting::new();
    let whole = setting.gradients(&batch(), None, 1).loss;
    let alone = |example: &Example| {
        let examples = vec![example.clone()];
        setting.gradients(&Batch { examples }, None, 1).loss
    };
    let sum: f64 = batch().examples.iter().map(alone).sum();
    assert!((whole / sum - 1.0).abs() < 1e-6, "{whole} {sum}");
}

/// The norm is that of all gradients as one vector, per target token.
#[test]
fn norms() {
    let gradients = Setting::new().gradients(&batch(), Some(KEY), 2);
    let squares: f64 = values(&gradients).concat().iter().map(|x| f64::from(*x).powi(2)).sum();
    let expected = squares.sqrt() / gradients.target_tokens as f64;
    assert!((gradients.norm(1).unwrap() / expected - 1.0).abs() < 1e-9);
    assert_eq!(gradients.norm(1).unwrap(), gradients.norm(3).unwrap());
}

/// A batch without sentences is an error rather than an empty gradient.
#[test]
fn an_empty_batch() {
    let setting = Setting::new();
    let batch = Batch { examples: Vec::new() };
    let result = gradients(&setting.model, &setting.params, batch, options(None, 2), &Device::Cpu);
    assert!(result.is_err());
}

/// In every architecture, the gradient of the whole model is the same from four sources: kernels with the machine's
/// instructions, with AVX2 and with the baseline instructions, and Candle's operations.
#[test]
fn every_path_gives_the_same_gradient() {
    for (norm, activation) in [
        (Norm::Post, ActivationKind::Relu),
        (Norm::Pre, ActivationKind::Silu),
        (Norm::Post, ActivationKind::Gelu),
    ] {
        let mut architecture = architecture();
        (architecture.model.norm, architecture.model.activation) = (norm, activation);
        let params = Params::initialise(&architecture, Initialisation::Xavier, 1, DType::F32, &Device::Cpu).unwrap();
        let model = Transformer::for_training(&architecture, &params, None).unwrap();
        let setting = Setting { params, model };
        let run = |path| with_path(path, || setting.gradients(&batch(), Some(KEY), 1));
        let reference = run(Path::Reference);
        for path in Path::KERNELS {
            assert_near(&format!("{path:?}, {norm:?}, {activation:?}"), &run(path), &reference);
        }
    }
}
