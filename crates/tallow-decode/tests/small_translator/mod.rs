//! Untrained models with vocabularies learned from a few lines.

use candle_core::{DType, Device, Tensor};
use tallow_decode::{DecodeConfig, Translator};
use tallow_model::{
    Architecture, InferenceCompute, Initialisation, ModelConfig, Params, PreparedTransformer, Transformer,
};
use tallow_text::{Kind, TextConfig, Tokenizers};

pub(crate) const LINES: [&str; 6] = [
    "the cat sees a dog",
    "a dog sees the cat and the bird",
    "birds sing",
    "the dog sings and the cat sings",
    "a bird sees the dog, the cat and a bird!",
    "cats, dogs and birds",
];

pub(crate) fn tokenizers(kind: Kind, vocabulary: usize, byte_fallback: bool) -> Tokenizers {
    let config = TextConfig {
        kind,
        vocabulary,
        byte_fallback,
        ..TextConfig::default()
    };
    Tokenizers::learn(&config, LINES, LINES, 1).unwrap()
}

pub(crate) fn subwords() -> Tokenizers {
    tokenizers(Kind::Bpe, 60, false)
}

/// An untrained model with a tokenizer's vocabulary. Each of the `favourite` pieces gets its bias on the logits.
pub(crate) fn model(tokenizers: &Tokenizers, favourite: &[(&str, f32)]) -> PreparedTransformer {
    let vocabulary = tokenizers.target.vocabulary_size();
    let architecture = Architecture {
        model: ModelConfig {
            d_model: 16,
            feed_forward: 24,
            encoder_layers: 1,
            decoder_layers: 1,
            heads: 2,
            ..ModelConfig::default()
        },
        source_vocabulary: tokenizers.source.vocabulary_size(),
        target_vocabulary: vocabulary,
        shared_vocabulary: true,
        eos_id: tokenizers.source.eos_id(),
        unk_id: tokenizers.source.unk_id(),
    };
    let params = Params::initialise(&architecture, Initialisation::Xavier, 3, DType::F32, &Device::Cpu).unwrap();
    let mut bias = vec![0f32; vocabulary];
    for (piece, more) in favourite {
        bias[tokenizers.target.id(piece).unwrap() as usize] = *more;
    }
    let bias = Tensor::from_vec(bias, (1, vocabulary), &Device::Cpu).unwrap();
    Transformer::for_inference(&architecture, &params, Some(bias))
        .unwrap()
        .prepare(InferenceCompute::F32)
        .unwrap()
}

pub(crate) fn config() -> DecodeConfig {
    DecodeConfig {
        beam: 3,
        max_length: 12,
        ..DecodeConfig::default()
    }
}

/// A translator with these settings and an untrained model that likes some pieces.
pub(crate) fn translator(config: DecodeConfig, tokenizers: &Tokenizers, favourite: &[(&str, f32)]) -> Translator {
    let builder = Translator::builder(model(tokenizers, favourite), tokenizers.clone()).config(config);
    builder.build().unwrap()
}
