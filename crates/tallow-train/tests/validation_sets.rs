//! Several validation sets, and a program of the user's own that scores their translations.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(unix)]

use crate::toy;
use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tallow_train::{
    Event, Measure, MetricsLine, Observer, Outcome, RunDirectory, TrainConfig, Trainer, TrainerParts, ValidationLine,
    ValidationSet, read_log,
};
use tempfile::TempDir;
use toy::{corpus, lines, text, train_config};

/// A run with two sets: lines to copy, and lines that are translated into the line before them, which nobody learns.
fn parts(place: &Path, train: TrainConfig) -> TrainerParts {
    let mut parts = toy::parts(place, train, 0.1);
    let source = lines(7, 20);
    let mut target = source.clone();
    target.rotate_right(1);
    let both = tallow_data::ParallelText {
        target: target.clone(),
        ..text(source.clone())
    };
    let first = &mut parts.valid[0];
    first.name = Some("easy".into());
    let hard = ValidationSet {
        name: Some("hard".into()),
        corpus: corpus(both, &parts.tokenizers),
        source,
        target,
        batch_tokens: first.batch_tokens,
        metrics: first.metrics.clone(),
        score: first.score.clone(),
    };
    parts.valid.push(hard);
    parts
}

#[derive(Default)]
struct Faults(RefCell<Vec<String>>);

impl Observer for Faults {
    fn observe(&self, event: &Event) {
        if let Event::CommandFailed { reason, .. } = event {
            self.0.borrow_mut().push(reason.clone());
        }
    }
}

fn train(parts: TrainerParts) -> (Outcome, Vec<ValidationLine>, Vec<String>) {
    let (run, faults) = (parts.run.clone(), Faults::default());
    let mut trainer = Trainer::new(parts).unwrap();
    let outcome = trainer.run(&faults, &AtomicBool::new(false)).unwrap();
    let lines = read_log(&run.metrics()).unwrap().map(Result::unwrap);
    let valid = lines.filter_map(|line| match line {
        MetricsLine::Validation { valid, .. } => Some(valid),
        _ => None,
    });
    (outcome, valid.collect(), faults.0.into_inner())
}

#[test]
fn the_mean_or_one_of_the_sets_decides() {
    for (choice, expected) in [("mean", [0.5, 0.5]), ("easy", [1.0, 0.0]), ("hard", [0.0, 1.0])] {
        let place = TempDir::new().unwrap();
        let config = TrainConfig {
            metric: Measure::Loss,
            valid_set: choice.into(),
            ..train_config(60)
        };
        let (outcome, lines, _) = train(parts(place.path(), config));
        assert_eq!(lines.len(), 3);
        for line in &lines {
            let (easy, hard) = (&line.sets["easy"], &line.sets["hard"]);
            assert!(easy.loss != hard.loss);
            let loss = expected[0] * easy.loss + expected[1] * hard.loss;
            assert!((line.loss - loss).abs() < 1e-12, "{choice}");
            let chrf = expected[0] * easy.score("chrf").unwrap() + expected[1] * hard.score("chrf").unwrap();
            assert!((line.score("chrf").unwrap() - chrf).abs() < 1e-9, "{choice}");
            assert!((line.perplexity - line.loss.exp()).abs() < 1e-9);
        }
        let best = lines.iter().map(|line| line.loss).fold(f64::INFINITY, f64::min);
        assert_eq!(outcome.best.unwrap().1, best, "{choice}");
        let card =
            std::fs::read_to_string(RunDirectory::new(place.path()).best().join("README.md")).unwrap_or_default();
        assert!(card.is_empty() || card.contains("easy: "), "{card}");
    }
}

fn command(script: &str) -> Vec<String> {
    ["sh", "-c", script, "sh"].map(String::from).into()
}

#[test]
fn a_program_chooses_the_best_model() {
    let place = TempDir::new().unwrap();
    let mark = place.path().join("count");
    std::fs::create_dir(place.path().join("run")).unwrap();
    // More at every call but the last two, which are those of the third validation.
    let script = format!(
        "echo x >> '{0}'; n=$(wc -l < '{0}'); test $n -le 4 && echo $n || echo -1",
        mark.display()
    );
    let config = TrainConfig {
        metric: Measure::Command,
        valid_command: command(&script),
        ..train_config(60)
    };
    let (outcome, lines, faults) = train(parts(&place.path().join("run"), config));
    assert_eq!(faults, Vec::<String>::new());
    let told: Vec<f64> = lines.iter().map(|line| line.score("command").unwrap()).collect();
    assert_eq!(told, [1.5, 3.5, -1.0]);
    assert_eq!((outcome.best, outcome.metric), (Some((40, 3.5)), Measure::Command));
    let folder = RunDirectory::new(place.path().join("run")).validation();
    let translations = std::fs::read_to_string(folder.join("hard.translations.txt")).unwrap();
    assert_eq!(translations.lines().count(), 20);
}

#[test]
fn a_program_that_fails_or_hangs_does_not_end_the_run() {
    for (script, seconds, expected) in [
        ("exit 3", 60, "exit status: 3"),
        ("sleep 100", 1, "killed after 1 seconds"),
    ] {
        let place = TempDir::new().unwrap();
        let config = TrainConfig {
            metric: Measure::Command,
            valid_command: command(script),
            valid_command_seconds: seconds,
            patience: 1,
            ..train_config(60)
        };
        let (outcome, lines, faults) = train(parts(place.path(), config));
        assert_eq!((outcome.update, outcome.best), (60, None));
        assert!(lines.iter().all(|line| line.score("command").is_none()));
        assert_eq!(faults.len(), 6);
        assert!(
            faults[0].starts_with("easy: ") && faults[0].contains(expected),
            "{}",
            faults[0]
        );
        assert!(RunDirectory::new(place.path()).best().exists());
    }
}
