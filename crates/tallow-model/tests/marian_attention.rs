//! What a trace shows is what Hugging Face's MarianMT does on PyTorch (`scripts/fixtures/marian_attention.py`): the
//! weights of every head, the lens of every layer, and the predictions without a head.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tallow_model::{Block, ForwardTrace, Head, open};

fn assert_near(what: &str, got: &Tensor, expected: &Tensor, tolerance: f32) {
    assert_eq!(got.dims(), expected.dims(), "{what}");
    let values = |tensor: &Tensor| -> Vec<f32> { tensor.flatten_all().unwrap().to_vec1().unwrap() };
    for (got, expected) in values(got).iter().zip(values(expected)) {
        assert!(
            (got - expected).abs() <= tolerance,
            "{what}: {got} instead of {expected}"
        );
    }
}

/// The sentences of a fixture, without their padding.
fn sentences(expected: &HashMap<String, Tensor>, name: &str, pad: u32) -> Vec<Vec<u32>> {
    let rows: Vec<Vec<u32>> = expected[name].to_dtype(DType::U32).unwrap().to_vec2().unwrap();
    let cut = |row: Vec<u32>| row.into_iter().filter(|id| *id != pad).collect();
    rows.into_iter().map(cut).collect()
}

fn weights<'a>(trace: &'a ForwardTrace, block: &str, layer: usize) -> &'a Tensor {
    match block {
        "encoder" => &trace.encoder.layers[layer].self_attention.weights,
        "decoder" => &trace.decoder.layers[layer].self_attention.weights,
        _ => &trace.decoder.layers[layer].cross_attention.as_ref().unwrap().weights,
    }
}

#[test]
fn the_inside_is_that_of_pytorch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/marian");
    let directories: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(directories.len(), 5);
    let load = |path: PathBuf| candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let mut compared = [0; 3];
    for directory in directories {
        let model = open(&directory, &Device::Cpu).unwrap().for_inference().unwrap();
        let (expected, inside) = (
            load(directory.join("expected.safetensors")),
            load(directory.join("attention.safetensors")),
        );
        let (source_pad, target_pad) = (
            model.architecture().source_pad_id(),
            model.architecture().target_pad_id(),
        );
        let pairs: Vec<(Vec<u32>, Vec<u32>)> = sentences(&expected, "source", source_pad)
            .into_iter()
            .zip(sentences(&expected, "labels", target_pad))
            .collect();
        let traces: Vec<ForwardTrace> = pairs
            .iter()
            .map(|(source, target)| model.trace(source, target, &[]).unwrap())
            .collect();
        for (name, expected) in &inside {
            let what = format!("{} {name}", directory.display());
            let parts: Vec<&str> = name.split('.').collect();
            let number = |part: usize| parts[part].parse::<usize>().unwrap();
            let trace = &traces[number(0)];
            match parts[1] {
                "lens" => {
                    let stream = trace.decoder.layers[number(2)].stream();
                    assert_near(&what, &model.lens(stream).unwrap(), expected, 2e-5);
                    compared[0] += 1;
                }
                "without" => {
                    let block = match parts[2] {
                        "encoder" => Block::EncoderSelf,
                        "decoder" => Block::DecoderSelf,
                        _ => Block::DecoderCross,
                    };
                    let head = Head {
                        block,
                        layer: number(3),
                        head: number(4),
                    };
                    let (source, target) = &pairs[number(0)];
                    let found = model.trace(source, target, &[head]).unwrap().log_probabilities;
                    assert_near(&what, &found, expected, 2e-5);
                    compared[1] += 1;
                }
                block => {
                    assert_near(&what, weights(trace, block, number(2)), expected, 2e-6);
                    compared[2] += 1;
                }
            }
        }
    }
    assert_eq!(
        compared,
        [28, 138, 80],
        "lenses, heads that are off, layers of attention"
    );
}
