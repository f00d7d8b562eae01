//! Several processes train the model of one, to the bit, if they have as many workers together. Here, the processes are
//! threads; the command line's tests use MPI.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::toy;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread;
use tallow_comm::Group;
use tallow_train::{
    Event, Measure, Observer, OnDivergence, Outcome, ReduceKind, RunDirectory, Silent, TrainConfig, TrainError,
    Trainer, TrainerParts,
};
use tempfile::TempDir;
use toy::{StopDuring, parts, train_config};

/// How workers are dealt: so many ranks, and so many workers in each.
type Dealing = (usize, usize);

const DROPOUT: f32 = 0.2;

fn parts_of_rank(place: &Path, config: &TrainConfig, group: Group, workers: usize) -> TrainerParts {
    let mut parts = parts(place, config.clone(), DROPOUT);
    if !group.is_root() {
        // Only the root may touch files, and only its weights count.
        parts.run = RunDirectory::new(place.join("must not be"));
        for parameter in parts.params.iter() {
            parameter.var.set(&parameter.var.ones_like().unwrap()).unwrap();
        }
    }
    parts.fingerprint.workers = workers;
    parts.group = group;
    parts
}

/// Does the work of each rank in a thread of its own.
fn on_ranks<T: Send>(ranks: usize, work: impl Fn(Group) -> T + Sync) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = Group::of_threads(ranks)
            .into_iter()
            .map(|group| scope.spawn(move || work(group)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Trains on all ranks of a dealing, resumed from a checkpoint if one is given. The results of the ranks.
fn train(
    place: &Path,
    config: &TrainConfig,
    (ranks, workers): Dealing,
    from: Option<u64>,
    stop_during: (usize, u64),
) -> Vec<Result<Outcome, TrainError>> {
    on_ranks(ranks, |group| {
        let (rank, is_root) = (group.rank(), group.is_root());
        let parts = parts_of_rank(place, config, group, ranks * workers);
        let mut trainer = match (is_root, from) {
            (true, None) => Trainer::new(parts)?,
            (true, Some(update)) => Trainer::resume(parts, update, |_| false)?.0,
            (false, _) => Trainer::join(parts)?,
        };
        let stop = AtomicBool::new(false);
        // Only the root has events, so other ranks are asked to stop from the beginning.
        if rank == stop_during.0 && rank > 0 {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        let during = if rank == stop_during.0 { stop_during.1 } else { 0 };
        trainer.run(&StopDuring(during, &stop), &stop)
    })
}

fn finish(place: &Path, config: &TrainConfig, dealing: Dealing, from: Option<u64>) -> Outcome {
    let outcomes = train(place, config, dealing, from, (0, 0));
    let outcomes: Vec<Outcome> = outcomes.into_iter().map(Result::unwrap).collect();
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:?}");
    outcomes[0]
}

/// Every file of a run that must not differ.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if path.is_dir() {
            let below = files(&path).into_iter();
            found.extend(below.map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else if !name.starts_with("timing") && !name.starts_with("events") {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

fn assert_same(place: &Path, expected: &BTreeMap<String, Vec<u8>>, of: &str) {
    let found = files(place);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "{of}"
    );
    let different: Vec<_> = found
        .iter()
        .filter(|(name, bytes)| expected[*name] != **bytes)
        .collect();
    let names: Vec<_> = different.iter().map(|(name, _)| name).collect();
    assert!(different.is_empty(), "{of}: {names:?}");
}

/// Trains alone with four workers, and as every other dealing of four.
fn four_workers(config: &TrainConfig, of: &str) {
    let alone = TempDir::new().unwrap();
    finish(alone.path(), config, (1, 4), None);
    let expected = files(alone.path());
    assert!(expected.keys().any(|name| name.ends_with("moments.safetensors")));
    for dealing in [(2, 2), (4, 1)] {
        let place = TempDir::new().unwrap();
        finish(place.path(), config, dealing, None);
        assert_same(place.path(), &expected, &format!("{of}, {dealing:?}"));
    }
}

/// Trains on all ranks of a dealing, with other parts than usual. The files of the run.
fn files_with(
    config: &TrainConfig,
    (ranks, workers): Dealing,
    other: impl Fn(TrainerParts) -> TrainerParts + Sync,
) -> BTreeMap<String, Vec<u8>> {
    let place = TempDir::new().unwrap();
    on_ranks(ranks, |group| {
        let is_root = group.is_root();
        let parts = other(parts_of_rank(place.path(), config, group, ranks * workers));
        let trainer = if is_root {
            Trainer::new(parts)
        } else {
            Trainer::join(parts)
        };
        trainer.unwrap().run(&Silent, &AtomicBool::new(false)).unwrap();
    });
    files(place.path())
}

/// A second set, with its own name.
fn with_two_sets(mut parts: TrainerParts) -> TrainerParts {
    let other = toy::lines(9, 15);
    let first = &mut parts.valid[0];
    first.name = Some("first".into());
    let second = tallow_train::ValidationSet {
        name: Some("second".into()),
        source: other.clone(),
        target: other.clone(),
        corpus: toy::corpus(toy::text(other), &parts.tokenizers),
        batch_tokens: first.batch_tokens,
        metrics: first.metrics.clone(),
        score: first.score.clone(),
    };
    parts.valid.push(second);
    parts
}

#[test]
fn several_validation_sets() {
    let config = TrainConfig {
        average_last: 2,
        ..train_config(40)
    };
    let expected = files_with(&config, (1, 2), with_two_sets);
    assert!(files_with(&config, (2, 1), with_two_sets) == expected);
}

#[test]
fn any_dealing_of_the_same_workers_gives_the_same_bits() {
    let plain = train_config(30);
    four_workers(&plain, "plain");
    four_workers(
        &TrainConfig {
            shard_optimizer: false,
            ..plain.clone()
        },
        "whole moments everywhere",
    );
    four_workers(
        &TrainConfig {
            overlap_reduction: false,
            ..plain.clone()
        },
        "one after another",
    );
    four_workers(
        &TrainConfig {
            r_drop: 1.0,
            ema_decay: 0.9,
            accumulate: 3,
            average_last: 3,
            validate_every: 7,
            checkpoint_every: 7,
            metric: Measure::Loss,
            weight_decay: 0.01,
            ..plain.clone()
        },
        "everything",
    );
    four_workers(
        &TrainConfig {
            optimizer: tallow_train::OptimizerKind::Sgd,
            max_epochs: 2,
            patience: 1,
            ..plain
        },
        "gradient descent to the end of an epoch",
    );
}

/// Updates whose last batches have fewer sentences than there are workers.
#[test]
fn ranks_without_sentences_take_part() {
    let config = train_config(12);
    // Batches of one to three sentences.
    let small = |mut parts: TrainerParts| {
        parts.data.batch_tokens = 8;
        parts
    };
    let expected = files_with(&config, (1, 8), small);
    for dealing in [(2, 4), (4, 2), (8, 1)] {
        assert!(files_with(&config, dealing, small) == expected, "{dealing:?}");
    }
}

#[test]
fn a_run_goes_on_with_another_dealing() {
    let config = TrainConfig {
        ema_decay: 0.95,
        ..train_config(60)
    };
    let alone = TempDir::new().unwrap();
    finish(alone.path(), &config, (1, 4), None);
    let expected = files(alone.path());
    // Stopped by the root, then by rank 1.
    let place = TempDir::new().unwrap();
    let stopped = train(place.path(), &config, (2, 2), None, (0, 25));
    let update = stopped[0].as_ref().unwrap().update;
    assert_eq!(update, 26, "all ranks agree on the stop during the next update");
    assert!(stopped.iter().all(|outcome| outcome.as_ref().unwrap().update == update));
    let stopped = train(place.path(), &config, (4, 1), Some(update), (1, 0));
    assert_eq!(stopped[0].as_ref().unwrap().update, 27);
    finish(place.path(), &config, (1, 4), Some(27));
    assert_same(place.path(), &expected, "resumed twice");
}

/// Another number of workers gives the same training up to rounding.
#[test]
fn other_workers_differ_by_rounding() {
    let config = train_config(20);
    let loss = |dealing: Dealing, reduce: ReduceKind| {
        let place = TempDir::new().unwrap();
        let config = TrainConfig {
            reduce,
            ..config.clone()
        };
        finish(place.path(), &config, dealing, None);
        let log = std::fs::read_to_string(RunDirectory::new(place.path()).metrics()).unwrap();
        let last = log.lines().rfind(|line| line.contains("\"gradient_norm\"")).unwrap();
        let line: serde_json::Value = serde_json::from_str(last).unwrap();
        line["loss"].as_f64().unwrap()
    };
    let alone = loss((1, 1), ReduceKind::F32);
    for dealing in [(3, 1), (3, 3), (5, 1), (2, 3)] {
        let together = loss(dealing, ReduceKind::F32);
        assert!(
            (together - alone).abs() < 2e-3 * alone,
            "{dealing:?}: {together} {alone}"
        );
    }
    let rounded = loss((4, 1), ReduceKind::Bf16);
    assert!(
        rounded != alone && (rounded - alone).abs() < 0.03 * alone,
        "{rounded} {alone}"
    );
}

/// Setbacks with the same settings as in the tests of divergence.
#[test]
fn ranks_go_back_together() {
    let config = TrainConfig {
        learning_rate: 1e30,
        max_skipped: 2,
        on_divergence: OnDivergence::GoBack,
        back_off: 5e-17,
        ema_decay: 0.9,
        checkpoint_every: 3,
        validate_every: 4,
        keep_last: 9,
        warmup_updates: 0,
        metric: Measure::Loss,
        ..train_config(14)
    };
    let sound = TrainConfig {
        learning_rate: 3e-3,
        ..config.clone()
    };
    let go_on = |place: &Path, (ranks, workers): Dealing| {
        let _ = train(place, &sound, (1, 4), None, (0, 6));
        let results = on_ranks(ranks, |group| {
            let is_root = group.is_root();
            let parts = parts_of_rank(place, &config, group, ranks * workers);
            let mut trainer = match is_root {
                true => Trainer::resume(parts, 6, |_| true)?.0,
                false => Trainer::join(parts)?,
            };
            trainer.run(&Silent, &AtomicBool::new(false))
        });
        let outcomes: Vec<Outcome> = results.into_iter().map(Result::unwrap).collect();
        assert!(outcomes.iter().all(|outcome| outcome.setbacks > 0), "{outcomes:?}");
        files(place)
    };
    let expected = go_on(TempDir::new().unwrap().path(), (1, 4));
    for dealing in [(2, 2), (4, 1)] {
        let place = TempDir::new().unwrap();
        let _ = go_on(place.path(), dealing);
        assert_same(place.path(), &expected, &format!("{dealing:?}"));
    }
}

#[test]
fn a_run_that_stops_at_divergence_stops_on_all_ranks() {
    let place = TempDir::new().unwrap();
    let config = TrainConfig {
        learning_rate: 1e30,
        max_skipped: 2,
        warmup_updates: 0,
        ..train_config(14)
    };
    let errors = train(place.path(), &config, (2, 1), None, (0, 0));
    assert!(matches!(errors[0], Err(TrainError::Diverged { .. })), "{errors:?}");
    assert!(matches!(errors[1], Err(TrainError::EndedByRoot)), "{errors:?}");
}

/// A fault of the root's disk ends the others, too.
#[test]
fn a_fault_of_the_root_ends_all() {
    struct Break<'a>(&'a Path);
    impl Observer for Break<'_> {
        fn observe(&self, event: &Event) {
            if let Event::Updated { update: 3, .. } = event {
                std::fs::create_dir_all(self.0).unwrap();
                std::fs::write(self.0.join("checkpoints"), "not a folder").unwrap();
            }
        }
    }
    let place = TempDir::new().unwrap();
    let config = train_config(40);
    let errors = on_ranks(2, |group| {
        let is_root = group.is_root();
        let parts = parts_of_rank(place.path(), &config, group, 2);
        let mut trainer = match is_root {
            true => Trainer::new(parts).unwrap(),
            false => Trainer::join(parts).unwrap(),
        };
        trainer.run(&Break(place.path()), &AtomicBool::new(false)).unwrap_err()
    });
    assert!(errors[0].to_string().contains("checkpoints"), "{errors:?}");
    assert!(
        errors[1].to_string().contains("rank 0 ended before the work was done"),
        "{errors:?}"
    );
}
