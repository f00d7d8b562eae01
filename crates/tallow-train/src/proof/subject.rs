//! The subjects of proofs.

use crate::{DropoutKey, GradientOptions, Optimizer, OptimizerKind, Schedule, TrainConfig, TrainError, gradients};
use candle_core::{Device, Tensor};
use std::time::{Duration, Instant};
use tallow_data::{Batch, Example};
use tallow_model::{Architecture, InferenceCompute, ModelError, Params, Pass, PreparedState, Tokens, Transformer};

/// The numbers that proofs compare. Logits are indexed by sentence, position and piece.
pub trait Subject {
    /// The parts of the model, by which a proof knows what to expect.
    fn architecture(&self) -> &Architecture;

    /// The gradient of the training loss for every tensor of the model's file.
    ///
    /// # Errors
    /// When the model fails.
    fn gradients(&self, batch: &Batch) -> Result<Vec<(String, Tensor)>, TrainError>;

    /// The logits of whole targets (teacher forcing), all pairs in one batch.
    ///
    /// # Errors
    /// When the model fails.
    fn logits(&self, pairs: &[Example]) -> Result<Vec<Vec<Vec<f32>>>, TrainError>;

    /// The same logits, decoded token by token with a cache.
    ///
    /// # Errors
    /// When the model fails.
    fn stepwise(&self, pairs: &[Example]) -> Result<Vec<Vec<Vec<f32>>>, TrainError>;

    /// Trains a copy on one batch until its loss, in nats per token, is at most `goal`, or until the number of updates
    /// or the time is used up. Returns the loss before each update.
    ///
    /// # Errors
    /// When the model fails.
    fn fit(&self, batch: &Batch, goal: f64, updates: u64, long: Duration) -> Result<Vec<f64>, TrainError>;
}

/// Tells a decoder's state which sentences stay, and in which order their rows are.
pub type Rearrange<'a> = &'a mut dyn FnMut(&mut PreparedState, &[u32], &[u32]) -> Result<(), ModelError>;

/// A model at the beginning of a run.
#[derive(Debug)]
pub struct ModelSubject<'a> {
    /// The architecture.
    pub architecture: &'a Architecture,
    /// The weights; they are not changed.
    pub params: &'a Params,
    /// A constant added to the logits.
    pub logits_bias: Option<&'a Tensor>,
    /// The training configuration.
    pub train: &'a TrainConfig,
    /// The run's seed.
    pub seed: u64,
    /// Threads that share an update.
    pub workers: usize,
    /// The device of the tensors.
    pub device: &'a Device,
}

impl ModelSubject<'_> {
    fn for_inference(&self) -> Result<Transformer, TrainError> {
        let bias = self.logits_bias.cloned();
        Ok(Transformer::for_inference(self.architecture, self.params, bias)?)
    }

    /// A copy that may be trained.
    pub(crate) fn copy(&self) -> Result<(Params, Transformer), TrainError> {
        let params = self.params.copy()?;
        let model = Transformer::for_training(self.architecture, &params, self.logits_bias.cloned())?;
        Ok((params, model))
    }
}

impl ModelSubject<'_> {
    /// The logits of token-by-token decoding. Every sentence has two hypotheses, one with its own target and one with
    /// its neighbour's; they change places after every token. Sentences leave when their target ends. `rearrange` tells
    /// the state which sentences stay, and in which order their rows are.
    ///
    /// # Errors
    /// When the model fails.
    pub fn stepwise_with(&self, pairs: &[Example], rearrange: Rearrange) -> Result<Vec<Vec<Vec<f32>>>, TrainError> {
        let model = self.for_inference()?.prepare(InferenceCompute::F32)?;
        let sources: Vec<&[u32]> = pairs.iter().map(|pair| pair.source.as_slice()).collect();
        let mut state = model.start(&Tokens::new(&sources, self.device)?)?;
        let twice: Vec<u32> = (0..pairs.len() as u32).flat_map(|pair| [pair, pair]).collect();
        state.reorder(&twice)?;
        let mut found: Vec<Vec<Vec<f32>>> = vec![Vec::new(); pairs.len()];
        let mut alive: Vec<usize> = (0..pairs.len()).collect();
        for position in 0.. {
            // The row of the sentence's own target, of its two rows.
            let own = position % 2;
            let input = |pair: usize| match position {
                0 => self.architecture.target_pad_id(),
                _ => {
                    let target = &pairs[pair].target;
                    target[(position - 1) % target.len()]
                }
            };
            let mut tokens = Vec::with_capacity(2 * alive.len());
            for pair in &alive {
                let mut both = [input(*pair), input((pair + 1) % pairs.len())];
                both.rotate_right(own);
                tokens.extend(both);
            }
            let logits: Vec<Vec<f32>> = model.step(&tokens, &mut state)?.to_vec2()?;
            for (row, pair) in alive.iter().enumerate() {
                found[*pair].push(logits[2 * row + own].clone());
            }
            let staying: Vec<u32> = (0..alive.len() as u32)
                .filter(|row| found[alive[*row as usize]].len() < pairs[alive[*row as usize]].target.len())
                .collect();
            alive = staying.iter().map(|row| alive[*row as usize]).collect();
            if alive.is_empty() {
                break;
            }
            let swapped: Vec<u32> = (0..2 * staying.len() as u32).map(|row| row ^ 1).collect();
            rearrange(&mut state, &staying, &swapped)?;
        }
        Ok(found)
    }
}

