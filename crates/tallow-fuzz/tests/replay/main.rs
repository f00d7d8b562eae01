//! Replays the seeds of every target and mutations of them, and measures the memory that each input needs.
//!
//! `cargo test -p tallow-fuzz -- --nocapture` prints how many inputs each target has processed. An input that fails is
//! written to the folder that the message names.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // For helpers outside of test functions.

mod allocator;
mod mutator;

use allocator::peak_of;
use mutator::Mutator;
use std::fs::{create_dir_all, read, read_dir, write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tallow_fuzz::{TARGETS, Target};

/// The number of mutations of each seed.
const MUTATIONS: u64 = 16;

/// Longer seeds are replayed with fewer mutations.
const LONG: usize = 16 << 10;

/// The largest amount of memory, in bytes, for an input of this many bytes. The fixed part is for buffers, and for
/// parameters and tables whose size a config may choose within its limits.
fn most_memory(input: usize) -> usize {
    (32 << 20) + 256 * input
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target)
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut seeds: Vec<(String, Vec<u8>)> = read_dir(folder(target))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), read(entry.path()).unwrap())
        })
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "no seeds of {target}");
    seeds
}

/// Gives an input to a target and returns the largest amount of memory that was in use meanwhile.
fn try_input(target: (&str, Target), input: &[u8], name: &str) -> usize {
    // An input that fails is kept for later examination.
    let keep = || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(target.0);
        create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        write(&path, input).unwrap();
        path
    };
    let (result, peak) = peak_of(|| catch_unwind(AssertUnwindSafe(|| target.1(input))));
    if result.is_err() {
        panic!("{}: {name} fails; it lies in {}", target.0, keep().display());
    }
    let most = most_memory(input.len());
    assert!(
        peak <= most,
        "{}: {name}, {} bytes, takes {peak} bytes of memory instead of {most} at most; it lies in {}",
        target.0,
        input.len(),
        keep().display()
    );
    peak
}

fn replay(name: &str) {
    // Memory is counted for the whole process.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let target = *TARGETS.iter().find(|(other, _)| *other == name).unwrap();
    let seeds = seeds(name);
    let begin = Instant::now();
    // Values that are made only once do not count as memory of an input.
    target.1(&seeds[0].1);
    let (mut inputs, mut most) = (0, 0);
    for (index, (seed, bytes)) in seeds.iter().enumerate() {
        most = most.max(try_input(target, bytes, seed));
        inputs += 1;
        let mutations = if bytes.len() > LONG { MUTATIONS / 4 } else { MUTATIONS };
        for number in 0..mutations {
            let mut mutator = Mutator::new(name, seed, number);
            let other = &seeds[(index + 1 + number as usize) % seeds.len()].1;
            let mutated = mutator.mutate(bytes, other);
            most = most.max(try_input(target, &mutated, &format!("{seed}-{number}")));
            inputs += 1;
        }
    }
    println!(
        "{name}: {inputs} inputs from {} seeds in {:.1} s; at most {:.1} MiB of memory for one",
        seeds.len(),
        begin.elapsed().as_secs_f64(),
        most as f64 / (1 << 20) as f64
    );
}

#[test]
fn configs() {
    replay("configs");
}

#[test]
fn tokenizers() {
    replay("tokenizers");
}

#[test]
fn models() {
    replay("models");
}

#[test]
fn checkpoints() {
    replay("checkpoints");
}

#[test]
fn corpora() {
    replay("corpora");
}

#[test]
fn catalogs() {
    replay("catalogs");
}

#[test]
fn prepared() {
    replay("prepared");
}

#[test]
fn lines() {
    replay("lines");
}

#[test]
fn scores() {
    replay("scores");
}

#[test]
fn every_target_has_a_test_and_seeds() {
    let source = include_str!("main.rs");
    for (name, _) in TARGETS {
        assert!(source.contains(&format!("replay(\"{name}\")")), "{name} has no test");
        assert!(!seeds(name).is_empty());
    }
}

/// `cargo test -p tallow-fuzz -- --ignored` rewrites the seeds that are valid files, after a change of a format.
#[test]
#[ignore = "rewrites the seeds named valid-; only to be run when a format changes on purpose"]
fn write_valid_seeds() {
    for (target, name, contents) in tallow_fuzz::seeds() {
        create_dir_all(folder(target)).unwrap();
        write(folder(target).join(name), contents).unwrap();
    }
}
