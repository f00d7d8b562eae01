//! Damaged, foreign and unusual model directories. Damage gives one clear error with the file and the fault, never a
//! panic; unusual but valid directories are read.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tallow_model::{ModelError, Opened, is_marian_mt, open, read_architecture};
use tempfile::TempDir;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/marian/tied-relu")
}

/// A copy of a good directory, to be damaged.
struct Copy(TempDir);

impl Copy {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        for name in ["config.json", "generation_config.json", "model.safetensors"] {
            std::fs::copy(fixture().join(name), place.path().join(name)).unwrap();
        }
        Self(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self) -> Result<Opened, ModelError> {
        open(self.0.path(), &Device::Cpu)
    }

    /// Changes the config and opens the directory.
    fn with_config(change: impl Fn(&mut Value)) -> Result<Opened, ModelError> {
        let copy = Self::new();
        let text = std::fs::read_to_string(copy.path("config.json")).unwrap();
        let mut config = serde_json::from_str(&text).unwrap();
        change(&mut config);
        std::fs::write(copy.path("config.json"), config.to_string()).unwrap();
        copy.open()
    }

    /// Changes the tensors and opens the directory.
    fn with_tensors(change: impl Fn(&mut HashMap<String, Tensor>)) -> Result<Opened, ModelError> {
        let copy = Self::new();
        let path = copy.path("model.safetensors");
        let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        change(&mut tensors);
        candle_core::safetensors::save(&tensors, &path).unwrap();
        copy.open()
    }

    /// Replaces a file by these bytes and opens the directory.
    fn with_bytes(name: &str, bytes: &[u8]) -> Result<Opened, ModelError> {
        let copy = Self::new();
        std::fs::write(copy.path(name), bytes).unwrap();
        copy.open()
    }
}

