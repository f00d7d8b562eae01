//! Proofs that a model, its data and its training fit together, run on the actual model and data. They take seconds,
//! and find faults that would otherwise show as a bad score after hours, or never.
//!
//! A proof sees a [`Subject`] only through the numbers that it returns. So a test can plant a fault between the two and
//! check that the proof fails.

mod resume;
mod subject;

pub use resume::{different_files, resume_is_exact};
pub use subject::{ModelSubject, Rearrange, Subject};

use crate::TrainError;
use candle_core::{DType, Tensor};
use std::time::Duration;
use tallow_data::{Batch, Example, PairSource};

/// Number of sentences in a proof.
const SAMPLE: usize = 8;

/// Pairs that are looked at to choose a sample.
const MOST_LOOKED_AT: usize = 1 << 17;

/// Their usual length, if the corpus has such sentences.
const USUAL: std::ops::RangeInclusive<usize> = 4..=30;
/// Updates within which a few sentences must be learned by heart.
const MOST_UPDATES: u64 = 400;
/// Time within which they must be learned.
const LONGEST: Duration = Duration::from_secs(60);
/// They are learned when the loss in nats per token is below this. A model that cannot tell n sources apart must guess
/// among n targets and loses ln n nats per sentence, so half of that must also be gained.
const LEARNED: f64 = 0.1;
/// Differences of logits up to this, relative to the largest logit, are rounding. On the CPU, only a cache causes any.
const ROUNDING: f32 = 1e-4;

/// One proof and its outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// Its name.
    pub name: &'static str,
    /// If the proof holds, the finding; otherwise the fault.
    pub outcome: Result<String, Fault>,
}

/// A fault, and advice about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The fault.
    pub what: String,
    /// The advice.
    pub advice: &'static str,
}

/// Some pairs of a corpus, spread over it. They have usual lengths if possible, and no source or target occurs twice.
/// Of a large corpus, only the beginning is looked at.
///
/// # Errors
/// When pairs cannot be read.
pub fn sample(pairs: &dyn PairSource) -> Result<Vec<Example>, TrainError> {
    let all: Vec<usize> = (0..pairs.pair_count().min(MOST_LOOKED_AT)).collect();
    let mut lengths = Vec::with_capacity(all.len());
    pairs.read(&all, &mut |pair| lengths.push((pair.source.len(), pair.target.len())))?;
    let is_usual = |index: &usize| {
        let (source, target) = lengths[*index];
        USUAL.contains(&source) && USUAL.contains(&target)
    };
    let mut candidates: Vec<usize> = all.iter().copied().filter(is_usual).collect();
    if candidates.len() < SAMPLE {
        candidates = all;
        candidates.sort_by_key(|index| {
            let (source, target) = lengths[*index];
            source.max(target)
        });
        candidates.truncate(SAMPLE * SAMPLE);
    }
    let step = (candidates.len() / SAMPLE).max(1);
    // Takes every pair at the distance `step`. The pairs between serve where a sentence occurs twice.
    let order = (0..step).flat_map(|first| candidates.iter().skip(first).step_by(step));
    let mut chosen: Vec<Example> = Vec::new();
    for index in order {
        if chosen.len() == SAMPLE {
            break;
        }
        pairs.read(&[*index], &mut |pair| {
            let is_new = |other: &Example| other.source != pair.source && other.target != pair.target;
            if chosen.iter().all(is_new) {
                chosen.push(pairs.cuts().usual(pair));
            }
        })?;
    }
    Ok(chosen)
}

/// A gradient reaches every tensor of the model: none is missing, zero or not finite. The gradients of key biases are
/// zero by nature, because softmax ignores a constant that is added to all scores.
///
/// # Errors
/// When the model fails.
pub fn gradient_reaches_every_parameter(subject: &dyn Subject, sample: &[Example]) -> Result<Proof, TrainError> {
    let batch = Batch {
        examples: sample.to_vec(),
    };
    let gradients = subject.gradients(&batch)?;
    let (mut missing, mut infinite) = (Vec::new(), Vec::new());
    for (name, gradient) in &gradients {
        let largest = largest(gradient)?;
        if !largest.is_finite() {
            infinite.push(name.as_str());
        } else if largest == 0.0 && !name.ends_with("k_proj.bias") {
            missing.push(name.as_str());
        }
    }
    let outcome = if !infinite.is_empty() {
        Err(Fault {
            what: format!("the gradient is not finite in {}", listed(&infinite)),
            advice: "lower model dropout and look for extreme weights if the run begins with a model of `init`",
        })
    } else if !missing.is_empty() {
        Err(Fault {
            what: format!("no gradient reaches {}", listed(&missing)),
            advice: "these tensors would never be trained: an operation cuts the graph; please report it with this config",
        })
    } else {
        Ok(format!("all {} tensors have one", gradients.len()))
    };
    Ok(Proof {
        name: "a gradient reaches every parameter",
        outcome,
    })
}

