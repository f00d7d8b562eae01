//! What an observer is told of a beam search.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::specimen;
use specimen::{batch, model, sentence};
use std::sync::Mutex;
use tallow_decode::{BeamObserver, BeamStep, DecodeConfig, Fate, Search, SentenceRequest};

#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<BeamStep>>);

impl BeamObserver for Recorder {
    fn step(&self, step: BeamStep) {
        self.0.lock().unwrap().push(step);
    }
}

/// The steps tell the whole search: every translation that it found is an ending of the record, with its tokens, its
/// log-probability and its score; and the search itself is not changed.
#[test]
fn the_record_leads_to_the_translations() {
    let mut compared = [0, 0];
    for (groups, seed) in [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)] {
        let model = model(5, seed);
        let sources = [sentence(&model, 5, 6), sentence(&model, 6, 3)];
        let config = DecodeConfig {
            beam: 4,
            n_best: 4,
            groups,
            max_length: 8,
            length_penalty: 0.6,
            ..DecodeConfig::default()
        };
        let requests: Vec<SentenceRequest> = [7, 8].map(SentenceRequest::numbered).to_vec();
        let recorder = Recorder::default();
        let found = Search::new(&config)
            .observer(Some(&recorder))
            .run(&model, &batch(&sources), &requests)
            .unwrap();
        assert_eq!(
            found,
            Search::new(&config).run(&model, &batch(&sources), &requests).unwrap()
        );
        let steps = recorder.0.into_inner().unwrap();
        for (hypotheses, number) in found.iter().zip([7, 8]) {
            let mut endings = Vec::new();
            for group in 0..groups {
                let mut alive: Vec<Vec<u32>> = vec![Vec::new()];
                let of_group = steps
                    .iter()
                    .filter(|step| (step.sentence, step.group) == (number, group));
                for (before, step) in of_group.enumerate() {
                    assert_eq!(step.length, before + 1);
                    assert!(
                        groups > 1
                            || step
                                .candidates
                                .is_sorted_by(|a, b| a.log_probability >= b.log_probability)
                    );
                    let mut next = vec![Vec::new(); config.beam / groups];
                    for candidate in &step.candidates {
                        let tokens = [&alive[candidate.parent][..], &[candidate.token]].concat();
                        match candidate.fate {
                            Fate::Lives(place) => next[place] = tokens,
                            Fate::Ends(score) => endings.push((tokens, candidate.log_probability, score)),
                            Fate::Dies => {}
                        }
                    }
                    alive = next;
                }
            }
            for hypothesis in hypotheses.iter().filter(|hypothesis| hypothesis.finished) {
                let ending = endings
                    .iter()
                    .find(|(tokens, ..)| tokens[..tokens.len() - 1] == hypothesis.tokens);
                let (_, log_probability, score) = ending.expect("every translation ended in some step");
                assert_eq!(
                    (*log_probability, *score),
                    (hypothesis.log_probability, hypothesis.score)
                );
                compared[groups - 1] += 1;
            }
        }
    }
    assert!(compared.iter().all(|count| *count > 0), "{compared:?}");
}
