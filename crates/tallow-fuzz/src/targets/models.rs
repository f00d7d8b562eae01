//! Model directories.

use crate::message;
use crate::specimen::{model_files, named, write_files};
use candle_core::Device;
use std::path::Path;
use tallow::{Hub, SavedModel, Silent};
use tallow_decode::{DecodeError, Translator};
use tallow_model::{InferenceCompute, Opened, WEIGHTS_FILE, verify};
use tempfile::tempdir;

/// The file that an input replaces, chosen by its first byte. `pytorch_model.bin` replaces `model.safetensors`;
/// `config.toml` makes the directory the best model of a run.
pub(crate) const FILES: [&str; 6] = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "pytorch_model.bin",
    "tokenizer.json",
    "config.toml",
];

/// Lines to translate.
const LINES: [&str; 3] = ["one red cat", "", "the Äpfel \u{1f600}"];

/// A model directory in which one file is replaced. A model that opens can be verified, used for translation, saved and
/// opened again.
///
/// # Panics
/// When a promise is broken.
pub fn models(data: &[u8]) {
    let Some((&choice, contents)) = data.split_first() else {
        return;
    };
    let place = tempdir().expect("a place");
    let run = place.path().join("run");
    let directory = run.join("best");
    let name = FILES[usize::from(choice) % FILES.len()];
    let replaced = if name == "pytorch_model.bin" {
        WEIGHTS_FILE
    } else {
        name
    };
    write_files(&directory, named(model_files()).filter(|(other, _)| *other != replaced));
    write_files(
        if name == "config.toml" { &run } else { &directory },
        [(name, contents)],
    );
    let checks = verify(&directory);
    let model = if name == "config.toml" { &run } else { &directory };
    let saved = match SavedModel::find(&model.display().to_string(), &Hub::offline(place.path()), &Silent) {
        Ok(saved) => saved,
        Err(error) => return message::check(&error, &[&run.display().to_string()], data),
    };
    let decode = saved.decode_config();
    assert!(decode.validate().is_empty(), "{decode:?}");
    let (opened, tokenizers) = match saved.open(&Device::Cpu) {
        Ok(opened) => opened,
        Err(error) => return message::check(&error, &[&directory.display().to_string()], data),
    };
    assert!(!checks.is_empty());
    let is_sound = checks.iter().all(|check| check.faults.is_empty());
    let model = opened.for_inference().expect("a model that has opened");
    let model = model
        .prepare(InferenceCompute::F32)
        .expect("a model of contiguous tensors");
    let mut config = decode;
    // The given settings are allowed, but would take long here.
    (config.beam, config.n_best) = (config.beam.min(3), 1);
    (config.max_length, config.min_length) = (config.max_length.min(4), 1);
    config.max_source_length = config.max_source_length.min(12);
    match Translator::builder(model.clone(), tokenizers.clone())
        .config(config.clone())
        .build()
    {
        Ok(translator) => match translator.translate(&LINES, 0) {
            Ok(translations) => assert_eq!(translations.len(), LINES.len()),
            // Finite numbers may still be too large to add.
            Err(error @ (DecodeError::NotFinite | DecodeError::Text(_))) => message::check(&error, &[], data),
            Err(error) if !is_sound || opened.architecture.model.max_positions < 12 => {
                message::check(&error, &[], data)
            }
            Err(error) => panic!("a sound model cannot translate: {error}"),
        },
        Err(error) => message::check(&error, &[], data),
    }
    check_copy(&opened, &place.path().join("copy"));
}

/// Checks that the saved model equals the opened one.
fn check_copy(opened: &Opened, copy: &Path) {
    let Opened {
        architecture,
        params,
        logits_bias,
        ..
    } = opened;
    tallow_model::save(
        copy,
        architecture,
        params,
        logits_bias.as_ref(),
        tallow_model::SearchSettings::new(2, 6),
    )
    .expect("a copy");
    let again =
        tallow_model::open(copy, &Device::Cpu).unwrap_or_else(|error| panic!("a copy cannot be opened: {error}"));
    assert_eq!(again.architecture.canonical(), architecture.canonical());
    let bits = |opened: &Opened| -> Vec<u32> {
        let tensors = opened.params.iter().map(|parameter| parameter.var.as_tensor());
        let values = tensors.map(|tensor| {
            tensor
                .flatten_all()
                .and_then(|flat| flat.to_vec1::<f32>())
                .expect("f32")
        });
        values.flatten().map(f32::to_bits).collect()
    };
    assert_eq!(bits(&again), bits(opened));
}
