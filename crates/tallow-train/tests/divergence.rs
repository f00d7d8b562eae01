//! A diverged run goes back or stops, as its config says; a kill in between changes nothing.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::toy;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tallow_data::{CorpusFiles, Stage};
use tallow_train::proof::different_files;
use tallow_train::{
    Ending, Event, Measure, Observer, OnDivergence, OptimizerKind, Outcome, RunDirectory, Silent, TrainConfig,
    TrainError, Trainer,
};
use toy::{parts, train_config};

/// The last update before the fault.
const GOOD: u64 = 6;

fn sound() -> TrainConfig {
    TrainConfig {
        ema_decay: 0.9,
        checkpoint_every: 3,
        validate_every: 4,
        keep_last: 9,
        warmup_updates: 0,
        max_updates: 14,
        metric: Measure::Loss,
        ..train_config(14)
    }
}

/// Steps of 1e30, after which every number overflows. Lowered twice by `back_off`, the steps are sound.
fn explosive(on_divergence: OnDivergence) -> TrainConfig {
    TrainConfig {
        learning_rate: 1e30,
        max_skipped: 2,
        on_divergence,
        back_off: 5e-17,
        ..sound()
    }
}

/// A run with checkpoints of updates 3 and 6.
fn begin(place: &Path) {
    let stop = AtomicBool::new(false);
    let mut trainer = Trainer::new(parts(place, sound(), 0.1)).unwrap();
    trainer.run(&StopAt(Moment::Updated(GOOD), &stop), &stop).unwrap();
}

/// The moment of a requested stop.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    Updated(u64),
    Skipped(u64),
    /// After this many setbacks.
    WentBack(u64),
    Never,
}

struct StopAt<'a>(Moment, &'a AtomicBool);

