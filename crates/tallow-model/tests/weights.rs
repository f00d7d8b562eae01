//! The places of a directory's weights: in several files, under the other name of a tied tensor, or missing because a
//! failed download left another file.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::{Device, Tensor};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tallow_model::{
    Opened, PYTORCH_FILE, PYTORCH_INDEX_FILE, WEIGHTS_FILE, WEIGHTS_INDEX_FILE, open, shard_names, verify,
};
use tempfile::TempDir;

type Tensors = HashMap<String, Tensor>;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/marian")
        .join(name)
}

/// A directory with the settings of a fixture but without weights, and the fixture's tensors.
fn settings(name: &str) -> (TempDir, Tensors) {
    let place = tempfile::tempdir().unwrap();
    for file in ["config.json", "generation_config.json"] {
        std::fs::copy(fixture(name).join(file), place.path().join(file)).unwrap();
    }
    let tensors = candle_core::safetensors::load(fixture(name).join(WEIGHTS_FILE), &Device::Cpu).unwrap();
    (place, tensors)
}

fn write(place: &Path, file: &str, tensors: &Tensors) {
    candle_core::safetensors::save(tensors, place.join(file)).unwrap();
}

/// A directory with the tensors in two files, and an index like that of transformers.
fn split(name: &str) -> (TempDir, Map<String, Value>) {
    let (place, tensors) = settings(name);
    let mut names: Vec<&String> = tensors.keys().collect();
    names.sort();
    let mut map = Map::new();
    for (number, part) in names.chunks(names.len().div_ceil(2)).enumerate() {
        let file = format!("model-0000{}-of-00002.safetensors", number + 1);
        let part: Tensors = part
            .iter()
            .map(|name| ((*name).clone(), tensors[*name].clone()))
            .collect();
        map.extend(part.keys().map(|name| (name.clone(), json!(file))));
        write(place.path(), &file, &part);
    }
    write_index(place.path(), &map);
    (place, map)
}

fn write_index(place: &Path, map: &Map<String, Value>) {
    let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
    std::fs::write(place.join(WEIGHTS_INDEX_FILE), index.to_string()).unwrap();
}

fn numbers(opened: &Opened) -> Vec<f32> {
    let tensors = opened.params.iter().map(|parameter| parameter.var.as_tensor());
    tensors
        .flat_map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        .collect()
}

fn error(place: &Path) -> String {
    match open(place, &Device::Cpu) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn assert_error(place: &Path, parts: &[&str]) {
    let error = error(place);
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
    let report = verify(place);
    assert!(report.iter().any(|check| !check.faults.is_empty()), "{report:?}");
}

#[test]
fn weights_in_several_files() {
    let (place, _) = split("tied-relu");
    let whole = open(&fixture("tied-relu"), &Device::Cpu).unwrap();
    let opened = open(place.path(), &Device::Cpu).unwrap();
    assert_eq!(numbers(&opened), numbers(&whole));
    assert_eq!(opened.weights_file, WEIGHTS_INDEX_FILE);
    assert!(verify(place.path()).iter().all(|check| check.faults.is_empty()));
    let shards = shard_names(&place.path().join(WEIGHTS_INDEX_FILE)).unwrap();
    assert_eq!(
        shards,
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    );
    // A single file with all tensors comes first.
    std::fs::copy(fixture("tied-relu").join(WEIGHTS_FILE), place.path().join(WEIGHTS_FILE)).unwrap();
    assert_eq!(open(place.path(), &Device::Cpu).unwrap().weights_file, WEIGHTS_FILE);
}

/// PyTorch's files are split in the same way.
#[test]
fn files_of_pytorch() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let (place, tensors) = settings("separate-tables");
    std::fs::copy(
        fixtures.join("pytorch/zip.bin"),
        place.path().join("pytorch_model-00001-of-00001.bin"),
    )
    .unwrap();
    let entry = |name: &String| (name.clone(), json!("pytorch_model-00001-of-00001.bin"));
    let mut map: Map<String, Value> = tensors.keys().map(entry).collect();
    // Copies that PyTorch writes and safetensors does not.
    for copy in ["lm_head.weight", "model.encoder.embed_positions.weight"] {
        map.extend([entry(&copy.to_owned())]);
    }
    let index = json!({ "weight_map": map });
    std::fs::write(place.path().join(PYTORCH_INDEX_FILE), index.to_string()).unwrap();
    let opened = open(place.path(), &Device::Cpu).unwrap();
    assert_eq!(opened.weights_file, PYTORCH_INDEX_FILE);
    std::fs::copy(fixtures.join("pytorch/zip.bin"), place.path().join(PYTORCH_FILE)).unwrap();
    let whole = open(place.path(), &Device::Cpu).unwrap();
    assert_eq!(whole.weights_file, PYTORCH_FILE);
    assert_eq!(numbers(&opened), numbers(&whole));
}

