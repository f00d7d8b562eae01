//! Initial parameters.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::specimen;
use specimen::{architectures, batch, params, sentence, shifted, values};
use std::collections::BTreeMap;
use tallow_model::{Architecture, ModelConfig, Params, Pass, Positions, Transformer};

fn parts(params: &Params) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let parts = params.parts().unwrap().into_iter();
    parts.map(|(name, x)| (name, (x.dims().to_vec(), values(&x)))).collect()
}

fn with(base: &Architecture, model: ModelConfig) -> Architecture {
    Architecture { model, ..base.clone() }
}

/// The same seed gives the same bits, another seed gives others, and no two tensors have the same numbers, although
/// many have the same shape.
#[test]
fn values_are_functions_of_seed_and_name() {
    for architecture in architectures() {
        let (first, again, other) = (
            parts(&params(&architecture, 5)),
            parts(&params(&architecture, 5)),
            parts(&params(&architecture, 6)),
        );
        assert_eq!(first, again);
        let random: Vec<(&String, &Vec<f32>)> = first
            .iter()
            .map(|(name, (_, values))| (name, values))
            .filter(|(_, values)| values.iter().any(|x| *x != values[0]))
            .collect();
        assert!(random.len() > 10);
        for (i, (name, values)) in random.iter().enumerate() {
            assert_ne!(*values, &other[*name].1, "{name} does not depend on the seed");
            for (second, others) in &random[i + 1..] {
                assert_ne!(values[..4], others[..4], "{name} and {second} begin alike");
            }
        }
    }
}

/// A tensor does not depend on the rest of the model: the first layer of a deep model equals that of a shallow one.
#[test]
fn depth_changes_no_other_layer() {
    let shallow = &architectures()[0];
    let deep = with(
        shallow,
        ModelConfig {
            encoder_layers: 4,
            positions: Positions::Learned,
            ..shallow.model.clone()
        },
    );
    let (shallow, deep) = (parts(&params(shallow, 1)), parts(&params(&deep, 1)));
    assert!(deep.len() > shallow.len());
    assert!(shallow.iter().all(|(name, values)| deep[name] == *values));
}

/// Matrices are uniform within Xavier's bound for their own shape, not for that of the packed parameter, and use the
/// full range. Embeddings have the standard deviation 1/sqrt(d). Normalisation is the identity. Biases and the rows of
/// `<pad>` are zero.
#[test]
fn distributions() {
    let base = &architectures()[4];
    let wide = with(
        base,
        ModelConfig {
            d_model: 64,
            heads: 4,
            feed_forward: 96,
            decoder_feed_forward: None,
            positions: Positions::Learned,
            ..base.model.clone()
        },
    );
    let wide = Architecture {
        source_vocabulary: 200,
        target_vocabulary: 150,
        ..wide
    };
    for (name, (shape, values)) in parts(&params(&wide, 3)) {
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let deviation = (values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32).sqrt();
        let largest = values.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        if name.ends_with("layer_norm.weight") {
            assert!(values.iter().all(|x| *x == 1.0), "{name}");
        } else if name.ends_with("bias") {
            assert!(values.iter().all(|x| *x == 0.0), "{name}");
        } else if name.contains("embed") {
            assert!(
                (deviation * 8.0 - 1.0).abs() < 0.05 && mean.abs() < 0.01,
                "{name}: {deviation}"
            );
            if name.ends_with("embed_tokens.weight") {
                assert_eq!(shape[0], if name.contains("encoder") { 200 } else { 150 });
                assert!(values[values.len() - 64..].iter().all(|x| *x == 0.0), "{name}: <pad>");
                assert!(
                    values[..values.len() - 64].iter().filter(|x| **x == 0.0).count() < 3,
                    "{name}"
                );
            }
        } else {
            let bound = (6.0 / (shape[0] + shape[1]) as f32).sqrt();
            assert!(
                largest <= bound && largest > 0.99 * bound,
                "{name}: {largest} of {bound}"
            );
            let uniform = bound / 3f32.sqrt();
            assert!(
                (deviation / uniform - 1.0).abs() < 0.03 && mean.abs() < 0.05 * bound,
                "{name}"
            );
        }
    }
}

/// A model sees the updates of its parameters; a copy of the parameters does not. `assign` copies all values.
#[test]
fn models_share_parameters_and_copies_do_not() {
    let architecture = &architectures()[0];
    let params = specimen::params(architecture, 1);
    let model = Transformer::for_inference(architecture, &params, None).unwrap();
    let copy = params.copy().unwrap();
    let hidden = || {
        let source = batch(&[sentence(1, 5)]);
        let encoded = model.encode(&source, Pass::default()).unwrap();
        let target = shifted(architecture, &[sentence(2, 5)]);
        values(&model.decode(&target, &encoded, Pass::default()).unwrap())
    };
    let before = hidden();
    for parameter in params.iter() {
        let doubled = (parameter.var.as_detached_tensor() * 2.0).unwrap();
        parameter.var.set(&doubled).unwrap();
    }
    assert_ne!(hidden(), before);
    assert_ne!(parts(&copy), parts(&params));
    params.assign(&copy).unwrap();
    assert_eq!(parts(&copy), parts(&params));
    assert_eq!(hidden(), before);
    let (count, elements) = (params.iter().count(), params.iter().map(|p| p.var.elem_count()).sum());
    assert_eq!(
        (params.len(), params.elements(), params.is_empty()),
        (count, elements, false)
    );
    let error = params.get("model.shared.wait").unwrap_err().to_string();
    assert!(error.contains("model.shared.wait"), "{error}");
}
