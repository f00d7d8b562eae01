//! Whole runs of a toy: the model learns, the run ends when it should, and its results are on disk.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::toy;
use candle_core::Device;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use tallow_data::PairSource;
use tallow_decode::{DecodeConfig, Translator};
use tallow_model::InferenceCompute;
use tallow_score::TER;
use tallow_text::Tokenizers;
use tallow_train::{
    Ending, Event, Measure, MetricsLine, Observer, Outcome, RunDirectory, Schedule, Silent, TrainConfig, Trainer,
    average, read_log,
};
use toy::{StopDuring, lines, parts, train_config};

fn run(place: &Path, config: TrainConfig, dropout: f32) -> Outcome {
    let stop = AtomicBool::new(false);
    let mut trainer = Trainer::new(parts(place, config, dropout)).unwrap();
    trainer.run(&StopDuring(u64::MAX, &stop), &stop).unwrap()
}

fn metrics(place: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(RunDirectory::new(place).metrics()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Update and value of a metric for every validation in the log.
fn validations(place: &Path, metric: &str) -> Vec<(u64, f64)> {
    let value = |line: &Value| Some((line["update"].as_u64()?, line["valid"][metric].as_f64()?));
    metrics(place).iter().filter_map(value).collect()
}

/// A tiny model learns to copy in two hundred and forty updates: the training loss falls to a fraction. The model in
/// `best/` opens with its tokenizer and copies most of the validation text.
#[test]
fn a_toy_is_learned() {
    let place = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        learning_rate: 5e-3,
        ..train_config(240)
    };
    let outcome = run(place.path(), config, 0.0);
    assert_eq!((outcome.ending, outcome.update), (Ending::Finished, 240));
    let losses: Vec<f64> = metrics(place.path())
        .iter()
        .filter_map(|line| line["loss"].as_f64())
        .collect();
    assert_eq!(losses.len(), 240);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..5]), mean(&losses[235..]));
    assert!(first > 2.0 && last < 0.5 * first, "{first} {last}");

    let validations = validations(place.path(), "bleu");
    let updates: Vec<u64> = validations.iter().map(|validation| validation.0).collect();
    assert_eq!(updates, (1..=12).map(|i| 20 * i).collect::<Vec<_>>());
    let best = validations
        .iter()
        .fold((0, f64::MIN), |best, v| if v.1 > best.1 { *v } else { best });
    assert_eq!(outcome.best, Some(best));

    let directory = RunDirectory::new(place.path()).best();
    let opened = tallow_model::open(&directory, &Device::Cpu).unwrap();
    let tokenizers = Tokenizers::open(&directory).unwrap();
    let model = opened.for_inference().unwrap();
    let model = model.prepare(InferenceCompute::F32).unwrap();
    let config = DecodeConfig::default();
    let translator = Translator::builder(model.clone(), tokenizers.clone())
        .config(config.clone())
        .seed(0)
        .workers(2)
        .build()
        .unwrap();
    let source = lines(2, 20);
    let translations = translator.translate(&source, 0).unwrap();
    let copied = source
        .iter()
        .zip(&translations)
        .filter(|(line, t)| *line == t.text())
        .count();
    assert!(copied >= 10, "{copied} of 20");
}

/// Every event is reported in order: the start, each update, each validation and checkpoint.
#[test]
fn everything_is_observed() {
    struct Record(Mutex<Vec<String>>);
    impl Observer for Record {
        fn observe(&self, event: &Event) {
            let text = match event {
                Event::Started { update, workers, .. } => format!("started {update} {workers}"),
                Event::Updated { update, loss, .. } if loss.is_finite() => format!("updated {update}"),
                Event::Decides { update, by, .. } => format!("{by:?} decides {update}"),
                Event::Validated { update, .. } => format!("validated {update}"),
                Event::Saved { update, path } if path.is_dir() => format!("saved {update}"),
                Event::Averaged { checkpoints, .. } => format!("averaged {checkpoints}"),
                other => format!("unexpected {other:?}"),
            };
            self.0.lock().unwrap().push(text);
        }
    }
    let place = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        validate_every: 2,
        checkpoint_every: 3,
        average_last: 2,
        ..train_config(6)
    };
    let record = Record(Mutex::new(Vec::new()));
    let mut trainer = Trainer::new(parts(place.path(), config, 0.1)).unwrap();
    trainer.run(&record, &AtomicBool::new(false)).unwrap();
    let expected = [
        "started 0 2",
        "updated 1",
        "updated 2",
        // BLEU is too low to decide.
        "Loss decides 2",
        "validated 2",
        // The best so far, at an update without a regular checkpoint.
        "saved 2",
        "updated 3",
        "saved 3",
        "updated 4",
        "validated 4",
        "saved 4",
        "updated 5",
        "updated 6",
        "validated 6",
        "saved 6",
        "averaged 2",
        "saved 6",
    ];
    assert_eq!(*record.0.lock().unwrap(), expected);
}