/// Every fault of an index gives one error that names it.
#[test]
fn indices_that_are_wrong() {
    const FC1: &str = "model.encoder.layers.0.fc1.weight";
    let (place, map) = split("tied-relu");
    let [first, second] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let with = |change: &dyn Fn(&mut Map<String, Value>)| {
        let mut changed = map.clone();
        change(&mut changed);
        write_index(place.path(), &changed);
    };
    for outside in ["../x.safetensors", "/etc/passwd", "a/b", "..", "", "a\\b", "C:x"] {
        with(&|map| drop(map.insert(FC1.into(), json!(outside))));
        assert_error(place.path(), &[WEIGHTS_INDEX_FILE, FC1, "no file beside it"]);
        assert!(shard_names(&place.path().join(WEIGHTS_INDEX_FILE)).is_err());
    }
    with(&|map| drop(map.insert(FC1.into(), json!(7))));
    assert_error(place.path(), &[WEIGHTS_INDEX_FILE, FC1]);
    let other = if map[FC1] == first { second } else { first };
    with(&|map| drop(map.insert(FC1.into(), json!(other))));
    assert_error(
        place.path(),
        &[
            WEIGHTS_INDEX_FILE,
            &format!("{FC1} is not in {other}"),
            &format!("should be in {other} alone"),
        ],
    );
    with(&|map| drop(map.remove(FC1)));
    assert_error(place.path(), &[&format!("{FC1} is in "), "nowhere in the index"]);
    with(&|map| drop(map.insert("more".into(), json!(first))));
    assert_error(place.path(), &[&format!("more is not in {first}")]);
    with(&|map| drop(map.insert("more".into(), json!("model-00003.safetensors"))));
    assert_error(
        place.path(),
        &["of the 3 files that it names, 1 is missing: model-00003.safetensors"],
    );
    // A tensor that is in both files.
    let (_, tensors) = settings("tied-relu");
    let both: Tensors = tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.clone()))
        .collect();
    let kept = std::fs::read(place.path().join(second)).unwrap();
    write(place.path(), second, &both);
    with(&|_| ());
    assert_error(
        place.path(),
        &["is in model-00002-of-00002.safetensors, and should be in model-00001"],
    );
    std::fs::write(place.path().join(second), &kept[..kept.len() / 2]).unwrap();
    assert_error(place.path(), &[second, "cut off"]);
    for (text, part) in [
        ("{\"weight_map\": {", "cut off"),
        ("[]", "no weight_map"),
        ("{\"weight_map\": []}", "no weight_map"),
        ("null", "no weight_map"),
        ("", "empty"),
    ] {
        std::fs::write(place.path().join(WEIGHTS_INDEX_FILE), text).unwrap();
        assert_error(place.path(), &[WEIGHTS_INDEX_FILE, part]);
    }
}

/// The name of a tied tensor in a file depends on the program that wrote it; all names mean the same.
#[test]
fn other_names_of_tied_tensors() {
    const SHARED: &str = "model.shared.weight";
    let whole = numbers(&open(&fixture("tied-relu"), &Device::Cpu).unwrap());
    for name in [
        "model.encoder.embed_tokens.weight",
        "model.decoder.embed_tokens.weight",
        "lm_head.weight",
    ] {
        let (place, mut tensors) = settings("tied-relu");
        let table = tensors.remove(SHARED).unwrap();
        tensors.insert(name.into(), table);
        write(place.path(), WEIGHTS_FILE, &tensors);
        assert_eq!(numbers(&open(place.path(), &Device::Cpu).unwrap()), whole, "{name}");
        assert!(verify(place.path()).iter().all(|check| check.faults.is_empty()));
        // A tensor of another shape is rejected.
        tensors.insert(
            name.into(),
            Tensor::zeros((3, 2), candle_core::DType::F32, &Device::Cpu).unwrap(),
        );
        write(place.path(), WEIGHTS_FILE, &tensors);
        assert_error(place.path(), &[name, "shape [3, 2]"]);
    }
    let (place, mut tensors) = settings("tied-relu");
    tensors.remove(SHARED);
    write(place.path(), WEIGHTS_FILE, &tensors);
    assert_error(place.path(), &["model.shared.weight is missing"]);
    // Only the output is tied, to the target's table.
    let name = "separate-tables";
    let (place, mut tensors) = settings(name);
    let config: Value = serde_json::from_slice(&std::fs::read(fixture(name).join("config.json")).unwrap()).unwrap();
    assert_eq!(
        (
            &config["share_encoder_decoder_embeddings"],
            &config["tie_word_embeddings"]
        ),
        (&json!(false), &json!(true))
    );
    let table = tensors.remove("model.decoder.embed_tokens.weight").unwrap();
    tensors.insert("lm_head.weight".into(), table);
    write(place.path(), WEIGHTS_FILE, &tensors);
    let found = numbers(&open(place.path(), &Device::Cpu).unwrap());
    assert_eq!(found, numbers(&open(&fixture(name), &Device::Cpu).unwrap()));
}

