//! Proves that a run that stops and resumes equals an uninterrupted run.

use crate::checksum::files_below;
use crate::proof::{Fault, Proof};
use crate::{Event, Observer, RunDirectory, TrainConfig, TrainError, Trainer, TrainerParts};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Updates of the compared runs, and the update after which one of them stops.
const UPDATES: u64 = 6;
const STOP: u64 = 3;

/// Trains for a few updates below `place`, once without a stop and once with one, and compares the files. `parts`
/// returns the parts of the run. It is called three times, and the parts are changed to be short and to validate
/// nothing.
///
/// # Errors
/// When a run fails.
pub fn resume_is_exact(
    place: &Path,
    mut parts: impl FnMut() -> Result<TrainerParts, TrainError>,
) -> Result<Proof, TrainError> {
    let [whole, stopped] = ["whole", "stopped"].map(|name| RunDirectory::new(place.join(name)));
    let mut short = |run: &RunDirectory| -> Result<TrainerParts, TrainError> {
        std::fs::create_dir_all(run.path()).map_err(TrainError::file(run.path()))?;
        let parts = parts()?;
        Ok(TrainerParts {
            group: tallow_comm::Group::alone(),
            train: TrainConfig {
                max_updates: UPDATES,
                max_epochs: 0,
                checkpoint_every: UPDATES,
                log_every: 1,
                average_last: 0,
                max_skipped: u64::MAX,
                ..parts.train
            },
            valid: Vec::new(),
            run: run.clone(),
            ..parts
        })
    };
    let never = AtomicBool::new(false);
    let mut train = || -> Result<(), TrainError> {
        Trainer::new(short(&whole)?)?.run(&crate::Silent, &never)?;
        let stop = AtomicBool::new(false);
        Trainer::new(short(&stopped)?)?.run(&StopAfter(&stop), &stop)?;
        let (mut trainer, _) = Trainer::resume(short(&stopped)?, STOP, |_| false)?;
        trainer.run(&crate::Silent, &never).map(|_| ())
    };
    let name = "resuming is exact";
    match train() {
        // The error's own advice is for a run that the user does not have.
        Err(TrainError::Diverged { update, fault, .. } | TrainError::Hopeless { update, fault, .. }) => {
            return Ok(Proof {
                name,
                outcome: Err(Fault {
                    what: format!("training diverges at update {update}: {fault}"),
                    advice: "lower train.learning_rate, raise train.warmup_updates or train.epsilon, or lower train.weight_decay",
                }),
            });
        }
        other => other?,
    }
    let found = different_files(&whole, &stopped, UPDATES)?;
    Ok(Proof {
        name,
        outcome: if found.is_empty() {
            Ok(format!(
                "{UPDATES} updates, stopped after {STOP} and resumed: weights, moments and log are the same to the bit"
            ))
        } else {
            Err(Fault {
                what: format!("a resumed run is another one: {} differ", found.join(", ")),
                advice: "on a GPU sums have no fixed order, and only the CPU is promised; there, please report it with \
                         this config",
            })
        },
    })
}

/// Requests a stop after some updates.
struct StopAfter<'a>(&'a AtomicBool);

impl Observer for StopAfter<'_> {
    fn observe(&self, event: &Event) {
        // Whether its loss was finite or not.
        if matches!(
            event,
            Event::Updated { update: STOP, .. } | Event::Skipped { update: STOP, .. }
        ) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// The files that differ between two runs that should be equal. Compares the checkpoint of an update, the best model
/// and the log of metrics.
///
/// # Errors
/// When a file cannot be read.
pub fn different_files(a: &RunDirectory, b: &RunDirectory, update: u64) -> Result<Vec<String>, TrainError> {
    let mut different = Vec::new();
    let update = format!("checkpoints/{update}");
    for directory in [update.as_str(), "best"] {
        let [in_a, in_b] = [a, b].map(|run| run.path().join(directory));
        let names: BTreeSet<String> = files_below(&in_a)?.into_iter().chain(files_below(&in_b)?).collect();
        for name in names {
            if !are_equal(&in_a.join(&name), &in_b.join(&name))? {
                different.push(format!("{directory}/{name}"));
            }
        }
    }
    if !are_equal(&a.metrics(), &b.metrics())? {
        different.push("metrics.jsonl".into());
    }
    Ok(different)
}

/// Whether two files have the same content; a missing file equals no other.
fn are_equal(a: &Path, b: &Path) -> Result<bool, TrainError> {
    let read = |path: &Path| std::fs::read(path).map_err(TrainError::file(path));
    Ok(a.exists() && b.exists() && read(a)? == read(b)?)
}
