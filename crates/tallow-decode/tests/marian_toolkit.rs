//! Comparison of Marian toolkit models with Marian itself: losses, and translations with their scores.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::Device;
use std::path::{Path, PathBuf};
use tallow_decode::{DecodeConfig, Translation, Translator, open_tokenizers};
use tallow_model::{InferenceCompute, LossOptions, Opened, Pass, Tokens, Transformer, open};
use tallow_text::{Tokenizer, Tokenizers};

const MODELS: [&str; 3] = ["post-norm", "pre-norm", "words"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/marian-toolkit")
        .join(name)
}

/// Source, reference, Marian's translation and its score.
fn lines(name: &str) -> Vec<[String; 4]> {
    let text = std::fs::read_to_string(fixture(name).join("lines.txt")).unwrap();
    let columns = |line: &str| {
        let columns: Vec<String> = line.split('\t').map(str::to_owned).collect();
        columns.try_into().unwrap()
    };
    text.lines().map(columns).collect()
}

fn opened(name: &str) -> (Opened, Tokenizers) {
    let opened = open(&fixture(name), &Device::Cpu).unwrap();
    let tokenizers = open_tokenizers(&fixture(name), &opened.architecture).unwrap();
    (opened, tokenizers)
}

/// The mean loss per target token.
fn loss(model: &Transformer, tokenizers: &Tokenizers, lines: &[[String; 4]]) -> f64 {
    let ids = |tokenizer: &Tokenizer, line: &str| {
        let mut ids = tokenizer.encode(line).unwrap();
        ids.push(tokenizer.eos_id());
        ids
    };
    let (mut sum, mut count) = (0.0, 0);
    for [source, reference, ..] in lines {
        let source = ids(&tokenizers.source, source);
        let labels = ids(&tokenizers.target, reference);
        let input = [&[tokenizers.target.pad_id()], &labels[..labels.len() - 1]].concat();
        let tokens = |ids: &[u32]| Tokens::new(&[ids.to_vec()], &Device::Cpu).unwrap();
        let loss = model
            .loss(
                &tokens(&source),
                &tokens(&input),
                &labels,
                LossOptions::default(),
                Pass::default(),
            )
            .unwrap();
        sum += f64::from(loss.total.to_scalar::<f32>().unwrap());
        count += labels.len();
    }
    sum / count as f64
}

#[test]
fn losses_are_those_of_marian() {
    for name in MODELS {
        let (opened, tokenizers) = opened(name);
        let model = opened.for_inference().unwrap().prepare(InferenceCompute::F32).unwrap();
        let ours = loss(model.transformer().unwrap(), &tokenizers, &lines(name));
        let text = std::fs::read_to_string(fixture(name).join("loss.txt")).unwrap();
        let theirs: f64 = text.trim().parse().unwrap();
        assert!(
            (ours - theirs).abs() < 1e-4 * theirs,
            "{name}: {ours} instead of {theirs}"
        );
    }
}

fn translations(name: &str, lines: &[[String; 4]]) -> Vec<Translation> {
    let (opened, tokenizers) = opened(name);
    let model = opened.for_inference().unwrap().prepare(InferenceCompute::F32).unwrap();
    let config = DecodeConfig {
        beam: 4,
        ..DecodeConfig::default()
    };
    let translator = Translator::builder(model, tokenizers).config(config).build().unwrap();
    let sources: Vec<&str> = lines.iter().map(|line| line[0].as_str()).collect();
    translator.translate(&sources, 0).unwrap()
}

#[test]
fn translations_are_those_of_marian() {
    for name in ["post-norm", "words"] {
        let lines = lines(name);
        for ([source, _, theirs, score], ours) in lines.iter().zip(translations(name, &lines)) {
            let (score, our_score): (f64, f64) = (score.parse().unwrap(), ours.candidates[0].hypothesis.score);
            assert_eq!(ours.text(), theirs, "{name}: {source}: {our_score}, Marian: {score}");
            assert!(
                (score - our_score).abs() < 1e-4 * (1.0 + score.abs()),
                "{name}: {source}: {our_score} instead of {score}"
            );
        }
    }
}

/// Marian 1.12 translates worse with pre-norm models than it has trained them. From the second token on, its decoder
/// attends to the input instead of the normalised input (`DecoderLayerSelfAttention` in its `transformer.h`). Tallow
/// translates with the model as it was trained, so its translations differ.
#[test]
fn pre_norm_models_translate_as_they_were_trained() {
    let lines = lines("pre-norm");
    let exact = |found: &dyn Fn(usize) -> String| (0..lines.len()).filter(|i| found(*i) == lines[*i][1]).count();
    let ours = translations("pre-norm", &lines);
    let (ours, theirs) = (exact(&|i| ours[i].text().to_owned()), exact(&|i| lines[i][2].clone()));
    assert!(ours > 2 * theirs, "{ours} against {theirs} of {}", lines.len());
}
