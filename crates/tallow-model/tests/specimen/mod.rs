//! Small models of all kinds, and sentences for them.

use candle_core::{DType, Device, Tensor};
use tallow_model::{ActivationKind, Architecture, Initialisation, ModelConfig, Norm, Params, Positions, Tie, Tokens};
use tallow_ops::{Key, Purpose};

pub(crate) const VOCABULARY: usize = 13;

/// The settings from which the others depart.
fn base() -> ModelConfig {
    ModelConfig {
        d_model: 12,
        feed_forward: 20,
        encoder_layers: 2,
        decoder_layers: 2,
        heads: 3,
        max_positions: 64,
        ..ModelConfig::default()
    }
}

/// One architecture for every setting, and combinations of several: odd widths and head counts, one layer, more decoder
/// heads than encoder heads, other feed-forward widths.
pub(crate) fn architectures() -> Vec<Architecture> {
    let base = base();
    let models = [
        base.clone(),
        ModelConfig {
            norm: Norm::Pre,
            ..base.clone()
        },
        ModelConfig {
            positions: Positions::Learned,
            d_model: 15,
            heads: 5,
            decoder_heads: Some(1),
            ..base.clone()
        },
        ModelConfig {
            positions: Positions::None,
            encoder_layers: 1,
            decoder_layers: 1,
            activation: ActivationKind::Gelu,
            ..base.clone()
        },
        ModelConfig {
            tie: Tie::Output,
            positions: Positions::SinusoidalMarian,
            activation: ActivationKind::Silu,
            decoder_feed_forward: Some(7),
            ..base.clone()
        },
        ModelConfig {
            tie: Tie::None,
            norm: Norm::Pre,
            positions: Positions::Learned,
            scale_attention: false,
            scale_embedding: false,
            decoder_layers: 1,
            ..base.clone()
        },
        ModelConfig {
            d_model: 14,
            heads: 7,
            encoder_layers: 1,
            decoder_layers: 3,
            scale_embedding: false,
            tie: Tie::None,
            ..base
        },
    ];
    models.into_iter().map(architecture).collect()
}

/// Architectures that lack something that the others have.
#[allow(dead_code)] // Not every test needs them.
pub(crate) fn reduced_architectures() -> Vec<Architecture> {
    let base = base();
    let models = [
        ModelConfig {
            norm: Norm::None,
            ..base.clone()
        },
        ModelConfig {
            residual: false,
            ..base.clone()
        },
        ModelConfig {
            residual: false,
            norm: Norm::Pre,
            tie: Tie::None,
            ..base.clone()
        },
        ModelConfig {
            residual: false,
            norm: Norm::None,
            feed_forward: 0,
            decoder_feed_forward: Some(9),
            ..base.clone()
        },
        ModelConfig {
            feed_forward: 0,
            ..base.clone()
        },
        ModelConfig {
            cross_attention: false,
            encoder_layers: 0,
            norm: Norm::Pre,
            ..base.clone()
        },
        ModelConfig {
            causal_mask: false,
            ..base
        },
    ];
    models.into_iter().map(architecture).collect()
}

fn architecture(model: ModelConfig) -> Architecture {
    let shared_vocabulary = model.tie == Tie::All;
    Architecture {
        model,
        source_vocabulary: if shared_vocabulary { VOCABULARY } else { VOCABULARY + 3 },
        target_vocabulary: VOCABULARY,
        shared_vocabulary,
        eos_id: 0,
        unk_id: 1,
    }
}

/// Parameters in f32.
pub(crate) fn params(architecture: &Architecture, seed: u64) -> Params {
    Params::initialise(architecture, Initialisation::Xavier, seed, DType::F32, &Device::Cpu).unwrap()
}

/// A random sentence of this length, `</s>` included, without `<pad>`.
pub(crate) fn sentence(seed: u64, length: usize) -> Vec<u32> {
    let words = Key::new(seed, Purpose::Sampling).uniform(length - 1);
    let word = |x: f64| 1 + (x * (VOCABULARY - 2) as f64) as u32;
    words.into_iter().map(word).chain([0]).collect()
}

/// Joins sentences into a batch.
pub(crate) fn batch(sentences: &[Vec<u32>]) -> Tokens {
    Tokens::new(sentences, &Device::Cpu).unwrap()
}

/// The decoder's input that predicts these targets: each target shifted right after `<pad>`.
pub(crate) fn shifted(architecture: &Architecture, targets: &[Vec<u32>]) -> Tokens {
    let pad = architecture.target_pad_id();
    let shift = |target: &Vec<u32>| {
        let mut shifted = vec![pad];
        shifted.extend(&target[..target.len() - 1]);
        shifted
    };
    let rows: Vec<Vec<u32>> = targets.iter().map(shift).collect();
    batch(&rows)
}

/// All numbers of a tensor.
pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}
