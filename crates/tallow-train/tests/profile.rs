//! The report of a profiled run. A profile covers the whole process, so this test has its own.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

mod toy;

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use tallow_train::{Event, Observer, Profile, TrainConfig, Trainer};
use toy::{parts, train_config};

/// Keeps the profile of a run.
#[derive(Default)]
struct Record(Mutex<Option<Profile>>);

impl Observer for Record {
    fn observe(&self, event: &Event) {
        if let Event::Profiled(profile) = event {
            *self.0.lock().unwrap() = Some(profile.clone());
        }
    }
}

/// Every update except the first is measured, by operation; validations are not measured. All operations of a training
/// step are there, and together they take no more time than the workers had.
#[test]
fn operations_of_updates() {
    let place = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        validate_every: 2,
        ..train_config(6)
    };
    let run = |profiled: bool| {
        let place = place.path().join(profiled.to_string());
        std::fs::create_dir(&place).unwrap();
        let mut trainer = Trainer::new(parts(&place, config.clone(), 0.1)).unwrap();
        if profiled {
            trainer.profile();
        }
        let record = Record::default();
        trainer.run(&record, &AtomicBool::new(false)).unwrap();
        record.0.into_inner().unwrap()
    };
    assert!(run(false).is_none());
    let profile = run(true).unwrap();
    assert_eq!((profile.updates, profile.workers), (5, 2));
    let total: f64 = profile.shares.iter().map(|share| share.time.as_secs_f64()).sum();
    assert!(total <= profile.seconds * profile.workers as f64, "{profile:?}");
    let packs = tallow_ops::instruction_set().contains("avx");
    for share in &profile.shares {
        let expected = share.name != "products: packing" || packs;
        assert_eq!(share.calls > 0, expected, "{share:?}");
        let is_product = share.name.starts_with("products:") && share.name != "products: packing";
        assert_eq!(share.flops > 0, is_product, "{share:?}");
    }
    // The three products of a matrix map need the same number of operations.
    let flops = |name: &str| profile.shares.iter().find(|share| share.name == name).unwrap().flops;
    assert_eq!(flops("products: forward"), flops("products: input gradient"));
    assert_eq!(flops("products: forward"), flops("products: weight gradient"));
}
