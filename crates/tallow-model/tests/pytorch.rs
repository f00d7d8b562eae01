//! `pytorch_model.bin`, in both of its forms, equals the safetensors that it was made from. Files that are damaged or
//! contain commands are rejected (`scripts/fixtures/pytorch_files.py`).

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::{DType, Device};
use std::path::{Path, PathBuf};
use tallow_model::{Opened, PYTORCH_FILE, Params, open};
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join("pytorch").join(name)).unwrap()
}

/// A model directory with these weights.
fn directory(weights: &[u8]) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let config = fixtures().join("marian/separate-tables/config.json");
    std::fs::copy(config, place.path().join("config.json")).unwrap();
    std::fs::write(place.path().join(PYTORCH_FILE), weights).unwrap();
    place
}

fn values(params: &Params, dtype: DType) -> Vec<(String, Vec<f32>)> {
    let parts = params.parts().unwrap().into_iter();
    let values = parts.map(|(name, tensor)| {
        let tensor = tensor.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
        (name, tensor.flatten_all().unwrap().to_vec1().unwrap())
    });
    values.collect()
}

fn expected() -> Opened {
    open(&fixtures().join("marian/separate-tables"), &Device::Cpu).unwrap()
}

#[test]
fn both_forms_are_read() {
    for (name, dtype) in [
        ("zip.bin", DType::F32),
        ("older.bin", DType::F32),
        ("half.bin", DType::F16),
    ] {
        let opened = open(directory(&file(name)).path(), &Device::Cpu).unwrap();
        assert_eq!(
            values(&opened.params, DType::F32),
            values(&expected().params, dtype),
            "{name}"
        );
        assert_eq!(opened.logits_bias.is_some(), expected().logits_bias.is_some(), "{name}");
    }
}

/// If both files exist, the safetensors are read.
#[test]
fn safetensors_come_first() {
    let place = directory(b"nonsense");
    let weights = fixtures().join("marian/separate-tables/model.safetensors");
    std::fs::copy(weights, place.path().join("model.safetensors")).unwrap();
    assert!(open(place.path(), &Device::Cpu).is_ok());
}

#[test]
fn what_is_refused() {
    let cases: [(&str, &[&str]); 8] = [
        ("command.bin", &["system", "safetensors"]),
        ("command-older.bin", &["system", "safetensors"]),
        ("double.bin", &["fc1.weight holds torch.DoubleStorage"]),
        ("nested.bin", &["state_dict"]),
        ("shared.bin", &["one over another"]),
        ("expanded.bin", &["fc1.weight", "does not fit its storage"]),
        ("../marian/separate-tables/config.json", &["neither form"]),
        ("../marian/separate-tables/model.safetensors", &["neither form"]),
    ];
    for (name, parts) in cases {
        let error = open(directory(&file(name)).path(), &Device::Cpu)
            .unwrap_err()
            .to_string();
        for part in parts.iter().chain(&[PYTORCH_FILE]) {
            assert!(error.contains(part), "{name}: {part:?} is not in: {error}");
        }
    }
    assert!(!Path::new("executed-by-a-pickle").exists());
}

/// Files that are cut off or changed at any place are rejected or give a model of the right shape; nothing panics.
#[test]
fn damaged_files() {
    for name in ["zip.bin", "older.bin"] {
        let whole = file(name);
        let mut refused = 0;
        let mut attempt = |bytes: &[u8]| match open(directory(bytes).path(), &Device::Cpu) {
            Ok(_) => {}
            Err(error) => {
                assert!(error.to_string().contains(PYTORCH_FILE), "{error}");
                refused += 1;
            }
        };
        for length in (0..whole.len()).step_by(whole.len() / 40) {
            attempt(&whole[..length]);
        }
        // The pickle and the descriptions are at the beginning and at the end; the numbers are between them.
        let ends = (0..whole.len()).filter(|at| *at < 12_000 || *at + 12_000 > whole.len());
        for at in ends.step_by(17) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x81;
            attempt(&bytes);
        }
        assert!(refused > 200, "{name}: {refused}");
    }
}

/// A file of the older form whose last pickle is this program.
fn older(program: &[u8]) -> Vec<u8> {
    let mut bytes = vec![
        0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.',
    ];
    bytes.extend(b"N.N.");
    bytes.extend(program);
    // No storages.
    bytes.extend(b"].");
    bytes
}

/// Programs that refer again and again to the values they have made. Copies of these values would take gigabytes of
/// memory or more than exists, and hours instead of seconds.
#[test]
fn programs_that_grow() {
    let doubling = || -> Vec<u8> {
        let mut program = b")".to_vec();
        for place in 0..200u8 {
            program.extend([b'q', place, b'h', place, 0x86]);
        }
        program.push(b'.');
        program
    };
    // A tuple of 200,000 numbers that is passed through a call 100,000 times.
    let calling = |function: &[u8]| -> Vec<u8> {
        let mut program = b"(".to_vec();
        (0..200_000).for_each(|_| program.extend(b"K\x01"));
        program.extend(b"t\x85q\x00");
        program.extend([b"c", function, b"q\x01("].concat());
        (0..100_000).for_each(|_| program.extend(b"h\x01h\x00R"));
        program.extend(b"l.");
        program
    };
    // Tensors that share one shape of 100,000 dimensions.
    let shaping = || -> Vec<u8> {
        let mut program = b"(".to_vec();
        (0..100_000).for_each(|_| program.extend(b"K\x01"));
        program.extend(b"tq\x000");
        program.extend(
            b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQq\x010",
        );
        program.extend(b"ctorch._utils\n_rebuild_tensor_v2\nq\x020}(");
        for i in 0..100_000u32 {
            program.extend(b"X\x04\x00\x00\x00");
            program.extend(format!("{:04}", i % 10_000).bytes());
            program.extend(b"h\x02(h\x01K\x00h\x00h\x00tR");
        }
        program.extend(b"u.");
        program
    };
    for (name, program) in [
        ("doubling", doubling()),
        ("sizes", calling(b"torch\nSize\n")),
        ("parameters", calling(b"torch._utils\n_rebuild_parameter\n")),
        ("shapes", shaping()),
    ] {
        let place = directory(&older(&program));
        let begin = std::time::Instant::now();
        let error = open(place.path(), &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(PYTORCH_FILE) && error.len() < 500, "{name}: {error}");
        assert!(begin.elapsed().as_secs() < 20, "{name}");
    }
}