/// An update that accumulates two batches adds up their gradients, and each batch has its own dropout masks. With a
/// corpus of one sentence, two batches have the same loss as one without dropout, and a different loss with dropout.
#[test]
fn accumulated_batches_have_masks_of_their_own() {
    for dropout in [0.0, 0.3] {
        let loss = |accumulate| {
            let place = tempfile::tempdir().unwrap();
            let config = TrainConfig {
                accumulate,
                ..train_config(1)
            };
            let mut parts = parts(place.path(), config, dropout);
            let sentence = toy::text(vec!["a b c d".into()]);
            parts.corpus = Arc::new(toy::corpus(sentence, &parts.tokenizers));
            let stop = AtomicBool::new(false);
            Trainer::new(parts).unwrap().run(&Silent, &stop).unwrap();
            let first = metrics(place.path()).remove(0);
            assert_eq!(first["target_tokens"].as_u64(), Some(5 * accumulate));
            first["loss"].as_f64().unwrap()
        };
        let (one, two) = (loss(1), loss(2));
        assert_eq!((one - two).abs() < 1e-6, dropout == 0.0, "{one} {two}");
    }
}

/// The last weights are validated even if the run ends between two validations, whether or not a checkpoint is due
/// then. They are also saved.
#[test]
fn the_last_update_is_validated() {
    for (checkpoint_every, last) in [(5, 10), (4, 10), (100, 10), (100, 12)] {
        let place = tempfile::tempdir().unwrap();
        let config = TrainConfig {
            validate_every: 4,
            checkpoint_every,
            ..train_config(last)
        };
        run(place.path(), config, 0.0);
        let updates: Vec<u64> = validations(place.path(), "loss")
            .iter()
            .map(|validation| validation.0)
            .collect();
        let expected = [4, 8].into_iter().chain([last]).collect::<Vec<_>>();
        assert_eq!(updates, expected, "a checkpoint every {checkpoint_every} updates");
        assert_eq!(
            RunDirectory::new(place.path()).saved_updates().unwrap().last(),
            Some(&last)
        );
    }
}

/// The checkpoints on disk are the most recent `keep_last` and the `keep_best` best, and each is a model that opens.
/// The loss is the metric: the smallest wins.
#[test]
fn checkpoints_are_kept_as_configured() {
    let place = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        // So high that the loss goes up and down.
        learning_rate: 0.1,
        schedule: Schedule::Constant,
        warmup_updates: 0,
        validate_every: 3,
        checkpoint_every: 3,
        metric: Measure::Loss,
        keep_best: 2,
        keep_last: 2,
        patience: 0,
        ..train_config(30)
    };
    run(place.path(), config, 0.0);
    let mut ranked = validations(place.path(), "loss");
    assert_eq!(ranked.len(), 10);
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
    let expected: BTreeSet<u64> = [27, 30].into_iter().chain(ranked[..2].iter().map(|v| v.0)).collect();
    assert!(expected.len() > 2, "the best are the last: the test shows nothing");
    let run = RunDirectory::new(place.path());
    let saved = run.saved_updates().unwrap();
    assert_eq!(saved.iter().copied().collect::<BTreeSet<_>>(), expected);
    for update in saved {
        assert!(tallow_model::open(&run.checkpoint(update), &Device::Cpu).is_ok());
        assert!(Tokenizers::open(&run.checkpoint(update)).is_ok());
    }
    let beside: Vec<_> = std::fs::read_dir(run.checkpoints()).unwrap().collect();
    assert_eq!(beside.len(), expected.len(), "something half-written was left behind");
    // The best checkpoint and best/ hold the same weights.
    let bytes = |path: &Path| std::fs::read(path.join("model.safetensors")).unwrap();
    assert_eq!(bytes(&run.checkpoint(ranked[0].0)), bytes(&run.best()));
}