/// Asserts that the result is an error whose text contains all of these parts.
fn assert_error(result: Result<Opened, ModelError>, parts: &[&str]) {
    let error = match result {
        Ok(_) => panic!("opened, although {parts:?} should be wrong"),
        Err(error) => error.to_string(),
    };
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

const FC1: &str = "model.encoder.layers.0.fc1.weight";

/// Without damage, the copy used by the other tests can be opened.
#[test]
fn an_undamaged_copy_opens() {
    assert!(Copy::new().open().is_ok());
    assert!(Copy::with_config(|_| ()).is_ok());
    assert!(Copy::with_tensors(|_| ()).is_ok());
}

/// If a file is missing, or the path is not a directory, the error names the path.
#[test]
fn missing_files() {
    for name in ["config.json", "model.safetensors"] {
        let copy = Copy::new();
        std::fs::remove_file(copy.path(name)).unwrap();
        let path = copy.path(name).display().to_string();
        assert_error(copy.open(), &[&path]);
    }
    assert_error(
        open(Path::new("no/such/model"), &Device::Cpu),
        &["no/such/model", "config.json"],
    );
}

/// Weights that are cut off at any place, begin with nonsense, or have a header size larger than memory.
#[test]
fn damaged_weights() {
    let whole = std::fs::read(fixture().join("model.safetensors")).unwrap();
    for length in [0, 3, 8, 100, whole.len() / 2, whole.len() - 1] {
        assert_error(
            Copy::with_bytes("model.safetensors", &whole[..length]),
            &["model.safetensors"],
        );
    }
    let mut endless = whole.clone();
    endless[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_error(Copy::with_bytes("model.safetensors", &endless), &["model.safetensors"]);
    assert_error(
        Copy::with_bytes("model.safetensors", b"PK\x03\x04 a zip archive"),
        &["model.safetensors"],
    );
    let mut longer = whole;
    longer.push(0);
    assert_error(Copy::with_bytes("model.safetensors", &longer), &["model.safetensors"]);
}

/// A tensor that is missing, has another shape, is surplus or holds whole numbers is named in the error. Several faults
/// are reported together; of very many, only the first ones.
#[test]
fn tensors_that_do_not_fit() {
    let missing = Copy::with_tensors(|tensors| {
        tensors.remove(FC1);
    });
    assert_error(missing, &["model.safetensors", FC1, "missing"]);
    let misshapen = Copy::with_tensors(|tensors| {
        let turned = tensors[FC1].t().unwrap().contiguous().unwrap();
        tensors.insert(FC1.into(), turned);
    });
    assert_error(misshapen, &["model.safetensors", FC1, "[16, 32]", "[32, 16]"]);
    let surplus = Copy::with_tensors(|tensors| {
        let layer = tensors[FC1].clone();
        tensors.insert("model.encoder.layers.2.fc1.weight".into(), layer);
    });
    assert_error(
        surplus,
        &[
            "model.safetensors",
            "model.encoder.layers.2.fc1.weight",
            "does not belong",
        ],
    );
    let bias = Copy::with_tensors(|tensors| {
        tensors.insert(
            "final_logits_bias".into(),
            Tensor::zeros(24, DType::F32, &Device::Cpu).unwrap(),
        );
    });
    assert_error(bias, &["model.safetensors", "final_logits_bias", "[24]"]);
    let together = Copy::with_tensors(|tensors| {
        tensors.remove(FC1);
        tensors.insert("nonsense".into(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
    });
    assert_error(together, &[FC1, "nonsense"]);
    let all = Copy::with_tensors(|tensors| tensors.retain(|name, _| name == FC1));
    assert_error(all, &["model.decoder.layers.0.fc1.weight is missing", "and 72 more"]);
}

/// I32 is rejected with its name, in weights and in the bias on the logits.
#[test]
fn tensors_of_a_wrong_type() {
    for name in [FC1, "final_logits_bias"] {
        let copy = Copy::new();
        let path = copy.path("model.safetensors");
        // Numbers keep their four bytes: only the header changes.
        let bytes = std::fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        header[name]["dtype"] = json!("I32");
        let header = header.to_string();
        let mut changed = (header.len() as u64).to_le_bytes().to_vec();
        changed.extend(header.as_bytes());
        changed.extend(&bytes[8 + length..]);
        std::fs::write(&path, changed).unwrap();
        assert_error(copy.open(), &["model.safetensors", name, "I32"]);
    }
}

/// After fine-tuning in other programs, the embedding of `<pad>` may not be zero. Hugging Face starts the decoder with
/// it, and so does Tallow.
#[test]
fn a_pad_row_that_is_not_zero() {
    let opened = Copy::with_tensors(|tensors| {
        let ones = Tensor::ones((24, 16), DType::F32, &Device::Cpu).unwrap();
        tensors.insert("model.shared.weight".into(), ones);
    });
    let table = &opened.unwrap().params;
    let row = table.get("model.shared.weight").unwrap().var.get(23).unwrap();
    assert_eq!(row.to_vec1::<f32>().unwrap(), [1.0; 16]);
}

/// Weights in half precision are read; every value is exactly the stored one.
#[test]
fn half_precision() {
    for dtype in [DType::F16, DType::BF16] {
        let halve = |tensors: &mut HashMap<String, Tensor>| {
            for tensor in tensors.values_mut() {
                *tensor = tensor.to_dtype(dtype).unwrap();
            }
        };
        let opened = Copy::with_tensors(halve).unwrap();
        let whole = Copy::new().open().unwrap();
        for ((name, half), (_, whole)) in opened.params.parts().unwrap().iter().zip(whole.params.parts().unwrap()) {
            let rounded = whole.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
            let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(half), values(&rounded), "{name}");
        }
    }
}

/// Older programs write copies of tied tables and computed positions; these tensors are ignored, whatever they hold.
#[test]
fn redundant_tensors_are_ignored() {
    let opened = Copy::with_tensors(|tensors| {
        let shared = tensors["model.shared.weight"].clone();
        for name in [
            "lm_head.weight",
            "model.encoder.embed_tokens.weight",
            "model.decoder.embed_tokens.weight",
        ] {
            tensors.insert(name.into(), shared.clone());
        }
        let positions = Tensor::zeros((512, 16), DType::F32, &Device::Cpu).unwrap();
        tensors.insert("model.encoder.embed_positions.weight".into(), positions.clone());
        tensors.insert("model.decoder.embed_positions.weight".into(), positions);
    });
    let names = |opened: &Opened| -> Vec<String> { opened.params.iter().map(|p| p.name.clone()).collect() };
    assert_eq!(names(&opened.unwrap()), names(&Copy::new().open().unwrap()));
    // The bias on the logits is optional.
    let unbiased = Copy::with_tensors(|tensors| {
        tensors.remove("final_logits_bias");
    });
    assert!(unbiased.unwrap().logits_bias.is_none());
}

/// A config that is not JSON, not an object, or not a translation model.
#[test]
fn configs_of_another_kind() {
    for text in ["", "{", "[1, 2]", "null", "{\"d_model\": NaN}"] {
        assert_error(Copy::with_bytes("config.json", text.as_bytes()), &["config.json"]);
    }
    assert_error(Copy::with_bytes("config.json", &[0xff, 0xfe, 0x00]), &["config.json"]);
    let nested = "[".repeat(100_000);
    assert_error(Copy::with_bytes("config.json", nested.as_bytes()), &["config.json"]);
    assert_error(
        Copy::with_config(|c| c["model_type"] = json!("bert")),
        &["config.json", "model_type", "bert"],
    );
    for (key, value) in [
        ("normalize_before", json!(true)),
        ("normalize_embedding", json!(true)),
        ("add_final_layer_norm", json!(true)),
        ("activation_function", json!("mish")),
        ("tie_word_embeddings", json!(false)),
        ("tallow_version", json!(2)),
    ] {
        assert_error(Copy::with_config(|c| c[key] = value.clone()), &["config.json", key]);
    }
}

/// Every number of the config is replaced by an absurd value: too large for memory or for arithmetic, negative, zero,
/// not a number, missing. All are rejected, and each error names the key, as in `config.json` or in a run's config.
#[test]
fn absurd_numbers() {
    let keys = [
        ("d_model", "d_model"),
        ("encoder_layers", "encoder_layers"),
        ("decoder_layers", "decoder_layers"),
        ("encoder_attention_heads", "model.heads"),
        ("decoder_attention_heads", "model.decoder_heads"),
        ("encoder_ffn_dim", "model.feed_forward"),
        ("decoder_ffn_dim", "model.decoder_feed_forward"),
        ("vocab_size", "vocabulary"),
        ("pad_token_id", "pad_token_id"),
        ("decoder_start_token_id", "decoder_start_token_id"),
        ("eos_token_id", "</s>"),
    ];
    let values = [
        json!(0),
        json!(-1),
        json!(2.5),
        json!("16"),
        json!(null),
        json!([16]),
        json!(1_000_000_000u64),
        json!(u64::from(u32::MAX)),
        json!(u64::MAX / 2),
        json!(u64::MAX),
        json!(1e300),
    ];
    for (key, other) in keys {
        for value in &values {
            if key == "eos_token_id" && *value == json!(0) {
                continue; // 0 is its right value.
            }
            let error = match Copy::with_config(|config| config[key] = value.clone()) {
                Ok(_) => panic!("{key} = {value} was accepted"),
                Err(error) => error.to_string(),
            };
            assert!(error.contains("config.json"), "{error}");
            assert!(error.contains(key) || error.contains(other), "{key} = {value}: {error}");
        }
        let gone = Copy::with_config(|config| {
            config.as_object_mut().unwrap().remove(key);
        });
        assert_error(gone, &["config.json", key, "missing"]);
    }
    for key in ["dropout", "attention_dropout", "activation_dropout"] {
        for value in [json!(1.0), json!(-0.5), json!(1e300), json!("much")] {
            assert_error(Copy::with_config(|c| c[key] = value.clone()), &["config.json", key]);
        }
    }
    for key in ["scale_embedding", "share_encoder_decoder_embeddings"] {
        assert_error(Copy::with_config(|c| c[key] = json!(1)), &["config.json", key]);
    }
    for value in [json!(u64::MAX), json!(23), json!(-1)] {
        assert_error(
            Copy::with_config(|c| c["tallow_unk_id"] = value.clone()),
            &["config.json", "unk"],
        );
    }
}

/// The config that Hugging Face wrote is read as a Marian model.
#[test]
fn the_architecture_alone() {
    let architecture = read_architecture(&fixture()).unwrap();
    let model = &architecture.model;
    assert!(is_marian_mt(&architecture));
    assert_eq!((model.d_model, model.feed_forward, model.heads), (16, 32, 2));
    assert_eq!((model.encoder_layers, model.decoder_layers), (2, 2));
    assert_eq!((architecture.target_vocabulary, architecture.eos_id), (24, 0));
    assert_eq!((architecture.target_pad_id(), architecture.classes()), (23, 23));
}

/// Sizes that no file could hold are detected by comparing names and shapes, before memory is allocated.
#[test]
fn absurd_sizes() {
    let largest = [
        ("d_model", 65536),
        ("vocab_size", 1 << 24),
        ("decoder_vocab_size", 1 << 24),
    ];
    let absurd = |keys: &[(&str, u64)]| {
        Copy::with_config(|config| {
            for (key, value) in keys {
                config[*key] = json!(value);
            }
            for key in ["pad_token_id", "decoder_start_token_id"] {
                config[key] = json!(config["vocab_size"].as_u64().unwrap() - 1);
            }
        })
    };
    assert_error(
        absurd(&largest),
        &["final_logits_bias has the shape [1, 24] instead of [1, 16777216]"],
    );
    let deep = [("encoder_layers", 1024), ("decoder_layers", 1024)];
    assert_error(absurd(&deep), &["model.decoder.layers.10.", "missing", "more"]);
    assert_error(absurd(&[("encoder_layers", u64::MAX)]), &["encoder_layers"]);
    assert_error(absurd(&[("d_model", 1 << 40)]), &["\n  d_model: "]);
    assert_error(
        absurd(&[("vocab_size", 1 << 40), ("decoder_vocab_size", 1 << 40)]),
        &["vocab_size: "],
    );
}