impl Subject for ModelSubject<'_> {
    fn architecture(&self) -> &Architecture {
        self.architecture
    }

    fn gradients(&self, batch: &Batch) -> Result<Vec<(String, Tensor)>, TrainError> {
        let (params, model) = self.copy()?;
        let options = GradientOptions {
            r_drop: None,
            guided_alignment: (self.train.guided_alignment > 0.0).then_some(self.train.guided_alignment),
            label_smoothing: self.train.label_smoothing,
            dropout: Some(DropoutKey {
                seed: self.seed,
                update: 1,
                micro_batch: 0,
            }),
            compute: self.train.compute.into(),
            workers: self.workers,
        };
        let gradient = gradients(&model, &params, batch.clone(), options, self.device)?;
        let mut parts = Vec::new();
        for (parameter, gradient) in params.iter().zip(&gradient.tensors) {
            parts.extend(parameter.split(gradient)?);
        }
        Ok(parts)
    }

    fn logits(&self, pairs: &[Example]) -> Result<Vec<Vec<Vec<f32>>>, TrainError> {
        let model = self.for_inference()?;
        let batch = Batch {
            examples: pairs.to_vec(),
        };
        let flat = batch.flatten(self.architecture.target_pad_id());
        let source = Tokens::from_flat(&flat.source, &flat.source_lengths, self.device)?;
        let target = Tokens::from_flat(&flat.target_input, &flat.target_lengths, self.device)?;
        let encoded = model.encode(&source, Pass::default())?;
        let hidden = model.decode(&target, &encoded, Pass::default())?;
        let rows: Vec<Vec<f32>> = model.logits(&hidden)?.to_vec2()?;
        let mut rows = rows.into_iter();
        Ok(flat
            .target_lengths
            .iter()
            .map(|length| rows.by_ref().take(*length).collect())
            .collect())
    }

    fn stepwise(&self, pairs: &[Example]) -> Result<Vec<Vec<Vec<f32>>>, TrainError> {
        self.stepwise_with(pairs, &mut |state, staying, order| {
            state.keep(staying)?;
            state.reorder(order)
        })
    }
    fn fit(&self, batch: &Batch, goal: f64, updates: u64, long: Duration) -> Result<Vec<f64>, TrainError> {
        let begin = Instant::now();
        let (params, model) = self.copy()?;
        let mut optimizer = Optimizer::new(&params)?;
        // Settings for a handful of sentences, whatever the config says for millions; wide models need smaller steps.
        let config = TrainConfig {
            optimizer: OptimizerKind::Adam,
            learning_rate: 1e-3 * (256.0 / self.architecture.model.d_model as f64).sqrt().min(3.0),
            schedule: Schedule::Constant,
            warmup_updates: 30,
            ..TrainConfig::default()
        };
        let options = GradientOptions {
            r_drop: None,
            guided_alignment: None,
            label_smoothing: 0.0,
            dropout: None,
            compute: self.train.compute.into(),
            workers: self.workers,
        };
        let mut losses = Vec::new();
        for update in 1..=updates {
            let gradient = gradients(&model, &params, batch.clone(), options, self.device)?;
            let loss = gradient.loss / gradient.target_tokens as f64;
            losses.push(loss);
            let norm = gradient.norm(self.workers)?;
            if loss <= goal || begin.elapsed() > long || !loss.is_finite() || !norm.is_finite() {
                break;
            }
            let rate = config.learning_rate_at(update, self.architecture.model.d_model);
            optimizer.update(&params, &gradient, norm, (update, rate), &config, self.workers)?;
        }
        Ok(losses)
    }
}
