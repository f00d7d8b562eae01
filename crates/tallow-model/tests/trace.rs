//! A pass that keeps everything computes what other passes compute.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::specimen;
use candle_core::{DType, Device, Tensor, Var};
use specimen::{architectures, batch, params, reduced_architectures, sentence, shifted, values};
use tallow_model::{
    AttentionRecord, Block, ForwardTrace, Head, InferenceCompute, Params, Pass, PreparedTransformer, Transformer,
};

fn assert_near(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() < tolerance, "{what}: {got} {expected}");
    }
}

#[test]
fn it_is_the_pass_of_the_model() {
    for architecture in architectures().into_iter().chain(reduced_architectures()) {
        let params = params(&architecture, 3);
        let model = Transformer::for_inference(&architecture, &params, None).unwrap();
        let (source, target) = (sentence(1, 7), sentence(2, 5));
        let trace = model.trace(&source, &target, &[]).unwrap();
        let what = format!("{architecture:?}");

        let record = AttentionRecord::new();
        let pass = Pass {
            record: Some(&record),
            ..Pass::default()
        };
        let encoded = model.encode(&batch(std::slice::from_ref(&source)), pass).unwrap();
        assert_near(&what, &values(&trace.encoder.output), &values(&encoded.hidden_nd), 1e-5);
        let input = shifted(&architecture, std::slice::from_ref(&target));
        let hidden = model.decode(&input, &encoded, pass).unwrap();
        assert_near(&what, &values(&trace.decoder.output), &values(&hidden), 1e-5);
        // Every head has the weights that the model records.
        let layer = |block: Block, number: usize| match block {
            Block::EncoderSelf => trace.encoder.layers[number].self_attention.clone(),
            Block::DecoderSelf => trace.decoder.layers[number].self_attention.clone(),
            Block::DecoderCross => trace.decoder.layers[number].cross_attention.clone().unwrap(),
        };
        for recorded in record.into_inner() {
            let found = layer(recorded.block, recorded.layer);
            assert_near(&what, &values(&found.weights), &values(&recorded.weights_bhts), 1e-5);
        }
        // The lens through the last state is the model's own prediction, whose probabilities add up to one.
        let last = trace.decoder.layers.last().unwrap().stream();
        let lens = values(&model.lens(last).unwrap());
        assert_near(&what, &lens, &values(&trace.log_probabilities), 1e-6);
        for row in lens.chunks(architecture.classes()) {
            let sum: f32 = row.iter().map(|log| log.exp()).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{what}: {sum}");
        }
        let model_of = &architecture.model;
        assert_sums_are_streams(&trace, model_of.norm != tallow_model::Norm::Post && model_of.residual);
    }
}

/// Without normalisation after a sublayer, the residual stream is the sum of everything that was added to it.
fn assert_sums_are_streams(trace: &ForwardTrace, is_a_sum: bool) {
    if !is_a_sum {
        return;
    }
    let mut sum = trace.decoder.input.clone();
    for layer in &trace.decoder.layers {
        let outputs = [
            Some(&layer.self_attention.output),
            layer.cross_attention.as_ref().map(|cross| &cross.output),
            layer.feed_forward.as_ref().map(|feed_forward| &feed_forward.output),
        ];
        for output in outputs.into_iter().flatten() {
            sum = (sum + output).unwrap();
        }
        assert_near("stream", &values(&sum), &values(layer.stream()), 1e-4);
    }
}

/// A copy of parameters in which the part of the output weight that belongs to a head is zero.
fn without_head(params: &Params, head: Head, heads: usize, width: usize) -> Params {
    let copy = params.copy().unwrap();
    let (name, start) = match head.block {
        Block::EncoderSelf => (
            format!("model.encoder.layers.{}.self_attn", head.layer),
            3 * width * (width + 1),
        ),
        Block::DecoderSelf => (
            format!("model.decoder.layers.{}.self_attn", head.layer),
            3 * width * (width + 1),
        ),
        Block::DecoderCross => (
            format!("model.decoder.layers.{}.encoder_attn", head.layer),
            3 * width * (width + 1),
        ),
    };
    let var: &Var = &copy.get(&name).unwrap().var;
    let mut numbers = values(var.as_tensor());
    let of_head = width / heads;
    for output in 0..width {
        let row = start + output * width;
        numbers[row + head.head * of_head..row + (head.head + 1) * of_head].fill(0.0);
    }
    var.set(&Tensor::from_vec(numbers, var.shape(), &Device::Cpu).unwrap())
        .unwrap();
    copy
}

/// The logits of the second step of a translation. In the first, self-attention sees a zero alone.
fn logits(model: &PreparedTransformer, source: &[u32]) -> Vec<f32> {
    let mut state = model.start(&batch(&[source.to_vec()])).unwrap();
    let pad = model.architecture().target_pad_id();
    model.step(&[pad], &mut state).unwrap();
    values(&model.step(&[3], &mut state).unwrap())
}

/// A head that is switched off is one whose part of the output layer is zero.
#[test]
fn heads_that_are_off() {
    for architecture in architectures().into_iter().chain(reduced_architectures()) {
        let params = params(&architecture, 3);
        let model = Transformer::for_inference(&architecture, &params, None).unwrap();
        let (source, target, model_of) = (sentence(1, 7), sentence(2, 5), &architecture.model);
        let whole = values(&model.trace(&source, &target, &[]).unwrap().log_probabilities);
        let places = [
            (Block::EncoderSelf, model_of.encoder_layers, model_of.heads),
            (Block::DecoderSelf, model_of.decoder_layers, model_of.decoder_heads()),
            (Block::DecoderCross, model_of.decoder_layers, model_of.decoder_heads()),
        ];
        for (block, layers, heads) in places {
            // A decoder alone has no encoder and does not see it.
            if !model_of.cross_attention && block != Block::DecoderSelf {
                continue;
            }
            let head = Head {
                block,
                layer: layers - 1,
                head: heads - 1,
            };
            let off = values(&model.trace(&source, &target, &[head]).unwrap().log_probabilities);
            let copy = without_head(&params, head, heads, model_of.d_model);
            let other = Transformer::for_inference(&architecture, &copy, None).unwrap();
            let expected = values(&other.trace(&source, &target, &[]).unwrap().log_probabilities);
            assert_near(&format!("{head:?} in {architecture:?}"), &off, &expected, 1e-5);
            // The copy without a head is that model, and shares nothing with the model itself that would change it.
            let copy = model.without_heads(&[head]).unwrap();
            let found = values(&copy.trace(&source, &target, &[]).unwrap().log_probabilities);
            assert_eq!(found, expected);
            let prepared = copy.prepare(InferenceCompute::F32).unwrap();
            let whole_prepared = model.prepare(InferenceCompute::F32).unwrap();
            assert_ne!(logits(&prepared, &source), logits(&whole_prepared, &source));
            assert_eq!(
                logits(&prepared, &source),
                logits(&other.prepare(InferenceCompute::F32).unwrap(), &source)
            );
            assert_ne!(off, whole);
        }
        assert!(model.trace(&source, &[], &[]).is_err());
        assert_eq!(
            model.trace(&source, &target, &[]).unwrap().decoder.output.dtype(),
            DType::F32
        );
    }
}
