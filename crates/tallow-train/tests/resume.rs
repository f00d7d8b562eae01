//! A resumed run equals the uninterrupted one, to the bit; a run that cannot be resumed says why.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::toy;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tallow_data::ParallelText;
use tallow_train::{Ending, Measure, RunDirectory, TrainConfig, TrainError, Trainer};
use tempfile::TempDir;
use toy::{StopDuring, parts, train_config};

/// A config in which everything with a state is on: dropout in two passes, an average of the weights, accumulation,
/// validation, selection.
fn config() -> TrainConfig {
    TrainConfig {
        r_drop: 1.0,
        ema_decay: 0.95,
        accumulate: 2,
        metric: Measure::Loss,
        keep_last: 1,
        keep_best: 1,
        ..train_config(60)
    }
}

const DROPOUT: f32 = 0.3;

/// Trains a new run until it ends, or until `stop_during` is done.
fn begin(place: &Path, config: TrainConfig, stop_during: u64) -> Ending {
    let stop = AtomicBool::new(false);
    let mut trainer = Trainer::new(parts(place, config, DROPOUT)).unwrap();
    trainer.run(&StopDuring(stop_during, &stop), &stop).unwrap().ending
}

/// Resumes the run from a checkpoint.
fn go_on(place: &Path, config: TrainConfig, update: u64, stop_during: u64) -> Ending {
    let stop = AtomicBool::new(false);
    let (mut trainer, changed) = Trainer::resume(parts(place, config, DROPOUT), update, |_| false).unwrap();
    assert_eq!((trainer.update(), changed.len()), (update, 0));
    trainer.run(&StopDuring(stop_during, &stop), &stop).unwrap().ending
}

/// Every file below a directory.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if path.is_dir() {
            let below = files(&path).into_iter();
            found.extend(below.map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

/// The files of a run that must not differ: the checkpoint of the last update with weights, moments, averaged weights
/// and state; the best model; the log of metrics.
fn result(place: &Path, last: u64) -> BTreeMap<String, Vec<u8>> {
    let run = RunDirectory::new(place);
    let mut all = files(&run.checkpoint(last));
    for name in [
        "model.safetensors",
        "state/moments.safetensors",
        "state/ema.safetensors",
        "state/state.json",
    ] {
        assert!(all.contains_key(name), "{name} is not in {:?}", all.keys());
    }
    all.extend(
        files(&run.best())
            .into_iter()
            .map(|(name, bytes)| (format!("best/{name}"), bytes)),
    );
    all.insert("metrics.jsonl".into(), std::fs::read(run.metrics()).unwrap());
    all
}

fn assert_equal(got: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, bytes) in got {
        assert!(*bytes == expected[name], "{name} differs");
    }
}

/// Compares sixty updates without a stop, sixty that were stopped during the twenty-fifth and resumed, and sixty that
/// were stopped several times. All files of the last checkpoint, the best model and the log are equal byte by byte,
/// with dropout, averaged weights, accumulation over two batches, and two workers.
#[test]
fn a_resumed_run_is_the_uninterrupted_one() {
    let (whole, once, often) = (
        TempDir::new().unwrap(),
        TempDir::new().unwrap(),
        TempDir::new().unwrap(),
    );
    assert_eq!(begin(whole.path(), config(), u64::MAX), Ending::Finished);
    let expected = result(whole.path(), 60);

    assert_eq!(begin(once.path(), config(), 25), Ending::Interrupted);
    assert_eq!(
        RunDirectory::new(once.path()).saved_updates().unwrap().last(),
        Some(&25)
    );
    assert_eq!(go_on(once.path(), config(), 25, u64::MAX), Ending::Finished);
    assert_equal(&result(once.path(), 60), &expected);

    // During the first update; directly before, at and after a validation.
    let stops = [1, 19, 20, 41, 60];
    assert_eq!(begin(often.path(), config(), stops[0]), Ending::Interrupted);
    for pair in stops.windows(2) {
        go_on(often.path(), config(), pair[0], pair[1]);
    }
    assert_equal(&result(often.path(), 60), &expected);

    // Another run's files would differ: the comparison can fail.
    let other = TempDir::new().unwrap();
    let mut parts = parts(other.path(), config(), DROPOUT);
    parts.fingerprint.seed += 1;
    let stop = AtomicBool::new(false);
    Trainer::new(parts).unwrap().run(&tallow_train::Silent, &stop).unwrap();
    let other = result(other.path(), 60);
    for name in ["model.safetensors", "state/moments.safetensors", "metrics.jsonl"] {
        assert_ne!(other[name], expected[name], "{name}");
    }
}

