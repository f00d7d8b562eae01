//! Random models that are small enough for an exhaustive search, and sentences for them.

use candle_core::{DType, Device, Tensor};
use tallow_model::{
    Architecture, InferenceCompute, Initialisation, ModelConfig, Params, PreparedTransformer, Tokens, Transformer,
};
use tallow_ops::{Key, Purpose};

/// An untrained model with this vocabulary. Its weights are doubled, so that its choices are far from uniform.
pub(crate) fn model(vocabulary: usize, seed: u64) -> PreparedTransformer {
    model_of(vocabulary, seed, 2.0, 0.0, DType::F32)
}

/// An untrained model. Its weights are multiplied by `sharpness`, and a bias is added to its logits of `</s>`.
pub(crate) fn model_of(
    vocabulary: usize,
    seed: u64,
    sharpness: f64,
    bias_of_end: f64,
    dtype: DType,
) -> PreparedTransformer {
    let architecture = Architecture {
        model: ModelConfig {
            d_model: 16,
            feed_forward: 24,
            encoder_layers: 1,
            decoder_layers: 2,
            heads: 2,
            ..ModelConfig::default()
        },
        source_vocabulary: vocabulary,
        target_vocabulary: vocabulary,
        shared_vocabulary: true,
        eos_id: 0,
        unk_id: 1,
    };
    let params = Params::initialise(&architecture, Initialisation::Xavier, seed, dtype, &Device::Cpu).unwrap();
    for parameter in params.iter() {
        let sharper = (parameter.var.as_detached_tensor() * sharpness).unwrap();
        parameter.var.set(&sharper).unwrap();
    }
    let mut bias = vec![0.0; vocabulary];
    bias[0] = bias_of_end;
    let bias = Tensor::from_vec(bias, (1, vocabulary), &Device::Cpu).unwrap();
    let model = Transformer::for_inference(&architecture, &params, Some(bias.to_dtype(dtype).unwrap())).unwrap();
    model.prepare(InferenceCompute::F32).unwrap()
}

/// A random sentence for a model, `</s>` included.
pub(crate) fn sentence(model: &PreparedTransformer, seed: u64, length: usize) -> Vec<u32> {
    let words = model.architecture().source_vocabulary - 2;
    let random = Key::new(seed, Purpose::Initialisation).uniform(length - 1);
    random
        .into_iter()
        .map(|x| 1 + (x * words as f64) as u32)
        .chain([0])
        .collect()
}

/// Joins sentences into a batch.
pub(crate) fn batch<S: AsRef<[u32]>>(sentences: &[S]) -> Tokens {
    Tokens::new(sentences, &Device::Cpu).unwrap()
}
