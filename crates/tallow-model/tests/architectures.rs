//! Properties of all architectures.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::specimen;
use specimen::{architectures, batch, params, reduced_architectures, sentence, shifted, values};
use tallow_model::{Architecture, AttentionRecord, Block, LossOptions, Params, Pass, Positions, Transformer};

fn model(architecture: &Architecture, params: &Params) -> Transformer {
    Transformer::for_inference(architecture, params, None).unwrap()
}

/// Logits of teacher forcing, by sentence and position.
fn logits(model: &Transformer, sources_of: &[Vec<u32>], targets: &[Vec<u32>]) -> Vec<Vec<Vec<f32>>> {
    let encoded = model.encode(&batch(sources_of), Pass::default()).unwrap();
    let input = shifted(model.architecture(), targets);
    let hidden = model.decode(&input, &encoded, Pass::default()).unwrap();
    let rows = model.logits(&hidden).unwrap().to_vec2().unwrap();
    input.sentences.ranges().map(|range| rows[range].to_vec()).collect()
}

/// No part of any model is cut off from the loss: the gradient of every tensor of a file is finite and not zero. The
/// only exception are the gradients of key biases, which are zero but for rounding, because softmax ignores a shift. Of
/// learned positions, exactly the rows within the batch's length are reached.
#[test]
fn a_gradient_reaches_every_part() {
    for architecture in architectures().into_iter().chain(reduced_architectures()) {
        let params = params(&architecture, 1);
        let model = Transformer::for_training(&architecture, &params, None).unwrap();
        let (of_source, of_target) = ([7, 4, 6], [6, 8, 3]);
        let rows = |lengths: [usize; 3], seed| -> Vec<Vec<u32>> {
            (0..3).map(|i| sentence(seed + i as u64, lengths[i])).collect()
        };
        let targets = rows(of_target, 20);
        let input = shifted(&architecture, &targets);
        let labels = targets.concat();
        let source = batch(&rows(of_source, 10));
        let options = LossOptions {
            smoothing: 0.1,
            ..LossOptions::default()
        };
        let loss = model.loss(&source, &input, &labels, options, Pass::default()).unwrap();
        let store = loss.total.backward().unwrap();
        for parameter in params.iter() {
            let gradient = store
                .get(parameter.var.as_tensor())
                .unwrap_or_else(|| panic!("{}: no gradient in {architecture:?}", parameter.name));
            for (name, part) in parameter.split(gradient).unwrap() {
                let numbers = values(&part);
                assert!(numbers.iter().all(|g| g.is_finite()), "{name}");
                let largest = numbers.iter().fold(0f32, |largest, g| largest.max(g.abs()));
                if name.ends_with("k_proj.bias") {
                    assert!(largest < 1e-4, "{name}: {largest} in {architecture:?}");
                } else {
                    // Without residual connections, gradients shrink from layer to layer, to almost nothing.
                    let least = if architecture.model.residual { 1e-3 } else { 0.0 };
                    assert!(largest > least, "{name}: {largest} in {architecture:?}");
                }
                if name.ends_with("embed_positions.weight") {
                    let length = if name.contains("encoder") { 7 } else { 8 };
                    let width = architecture.model.d_model;
                    let reached = |row: &[f32]| row.iter().any(|g| *g != 0.0);
                    for (position, row) in numbers.chunks(width).enumerate() {
                        assert_eq!(reached(row), position < length, "{name}, position {position}");
                    }
                }
            }
        }
    }
}

/// A sentence's logits do not depend on its batch: other sentences, of any length, do not change a bit.
#[test]
fn sentences_do_not_see_each_other() {
    for architecture in architectures().into_iter().chain(reduced_architectures()) {
        let params = params(&architecture, 2);
        let model = model(&architecture, &params);
        let (source, target) = (sentence(1, 5), sentence(2, 6));
        let alone = &logits(&model, std::slice::from_ref(&source), std::slice::from_ref(&target))[0];
        for (row, others) in [(0, [5, 6]), (1, [9, 6]), (0, [5, 14]), (1, [33, 40]), (1, [1, 1])] {
            let mut batch = (vec![sentence(3, others[0])], vec![sentence(4, others[1])]);
            batch.0.insert(row, source.clone());
            batch.1.insert(row, target.clone());
            let together = &logits(&model, &batch.0, &batch.1)[row];
            assert_eq!(alone, together, "beside {others:?} in {architecture:?}");
        }
    }
}

/// A target token changes the logits after it, and does not change a bit of the logits before it, unless there is no
/// mask.
#[test]
fn the_decoder_does_not_look_ahead() {
    for architecture in architectures().into_iter().chain(reduced_architectures()) {
        let params = params(&architecture, 3);
        let model = model(&architecture, &params);
        let (source, target) = (sentence(1, 5), sentence(2, 9));
        let before = logits(&model, std::slice::from_ref(&source), std::slice::from_ref(&target));
        for changed in 0..8 {
            let mut other = target.clone();
            other[changed] = 1 + other[changed] % 10;
            let after = logits(&model, std::slice::from_ref(&source), &[other]);
            let (before, after) = (&before[0], &after[0]);
            let is_the_same = before[..=changed] == after[..=changed];
            assert_eq!(is_the_same, architecture.model.causal_mask, "{architecture:?}");
            assert_ne!(before[changed + 1], after[changed + 1], "{architecture:?}");
        }
    }
}

