//! The gradient of one batch, computed by several workers.

use crate::TrainError;
use crate::flat::Flat;
use crate::parallel::share;
use candle_core::{Device, Shape, Tensor};
use std::ops::Range;
use std::sync::mpsc::Sender;
use tallow_comm::tree_fold;
use tallow_data::{Batch, Example, FlatBatch, in_order};
use tallow_model::{GuidedAlignment, LossOptions, Parameter, Params, Pass, Tokens, Transformer};
use tallow_ops::profile::{Operation, span};
use tallow_ops::{Compute, DropoutStream, Gathered, OnComplete, gather_gradients, gather_gradients_early};

/// Sums over target tokens: the loss and its gradient for every parameter.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// The sum of the losses, in nats.
    pub loss: f64,
    /// Number of target tokens in the sums.
    pub target_tokens: usize,
    /// The loss of guided alignment, without its weight and for one pass of each sentence, in nats.
    pub alignment_loss: f64,
    /// Number of target tokens that have links to source tokens.
    pub linked_tokens: usize,
    /// The gradients, in the order of the parameters.
    pub tensors: Vec<Tensor>,
}

impl Gradients {
    /// Adds the sums of another batch.
    ///
    /// # Errors
    /// When the parameters differ.
    pub fn add(&mut self, other: &Gradients) -> Result<(), TrainError> {
        self.loss += other.loss;
        self.target_tokens += other.target_tokens;
        self.alignment_loss += other.alignment_loss;
        self.linked_tokens += other.linked_tokens;
        for (sum, tensor) in self.tensors.iter_mut().zip(&other.tensors) {
            *sum = (&*sum + tensor)?;
        }
        Ok(())
    }

    /// The norm of all gradients together, per target token. The number of workers does not change it.
    ///
    /// # Errors
    /// Errors of the tensor operations.
    pub fn norm(&self, workers: usize) -> Result<f64, TrainError> {
        let Some(device) = self.tensors.first().map(Tensor::device) else {
            return Ok(0.0);
        };
        let flat = Flat::new(self.tensors.iter().map(Tensor::elem_count), device);
        let mut cuts = Vec::new();
        for cut in flat.cuts(0..flat.len()) {
            cuts.push(cut.of(&self.tensors[cut.parameter])?);
        }
        Ok(sums_of_squares(&cuts, workers)?.iter().sum::<f64>().sqrt() / self.target_tokens as f64)
    }
}

/// The sum of the squares of each tensor.
pub(crate) fn sums_of_squares(tensors: &[Tensor], workers: usize) -> Result<Vec<f64>, TrainError> {
    let mut sums = vec![0f64; tensors.len()];
    share(
        tensors.iter().zip(&mut sums).collect(),
        workers,
        |(tensor, _)| tensor.elem_count(),
        |(tensor, sum)| {
            let _span = span(Operation::GradientSum);
            *sum = tallow_ops::sum_of_squares_no_grad(tensor)?;
            Ok(())
        },
    )?;
    Ok(sums)
}

/// The key of a batch's dropout masks.
#[derive(Clone, Copy, Debug)]
pub struct DropoutKey {
    /// The run's seed.
    pub seed: u64,
    /// The update, from 1.
    pub update: u64,
    /// The number of the batch within the update, from 0.
    pub micro_batch: u64,
}

/// The options for computing a gradient.
#[derive(Clone, Copy, Debug)]
pub struct GradientOptions {
    /// Probability that the target distribution spreads over all pieces.
    pub label_smoothing: f64,
    /// The weight of R-Drop (Liang et al. 2021): every sentence passes twice under different dropout, and both passes
    /// should agree. `None`: each sentence passes once.
    pub r_drop: Option<f64>,
    /// The weight of guided alignment, for batches whose pairs have links; `None`: links have no effect.
    pub guided_alignment: Option<f64>,
    /// The key of the dropout masks; `None`: no dropout.
    pub dropout: Option<DropoutKey>,
    /// The arithmetic for products of matrices.
    pub compute: Compute,
    /// Threads that share the batch.
    pub workers: usize,
}

/// Separates the dropout masks of a sentence's second pass from those of its first: a bit that neither rows nor
/// micro-batches reach.
const SECOND_PASS: u64 = 1 << 31;

/// The gradient of a batch. Its sentences are divided among `workers` threads, whose sums are added in a fixed order.
/// The same number of workers gives the same bits; another number gives the same result up to rounding.
///
/// # Errors
/// When the model fails.
pub fn gradients(
    model: &Transformer,
    params: &Params,
    batch: Batch,
    options: GradientOptions,
    device: &Device,
) -> Result<Gradients, TrainError> {
    let workers = options.workers;
    let slots = of_workers(model, params, batch, options, (0..workers, workers), None, device)?;
    if slots.is_empty() {
        return Err(TrainError::Data(tallow_data::DataError::NoCorpus));
    }
    sum_of_workers(params, slots, workers)?.ok_or(TrainError::Worker)
}

