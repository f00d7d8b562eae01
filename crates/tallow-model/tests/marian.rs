//! Comparison of models with Hugging Face's MarianMT on PyTorch (`scripts/fixtures/marian_model.py`): five directories
//! from `save_pretrained`, and PyTorch's results in float64.
//!
//! Tolerances: PyTorch itself, run in float32, differs from these numbers by up to 5e-6 in logits and loss sums and
//! up to 1e-6 in gradients (`float32_difference` in expected.json). The bounds here are a few times that; a wrong
//! constant, a forgotten mask or a transposed matrix shows at 1e-2.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::{DType, Device, Tensor};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use tallow_model::{LossOptions, Opened, Pass, SearchSettings, Tokens, Transformer, open, save};

const CASES: [&str; 5] = [
    "tied-relu",
    "tied-swish",
    "tied-gelu",
    "separate-tables",
    "separate-tables-and-output",
];

/// A fixture: the model as Tallow opens it, and PyTorch's results.
struct Case {
    name: &'static str,
    directory: PathBuf,
    opened: Opened,
    expected: HashMap<String, Tensor>,
}

impl Case {
    fn all() -> Vec<Self> {
        let read = |name| {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/fixtures/marian")
                .join(name);
            let expected =
                candle_core::safetensors::load(directory.join("expected.safetensors"), &Device::Cpu).unwrap();
            let opened = open(&directory, &Device::Cpu).unwrap();
            Self {
                name,
                directory,
                opened,
                expected,
            }
        };
        CASES.into_iter().map(read).collect()
    }

    fn ids(&self, name: &str) -> Vec<Vec<u32>> {
        self.expected[name].to_dtype(DType::U32).unwrap().to_vec2().unwrap()
    }

    /// Rows of the fixture, cut where the padding of `of` begins.
    fn sentences(&self, name: &str, of: &str) -> Vec<Vec<u32>> {
        let pad = self.opened.architecture.target_pad_id();
        let length = |row: Vec<u32>| 1 + row.iter().rposition(|id| *id != pad).unwrap_or(0);
        let lengths = self.ids(of).into_iter().map(length);
        let rows = self.ids(name).into_iter().zip(lengths);
        rows.map(|(row, length)| row[..length].to_vec()).collect()
    }

    fn source(&self) -> Tokens {
        Tokens::new(&self.sentences("source", "source"), &Device::Cpu).unwrap()
    }

    /// The decoder's input at the positions that have a label. Hugging Face shifts padded rows, so its input also
    /// contains `</s>`.
    fn decoder_input(&self) -> Tokens {
        Tokens::new(&self.sentences("decoder_input", "labels"), &Device::Cpu).unwrap()
    }

    fn labels(&self) -> Vec<u32> {
        self.sentences("labels", "labels").concat()
    }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_near(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance, "{what}, element {i}: {g} instead of {e}");
    }
}

/// The numbers of a `[b, length, ..]` tensor at positions without padding.
fn at_real_positions(tensor: &Tensor, lengths: &[usize]) -> Vec<f32> {
    let row = |(b, length): (usize, &usize)| values(&tensor.get(b).unwrap().narrow(0, 0, *length).unwrap());
    lengths.iter().enumerate().flat_map(row).collect()
}

/// The encoder's output and the logits of teacher forcing equal PyTorch's at every position without padding: for models
/// with ReLU, swish and GELU, one and several layers, shared and separate tables, with a bias on the logits.
#[test]
fn encoder_output_and_logits() {
    for case in Case::all() {
        let model = case.opened.for_inference().unwrap();
        let (source, target) = (case.source(), case.decoder_input());
        let encoded = model.encode(&source, Pass::default()).unwrap();
        let hidden = model.decode(&target, &encoded, Pass::default()).unwrap();
        let logits = model.logits(&hidden).unwrap();
        let pairs = [
            ("encoder_output", &encoded.hidden_nd, &source),
            ("logits", &logits, &target),
        ];
        for (name, got, tokens) in pairs {
            let what = format!("{}: {name}", case.name);
            let expected = at_real_positions(&case.expected[name], tokens.sentences.lengths());
            assert_near(&what, &values(got), &expected, 2e-5);
        }
    }
}

/// The loss, with and without label smoothing, equals PyTorch's sum over the target tokens.
#[test]
fn loss_sums() {
    for case in Case::all() {
        let model = case.opened.for_inference().unwrap();
        for smoothing in [0.0, 0.1] {
            let name = format!("loss_sum.smoothing_{smoothing:?}");
            let (source, target) = (case.source(), case.decoder_input());
            let loss = model
                .loss(
                    &source,
                    &target,
                    &case.labels(),
                    LossOptions {
                        smoothing,
                        ..LossOptions::default()
                    },
                    Pass::default(),
                )
                .unwrap();
            let what = format!("{}: {name}", case.name);
            assert_near(&what, &values(&loss.total), &values(&case.expected[&name]), 2e-5);
        }
    }
}