/// A model that cannot learn, because its learning rate is tiny compared with its weights, stops after `patience`
/// validations without improvement.
#[test]
fn patience_ends_training() {
    let place = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        learning_rate: 1e-30,
        validate_every: 2,
        checkpoint_every: 4,
        metric: Measure::Loss,
        patience: 3,
        ..train_config(100)
    };
    let outcome = run(place.path(), config, 0.0);
    assert_eq!((outcome.ending, outcome.update), (Ending::Converged, 8));
    assert_eq!(outcome.best.unwrap().0, 2);
    assert!(RunDirectory::new(place.path()).checkpoint(8).is_dir());
}

/// `max_epochs` ends training with the last batch of the last epoch.
#[test]
fn epochs_end_training() {
    let place = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        max_epochs: 2,
        ..train_config(1000)
    };
    let outcome = run(place.path(), config, 0.0);
    assert_eq!(outcome.ending, Ending::Finished);
    let epochs: Vec<u64> = metrics(place.path())
        .iter()
        .filter_map(|line| line["epoch"].as_u64())
        .collect();
    assert_eq!(epochs.len() as u64, outcome.update);
    assert_eq!(epochs.iter().filter(|epoch| **epoch == 0).count() * 2, epochs.len());
    assert_eq!(epochs.iter().max(), Some(&1));
    let tokens: u64 = metrics(place.path())
        .iter()
        .filter_map(|line| line["target_tokens"].as_u64())
        .sum();
    let corpus = parts(place.path(), train_config(1), 0.0).corpus;
    assert_eq!(tokens, 2 * target_tokens(&*corpus));
}

/// While all translations are poor, the loss decides which model is best. This is reported once, even if the run is
/// resumed. BLEU decides once it has reached 5, and then the loss of a validation below 5 cannot win.
#[test]
fn a_low_bleu_does_not_decide() {
    let place = tempfile::tempdir().unwrap();
    let config = |max_updates| TrainConfig {
        learning_rate: 5e-3,
        validate_every: 5,
        patience: 0,
        ..train_config(max_updates)
    };
    let decides = |by: &str| -> Vec<u64> {
        let lines = metrics(place.path());
        let lines = lines.iter().filter(|line| line["decides"] == by);
        lines.filter_map(|line| line["update"].as_u64()).collect()
    };
    let first = run(place.path(), config(15), 0.0);
    let bleu = validations(place.path(), "bleu");
    assert!(
        bleu.len() == 3 && bleu.iter().all(|validation| validation.1 < 5.0),
        "{bleu:?}"
    );
    let of_loss = validations(place.path(), "loss").into_iter();
    let least = of_loss.fold((0, f64::MAX), |best, found| if found.1 < best.1 { found } else { best });
    assert_eq!((first.best, first.metric), (Some(least), Measure::Loss));
    assert_eq!((decides("loss"), decides("bleu")), (vec![5], vec![]));

    let resumed = Trainer::resume(parts(place.path(), config(240), 0.0), 15, |_| true);
    let last = resumed.unwrap().0.run(&Silent, &AtomicBool::new(false)).unwrap();
    let bleu = validations(place.path(), "bleu");
    let most = bleu
        .iter()
        .fold((0, f64::MIN), |best, v| if v.1 > best.1 { *v } else { best });
    assert_eq!((last.best, last.metric), (Some(most), Measure::default()));
    let reached = bleu.iter().find(|validation| validation.1 >= 5.0).unwrap().0;
    assert_eq!((decides("loss"), decides("bleu")), (vec![5], vec![reached]));
}

/// The target tokens of all pairs, each once.
fn target_tokens(pairs: &dyn PairSource) -> u64 {
    let all: Vec<usize> = (0..pairs.pair_count()).collect();
    let mut tokens = 0;
    pairs
        .read(&all, &mut |pair| tokens += pair.target.len() as u64)
        .unwrap();
    tokens
}

/// An update does not go beyond the last epoch, whatever it accumulates: the last update is short, or the only one.
/// Between epochs, an update does continue.
#[test]
fn updates_end_with_the_last_epoch() {
    let corpus = parts(tempfile::tempdir().unwrap().path(), train_config(1), 0.0).corpus;
    let of_an_epoch = target_tokens(&*corpus);
    let train = |max_epochs, accumulate| {
        let place = tempfile::tempdir().unwrap();
        let config = TrainConfig {
            max_epochs,
            accumulate,
            ..train_config(1000)
        };
        let outcome = run(place.path(), config, 0.1);
        assert_eq!(outcome.ending, Ending::Finished);
        let updates = metrics(place.path());
        let tokens = updates.iter().filter_map(|line| line["target_tokens"].as_u64());
        (outcome.update, tokens.collect::<Vec<u64>>())
    };
    let (batches, _) = train(1, 1);
    assert!(batches > 4);
    for (max_epochs, accumulate) in [(1, 1000), (1, 3), (2, batches - 1), (3, 4)] {
        let (updates, tokens) = train(max_epochs, accumulate);
        assert_eq!(updates, (max_epochs * batches).div_ceil(accumulate));
        assert_eq!(tokens.iter().sum::<u64>(), max_epochs * of_an_epoch, "{tokens:?}");
    }
}