/// The logits of a sentence do not depend on the other sentences in the batch.
///
/// # Errors
/// When the model fails.
pub fn neighbours_change_nothing(subject: &dyn Subject, sample: &[Example]) -> Result<Proof, TrainError> {
    let together = subject.logits(sample)?;
    let mut worst = Difference::default();
    for (pair, beside) in sample.iter().zip(&together) {
        let alone = subject.logits(std::slice::from_ref(pair))?;
        worst.add(&alone.concat(), beside);
    }
    Ok(Proof {
        name: "neighbours in a batch change no result",
        outcome: worst.outcome(
            format!(
                "the logits of {} sentences are the same alone and together",
                sample.len()
            ),
            "sentences leak into each other: a mask is wrong; please report it with this config",
        ),
    })
}

/// A position sees the source and the target tokens before it, but no target token after it.
///
/// # Errors
/// When the model fails.
pub fn no_position_looks_ahead(subject: &dyn Subject, sample: &[Example]) -> Result<Proof, TrainError> {
    let name = "no position looks ahead";
    let model = &subject.architecture().model;
    let before = subject.logits(sample)?;
    let mut changed: Vec<Example> = sample.to_vec();
    // The place of the changed token; a decoder reads it at the next position.
    let mut places = Vec::new();
    for (i, pair) in changed.iter_mut().enumerate() {
        let place = (pair.target.len() - 1) / 2;
        let others = sample[(i + 1) % sample.len()].target.iter().chain(&pair.source);
        let other = others.copied().find(|token| *token != pair.target[place]);
        // The last label is not an input.
        places.push((place + 1 < pair.target.len()).then_some(place).zip(other));
        if let Some((place, other)) = places[i] {
            pair.target[place] = other;
        }
    }
    let after = subject.logits(&changed)?;
    let (mut ahead, mut behind) = (Difference::default(), Difference::default());
    for ((old, new), place) in before.iter().zip(&after).zip(&places) {
        if let Some((place, _)) = place {
            ahead.add(&old[..=*place], &new[..=*place]);
            behind.add(&old[place + 1..], &new[place + 1..]);
        }
    }
    let mut foreign: Vec<Example> = sample.to_vec();
    for (i, pair) in foreign.iter_mut().enumerate() {
        pair.source.clone_from(&sample[(i + 1) % sample.len()].source);
    }
    let mut of_source = Difference::default();
    for (old, new) in before.iter().zip(&subject.logits(&foreign)?) {
        of_source.add(&old[..1], &new[..1]);
    }
    let advice = match model.residual {
        true => "please report it with this config",
        false => {
            "without model.residual, almost nothing may get through the layers; switch it on, or take fewer layers"
        }
    };
    let blind = |what: &str| {
        Err(Fault {
            what: format!("{what} changes nothing"),
            advice,
        })
    };
    let count = places.iter().flatten().count();
    let outcome = if count == 0 {
        Ok("not tried: no target has a token before its </s>".into())
    } else if behind.is_nothing() {
        blind("an earlier target token")
    } else if model.cross_attention && sample.len() > 1 && of_source.is_nothing() {
        blind("the source")
    } else if !model.causal_mask {
        Ok("not tried: without model.causal_mask, every position of a target sees all others".into())
    } else {
        let told =
            format!("{count} target tokens were changed: what stands before them is the same, what comes after is not");
        ahead.outcome(
            told,
            "a target sees its own future: the decoder's mask is wrong; please report it with this config",
        )
    };
    Ok(Proof { name, outcome })
}