/// The gradient of a parameter, on its way from the worker that has computed it.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// The number of the worker among those of this rank.
    pub(crate) worker: usize,
    /// The number of the parameter.
    pub(crate) parameter: usize,
    pub(crate) gradient: Tensor,
}

/// The gradients of some workers, whose numbers among `all` workers are given. Workers beyond the number of sentences
/// have none. With `on_the_way`, each gradient goes there as soon as it is complete, and those of the result have no
/// tensors.
pub(crate) fn of_workers(
    model: &Transformer,
    params: &Params,
    mut batch: Batch,
    options: GradientOptions,
    (numbers, all): (Range<usize>, usize),
    on_the_way: Option<&Sender<Arrived>>,
    device: &Device,
) -> Result<Vec<Gradients>, TrainError> {
    let architecture = model.architecture();
    if let Some(key) = options.dropout {
        // Within an update, every sentence has its own number, even if it occurs twice.
        for (row, example) in batch.examples.iter_mut().enumerate() {
            example.id = (key.micro_batch << 32) | row as u64;
        }
    }
    let work = |(worker, shard): &(usize, &Batch)| -> Result<Gradients, TrainError> {
        let of_batching = span(Operation::Batching);
        let flat = match options.r_drop {
            Some(_) => twice(shard).flatten(architecture.target_pad_id()),
            None => shard.flatten(architecture.target_pad_id()),
        };
        drop(of_batching);
        let _span = span(Operation::Graph);
        shard_gradients(
            model,
            params,
            &flat,
            options,
            on_the_way.map(|to| (*worker, to)),
            device,
        )
    };
    let (of_source, of_target) = architecture.multiplications();
    let cost = |pair: &Example| pair.source.len() * of_source + pair.target.len() * of_target;
    let shards = batch.shards(all, cost);
    let own = &shards[numbers.start.min(shards.len())..numbers.end.min(shards.len())];
    let own: Vec<(usize, &Batch)> = own.iter().enumerate().collect();
    in_order(own.len(), &own, work)
}

/// How many of the workers with these numbers, among `all`, get sentences of a batch.
pub(crate) fn workers_used(batch: &Batch, numbers: &Range<usize>) -> usize {
    batch.examples.len().clamp(numbers.start, numbers.end) - numbers.start
}

/// The sum over workers, without frozen rows, in the order of [`tree_fold`]; `None` if there are none. The parameters
/// are divided among threads, whose number does not matter.
pub(crate) fn sum_of_workers(
    params: &Params,
    slots: Vec<Gradients>,
    threads: usize,
) -> Result<Option<Gradients>, TrainError> {
    let mut of_parameters: Vec<Vec<Option<Tensor>>> = params.iter().map(|_| Vec::new()).collect();
    let mut losses = Vec::with_capacity(slots.len());
    for mut slot in slots {
        let tensors = std::mem::take(&mut slot.tensors);
        for (of_parameter, tensor) in of_parameters.iter_mut().zip(tensors) {
            of_parameter.push(Some(tensor));
        }
        losses.push(Some(slot));
    }
    let Some(mut sum) = tree_fold(losses, Gradients::add)? else {
        return Ok(None);
    };
    let mut sums: Vec<Option<Tensor>> = vec![None; of_parameters.len()];
    share(
        params.iter().zip(of_parameters).zip(&mut sums).collect(),
        threads,
        |((parameter, _), _)| parameter.var.elem_count(),
        |((parameter, tensors), sum)| {
            *sum = sum_of_parameter(parameter, tensors)?;
            Ok(())
        },
    )?;
    sum.tensors = sums.into_iter().flatten().collect();
    Ok(Some(sum))
}

/// The sum of the gradients of a parameter over workers, without its frozen row, in the order of [`tree_fold`].
pub(crate) fn sum_of_parameter(
    parameter: &Parameter,
    tensors: Vec<Option<Tensor>>,
) -> Result<Option<Tensor>, TrainError> {
    let _span = span(Operation::GradientSum);
    let sum = tree_fold(tensors, |sum, other| {
        *sum = (&*sum + other)?;
        Ok::<_, TrainError>(())
    })?;
    match (parameter.frozen_row, sum) {
        (Some(row), Some(sum)) => Ok(Some(without_row(&sum, row)?)),
        (_, sum) => Ok(sum),
    }
}

/// Adds the gradients of a batch to those of earlier ones, worker by worker.
pub(crate) fn add_batch(sums: &mut Vec<Gradients>, of_batch: Vec<Gradients>) -> Result<(), TrainError> {
    for (worker, gradient) in of_batch.into_iter().enumerate() {
        match sums.get_mut(worker) {
            Some(sum) => sum.add(&gradient)?,
            None => sums.push(gradient),
        }
    }
    Ok(())
}

