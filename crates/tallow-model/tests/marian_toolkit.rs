//! Reading and writing of Marian toolkit files: damaged files, unsupported models, the choice of files, and a round
//! trip of files that Tallow writes. The tests of tallow-decode compare the models' results with Marian's.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::{DType, Device, Tensor};
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use tallow_model::{
    Initialisation, MarianFiles, ModelError, NPZ_FILE, Norm, Opened, Params, Positions, open, read_architecture,
    save_npz, verify,
};
use tempfile::TempDir;
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, ZipArchive};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/marian")
        .join(name)
}

/// A model that Marian has trained.
fn trained() -> Vec<u8> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tallow-decode/tests/fixtures/marian-toolkit/words/model.npz");
    std::fs::read(path).unwrap()
}

/// The names and contents of an archive.
fn unpacked(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut files = Vec::new();
    for i in 0..archive.len() {
        let mut file = archive.by_index(i).unwrap();
        let mut contents = Vec::new();
        file.read_to_end(&mut contents).unwrap();
        files.push((file.name().unwrap().into_owned(), contents));
    }
    files
}

fn packed(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, contents) in files {
        archive.start_file(name.as_str(), options).unwrap();
        archive.write_all(contents).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// An array in NumPy's format.
fn npy(dtype: &str, shape: &str, numbers: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.bytes());
    npy.extend(numbers);
    npy
}

/// The result of opening a changed copy of the model.
fn opened(change: impl FnOnce(&mut Vec<(String, Vec<u8>)>)) -> Result<Opened, ModelError> {
    let mut files = unpacked(&trained());
    change(&mut files);
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join(NPZ_FILE), packed(&files)).unwrap();
    open(place.path(), &Device::Cpu)
}

fn refused(change: impl FnOnce(&mut Vec<(String, Vec<u8>)>)) -> String {
    let error = opened(change).unwrap_err().to_string();
    assert!(error.contains(NPZ_FILE), "{error}");
    error
}

fn contents<'a>(files: &'a mut [(String, Vec<u8>)], name: &str) -> &'a mut Vec<u8> {
    let name = format!("{name}.npy");
    &mut files.iter_mut().find(|(other, _)| *other == name).unwrap().1
}

/// A change of the model's options.
fn with_options(change: impl FnOnce(String) -> String) -> impl FnOnce(&mut Vec<(String, Vec<u8>)>) {
    |files| {
        let array = contents(files, "special:model.yml");
        let header = 10 + usize::from(u16::from_le_bytes([array[8], array[9]]));
        let text = String::from_utf8(array[header..].to_vec()).unwrap();
        let text = change(text.trim_end_matches('\0').to_owned());
        *array = npy(
            "|i1",
            &format!("({},)", text.len() + 1),
            &[text.as_bytes(), &[0]].concat(),
        );
    }
}

fn replaced(from: &'static str, to: &'static str) -> impl FnOnce(String) -> String {
    move |text| {
        assert!(text.contains(from));
        text.replace(from, to)
    }
}

#[test]
fn what_is_written_comes_back() {
    let mut models: Vec<Opened> = ["tied-swish", "separate-tables", "separate-tables-and-output"]
        .map(|name| open(&fixture(name), &Device::Cpu).unwrap())
        .into();
    let mut pre = open(&fixture("tied-relu"), &Device::Cpu).unwrap();
    pre.architecture.model.norm = Norm::Pre;
    let (seed, dtype) = (3, DType::F32);
    pre.params = Params::initialise(&pre.architecture, Initialisation::Xavier, seed, dtype, &Device::Cpu).unwrap();
    models.push(pre);
    let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for before in models {
        let place = tempfile::tempdir().unwrap();
        save_npz(place.path(), &before).unwrap();
        let after = open(place.path(), &Device::Cpu).unwrap();
        let (mut expected, found) = (before.architecture.canonical(), after.architecture.canonical());
        // Marian's options have no keys for these.
        expected.model.dropout = found.model.dropout;
        expected.model.attention_dropout = found.model.attention_dropout;
        expected.model.activation_dropout = found.model.activation_dropout;
        expected.shared_vocabulary = found.shared_vocabulary;
        assert_eq!(found, expected);
        assert_eq!(found.model.positions, Positions::Sinusoidal);
        let (before_parts, after_parts) = (before.params.parts().unwrap(), after.params.parts().unwrap());
        assert_eq!(before_parts.len(), after_parts.len());
        for ((name, expected), (other, found)) in before_parts.iter().zip(&after_parts) {
            assert_eq!((name, expected.dims()), (other, found.dims()));
            assert_eq!(numbers(expected), numbers(found), "{name}");
        }
        // The bias of `<pad>` is never used.
        let classes = before.architecture.classes();
        let bias = |opened: &Opened| {
            opened
                .logits_bias
                .as_ref()
                .map(|bias| numbers(bias)[..classes].to_vec())
        };
        assert_eq!(bias(&before), bias(&after));
        assert_eq!(after.weights_file, NPZ_FILE);
    }
}

