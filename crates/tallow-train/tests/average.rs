//! Averages of weights: of checkpoints, and over updates.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::{DType, Device, Tensor};
use std::path::PathBuf;
use tallow_model::{Architecture, Initialisation, ModelConfig, Params, SearchSettings, save};
use tallow_train::{Ema, average};

fn architecture(layers: usize) -> Architecture {
    Architecture {
        model: ModelConfig {
            d_model: 8,
            feed_forward: 12,
            encoder_layers: layers,
            decoder_layers: 1,
            heads: 2,
            max_positions: 512,
            ..ModelConfig::default()
        },
        source_vocabulary: 11,
        target_vocabulary: 11,
        shared_vocabulary: true,
        eos_id: 0,
        unk_id: 1,
    }
}

fn params(layers: usize, seed: u64) -> Params {
    Params::initialise(
        &architecture(layers),
        Initialisation::Xavier,
        seed,
        DType::F32,
        &Device::Cpu,
    )
    .unwrap()
}

fn values(params: &Params) -> Vec<f32> {
    let parts = params.parts().unwrap().into_iter();
    parts
        .flat_map(|(_, x)| x.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        .collect()
}

/// The average of three directories is the mean of every weight, rounded once, in any order of the directories. A
/// directory averaged with itself is unchanged.
#[test]
fn the_mean_of_three_directories() {
    let root = tempfile::tempdir().unwrap();
    let write = |seed: u64| -> PathBuf {
        let path = root.path().join(seed.to_string());
        save(
            &path,
            &architecture(1),
            &params(1, seed),
            None,
            SearchSettings::new(4, 20),
        )
        .unwrap();
        path
    };
    let directories: Vec<PathBuf> = (0..3).map(write).collect();
    let opened = average(&directories, &Device::Cpu).unwrap();
    let (found, mean) = (opened.architecture, opened.params);
    assert_eq!(found, architecture(1));
    let all: Vec<Vec<f32>> = (0..3).map(|seed| values(&params(1, seed))).collect();
    for (i, got) in values(&mean).into_iter().enumerate() {
        let expected = all.iter().map(|values| f64::from(values[i])).sum::<f64>() / 3.0;
        assert_eq!(got, expected as f32, "number {i}");
    }
    let order = [&directories[2], &directories[0], &directories[1]];
    assert_eq!(values(&average(&order, &Device::Cpu).unwrap().params), values(&mean));
    let same = [&directories[1], &directories[1]];
    assert_eq!(values(&average(&same, &Device::Cpu).unwrap().params), all[1]);
}

/// Constants added to the logits are averaged too; a directory without them counts as zeros.
#[test]
fn the_mean_of_biases_on_the_logits() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, bias: Option<f32>| -> PathBuf {
        let path = root.path().join(name);
        let bias = bias.map(|x| Tensor::full(x, (1, 11), &Device::Cpu).unwrap());
        save(
            &path,
            &architecture(1),
            &params(1, 1),
            bias.as_ref(),
            SearchSettings::new(4, 20),
        )
        .unwrap();
        path
    };
    let directories = [write("a", Some(3.0)), write("b", None), write("c", Some(0.75))];
    let bias = average(&directories, &Device::Cpu).unwrap().logits_bias.unwrap();
    assert_eq!(bias.to_vec2::<f32>().unwrap(), [[1.25; 11]]);
}

/// Nothing to average, a missing directory, and models of two shapes each give an error that names them.
#[test]
fn what_cannot_be_averaged() {
    assert!(average::<PathBuf>(&[], &Device::Cpu).is_err());
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (root.path().join("one"), root.path().join("two"));
    save(&one, &architecture(1), &params(1, 1), None, SearchSettings::new(4, 20)).unwrap();
    save(&two, &architecture(2), &params(2, 1), None, SearchSettings::new(4, 20)).unwrap();
    let error = average(&[&one, &two], &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("one") && error.contains("two"), "{error}");
    let missing = root.path().join("three");
    let error = average(&[&one, &missing], &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("three"), "{error}");
}

/// The moving average after some updates equals the recursion: average <- decay * average + (1 - decay) * weight. The
/// decay is (1 + update) / (10 + update) until that exceeds the configured one. The average begins with the first
/// weights, and the weights themselves never change.
#[test]
fn moving_averages() {
    let weights: Vec<Params> = (0..4).map(|seed| params(1, seed)).collect();
    for configured in [0.1, 0.25, 0.999] {
        let mut ema = Ema::new(&weights[0], configured).unwrap();
        let mut expected: Vec<f64> = values(&weights[0]).into_iter().map(f64::from).collect();
        for (update, now) in weights.iter().enumerate().skip(1) {
            ema.update(now, update as u64).unwrap();
            let decay = f64::min(configured, (1 + update) as f64 / (10 + update) as f64);
            for (average, value) in expected.iter_mut().zip(values(now)) {
                *average = decay * *average + (1.0 - decay) * f64::from(value);
            }
        }
        for (got, expected) in values(ema.params()).into_iter().zip(&expected) {
            assert!((f64::from(got) - expected).abs() < 1e-6, "{got} {expected}");
        }
    }
    for (seed, now) in weights.iter().enumerate() {
        assert_eq!(values(now), values(&params(1, seed as u64)));
    }
}