/// A run that died after its last checkpoint resumes from there. Later lines of its log are removed and logged again,
/// and the result is the same.
#[test]
fn a_run_that_died_repeats_what_was_lost() {
    let (whole, died) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let config = TrainConfig {
        keep_last: 2,
        ..config()
    };
    begin(whole.path(), config.clone(), u64::MAX);
    // The files of a run that died during update 26, with the checkpoint of 20 as its last.
    begin(died.path(), config.clone(), 25);
    let run = RunDirectory::new(died.path());
    std::fs::remove_dir_all(run.checkpoint(25)).unwrap();
    let half_written = run.checkpoint(40).with_extension("partial");
    std::fs::create_dir_all(&half_written).unwrap();
    std::fs::write(half_written.join("model.safetensors"), "half a file").unwrap();
    go_on(died.path(), config, 20, u64::MAX);
    assert_equal(&result(died.path(), 60), &result(whole.path(), 60));
    assert!(!half_written.exists());
}

/// The last update of the last epoch is also short in a resumed run.
#[test]
fn a_resumed_run_ends_with_the_last_epoch() {
    let (whole, stopped) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let config = TrainConfig {
        max_epochs: 2,
        accumulate: 7,
        ..config()
    };
    assert_eq!(begin(whole.path(), config.clone(), u64::MAX), Ending::Finished);
    let last = *RunDirectory::new(whole.path()).saved_updates().unwrap().last().unwrap();
    assert!((2..20).contains(&last), "{last}");
    begin(stopped.path(), config.clone(), last - 1);
    go_on(stopped.path(), config, last - 1, u64::MAX);
    assert_equal(&result(stopped.path(), last), &result(whole.path(), last));
}

/// A finished run does nothing more when it is resumed, and its files stay as they are. This holds whether it ended
/// with a validation or between two.
#[test]
fn a_finished_run_stays_as_it_is() {
    for last in [40, 50] {
        let place = TempDir::new().unwrap();
        let config = TrainConfig {
            max_updates: last,
            ..config()
        };
        begin(place.path(), config.clone(), u64::MAX);
        let before = result(place.path(), last);
        assert_eq!(go_on(place.path(), config, last, u64::MAX), Ending::Finished);
        assert_equal(&result(place.path(), last), &before);
    }
}

/// Keys that add no information about a model (decoder heads equal to the encoder's, the size of a table of positions
/// that does not exist) are not in its directory. A run that spells them out resumes all the same. A model of another
/// shape does not, and the error says so.
#[test]
fn the_architecture_must_be_the_same() {
    let place = TempDir::new().unwrap();
    let short = TrainConfig {
        max_updates: 2,
        ..config()
    };
    let spelled = || {
        let mut parts = parts(place.path(), short.clone(), DROPOUT);
        let model = &mut parts.architecture.model;
        model.decoder_heads = Some(model.heads);
        model.decoder_feed_forward = Some(model.feed_forward);
        model.max_positions = 77;
        parts
    };
    let stop = AtomicBool::new(false);
    Trainer::new(spelled())
        .unwrap()
        .run(&tallow_train::Silent, &stop)
        .unwrap();
    assert!(Trainer::resume(spelled(), 2, |_| false).is_ok());
    let mut other = spelled();
    other.architecture.model.heads = 2;
    let error = Trainer::resume(other, 2, |_| false)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("checkpoints/2") && error.contains("another shape"),
        "{error}"
    );
}

