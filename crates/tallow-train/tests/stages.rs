//! Stages: a run is trained on one mixture of corpora after another, and resumes in the middle of each to the bit.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::toy;
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tallow_data::{CorpusFiles, Stage};
use tallow_train::{Ending, Event, Observer, RunDirectory, TrainConfig, Trainer, TrainerParts};
use tempfile::TempDir;
use toy::{StopDuring, corpus_of, lines, text, train_config};

fn config() -> TrainConfig {
    TrainConfig {
        accumulate: 2,
        keep_last: 1,
        ..train_config(30)
    }
}

fn stage(name: &str, weights: &[(&str, f64)], updates: Option<u64>, epochs: Option<u64>) -> Stage {
    Stage {
        name: Some(name.into()),
        weights: weights.iter().map(|(name, weight)| ((*name).into(), *weight)).collect(),
        updates,
        epochs,
    }
}

/// Two corpora of 120 and 80 pairs in three stages: the first alone for two epochs, both for seven updates, the second.
fn parts(place: &Path) -> TrainerParts {
    let mut parts = toy::parts(place, config(), 0.3);
    let texts = [text(lines(1, 120)), text(lines(5, 80))];
    parts.corpus = Arc::new(corpus_of(&texts, &parts.tokenizers));
    let named = |name: &str| CorpusFiles {
        name: Some(name.into()),
        ..CorpusFiles::tsv(name)
    };
    parts.data.train = vec![named("a"), named("b")];
    parts.data.stage = vec![
        stage("only a", &[("a", 1.0)], None, Some(2)),
        stage("both", &[("a", 0.5), ("b", 2.0)], Some(7), None),
        stage("only b", &[("b", 1.0)], None, None),
    ];
    parts
}

/// What a run tells: the tokens and epoch of each update, and the stages with the updates before them.
#[derive(Default)]
struct Course {
    updates: RefCell<Vec<(usize, u64)>>,
    stages: RefCell<Vec<(u64, String)>>,
}

impl Observer for Course {
    fn observe(&self, event: &Event) {
        match event {
            Event::Updated {
                target_tokens, epoch, ..
            } => self.updates.borrow_mut().push((*target_tokens, *epoch)),
            Event::Stage { update, name, .. } => self.stages.borrow_mut().push((*update, name.clone())),
            _ => {}
        }
    }
}

#[test]
fn each_stage_takes_its_own_corpora_until_its_end() {
    let place = TempDir::new().unwrap();
    let course = Course::default();
    let mut parts = parts(place.path());
    // So that no update takes a batch from two epochs.
    parts.train.accumulate = 1;
    let mut trainer = Trainer::new(parts).unwrap();
    trainer.run(&course, &AtomicBool::new(false)).unwrap();
    let (updates, stages) = (course.updates.into_inner(), course.stages.into_inner());
    let names: Vec<&str> = stages.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["only a", "both", "only b"]);
    let begins: Vec<usize> = stages.iter().map(|(update, _)| *update as usize).collect();
    assert_eq!((begins[0], begins[2] - begins[1]), (0, 7));
    // Two whole epochs of the first corpus: every word and `</s>` twice.
    let tokens_of = |lines: Vec<String>| -> usize { lines.iter().map(|line| line.split(' ').count() + 1).sum() };
    let of_first: usize = updates[..begins[1]].iter().map(|(tokens, _)| tokens).sum();
    assert_eq!(of_first, 2 * tokens_of(lines(1, 120)));
    // Every stage begins with an epoch of its own.
    let epochs = |from: usize| updates[from].1;
    assert_eq!((epochs(0), epochs(begins[1] - 1), epochs(begins[1])), (0, 1, 2));
    assert_eq!(epochs(begins[2]), epochs(begins[2] - 1) + 1);
    let last_epoch: Vec<_> = updates[begins[2]..]
        .iter()
        .filter(|(_, epoch)| *epoch == epochs(begins[2]))
        .collect();
    assert_eq!(
        last_epoch.iter().map(|(tokens, _)| tokens).sum::<usize>(),
        tokens_of(lines(5, 80))
    );
}

#[test]
fn a_run_of_stages_resumes_to_the_bit() {
    let whole = TempDir::new().unwrap();
    let course = Course::default();
    Trainer::new(parts(whole.path()))
        .unwrap()
        .run(&course, &AtomicBool::new(false))
        .unwrap();
    let begins: Vec<u64> = course
        .stages
        .into_inner()
        .into_iter()
        .map(|(update, _)| update)
        .collect();
    let result = |place: &Path| {
        let run = RunDirectory::new(place);
        let file = |name: &str| std::fs::read(run.checkpoint(30).join(name)).unwrap();
        let metrics = std::fs::read_to_string(run.metrics()).unwrap();
        (metrics, file("model.safetensors"), file("state/state.json"))
    };
    let expected = result(whole.path());
    // In each stage, and at the update that ends one.
    for stop in [2, begins[1], begins[1] + 3, begins[2], begins[2] + 2] {
        let place = TempDir::new().unwrap();
        let flag = AtomicBool::new(false);
        let ending = Trainer::new(parts(place.path()))
            .unwrap()
            .run(&StopDuring(stop, &flag), &flag)
            .unwrap()
            .ending;
        assert_eq!(ending, Ending::Interrupted);
        let (mut trainer, _) = Trainer::resume(parts(place.path()), stop, |_| false).unwrap();
        trainer.run(&tallow_train::Silent, &AtomicBool::new(false)).unwrap();
        let (metrics, weights, state) = result(place.path());
        assert_eq!(metrics, expected.0, "stopped during {stop}");
        assert!(weights == expected.1 && state == expected.2, "stopped during {stop}");
    }
}