#[test]
fn a_model_that_marian_trained() {
    let opened = opened(|_| ()).unwrap();
    let model = &opened.architecture.model;
    assert_eq!((model.d_model, model.encoder_layers, model.decoder_layers), (32, 1, 2));
    assert_eq!(model.positions, Positions::SinusoidalMarian);
    assert_eq!(
        (
            opened.architecture.source_vocabulary,
            opened.architecture.target_vocabulary
        ),
        (35, 27)
    );
    assert!(opened.logits_bias.is_some());
    // The layers of its decoder share their tensors (transformer-tied-layers).
    let parts: std::collections::BTreeMap<String, Tensor> = opened.params.parts().unwrap().into_iter().collect();
    let of = |layer: usize| {
        let weight = &parts[&format!("model.decoder.layers.{layer}.fc1.weight")];
        weight.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(of(0), of(1));
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("other.npz");
    std::fs::write(&path, trained()).unwrap();
    assert_eq!(read_architecture(&path).unwrap(), opened.architecture);
    let checks = verify(&path);
    assert!(
        checks.len() == 2 && checks.iter().all(|check| check.faults.is_empty()),
        "{checks:?}"
    );
    assert!(checks[0].what.contains("other.npz: a Marian model"), "{checks:?}");
}

#[test]
fn halves_are_read() {
    let halved = |files: &mut Vec<(String, Vec<u8>)>| {
        let array = contents(files, "encoder_l1_self_bq");
        let numbers = array[array.len() - 128..].chunks_exact(4);
        let numbers = numbers.map(|number| f32::from_le_bytes(number.try_into().unwrap()));
        let tensor = Tensor::from_iter(numbers, &Device::Cpu)
            .unwrap()
            .to_dtype(DType::F16)
            .unwrap();
        let mut halves = Vec::new();
        tensor.write_bytes(&mut halves).unwrap();
        *array = npy("<f2", "(1, 32)", &halves);
    };
    let values = |opened: Opened| {
        let parts = opened.params.parts().unwrap();
        let (_, bias) = parts
            .into_iter()
            .find(|(name, _)| name == "model.encoder.layers.0.self_attn.q_proj.bias")
            .unwrap();
        bias.to_vec1::<f32>().unwrap()
    };
    let (whole, halves) = (values(opened(|_| ()).unwrap()), values(opened(halved).unwrap()));
    assert!(whole.iter().any(|value| *value != 0.0));
    for (a, b) in whole.iter().zip(&halves) {
        assert!((a - b).abs() <= a.abs() / 1024.0, "{a} {b}");
    }
}

#[test]
fn what_cannot_be_expressed_is_refused() {
    for (from, to, part) in [
        ("type: transformer\n", "type: amun\n", "type: \"amun\""),
        ("self-attention", "average-attention", "transformer-decoder-autoreg"),
        (
            "transformer-ffn-activation: relu",
            "transformer-ffn-activation: gelu",
            "transformer-ffn-activation",
        ),
        (
            "transformer-postprocess: dan",
            "transformer-postprocess: dhn",
            "transformer-postprocess",
        ),
        (
            "transformer-no-projection: false",
            "transformer-no-projection: true",
            "transformer-no-projection",
        ),
        ("lemma-dim-emb: 0", "lemma-dim-emb: 64", "lemma-dim-emb"),
        ("right-left: false", "right-left: true", "right-left"),
        ("dim-emb: 32", "dim-emb: 999999999999", "dim-emb"),
        ("dec-depth: 2", "dec-depth: 1000000", "dec-depth"),
        (
            "dim-emb: 32",
            "dim-emb: 48",
            "decoder_Wemb has the shape [26, 32] instead of [26, 48]",
        ),
        ("enc-depth: 1", "enc-depth: 2", "encoder_l2_self_Wq is missing"),
        ("  - 26", "  - 16000000", "instead of [16000000, 32]"),
        ("transformer-heads: 4", "transformer-heads: 5", "heads"),
        ("type: transformer\n", "words\n", "line"),
    ] {
        let error = refused(with_options(replaced(from, to)));
        assert!(error.contains(part), "{to}: {error}");
    }
}

#[test]
fn damaged_files_are_refused() {
    // Files that are cut off every 3,989 bytes, and at each of the last 300 bytes, where the directory lies.
    let whole = trained();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(NPZ_FILE);
    let lengths = (0..whole.len()).step_by(3989).chain(whole.len() - 300..whole.len());
    for length in lengths {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = open(place.path(), &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(NPZ_FILE), "{length}: {error}");
    }
    const BIAS: &str = "decoder_l1_ffn_b1";
    type Change = fn(&mut Vec<(String, Vec<u8>)>);
    let changes: [(Change, &str); 9] = [
        (
            |files| *contents(files, BIAS) = npy("<f4", "(1, 63)", &[0; 252]),
            "instead of [1, 64]",
        ),
        (
            |files| *contents(files, BIAS) = npy("<f4", "(64,)", &[0; 256]),
            "instead of [1, 64]",
        ),
        (
            |files| *contents(files, BIAS) = npy("<f4", "(1, 64)", &[0; 255]),
            "does not fit the 255 bytes",
        ),
        (
            |files| *contents(files, BIAS) = npy("<f4", "(4294967296, 4294967296)", &[0; 256]),
            "does not fit",
        ),
        (
            |files| *contents(files, BIAS) = npy("|i1", "(1, 64)", &[0; 64]),
            "holds |i1",
        ),
        (|files| contents(files, BIAS).truncate(4), "no array of NumPy"),
        (
            |files| files.retain(|(name, _)| name != "decoder_l1_ffn_b1.npy"),
            "decoder_l1_ffn_b1 is missing",
        ),
        (
            |files| files.push(("Wpos.npy".into(), npy("<f4", "(1, 1)", &[0; 4]))),
            "Wpos does not belong",
        ),
        (
            |files| files.retain(|(name, _)| !name.starts_with("special")),
            "no special:model.yml",
        ),
    ];
    for (change, part) in changes {
        let error = refused(change);
        assert!(error.contains(part), "{part}: {error}");
    }
    for (bytes, part) in [
        (&b"<!DOCTYPE html><p>Sign in"[..], "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"", "empty"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = open(place.path(), &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// Changes bytes of the parts that describe places and types. The result is a model or an error, never a panic.
#[test]
fn changed_bytes_are_no_panic() {
    let whole = trained();
    let is_mark = |i: &usize| whole[*i..].starts_with(b"PK") || whole[*i..].starts_with(b"\x93NUMPY");
    let bytes: Vec<usize> = (0..whole.len())
        .filter(is_mark)
        .flat_map(|mark| mark..mark + 70)
        .collect();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(NPZ_FILE);
    let (mut opened, mut refused) = (0, 0);
    for (i, at) in bytes.into_iter().step_by(13).enumerate() {
        let Some(byte) = whole.get(at) else { continue };
        let mut changed = whole.clone();
        changed[at] = [0, 0xff, byte ^ 1, byte.wrapping_add(64)][i % 4];
        std::fs::write(&path, changed).unwrap();
        match open(place.path(), &Device::Cpu) {
            Ok(_) => opened += 1,
            Err(error) => {
                assert!(error.to_string().contains(NPZ_FILE), "{error}");
                refused += 1;
            }
        }
    }
    assert!(opened > 100 && refused > 100, "{opened} {refused}");
}

/// The directory of an archive may give several names the same place.
#[test]
fn arrays_that_lie_one_over_another_are_refused() {
    let mut bytes = trained();
    // Every entry of the directory holds its file's place 42 bytes after its mark; the greatest file gets a second
    // name.
    let places: Vec<usize> = (0..bytes.len() - 4)
        .filter(|i| bytes[*i..].starts_with(b"PK\x01\x02"))
        .collect();
    let size = |at: &usize| u32::from_le_bytes(bytes[at + 20..at + 24].try_into().unwrap());
    let greatest = *places.iter().max_by_key(|at| size(at)).unwrap();
    let entry = bytes[greatest + 20..greatest + 28].to_vec();
    let place = bytes[greatest + 42..greatest + 46].to_vec();
    for at in places.into_iter().filter(|at| *at != greatest).take(30) {
        bytes[at + 20..at + 28].copy_from_slice(&entry);
        bytes[at + 42..at + 46].copy_from_slice(&place);
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(NPZ_FILE), bytes).unwrap();
    let error = open(folder.path(), &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("one over another"), "{error}");
}

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a str)];

/// A folder with these files; files whose names end in `.npz` are models.
fn folder(files: Files) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        std::fs::write(place.path().join(name), contents).unwrap();
    }
    place
}