/// Every source token influences every target position. With positions, so does the order of source tokens; without
/// them the encoder ignores the order.
#[test]
fn the_order_of_the_source() {
    for architecture in architectures() {
        let params = params(&architecture, 4);
        let model = model(&architecture, &params);
        let target = [sentence(2, 4)];
        let base = logits(&model, &[vec![2, 3, 4, 0]], &target);
        let swapped = logits(&model, &[vec![3, 2, 4, 0]], &target).concat().concat();
        let difference = base
            .iter()
            .flatten()
            .flatten()
            .zip(&swapped)
            .fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        if architecture.model.positions == Positions::None {
            assert!(difference < 2e-6, "{difference} in {architecture:?}");
        } else {
            assert!(difference > 1e-3, "{difference} in {architecture:?}");
        }
        let replaced = logits(&model, &[vec![2, 3, 5, 0]], &target);
        for (before, after) in base[0].iter().zip(&replaced[0]) {
            assert_ne!(before, after);
        }
    }
}

/// A record holds the weights of all attention blocks of all layers, with the right order and shapes. Rows add up to
/// one, and weights of padding and of later positions are exactly zero. Recording changes results by rounding only.
#[test]
fn recorded_attention() {
    for architecture in architectures() {
        let params = params(&architecture, 5);
        let model = model(&architecture, &params);
        let (source_lengths, target_lengths) = ([6, 3], [4, 5]);
        let source = batch(&[sentence(1, 6), sentence(2, 3)]);
        let target = shifted(&architecture, &[sentence(3, 4), sentence(4, 5)]);
        let record = AttentionRecord::new();
        let pass = Pass {
            record: Some(&record),
            ..Pass::default()
        };
        let hidden = model
            .decode(&target, &model.encode(&source, pass).unwrap(), pass)
            .unwrap();
        let plain = model.encode(&source, Pass::default()).unwrap();
        let plain = model.decode(&target, &plain, Pass::default()).unwrap();
        // Recording uses other kernels, because the usual ones never write the weights out.
        for (recorded, plain) in values(&hidden).iter().zip(values(&plain)) {
            assert!((recorded - plain).abs() < 1e-5, "{recorded} {plain}");
        }

        let config = &architecture.model;
        let encoder = (0..config.encoder_layers).map(|layer| (Block::EncoderSelf, layer));
        let decoder =
            (0..config.decoder_layers).flat_map(|layer| [(Block::DecoderSelf, layer), (Block::DecoderCross, layer)]);
        let expected: Vec<(Block, usize)> = encoder.chain(decoder).collect();
        let recorded = record.into_inner();
        let found: Vec<(Block, usize)> = recorded.iter().map(|r| (r.block, r.layer)).collect();
        assert_eq!(found, expected, "{architecture:?}");
        for attention in recorded {
            let (heads, queries, keys) = match attention.block {
                Block::EncoderSelf => (config.heads, 6, 6),
                Block::DecoderSelf => (config.decoder_heads(), 5, 5),
                Block::DecoderCross => (config.decoder_heads(), 5, 6),
            };
            assert_eq!(attention.weights_bhts.dims(), [2, heads, queries, keys]);
            for b in 0..2 {
                let rows_of = if attention.block == Block::EncoderSelf {
                    source_lengths
                } else {
                    target_lengths
                };
                for head in attention.weights_bhts.get(b).unwrap().to_vec3::<f32>().unwrap() {
                    for (t, row) in head.iter().enumerate().take(rows_of[b]) {
                        let seen = match attention.block {
                            Block::DecoderSelf => t + 1,
                            _ => source_lengths[b],
                        };
                        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{row:?}");
                        assert!(row[..seen].iter().all(|weight| *weight > 0.0), "{row:?}");
                        assert!(row[seen..].iter().all(|weight| *weight == 0.0), "{row:?}");
                    }
                }
            }
        }
    }
}

/// A decoder alone does not depend on the source, and has no parameters for it.
#[test]
fn a_decoder_alone() {
    let alone = reduced_architectures()
        .into_iter()
        .find(|other| !other.model.cross_attention);
    let architecture = alone.unwrap();
    let params = params(&architecture, 2);
    assert!(params.iter().all(|parameter| !parameter.name.contains("encoder")));
    let model = model(&architecture, &params);
    let target = [sentence(2, 6)];
    assert_eq!(
        logits(&model, &[sentence(1, 5)], &target),
        logits(&model, &[sentence(9, 3)], &target)
    );
}

/// A sentence beyond the learned positions is an error; computed positions go on beyond their table.
#[test]
fn long_sentences() {
    for architecture in architectures() {
        let params = params(&architecture, 6);
        let model = model(&architecture, &params);
        let encode = |length| model.encode(&batch(&[sentence(1, length)]), Pass::default());
        if architecture.model.positions == Positions::Learned {
            assert!(encode(64).is_ok());
            let error = encode(65).unwrap_err().to_string();
            assert!(
                error.contains("65") && error.contains("64") && error.contains("model.max_positions"),
                "{error}"
            );
        } else {
            // 256 positions are computed in advance; they stay the same when more are needed.
            let (short, long) = (encode(256).unwrap(), encode(300).unwrap());
            assert_eq!(short.hidden_nd.dims(), [256, architecture.model.d_model]);
            assert!(values(&long.hidden_nd).iter().all(|x| x.is_finite()));
        }
    }
}