/// The gradients of all parameters equal PyTorch's, part by part under Hugging Face's names, and the sets of parts are
/// equal. The gradients of key biases are zero in theory, because softmax ignores a shift; both sides hold rounding
/// errors, so only their size is checked.
#[test]
fn gradients() {
    for case in Case::all() {
        let opened = &case.opened;
        let model =
            Transformer::for_training(&opened.architecture, &opened.params, opened.logits_bias.clone()).unwrap();
        let (source, target) = (case.source(), case.decoder_input());
        let loss = model
            .loss(
                &source,
                &target,
                &case.labels(),
                LossOptions {
                    smoothing: 0.1,
                    ..LossOptions::default()
                },
                Pass::default(),
            )
            .unwrap();
        let store = loss.total.backward().unwrap();
        let mut found = BTreeSet::new();
        for parameter in opened.params.iter() {
            let gradient = store
                .get(parameter.var.as_tensor())
                .unwrap_or_else(|| panic!("{}", parameter.name));
            let gradient = (gradient / case.labels().len() as f64).unwrap();
            for (name, part) in parameter.split(&gradient).unwrap() {
                let what = format!("{}: gradient of {name}", case.name);
                let mut got = values(&part);
                if let Some(row) = parameter.frozen_row {
                    // Training ignores this row, and PyTorch's numbers already leave it out.
                    let width = part.dim(1).unwrap();
                    got[row * width..(row + 1) * width].fill(0.0);
                }
                let expected = values(&case.expected[&format!("gradient.{name}")]);
                let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
                if name.ends_with("k_proj.bias") {
                    assert!(largest < 1e-6, "{what}: not zero in PyTorch: {largest}");
                } else {
                    assert!(largest > 1e-4, "{what}: too small to compare: {largest}");
                }
                assert_near(&what, &got, &expected, 3e-6);
                found.insert(format!("gradient.{name}"));
            }
        }
        let expected: BTreeSet<String> = case
            .expected
            .keys()
            .filter(|name| name.starts_with("gradient."))
            .cloned()
            .collect();
        assert_eq!(found, expected, "{}", case.name);
    }
}

/// Saving and opening a model changes no bit of its architecture, parts and bias on the logits, nor of the values in
/// Hugging Face's own file.
#[test]
fn saved_and_opened() {
    for case in Case::all() {
        let place = tempfile::tempdir().unwrap();
        let opened = &case.opened;
        let bias = opened.logits_bias.as_ref();
        save(
            place.path(),
            &opened.architecture,
            &opened.params,
            bias,
            SearchSettings::new(4, 20),
        )
        .unwrap();
        let again = open(place.path(), &Device::Cpu).unwrap();
        assert_eq!(again.architecture, opened.architecture, "{}", case.name);
        let bits = |opened: &Opened| -> BTreeMap<String, (Vec<usize>, Vec<u32>)> {
            let mut parts = opened.params.parts().unwrap();
            parts.extend(opened.logits_bias.clone().map(|bias| ("bias".to_string(), bias)));
            let bits = |x: &Tensor| values(x).into_iter().map(f32::to_bits).collect();
            parts
                .into_iter()
                .map(|(name, x)| (name, (x.dims().to_vec(), bits(&x))))
                .collect()
        };
        assert_eq!(bits(&again), bits(opened), "{}", case.name);
        assert_eq!(opened.logits_bias.is_some(), case.name == "tied-swish");
        let theirs = weights(&case.directory);
        for (name, part) in weights(place.path()) {
            assert_eq!(values(&part), values(&theirs[&name]), "{}: {name}", case.name);
        }
    }
}

fn weights(directory: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(directory.join("model.safetensors"), &Device::Cpu).unwrap()
}

/// The names of the written tensors are exactly those that Hugging Face writes.
#[test]
fn names_are_those_of_hugging_face() {
    for case in Case::all() {
        let place = tempfile::tempdir().unwrap();
        let opened = &case.opened;
        save(
            place.path(),
            &opened.architecture,
            &opened.params,
            None,
            SearchSettings::new(4, 20),
        )
        .unwrap();
        let names = |directory: &Path| -> BTreeSet<String> { weights(directory).into_keys().collect() };
        assert_eq!(names(place.path()), names(&case.directory), "{}", case.name);
    }
}