#[test]
fn the_files_of_a_model_are_found() {
    let named = "models:\n  - /data/b.npz\nvocabs:\n  - ../x/s.yml\n  - ..\\t.yml\nbeam-size: 6\nnormalize: 0.6\n";
    let cases: [(Files, [&str; 3]); 7] = [
        (
            &[("model.npz", ""), ("vocab.spm", "")],
            ["model.npz", "vocab.spm", "vocab.spm"],
        ),
        (
            &[
                ("a.npz", ""),
                ("model.npz", ""),
                ("model.npz.optimizer.npz", ""),
                ("source.spm", ""),
                ("target.spm", ""),
            ],
            ["model.npz", "source.spm", "target.spm"],
        ),
        (
            &[
                ("a.npz", ""),
                ("source.spm", ""),
                ("target.spm", ""),
                ("source.yml", ""),
                ("target.yml", ""),
            ],
            ["a.npz", "source.yml", "target.yml"],
        ),
        (
            &[("a.npz", ""), ("vocab.deen.spm", "")],
            ["a.npz", "vocab.deen.spm", "vocab.deen.spm"],
        ),
        (
            &[("a.npz", ""), ("opus.vocab.yml", "")],
            ["a.npz", "opus.vocab.yml", "opus.vocab.yml"],
        ),
        (
            &[
                ("a.npz", ""),
                ("b.npz", ""),
                ("s.yml", ""),
                ("t.yml", ""),
                ("decoder.yml", named),
            ],
            ["b.npz", "s.yml", "t.yml"],
        ),
        (
            &[
                ("model.npz", ""),
                ("s.yml", ""),
                ("t.yml", ""),
                ("model.npz.decoder.yml", named),
            ],
            ["model.npz", "s.yml", "t.yml"],
        ),
    ];
    for (files, expected) in cases {
        let place = folder(files);
        assert!(MarianFiles::are_at(place.path()), "{files:?}");
        let found = MarianFiles::find(place.path()).unwrap();
        let [weights, source, target] = expected.map(|name| place.path().join(name));
        assert_eq!(
            (found.weights, found.vocabularies),
            (weights, [source, target]),
            "{files:?}"
        );
        let is_named = files.iter().any(|(name, _)| name.ends_with("decoder.yml"));
        let recommended = is_named.then_some(6).zip(is_named.then_some(0.6));
        assert_eq!(found.beam.zip(found.length_penalty), recommended, "{files:?}");
    }
    for files in [
        &[("config.json", "{}"), ("model.npz", "")][..],
        &[("vocab.spm", "")],
        &[("model.npz.optimizer.npz", "")],
    ] {
        assert!(!MarianFiles::are_at(folder(files).path()), "{files:?}");
    }
}

#[test]
fn what_is_unclear_is_refused() {
    let several = "models:\n  - a.npz\n  - b.npz\n";
    let absent = "vocabs:\n  - /etc/passwd\n  - t.yml\n";
    let cases: [(Files, &str); 6] = [
        (
            &[("a.npz", ""), ("b.npz", "")],
            "several models; name one of them: a.npz, b.npz",
        ),
        (&[("a.npz", ""), ("decoder.yml", several)], "models: several at once"),
        (
            &[("a.npz", ""), ("t.yml", ""), ("decoder.yml", absent)],
            "/etc/passwd is not in the folder",
        ),
        (
            &[("a.npz", ""), ("decoder.yml", "vocabs:\n  - a\n")],
            "two vocabularies",
        ),
        (&[("a.npz", ""), ("decoder.yml", "words")], "decoder.yml"),
        (
            &[("a.npz", ""), ("vocab.de.spm", ""), ("vocab.en.spm", "")],
            "which vocabularies are meant",
        ),
    ];
    for (files, part) in cases {
        let error = MarianFiles::find(folder(files).path()).unwrap_err().to_string();
        assert!(error.contains(part), "{files:?}: {error}");
    }
}
