//! Every proof holds for a correct subject, and fails for the fault that it must find.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::toy;
use candle_core::{Device, Tensor};
use std::time::Duration;
use tallow_data::{Batch, Example};
use tallow_train::proof::{
    ModelSubject, Proof, Subject, cached_decoding_is_exact, gradient_reaches_every_parameter,
    neighbours_change_nothing, no_position_looks_ahead, one_batch_is_learned, resume_is_exact, sample,
};
use tallow_train::{TrainError, TrainerParts, measure_speed};
use toy::{SEED, parts, train_config};

type Logits = Vec<Vec<Vec<f32>>>;

/// A fault of a subject.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Planted {
    /// No fault.
    Nothing,
    /// One tensor gets no gradient.
    DetachedLayer,
    /// One gradient is not a number.
    InfiniteGradient,
    /// A sentence sees a little of the others in the batch.
    LeakingBatch,
    /// A position sees a little of the one after it.
    LeakingMask,
    /// The decoder does not see the source.
    BlindToSource,
    /// The decoder does not see its own output so far.
    BlindToTarget,
    /// Once, hypotheses do not change places.
    StaleRows,
    /// When sentences leave, the state keeps the wrong ones.
    WrongSentences,
}

struct Faulty<'a>(ModelSubject<'a>, Planted);

impl Subject for Faulty<'_> {
    fn architecture(&self) -> &tallow_model::Architecture {
        self.0.architecture()
    }

    fn gradients(&self, batch: &Batch) -> Result<Vec<(String, Tensor)>, TrainError> {
        let mut gradients = self.0.gradients(batch)?;
        let of = "model.encoder.layers.0.self_attn.v_proj.weight";
        let gradient = &mut gradients.iter_mut().find(|(name, _)| name == of).unwrap().1;
        match self.1 {
            Planted::DetachedLayer => *gradient = gradient.zeros_like()?,
            Planted::InfiniteGradient => *gradient = (&*gradient * f64::NAN)?,
            _ => {}
        }
        Ok(gradients)
    }

    fn logits(&self, pairs: &[Example]) -> Result<Logits, TrainError> {
        let mut pairs = pairs.to_vec();
        match self.1 {
            Planted::BlindToSource => pairs.iter_mut().for_each(|pair| pair.source = vec![2, 0]),
            Planted::BlindToTarget => pairs.iter_mut().for_each(|pair| pair.target.fill(2)),
            _ => {}
        }
        let mut logits = self.0.logits(&pairs)?;
        match self.1 {
            Planted::LeakingBatch => {
                let last = logits.last().unwrap()[0].clone();
                let count = logits.len() as f32;
                logits[0][0]
                    .iter_mut()
                    .zip(&last)
                    .for_each(|(x, y)| *x += 0.01 * (count - 1.0) * y);
            }
            Planted::LeakingMask => {
                for sentence in &mut logits {
                    for position in 1..sentence.len() {
                        let ahead = sentence[position].clone();
                        sentence[position - 1]
                            .iter_mut()
                            .zip(&ahead)
                            .for_each(|(x, y)| *x += 0.01 * y);
                    }
                }
            }
            _ => {}
        }
        Ok(logits)
    }

    fn stepwise(&self, pairs: &[Example]) -> Result<Logits, TrainError> {
        let planted = self.1;
        let mut steps = 0;
        self.0.stepwise_with(pairs, &mut |state, staying, order| {
            steps += 1;
            let mut staying = staying.to_vec();
            if planted == Planted::WrongSentences && staying.len() < state.sentences() {
                staying.reverse();
            }
            state.keep(&staying)?;
            if planted == Planted::StaleRows && steps == 2 {
                return Ok(());
            }
            state.reorder(order)
        })
    }

    fn fit(&self, batch: &Batch, goal: f64, updates: u64, long: Duration) -> Result<Vec<f64>, TrainError> {
        let mut batch = batch.clone();
        if self.1 == Planted::BlindToSource {
            batch.examples.iter_mut().for_each(|pair| pair.source = vec![2, 0]);
        }
        self.0.fit(&batch, goal, updates, long)
    }
}

fn subject<'a>(parts: &'a TrainerParts, device: &'a Device) -> ModelSubject<'a> {
    ModelSubject {
        architecture: &parts.architecture,
        params: &parts.params,
        logits_bias: None,
        train: &parts.train,
        seed: SEED,
        workers: 2,
        device,
    }
}

type Prove = fn(&dyn Subject, &[Example]) -> Result<Proof, TrainError>;