/// Changed keys forbid to resume, and the error names each one; keys that may change are listed instead. Another number
/// of workers is listed too. A different text, tokenizer or seed always forbids it.
#[test]
fn what_may_change_and_what_must_not() {
    let place = TempDir::new().unwrap();
    let short = TrainConfig {
        max_updates: 4,
        ..config()
    };
    begin(place.path(), short.clone(), u64::MAX);
    let longer = TrainConfig {
        max_updates: 6,
        ..short
    };
    let new_parts = || parts(place.path(), longer.clone(), DROPOUT);

    let error = Trainer::resume(new_parts(), 4, |_| false).unwrap_err().to_string();
    assert!(error.contains("train.max_updates: 6 instead of 4"), "{error}");

    let mut more = new_parts();
    more.fingerprint.workers = 1;
    let (mut trainer, changed) = Trainer::resume(more, 4, |key| key == "train.max_updates").unwrap();
    assert_eq!(changed.len(), 2);
    assert!(
        changed[0].contains("train.max_updates") && changed[1].contains("1 workers instead of 2"),
        "{changed:?}"
    );
    let outcome = trainer.run(&tallow_train::Silent, &AtomicBool::new(false)).unwrap();
    assert_eq!((outcome.ending, outcome.update), (Ending::Finished, 6));

    for (change, part) in [
        (0, "seed: 9 instead of 3"),
        (1, "corpora"),
        (2, "tokenizer"),
        (3, "model.d_model: 64 instead of 32"),
    ] {
        let mut parts = new_parts();
        match change {
            0 => parts.fingerprint.seed = 9,
            1 => parts.fingerprint.data = vec!["other words".into()],
            2 => parts.fingerprint.tokenizers = vec!["other tokens".into()],
            _ => parts.fingerprint.config[1].1 = "64".into(),
        }
        let result = Trainer::resume(parts, 6, |key| key.starts_with("train."));
        assert!(matches!(result, Err(TrainError::Resume(_))));
        let error = result.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// The results on one validation set cannot be compared with those on another. The best model, patience, the scores of
/// checkpoints and the average begin anew, and the best model on disk stays until there is another one.
#[test]
fn another_validation_set() {
    let place = TempDir::new().unwrap();
    let until = |max_updates| TrainConfig {
        max_updates,
        average_last: 2,
        keep_last: 2,
        ..config()
    };
    let run = RunDirectory::new(place.path());
    let weights = |path: &Path| std::fs::read(path.join("model.safetensors")).unwrap();
    begin(place.path(), until(40), u64::MAX);
    let read = |update| -> Value {
        let path = run.checkpoint(update).join("state/state.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let (first, best_before) = (read(40), weights(&run.best()));
    let loss_before = first["selection"]["best"][1].as_f64().unwrap();
    // A task that cannot be learned: each line is translated into the line before it.
    let other = |max_updates| {
        let mut parts = parts(place.path(), until(max_updates), DROPOUT);
        let valid = &mut parts.valid[0];
        valid.target.rotate_right(1);
        let text = ParallelText {
            target: valid.target.clone(),
            ..toy::text(valid.source.clone())
        };
        valid.corpus = toy::corpus(text, &parts.tokenizers);
        parts.fingerprint.valid = vec!["other lines".into()];
        parts
    };
    let stop = AtomicBool::new(false);
    let (trainer, changed) = Trainer::resume(other(60), 40, |_| true).unwrap();
    let told = changed.join("\n");
    for part in [
        "the validation corpus",
        "another validation corpus and are forgotten",
        "best stays until a validation",
    ] {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
    assert_eq!(weights(&run.best()), best_before);
    drop(trainer);
    // A finished run is validated and averaged once more.
    let (mut trainer, _) = Trainer::resume(other(40), 40, |_| true).unwrap();
    let outcome = trainer.run(&tallow_train::Silent, &stop).unwrap();
    let (update, loss) = outcome.best.unwrap();
    assert!(update == 40 && loss > loss_before, "{loss} {loss_before}");
    let second = read(40);
    assert_eq!(second["averaged"], 40);
    assert_eq!(second["selection"]["checkpoints"][0][1], Value::Null);
    // It resumes with the same set, so nothing is forgotten.
    let (mut trainer, changed) = Trainer::resume(other(60), 40, |_| true).unwrap();
    assert!(!changed.join("\n").contains("forgotten"), "{changed:?}");
    assert!(trainer.run(&tallow_train::Silent, &stop).unwrap().best.unwrap().1 <= loss);
}

/// Every file of a checkpoint is removed, cut short, emptied or overwritten in turn. The error names the file, nothing
/// panics, and the restored checkpoint resumes.
#[test]
fn damaged_checkpoints() {
    let place = TempDir::new().unwrap();
    let short = TrainConfig {
        max_updates: 3,
        ..config()
    };
    begin(place.path(), short.clone(), u64::MAX);
    let checkpoint = RunDirectory::new(place.path()).checkpoint(3);
    let resume = || Trainer::resume(parts(place.path(), short.clone(), DROPOUT), 3, |_| false);
    for name in [
        "config.json",
        "model.safetensors",
        "state/state.json",
        "state/moments.safetensors",
        "state/ema.safetensors",
    ] {
        let path = checkpoint.join(name);
        let good = std::fs::read(&path).unwrap();
        let half = good[..good.len() / 2].to_vec();
        for damage in [None, Some(half), Some(Vec::new()), Some(b"\xff\xfe nonsense".to_vec())] {
            match damage {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let error = resume().map(|_| ()).unwrap_err().to_string();
            let file = path.file_name().unwrap().to_str().unwrap();
            assert!(error.contains(file), "{file} is not in: {error}");
        }
        std::fs::write(&path, good).unwrap();
    }
    assert!(resume().is_ok());
    let error = Trainer::resume(parts(place.path(), short.clone(), DROPOUT), 2, |_| false);
    let error = error.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("checkpoints/2"), "{error}");
}

/// Moments and averages whose tensors are not those of the model are refused, with file and name. A state with a newer
/// format is refused with its version.
#[test]
fn checkpoints_that_contradict_themselves() {
    let place = TempDir::new().unwrap();
    let short = TrainConfig {
        max_updates: 2,
        ..config()
    };
    begin(place.path(), short.clone(), u64::MAX);
    let state = RunDirectory::new(place.path()).checkpoint(2).join("state");
    let resume = || {
        let resumed = Trainer::resume(parts(place.path(), short.clone(), DROPOUT), 2, |_| false);
        resumed.map(|_| ()).unwrap_err().to_string()
    };
    for (name, tensor) in [
        ("moments.safetensors", "model.encoder.layers.0.feed_forward"),
        ("ema.safetensors", "model.encoder.layers.0.fc1.weight"),
    ] {
        let path = state.join(name);
        let good = std::fs::read(&path).unwrap();
        let tensors = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
        let mut missing = tensors.clone();
        missing.remove(tensor).unwrap();
        let mut misshapen = tensors.clone();
        misshapen.insert(tensor.into(), tensors[tensor].flatten_all().unwrap());
        for damaged in [missing, misshapen] {
            candle_core::safetensors::save(&damaged, &path).unwrap();
            let error = resume();
            assert!(error.contains(name) && error.contains(tensor), "{name}: {error}");
        }
        std::fs::write(&path, good).unwrap();
    }
    let path = state.join("state.json");
    let mut newer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    newer["version"] = 5.into();
    std::fs::write(&path, newer.to_string()).unwrap();
    let error = resume();
    assert!(error.contains("state.json") && error.contains("version 5"), "{error}");
}