impl Observer for StopAt<'_> {
    fn observe(&self, event: &Event) {
        let now = match event {
            Event::Updated { update, .. } => Moment::Updated(*update),
            Event::Skipped { update, .. } => Moment::Skipped(*update),
            Event::WentBack {
                learning_rate_factor, ..
            } => Moment::WentBack((learning_rate_factor.log10() / -16.3).round() as u64),
            _ => return,
        };
        if now == self.0 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

fn go_on(place: &Path, config: &TrainConfig, stop_at: Moment) -> Result<Outcome, TrainError> {
    let run = RunDirectory::new(place);
    let (newest, _) = run.intact_update().unwrap();
    let stop = AtomicBool::new(false);
    let mut parts = parts(place, config.clone(), 0.1);
    parts.train = config.clone();
    // A command line would put this there.
    let rate = ("train.learning_rate".to_owned(), config.learning_rate.to_string());
    parts.fingerprint.config.push(rate);
    let (mut trainer, _) = Trainer::resume(parts, newest.unwrap(), |_| true).unwrap();
    trainer.run(&StopAt(stop_at, &stop), &stop)
}

fn log(place: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(RunDirectory::new(place).metrics()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_goes_back_until_it_goes_well() {
    let place = tempfile::tempdir().unwrap();
    begin(place.path());
    let outcome = go_on(place.path(), &explosive(OnDivergence::GoBack), Moment::Never).unwrap();
    assert_eq!((outcome.ending, outcome.update), (Ending::Finished, 14));
    // The weights explode at update 7, and updates 8 and 9 are left out. The same happens again from 6, and the run
    // then goes back to the checkpoint before it.
    let setbacks: Vec<(u64, u64)> = log(place.path())
        .iter()
        .filter_map(|line| Some((line["update"].as_u64()?, line["gone_back_to"].as_u64()?)))
        .collect();
    assert_eq!(setbacks, [(9, 6), (9, 3)]);
    assert_eq!((outcome.setbacks, outcome.skipped), (2, 4));
    let rates: BTreeMap<u64, f64> = log(place.path())
        .iter()
        .filter_map(|line| Some((line["update"].as_u64()?, line["learning_rate"].as_f64()?)))
        .collect();
    // 1e30 * 5e-17 * 5e-17, up to the root in the schedule.
    assert!(rates[&14] < 3e-3 && rates[&14] > 1e-4, "{rates:?}");
    let losses: Vec<f64> = log(place.path())
        .iter()
        .filter_map(|line| line["loss"].as_f64())
        .collect();
    assert!(losses.last().unwrap() < &losses[0], "{losses:?}");
    // The weights are finite, and their checkpoint includes the setbacks.
    let run = RunDirectory::new(place.path());
    assert_eq!(run.saved_updates().unwrap(), [3, 6, 9, 12, 14]);
    for (name, tensor) in tallow_model::open(&run.checkpoint(14), &candle_core::Device::Cpu)
        .unwrap()
        .params
        .parts()
        .unwrap()
    {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(values.iter().all(|value| value.is_finite()), "{name}");
    }
}

/// The stage ends after update 7, the run diverges at 9, and goes back to 6 and to 3, in the first stage.
#[test]
fn going_back_leads_into_the_earlier_stage() {
    let place = tempfile::tempdir().unwrap();
    let with_stages = |config: TrainConfig| {
        let mut parts = parts(place.path(), config, 0.1);
        parts.data.train = vec![CorpusFiles {
            name: Some("a".into()),
            ..CorpusFiles::tsv("a")
        }];
        let stage = |updates| Stage {
            weights: [("a".to_owned(), 1.0)].into(),
            updates,
            ..Stage::default()
        };
        parts.data.stage = vec![stage(Some(7)), stage(Some(5)), stage(None)];
        parts
    };
    let stop = AtomicBool::new(false);
    let mut trainer = Trainer::new(with_stages(sound())).unwrap();
    trainer.run(&StopAt(Moment::Updated(GOOD), &stop), &stop).unwrap();
    let (mut trainer, _) = Trainer::resume(with_stages(explosive(OnDivergence::GoBack)), GOOD, |_| true).unwrap();
    let outcome = trainer.run(&Silent, &AtomicBool::new(false)).unwrap();
    assert_eq!((outcome.ending, outcome.update), (Ending::Finished, 14));
    let stages: Vec<(u64, String)> = log(place.path())
        .iter()
        .filter_map(|line| Some((line["update"].as_u64()?, line["stage"].as_str()?.to_owned())))
        .collect();
    let expected = [(0, "1"), (7, "2"), (7, "2"), (7, "2"), (12, "3")];
    assert_eq!(stages, expected.map(|(update, name)| (update, name.to_owned())));
}

#[test]
fn a_stop_on_the_way_changes_nothing() {
    let whole = tempfile::tempdir().unwrap();
    let config = explosive(OnDivergence::GoBack);
    begin(whole.path());
    go_on(whole.path(), &config, Moment::Never).unwrap();
    for moment in [
        Moment::Updated(7),
        Moment::Skipped(8),
        Moment::WentBack(1),
        Moment::WentBack(2),
        Moment::Updated(10),
    ] {
        let place = tempfile::tempdir().unwrap();
        begin(place.path());
        let outcome = go_on(place.path(), &config, moment).unwrap();
        assert_eq!(outcome.ending, Ending::Interrupted, "{moment:?}");
        go_on(place.path(), &config, Moment::Never).unwrap();
        let [a, b] = [whole.path(), place.path()].map(RunDirectory::new);
        assert_eq!(different_files(&a, &b, 14).unwrap(), Vec::<String>::new(), "{moment:?}");
    }
}

#[test]
fn a_run_stops_where_it_is_told_to_or_cannot_be_helped() {
    let place = tempfile::tempdir().unwrap();
    begin(place.path());
    let error = go_on(place.path(), &explosive(OnDivergence::Stop), Moment::Never).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { update: 9, .. }), "{error}");
    assert!(error.to_string().contains("not finite 2 times in a row"), "{error}");
    assert!(error.to_string().contains("go-back"), "{error}");
    // The checkpoint before the fault exists, and the run continues from it.
    assert_eq!(RunDirectory::new(place.path()).saved_updates().unwrap(), [3, 6]);
    // A rate that is never low enough.
    let hopeless = TrainConfig {
        back_off: 0.5,
        ..explosive(OnDivergence::GoBack)
    };
    let error = go_on(place.path(), &hopeless, Moment::Never).unwrap_err();
    assert!(matches!(error, TrainError::Hopeless { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("lower train.learning_rate. Mend that, and resume"),
        "{error}"
    );
    let setbacks = log(place.path())
        .iter()
        .filter(|line| !line["gone_back_to"].is_null())
        .count();
    assert_eq!(setbacks, 5);
    assert_eq!(
        go_on(place.path(), &sound(), Moment::Never).unwrap().ending,
        Ending::Finished
    );
    // Without a checkpoint, the run cannot go back.
    let fresh = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::new(parts(fresh.path(), explosive(OnDivergence::GoBack), 0.1)).unwrap();
    let error = trainer.run(&Silent, &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
}

/// Patience is not used up by validations of exploded weights, or by validations that a run repeats after going back.
#[test]
fn going_back_takes_no_patience() {
    let place = tempfile::tempdir().unwrap();
    begin(place.path());
    let config = TrainConfig {
        validate_every: 1,
        patience: 8,
        ..explosive(OnDivergence::GoBack)
    };
    let outcome = go_on(place.path(), &config, Moment::Never).unwrap();
    assert_eq!(
        (outcome.ending, outcome.update, outcome.setbacks),
        (Ending::Finished, 14, 2)
    );
}

/// A run does not go back to a checkpoint that has been damaged.
#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let place = tempfile::tempdir().unwrap();
    begin(place.path());
    let run = RunDirectory::new(place.path());
    let config = explosive(OnDivergence::GoBack);
    let stop = AtomicBool::new(false);
    let mut parts = parts(place.path(), config.clone(), 0.1);
    parts.train = config;
    let (mut trainer, _) = Trainer::resume(parts, GOOD, |_| true).unwrap();
    std::fs::write(run.checkpoint(GOOD).join("model.safetensors"), "damaged").unwrap();
    trainer.run(&StopAt(Moment::WentBack(1), &stop), &stop).unwrap();
    let to: Vec<u64> = log(place.path())
        .iter()
        .filter_map(|line| line["gone_back_to"].as_u64())
        .collect();
    assert_eq!(to, [3]);
}

fn files_of(place: &Path) -> Vec<u64> {
    let run = RunDirectory::new(place);
    assert!(!run.best().exists());
    run.saved_updates().unwrap()
}

/// No checkpoint and no best model has weights that are not finite, and the error names the known causes.
#[test]
fn what_is_not_finite_is_not_saved() {
    // A row of the embeddings has no gradient: its step is 0 / 0.
    let epsilon = TrainConfig {
        epsilon: 0.0,
        ..sound()
    };
    // Weights times 1 - 1e40.
    let decay = TrainConfig {
        optimizer: OptimizerKind::AdamW,
        learning_rate: 100.0,
        weight_decay: 1e38,
        ..sound()
    };
    for (config, part) in [(epsilon, "train.epsilon (0e0)"), (decay, "train.weight_decay (1e38)")] {
        for every in [1, 100] {
            let place = tempfile::tempdir().unwrap();
            let config = TrainConfig {
                checkpoint_every: every,
                validate_every: every,
                max_updates: 1,
                ..config.clone()
            };
            let mut trainer = Trainer::new(parts(place.path(), config, 0.1)).unwrap();
            let error = trainer.run(&Silent, &AtomicBool::new(false)).unwrap_err();
            assert!(matches!(error, TrainError::Diverged { update: 1, .. }), "{error}");
            let error = error.to_string();
            for part in [part, "its weights of model.", "begin anew in place of this run"] {
                assert!(error.contains(part), "{part} is not in: {error}");
            }
            assert!(files_of(place.path()).is_empty());
        }
    }
    // A requested stop does not save them either.
    let place = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        epsilon: 0.0,
        checkpoint_every: 100,
        validate_every: 100,
        ..sound()
    };
    let stop = AtomicBool::new(false);
    let mut trainer = Trainer::new(parts(place.path(), config, 0.1)).unwrap();
    let error = trainer.run(&StopAt(Moment::Updated(1), &stop), &stop).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
    assert!(files_of(place.path()).is_empty());
    // Training does not begin with such weights.
    let place = tempfile::tempdir().unwrap();
    let parts = parts(place.path(), sound(), 0.1);
    let nan = (parts.params.iter().next().unwrap().var.as_tensor() * f64::NAN).unwrap();
    parts.params.iter().next().unwrap().var.set(&nan).unwrap();
    assert!(matches!(Trainer::new(parts), Err(TrainError::NotFinite(_))));
}

/// A run cannot resume from a checkpoint with numbers that are not finite, as earlier versions wrote them.
#[test]
fn a_checkpoint_that_is_not_finite() {
    let place = tempfile::tempdir().unwrap();
    begin(place.path());
    let run = RunDirectory::new(place.path());
    let path = run.checkpoint(GOOD).join("state/moments.safetensors");
    let mut moments = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
    let name = "model.encoder.layers.0.feed_forward";
    moments.insert(name.into(), (&moments[name] * f64::INFINITY).unwrap());
    candle_core::safetensors::save(&moments, &path).unwrap();
    let error = Trainer::resume(parts(place.path(), sound(), 0.1), GOOD, |_| true);
    let error = error.map(|_| ()).unwrap_err().to_string();
    for part in ["checkpoints/6", name, "not finite", "older checkpoint"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

/// With a checkpoint after every update, the last one has the exploded weights, which give no finite loss. Following
/// the error's advice gives a run that continues from the checkpoint before.
#[test]
fn what_exploded_is_not_resumed_from() {
    let place = tempfile::tempdir().unwrap();
    begin(place.path());
    let config = TrainConfig {
        checkpoint_every: 1,
        ..explosive(OnDivergence::Stop)
    };
    for _ in 0..2 {
        let error = go_on(place.path(), &config, Moment::Never).unwrap_err().to_string();
        assert!(error.contains("goes on from its checkpoint of update 6"), "{error}");
        let run = RunDirectory::new(place.path());
        assert_eq!(run.saved_updates().unwrap(), [3, 6, 7]);
        let (update, faults) = run.intact_update().unwrap();
        assert_eq!((update, faults.len()), (Some(6), 1));
        assert!(faults[0].contains("checkpoints/7: it led to divergence"), "{faults:?}");
    }
    let outcome = go_on(place.path(), &sound(), Moment::Never).unwrap();
    assert_eq!((outcome.ending, outcome.update), (Ending::Finished, 14));
    assert_eq!(
        RunDirectory::new(place.path()).saved_updates().unwrap(),
        [3, 6, 9, 12, 14]
    );
    // If weights explode in steps and their losses stay finite for a while, such weights do not replace good
    // checkpoints.
    let place = tempfile::tempdir().unwrap();
    begin(place.path());
    let slower = TrainConfig {
        learning_rate: 5e8,
        keep_last: 2,
        ..config
    };
    let error = go_on(place.path(), &slower, Moment::Never).unwrap_err().to_string();
    assert!(error.contains("goes on from its checkpoint of update 6"), "{error}");
    let lost: Vec<u64> = log(place.path())
        .iter()
        .filter(|line| line["loss"].as_f64().is_some_and(|loss| loss > 1e6))
        .filter_map(|line| line["update"].as_u64())
        .collect();
    assert!(lost.len() > 1 && lost[0] == 8, "{lost:?}");
    assert_eq!(RunDirectory::new(place.path()).saved_updates().unwrap(), [6, 7]);
    // This is reported once.
    let mut told = log(place.path());
    told.retain(|line| !line["not_saved"].is_null());
    assert_eq!(
        told,
        [serde_json::json!({ "update": 8, "not_saved": true, "last_sound": 7 })]
    );
    assert_eq!(
        go_on(place.path(), &sound(), Moment::Never).unwrap().ending,
        Ending::Finished
    );
    // A run does not go back to such weights either.
    let place = tempfile::tempdir().unwrap();
    begin(place.path());
    let config = TrainConfig {
        checkpoint_every: 1,
        ..explosive(OnDivergence::GoBack)
    };
    go_on(place.path(), &config, Moment::Never).unwrap();
    let to: Vec<u64> = log(place.path())
        .iter()
        .filter_map(|line| line["gone_back_to"].as_u64())
        .collect();
    assert_eq!(to, [6, 3]);
}

/// Exploded weights are never the best model, even if nothing has been validated before.
#[test]
fn what_exploded_is_not_the_best() {
    let place = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let unseen = TrainConfig {
        validate_every: 100,
        ..sound()
    };
    let mut trainer = Trainer::new(parts(place.path(), unseen, 0.1)).unwrap();
    trainer.run(&StopAt(Moment::Updated(GOOD), &stop), &stop).unwrap();
    let config = TrainConfig {
        learning_rate: 1e9,
        validate_every: 1,
        ..explosive(OnDivergence::Stop)
    };
    go_on(place.path(), &config, Moment::Never).unwrap_err();
    let validated: Vec<(u64, bool)> = log(place.path())
        .iter()
        .filter_map(|line| Some((line["update"].as_u64()?, line["is_best"].as_bool()?)))
        .collect();
    assert!(validated.len() > 1 && validated[0] == (7, false), "{validated:?}");
    assert!(validated.iter().all(|(_, is_best)| !is_best), "{validated:?}");
    let run = RunDirectory::new(place.path());
    assert!(!run.best().exists());
    assert_eq!(run.saved_updates().unwrap(), [3, 6]);
}

/// If a checkpoint cannot be marked, as on a full disk, the divergence is reported all the same.
#[test]
fn what_cannot_be_marked() {
    struct Spoil<'a>(&'a Path);
    impl Observer for Spoil<'_> {
        fn observe(&self, event: &Event) {
            if matches!(event, Event::Skipped { update: 8, .. }) {
                std::fs::remove_dir_all(self.0).unwrap();
                std::fs::write(self.0, "").unwrap();
            }
        }
    }
    let place = tempfile::tempdir().unwrap();
    begin(place.path());
    let config = TrainConfig {
        checkpoint_every: 1,
        ..explosive(OnDivergence::Stop)
    };
    let mut parts = parts(place.path(), config.clone(), 0.1);
    parts.train = config;
    let (mut trainer, _) = Trainer::resume(parts, GOOD, |_| true).unwrap();
    let state = RunDirectory::new(place.path()).checkpoint(7).join("state");
    let error = trainer.run(&Spoil(&state), &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { update: 9, .. }), "{error}");
    let error = error.to_string();
    for part in [
        "not finite 2 times in a row",
        "train.learning_rate",
        "remove the checkpoints from update 7 on",
        "checkpoints/7/state/diverged.partial",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}