fn shard_gradients(
    model: &Transformer,
    params: &Params,
    flat: &FlatBatch,
    options: GradientOptions,
    on_the_way: Option<(usize, &Sender<Arrived>)>,
    device: &Device,
) -> Result<Gradients, TrainError> {
    let source = Tokens::from_flat(&flat.source, &flat.source_lengths, device)?;
    let target = Tokens::from_flat(&flat.target_input, &flat.target_lengths, device)?;
    let stream = options
        .dropout
        .map(|key| DropoutStream::new(key.seed, key.update, flat.ids.clone()));
    let settings = Pass {
        dropout: stream.as_ref(),
        record: None,
        compute: options.compute,
    };
    // With two passes, the loss of a sentence is the mean of theirs.
    let passes = if options.r_drop.is_some() { 2 } else { 1 };
    let vars: Vec<&Tensor> = params.iter().map(|parameter| parameter.var.as_tensor()).collect();
    let pass = || -> Result<_, TrainError> {
        let options = LossOptions {
            smoothing: options.label_smoothing,
            r_drop: options.r_drop,
            guided_alignment: options
                .guided_alignment
                .filter(|_| !flat.links.is_empty())
                .map(|weight| GuidedAlignment {
                    weight: weight / passes as f64,
                    links: &flat.links,
                }),
        };
        let loss = model.loss(&source, &target, &flat.labels, options, settings)?;
        let store = loss.total.backward()?;
        Ok((loss, store))
    };
    let (passed, gathered) = match on_the_way {
        // The loss that guides a head uses the parameters of a sublayer once more.
        Some((worker, to)) if options.guided_alignment.is_none() || flat.links.is_empty() => {
            gather_gradients_early(&vars, send_on_its_way(&vars, worker, to), pass)?
        }
        _ => {
            let (passed, gathered) = gather_gradients(&vars, pass)?;
            let of = |sum: Option<Tensor>| sum.map_or(Gathered::Nothing, Gathered::Sum);
            (passed, gathered.into_iter().map(of).collect())
        }
    };
    let (loss, mut store) = passed?;
    let mut tensors = Vec::new();
    for (parameter, (var, gathered)) in vars.into_iter().zip(gathered).enumerate() {
        let gradient = match (gathered, store.remove(var)) {
            (Gathered::Completed, None) => continue,
            // It would be missing from the sum.
            (Gathered::Completed, Some(_)) => return Err(TrainError::Worker),
            (Gathered::Sum(gathered), Some(other)) => (gathered + other)?,
            (Gathered::Sum(gradient), None) | (Gathered::Nothing, Some(gradient)) => gradient,
            (Gathered::Nothing, None) => var.zeros_like()?,
        };
        match on_the_way {
            None => tensors.push(gradient),
            Some((worker, to)) => {
                let arrived = Arrived {
                    worker,
                    parameter,
                    gradient,
                };
                to.send(arrived).map_err(|_| TrainError::Worker)?;
            }
        }
    }
    let number = |loss: &Tensor| -> Result<f64, TrainError> {
        Ok(f64::from(loss.to_dtype(candle_core::DType::F32)?.to_scalar::<f32>()?))
    };
    Ok(Gradients {
        loss: number(&loss.total)?,
        target_tokens: flat.labels.len() / passes,
        alignment_loss: match &loss.alignment {
            Some(alignment) => number(alignment)? / passes as f64,
            None => 0.0,
        },
        linked_tokens: flat.links.chunk_by(|a, b| a.0 == b.0).count() / passes,
        tensors,
    })
}

/// Sends the complete gradients of a worker's pass on their way.
fn send_on_its_way(vars: &[&Tensor], worker: usize, to: &Sender<Arrived>) -> OnComplete {
    let shapes: Vec<Shape> = vars.iter().map(|var| var.shape().clone()).collect();
    let to = to.clone();
    Box::new(move |parameter, values| {
        // A gradient without its parameter's size, or without a receiver, does not arrive, which ends the update.
        if let Ok(gradient) = Tensor::from_vec(values, &shapes[parameter], &Device::Cpu) {
            let _ = to.send(Arrived {
                worker,
                parameter,
                gradient,
            });
        }
    })
}

/// The sentences, followed by all of them once more with other dropout masks.
fn twice(batch: &Batch) -> Batch {
    let again = batch.examples.iter().map(|example| Example {
        id: example.id | SECOND_PASS,
        ..example.clone()
    });
    Batch {
        examples: batch.examples.iter().cloned().chain(again).collect(),
    }
}

/// The gradient with one row set to zero, for a row that is not trained.
fn without_row(gradient: &Tensor, row: usize) -> Result<Tensor, TrainError> {
    let gradient = gradient.contiguous()?;
    let zeros = gradient.narrow(0, row, 1)?.zeros_like()?;
    gradient.slice_set(&zeros, 0, row)?;
    Ok(gradient)
}
