//! Checkpoints.

use crate::message;
use crate::specimen::{UPDATE, named, run_files, sum_anew, trainer_parts, write_files};
use std::fs::remove_file;
use std::sync::atomic::AtomicBool;
use tallow::may_change;
use tallow_data::DataError;
use tallow_train::{CARD_FILE, CHECKSUMS_FILE, RunDirectory, Silent, TrainError, Trainer, check_sums};
use tempfile::tempdir;

/// The treatment of the checksums, chosen by the second byte of an input.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sums {
    /// They stay those of the valid checkpoint.
    Kept,
    /// They are computed from the given files.
    Anew,
    /// They are missing, as in checkpoints of older versions.
    Absent,
}

/// A run with a checkpoint in which one file is replaced. Checksums must detect every change. If they are right or
/// missing and the run can be resumed, it does one update.
///
/// # Panics
/// When a promise is broken.
pub fn checkpoints(data: &[u8]) {
    let &[choice, mode, ref contents @ ..] = data else {
        return;
    };
    let files = run_files();
    let (name, valid) = &files[usize::from(choice) % files.len()];
    let sums = [Sums::Kept, Sums::Anew, Sums::Absent][usize::from(mode) % 3];
    let place = tempdir().expect("a place");
    let run = RunDirectory::new(place.path());
    let checkpoint = run.checkpoint(UPDATE);
    write_files(place.path(), named(files));
    write_files(place.path(), [(name.as_str(), contents)]);
    let are_sums = name.ends_with(CHECKSUMS_FILE);
    match sums {
        Sums::Anew if !are_sums => sum_anew(&checkpoint),
        Sums::Absent if !are_sums => remove_file(checkpoint.join(CHECKSUMS_FILE)).expect("checksums"),
        _ => {}
    }
    run.recover().expect("a run");
    assert_eq!(run.saved_updates().expect("updates"), [UPDATE]);
    let (intact, damaged) = run.intact_update().expect("a run with a checkpoint");
    // A card has no checksum.
    let is_guarded = name.starts_with("checkpoints/") && !are_sums && !name.ends_with(CARD_FILE);
    if is_guarded && sums == Sums::Kept && contents != valid.as_slice() {
        assert_eq!(intact, None, "checksums did not notice another {name}");
    } else if !are_sums {
        assert_eq!((intact, damaged.len()), (Some(UPDATE), 0));
    }
    for fault in &damaged {
        message::check_text(fault.clone(), &[&checkpoint.display().to_string()], data);
    }
    if intact.is_none() {
        assert_eq!((damaged.len(), check_sums(&checkpoint).is_err()), (1, true));
        return;
    }
    let (mut trainer, _) = match Trainer::resume(trainer_parts(run.clone()), UPDATE, may_change) {
        Ok(resumed) => resumed,
        // The file belongs to another run, but is not damaged.
        Err(error @ TrainError::Resume(_)) => return message::check(&error, &[], data),
        Err(error) => return message::check(&error, &[&place.path().display().to_string()], data),
    };
    let before = trainer.update();
    match trainer.run(&Silent, &AtomicBool::new(false)) {
        Ok(outcome) => {
            assert!(outcome.update >= before);
            let (intact, damaged) = run.intact_update().expect("a run with checkpoints");
            assert!(intact >= Some(UPDATE) && damaged.is_empty(), "{intact:?} {damaged:?}");
        }
        // These errors come from a panic in another thread.
        Err(error @ (TrainError::Worker | TrainError::Data(DataError::Broken(_)))) => panic!("{error}"),
        Err(error) => message::check(&error, &[], data),
    }
}