/// A metric that validations do not measure by default is measured if it decides, or if the config lists it. Less TER
/// is better. The log can be read again, line by line.
#[test]
fn any_metric_decides() {
    let place = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        learning_rate: 5e-3,
        validate_every: 20,
        patience: 0,
        metric: Measure::Score(TER),
        ..train_config(160)
    };
    let outcome = run(place.path(), config, 0.0);
    let rates = validations(place.path(), "ter");
    let (first, least) = (
        rates[0].1,
        rates
            .iter()
            .fold((0, f64::MAX), |best, v| if v.1 < best.1 { *v } else { best }),
    );
    assert!(rates.len() == 8 && least.1 < 0.9 * first, "{rates:?}");
    assert_eq!((outcome.best, outcome.metric), (Some(least), Measure::Score(TER)));

    let path = RunDirectory::new(place.path()).metrics();
    let lines: Vec<MetricsLine> = read_log(&path).unwrap().map(Result::unwrap).collect();
    let written: String = lines
        .iter()
        .map(|line| serde_json::to_string(line).unwrap() + "\n")
        .collect();
    assert_eq!(written, std::fs::read_to_string(&path).unwrap());
    let keys = |line: &MetricsLine| match line {
        MetricsLine::Validation { valid, .. } => Some(valid.scores.iter().map(|(key, _)| key.clone()).collect()),
        _ => None,
    };
    let keys: Vec<Vec<String>> = lines.iter().filter_map(keys).collect();
    assert_eq!(keys, vec![["bleu", "chrf", "ter", "exact_match"]; 8]);
}

/// Without a validation set, `best/` holds the last weights.
#[test]
fn runs_without_validation() {
    let place = tempfile::tempdir().unwrap();
    let mut parts = parts(place.path(), train_config(5), 0.1);
    parts.valid = Vec::new();
    let outcome = Trainer::new(parts)
        .unwrap()
        .run(&Silent, &AtomicBool::new(false))
        .unwrap();
    assert_eq!(
        (outcome.ending, outcome.update, outcome.best),
        (Ending::Finished, 5, None)
    );
    let run = RunDirectory::new(place.path());
    let bytes = |path: &Path| std::fs::read(path.join("model.safetensors")).unwrap();
    assert_eq!(bytes(&run.best()), bytes(&run.checkpoint(5)));
}

/// At the end, the average of the last checkpoints is tried, and becomes the best model if it is better.
#[test]
fn the_average_of_the_last_is_tried() {
    let place = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        average_last: 3,
        metric: Measure::Loss,
        ..train_config(60)
    };
    let outcome = run(place.path(), config, 0.1);
    let run = RunDirectory::new(place.path());
    let text = std::fs::read_to_string(place.path().join("average.json")).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    let mut averaged: Vec<u64> = serde_json::from_value(record["averaged"].clone()).unwrap();
    averaged.sort_unstable();
    assert_eq!(averaged, [20, 40, 60]);
    let loss = record["valid"]["loss"].as_f64().unwrap();
    let alone = validations(place.path(), "loss")
        .into_iter()
        .map(|v| v.1)
        .fold(f64::MAX, f64::min);
    assert_eq!(record["is_best"].as_bool(), Some(loss < alone));
    assert_eq!(outcome.best.unwrap().1, loss.min(alone));
    let directories: Vec<_> = averaged.iter().map(|update| run.checkpoint(*update)).collect();
    let mean = average(&directories, &Device::Cpu).unwrap().params;
    let best = tallow_model::open(&run.best(), &Device::Cpu).unwrap().params;
    let values = |params: &tallow_model::Params| -> Vec<f32> {
        let parts = params.parts().unwrap().into_iter();
        parts
            .flat_map(|(_, x)| x.flatten_all().unwrap().to_vec1::<f32>().unwrap())
            .collect()
    };
    assert_eq!(values(&mean) == values(&best), loss < alone);
}