/// Decoding token by token with a cache gives the same logits as whole targets, while hypotheses change places and
/// finished sentences leave.
///
/// # Errors
/// When the model fails.
pub fn cached_decoding_is_exact(subject: &dyn Subject, sample: &[Example]) -> Result<Proof, TrainError> {
    let name = "cached decoding equals uncached";
    if !subject.architecture().model.causal_mask {
        let told = "not tried: without model.causal_mask, whole targets see what steps do not know yet";
        return Ok(Proof {
            name,
            outcome: Ok(told.into()),
        });
    }
    let mut worst = Difference::default();
    for (whole, steps) in subject.logits(sample)?.iter().zip(&subject.stepwise(sample)?) {
        worst.add(whole, steps);
    }
    let positions: usize = sample.iter().map(|pair| pair.target.len()).sum();
    Ok(Proof {
        name,
        outcome: worst.outcome(
            format!("{positions} positions, hypotheses changing places"),
            "translations would not be those of the trained model; please report it with this config",
        ),
    })
}

/// A few sentences can be learned by heart: model, loss, gradient and optimizer work together.
///
/// # Errors
/// When the model fails.
pub fn one_batch_is_learned(subject: &dyn Subject, sample: &[Example]) -> Result<Proof, TrainError> {
    let name = "one batch can be overfitted";
    if !subject.architecture().model.cross_attention {
        let told = "not tried: without model.cross_attention, nothing tells the first tokens of the pairs apart";
        return Ok(Proof {
            name,
            outcome: Ok(told.into()),
        });
    }
    let batch = Batch {
        examples: sample.to_vec(),
    };
    let (pairs, tokens) = (sample.len() as f64, batch.target_tokens() as f64);
    let goal = match sample.len() {
        1 => LEARNED,
        _ => LEARNED.min(0.5 * pairs * pairs.ln() / tokens),
    };
    let losses = subject.fit(&batch, goal, MOST_UPDATES, LONGEST)?;
    let (first, last) = (
        losses.first().copied().unwrap_or(f64::NAN),
        losses.last().copied().unwrap_or(f64::NAN),
    );
    let told = format!(
        "{} pairs, {} target tokens, {} updates: the loss went from {first:.2} to {last:.2}",
        sample.len(),
        batch.target_tokens(),
        losses.len()
    );
    Ok(Proof {
        name,
        outcome: if last <= goal {
            Ok(told)
        } else if (losses.len() as u64) < MOST_UPDATES && last < 0.8 * first {
            Ok(format!(
                "{told}; {} seconds do not suffice for this model to get below {goal:.2}",
                LONGEST.as_secs()
            ))
        } else {
            Err(Fault {
                what: format!("{told}, not below {goal:.2}"),
                advice: "a model that cannot learn a few sentences by heart will not learn many: widen it, or look whether a \
                         layer, the embedding's scale or the normalisation was switched off",
            })
        },
    })
}

/// The greatest difference between logits.
#[derive(Default)]
struct Difference {
    largest: f32,
    scale: f32,
}

impl Difference {
    fn add(&mut self, a: &[Vec<f32>], b: &[Vec<f32>]) {
        if a.len() != b.len() {
            self.largest = f32::INFINITY;
        }
        for (x, y) in a.iter().flatten().zip(b.iter().flatten()) {
            let difference = (x - y).abs();
            // A value that is not a number differs from everything.
            self.largest = self
                .largest
                .max(if difference.is_nan() { f32::INFINITY } else { difference });
            self.scale = self.scale.max(x.abs());
        }
    }

    fn is_nothing(&self) -> bool {
        self.largest <= ROUNDING * self.scale.max(1.0)
    }

    fn outcome(&self, told: String, advice: &'static str) -> Result<String, Fault> {
        let amount = match self.largest {
            0.0 => "to the bit".to_string(),
            largest => format!("largest difference of logits {largest:.1e}"),
        };
        if self.is_nothing() {
            Ok(format!("{told} ({amount})"))
        } else {
            Err(Fault {
                what: format!("{amount}, of logits up to {:.1}", self.scale),
                advice,
            })
        }
    }
}

fn largest(tensor: &Tensor) -> Result<f32, TrainError> {
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.iter().fold(0.0, |largest: f32, value| {
        if value.is_nan() {
            f32::NAN
        } else {
            largest.max(value.abs())
        }
    }))
}

/// The first few names.
fn listed(names: &[&str]) -> String {
    const MOST: usize = 4;
    let more = names.len().saturating_sub(MOST);
    let shown = names[..names.len().min(MOST)].join(", ");
    if more > 0 {
        format!("{shown} and {more} more")
    } else {
        shown
    }
}