#[test]
fn every_proof_notices_its_fault() {
    let place = tempfile::tempdir().unwrap();
    let parts = parts(place.path(), train_config(1), 0.1);
    let sample = sample(&*parts.corpus).unwrap();
    assert!(sample.len() == 8 && sample.iter().all(|pair| pair.target.len() >= 2));
    let proofs: [(Prove, &[(Planted, &str)]); 5] = [
        (
            gradient_reaches_every_parameter,
            &[
                (Planted::DetachedLayer, "self_attn.v_proj.weight"),
                (
                    Planted::InfiniteGradient,
                    "not finite in model.encoder.layers.0.self_attn.v_proj.weight",
                ),
            ],
        ),
        (neighbours_change_nothing, &[(Planted::LeakingBatch, "difference")]),
        (
            no_position_looks_ahead,
            &[
                (Planted::LeakingMask, "difference"),
                (Planted::BlindToSource, "the source changes nothing"),
                (Planted::BlindToTarget, "an earlier target token changes nothing"),
            ],
        ),
        (
            cached_decoding_is_exact,
            &[
                (Planted::StaleRows, "difference"),
                (Planted::WrongSentences, "difference"),
            ],
        ),
        (one_batch_is_learned, &[(Planted::BlindToSource, "not below")]),
    ];
    for (prove, faults) in proofs {
        let found = prove(&Faulty(subject(&parts, &Device::Cpu), Planted::Nothing), &sample).unwrap();
        assert!(found.outcome.is_ok(), "{found:?}");
        for (planted, expected) in faults {
            let found = prove(&Faulty(subject(&parts, &Device::Cpu), *planted), &sample).unwrap();
            let fault = found
                .outcome
                .expect_err(&format!("{planted:?} was not noticed by {}", found.name));
            assert!(fault.what.contains(expected), "{planted:?}: {}", fault.what);
        }
    }
}

/// A batch that can only be guessed, with two targets for the same source, is not learned by heart.
#[test]
fn what_cannot_be_learned_is_not() {
    let place = tempfile::tempdir().unwrap();
    let parts = parts(place.path(), train_config(1), 0.0);
    let mut sample = sample(&*parts.corpus).unwrap();
    sample.truncate(2);
    sample[1].source = sample[0].source.clone();
    let found = one_batch_is_learned(&subject(&parts, &Device::Cpu), &sample).unwrap();
    assert!(found.outcome.is_err(), "{found:?}");
}

#[test]
fn resuming_is_proven_and_its_faults_are_noticed() {
    let place = tempfile::tempdir().unwrap();
    let fresh = || Ok(parts(place.path(), train_config(40), 0.1));
    let found = resume_is_exact(&place.path().join("right"), fresh).unwrap();
    assert!(found.outcome.is_ok(), "{found:?}");
    // A run that resumes with other batches.
    let mut asked = 0;
    let forgetful = || {
        asked += 1;
        let mut parts = parts(place.path(), train_config(40), 0.1);
        if asked == 3 {
            parts.data.batch_tokens = 80;
        }
        Ok(parts)
    };
    let found = resume_is_exact(&place.path().join("wrong"), forgetful).unwrap();
    let fault = found.outcome.unwrap_err();
    assert!(fault.what.contains("checkpoints/6/model.safetensors"), "{}", fault.what);
    assert!(fault.what.contains("metrics.jsonl"), "{}", fault.what);
    // Steps of 1e38 make infinite weights. The divergence becomes a fault of the proof, without the advice for a run.
    let explosive = || {
        let mut train = train_config(40);
        (train.learning_rate, train.warmup_updates) = (1e38, 0);
        Ok(parts(place.path(), train, 0.1))
    };
    let found = resume_is_exact(&place.path().join("explosive"), explosive).unwrap();
    let fault = found.outcome.unwrap_err();
    assert!(fault.what.contains("diverges at update"), "{}", fault.what);
    assert!(!fault.what.contains("resume") && fault.advice.contains("train.learning_rate"));
}

#[test]
fn speed_is_measured() {
    let place = tempfile::tempdir().unwrap();
    let parts = parts(place.path(), train_config(1), 0.1);
    let before = parts.params.parts().unwrap();
    let speed = measure_speed(
        &subject(&parts, &Device::Cpu),
        &parts.corpus,
        &parts.data,
        Duration::from_millis(50),
    )
    .unwrap();
    assert!(speed.updates >= 1 && speed.target_tokens_per_second > 0.0, "{speed:?}");
    assert!(speed.updates_per_epoch > 1);
    // The proof used a copy: the weights are unchanged.
    for ((_, a), (_, b)) in before.iter().zip(&parts.params.parts().unwrap()) {
        assert_eq!(
            a.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            b.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        );
    }
}