/// Copies with other values are not used, and `verify` reports them.
#[test]
fn copies_that_contradict() {
    let (place, tensors) = settings("tied-relu");
    let shared = tensors["model.shared.weight"].clone();
    let rows = shared.dims()[1];
    // Numbers of transformers' table of positions: sines, then cosines.
    let angle = |position: usize, i: usize| position as f32 / 10_000f32.powf(2.0 * i as f32 / rows as f32);
    let positions: Vec<f32> = (0..5usize)
        .flat_map(|position| {
            let sines = (0..rows / 2).map(move |i| angle(position, i).sin());
            let cosines = (0..rows / 2).map(move |i| angle(position, i).cos());
            sines.chain(cosines).collect::<Vec<_>>()
        })
        .collect();
    let positions = Tensor::from_vec(positions, (5, rows), &Device::Cpu).unwrap();
    let report = |copies: &[(&str, &Tensor)]| -> (String, Vec<String>) {
        let mut changed = tensors.clone();
        changed.extend(
            copies
                .iter()
                .map(|(name, tensor)| ((*name).to_owned(), (*tensor).clone())),
        );
        write(place.path(), WEIGHTS_FILE, &changed);
        let opened = open(place.path(), &Device::Cpu).unwrap();
        assert_eq!(
            numbers(&opened),
            numbers(&open(&fixture("tied-relu"), &Device::Cpu).unwrap())
        );
        let check = verify(place.path()).pop().unwrap();
        (check.what, check.faults)
    };
    let other = (&shared * 2.0).unwrap();
    let (what, faults) = report(&[
        ("lm_head.weight", &shared),
        ("model.encoder.embed_positions.weight", &positions),
    ]);
    assert!(
        what.contains("copies of tensors") && faults.is_empty(),
        "{what}: {faults:?}"
    );
    let (_, faults) = report(&[
        ("lm_head.weight", &shared),
        ("model.decoder.embed_tokens.weight", &other),
    ]);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].starts_with("model.decoder.embed_tokens.weight is not model.shared.weight"),
        "{faults:?}"
    );
    let wrong = (&positions + 0.1).unwrap();
    let (_, faults) = report(&[("model.decoder.embed_positions.weight", &wrong)]);
    assert!(faults.len() == 1 && faults[0].contains("embed_positions"), "{faults:?}");
    let short = Tensor::zeros((3, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
    let (_, faults) = report(&[
        ("lm_head.weight", &short),
        ("model.encoder.embed_positions.weight", &short),
    ]);
    assert_eq!(faults.len(), 2, "{faults:?}");
}

/// The remains of a failed download are recognised, and the error says how to get the file.
#[test]
fn what_downloads_leave_behind() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    let page = b"<!DOCTYPE html>\n<html><p>Not Found";
    let zipped = std::fs::read(fixture("../pytorch/zip.bin")).unwrap();
    let older = std::fs::read(fixture("../pytorch/older.bin")).unwrap();
    let safetensors = std::fs::read(fixture("tied-relu").join(WEIGHTS_FILE)).unwrap();
    let config = std::fs::read(fixture("tied-relu").join("config.json")).unwrap();
    let size = safetensors.len();
    let cut = format!("cut off: {} of its {size} bytes", size / 2);
    let cases: [(&str, &[u8], &str); 16] = [
        (WEIGHTS_FILE, pointer, "git lfs pull"),
        (PYTORCH_FILE, pointer, "git lfs pull"),
        ("config.json", pointer, "git lfs pull"),
        (WEIGHTS_FILE, page, "web page"),
        (PYTORCH_FILE, page, "web page"),
        (WEIGHTS_FILE, b"", "empty"),
        (PYTORCH_FILE, b"", "empty"),
        ("config.json", b"", "empty"),
        (WEIGHTS_FILE, &safetensors[..size / 2], &cut),
        (WEIGHTS_FILE, &safetensors[..100], "cut off inside its header"),
        (WEIGHTS_FILE, &safetensors[..5], "no safetensors file"),
        (
            PYTORCH_FILE,
            &zipped[..zipped.len() / 2],
            "cut off or damaged; download it again",
        ),
        (PYTORCH_FILE, &older[..older.len() / 2], "cut off"),
        (PYTORCH_FILE, &older[..100], "cut off"),
        (PYTORCH_FILE, &older[..9], "cut off"),
        ("config.json", &config[..config.len() / 2], "cut off"),
    ];
    for (name, contents, part) in cases {
        let (place, tensors) = settings("tied-relu");
        if name == "config.json" {
            write(place.path(), WEIGHTS_FILE, &tensors);
        }
        std::fs::write(place.path().join(name), contents).unwrap();
        assert_error(place.path(), &[name, part]);
        assert!(!error(place.path()).contains("do not fit"), "{}", error(place.path()));
    }
}

/// A byte order mark before JSON is accepted.
#[test]
fn byte_order_marks() {
    let (place, tensors) = settings("tied-relu");
    write(place.path(), WEIGHTS_FILE, &tensors);
    for name in ["config.json", "generation_config.json"] {
        let path = place.path().join(name);
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, [b"\xef\xbb\xbf", text.as_slice()].concat()).unwrap();
    }
    assert!(open(place.path(), &Device::Cpu).is_ok());
    assert!(verify(place.path()).iter().all(|check| check.faults.is_empty()));
}
