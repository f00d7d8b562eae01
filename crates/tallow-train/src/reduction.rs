//! From the gradients of all workers of all ranks to one update, the same on every rank.
//!
//! Every rank computes the gradients of its share of the sentences. For each bucket of the line of all parameters
//! ([`Flat`]), a rank gets the sum of its share of the numbers. With `shard`, it keeps the moments of its share only,
//! updates its share of the parameters, and sends these to the others (Rajbhandari et al. 2020, "ZeRO", stage 1);
//! otherwise the ranks send each other their sums, and each updates everything. A bucket is on its way as soon as the
//! backward pass of the last batch has completed its gradients, while the pass goes on. All sums follow the tree of
//! [`tallow_comm::tree_fold`] over the workers of all ranks, so they do not depend on which rank a worker belongs to.

use crate::flat::{Flat, Piece};
use crate::gradient::{
    Arrived, DropoutKey, add_batch, of_workers, sum_of_parameter, sum_of_workers, sums_of_squares, workers_used,
};
use crate::{GradientOptions, Gradients, TrainConfig, TrainError};
use candle_core::{Device, Tensor};
use std::ops::Range;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use tallow_comm::{Group, Pending, Wire, tree_fold};
use tallow_data::Batch;
use tallow_model::{Params, Transformer};

/// The way in which the ranks of a group share updates.
#[derive(Clone, Debug)]
pub(crate) struct Reduction {
    pub(crate) group: Group,
    flat: Flat,
    /// Whether a rank has the moments of its share only.
    shard: bool,
    /// Whether buckets are on their way before the backward pass has ended.
    overlap: bool,
    wire: Wire,
    /// Threads of this rank.
    workers: usize,
    device: Device,
}

/// The sums of an update, over all ranks.
#[derive(Clone, Debug)]
pub(crate) struct Reduced {
    /// As in [`Gradients`].
    pub(crate) loss: f64,
    pub(crate) target_tokens: usize,
    pub(crate) alignment_loss: f64,
    pub(crate) linked_tokens: usize,
    /// The norm of all gradients together, per target token.
    pub(crate) norm: f64,
    /// Whether any rank was asked to stop.
    pub(crate) stop: bool,
    /// The gradients of the pieces of [`Reduction::own_pieces`], each `[elements]`.
    pub(crate) gradients: Vec<Tensor>,
}

/// The sums of the losses, as bytes for the other ranks.
#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    loss: f64,
    target_tokens: u64,
    alignment_loss: f64,
    linked_tokens: u64,
}

impl Losses {
    const BYTES: usize = 32;

    fn of(gradients: &Gradients) -> Self {
        Self {
            loss: gradients.loss,
            target_tokens: gradients.target_tokens as u64,
            alignment_loss: gradients.alignment_loss,
            linked_tokens: gradients.linked_tokens as u64,
        }
    }

    fn add(&mut self, other: &Self) {
        self.loss += other.loss;
        self.target_tokens += other.target_tokens;
        self.alignment_loss += other.alignment_loss;
        self.linked_tokens += other.linked_tokens;
    }

    fn words(&self) -> [u64; 4] {
        [
            self.loss.to_bits(),
            self.target_tokens,
            self.alignment_loss.to_bits(),
            self.linked_tokens,
        ]
    }

    fn from_words(words: [u64; 4]) -> Self {
        Self {
            loss: f64::from_bits(words[0]),
            target_tokens: words[1],
            alignment_loss: f64::from_bits(words[2]),
            linked_tokens: words[3],
        }
    }
}

impl Reduction {
    /// How a group shares the updates of a run, with so many threads of each rank.
    pub(crate) fn new(group: Group, params: &Params, train: &TrainConfig, workers: usize, device: &Device) -> Self {
        let sizes: Vec<usize> = params.iter().map(|parameter| parameter.var.elem_count()).collect();
        Self {
            shard: train.shard_optimizer && !group.is_alone(),
            overlap: train.overlap_reduction && !group.is_alone(),
            group,
            flat: Flat::new(sizes.into_iter(), device),
            wire: train.reduce.into(),
            workers,
            device: device.clone(),
        }
    }

    /// The workers of this rank among those of all ranks.
    pub(crate) fn slots(&self) -> Range<usize> {
        let first = self.group.rank() * self.workers;
        first..first + self.workers
    }

    /// The workers of all ranks.
    pub(crate) fn all_workers(&self) -> usize {
        self.group.size() * self.workers
    }

    /// Whether each rank has the moments of a share of the parameters only.
    pub(crate) fn is_sharded(&self) -> bool {
        self.shard
    }

    /// The pieces of parameters that this rank updates.
    pub(crate) fn own_pieces(&self) -> Vec<Piece> {
        self.pieces_of(self.group.rank())
    }

    /// The pieces of parameters that a rank updates.
    pub(crate) fn pieces_of(&self, rank: usize) -> Vec<Piece> {
        self.ranges_of(rank)
            .into_iter()
            .flat_map(|range| self.flat.pieces(range))
            .collect()
    }

    /// The ranges of the line that a rank updates, in their order.
    fn ranges_of(&self, rank: usize) -> Vec<Range<usize>> {
        if !self.shard {
            return std::iter::once(0..self.flat.len()).collect();
        }
        let size = self.group.size();
        let buckets = self.flat.buckets(size);
        buckets
            .iter()
            .map(|bucket| self.flat.shares(bucket, size).swap_remove(rank))
            .collect()
    }

    /// The gradient of an update. It covers `batches` batches, or as many as are left, each with its own dropout masks.
    /// `next` returns batches until none is left; `stop` says whether this rank was asked to stop.
    ///
    /// # Errors
    /// Errors of `next`. Also when there was no batch at all, when the model fails, and when a rank does not answer.
    pub(crate) fn gradient(
        &self,
        (model, params): (&Transformer, &Params),
        batches: u64,
        options: GradientOptions,
        mut next: impl FnMut() -> Result<Option<Batch>, TrainError>,
        stop: bool,
    ) -> Result<Reduced, TrainError> {
        let places = (self.slots(), self.all_workers());
        let mut sums: Vec<Gradients> = Vec::new();
        // How many of all workers had sentences: the first ones.
        let mut used = 0;
        let mut pending = None;
        for micro_batch in 0..batches {
            let Some(batch) = next()? else { break };
            used = used.max(batch.examples.len().min(places.1));
            let options = GradientOptions {
                dropout: options.dropout.map(|key| DropoutKey { micro_batch, ..key }),
                ..options
            };
            if micro_batch + 1 == batches && self.overlap {
                pending = Some(self.on_the_way((model, params), &mut sums, used, batch, options)?);
            } else {
                let of_batch = of_workers(model, params, batch, options, places.clone(), None, &self.device)?;
                add_batch(&mut sums, of_batch)?;
            }
        }
        if used == 0 {
            return Err(TrainError::Worker);
        }
        let sum = sum_of_workers(params, sums, self.workers)?;
        let losses = sum.as_ref().map(Losses::of);
        let tensors = sum.as_ref().map(|sum| &sum.tensors[..]);
        let gradients = match (self.group.is_alone(), pending) {
            (true, _) => self.whole(tensors.ok_or(TrainError::Worker)?)?,
            (false, Some(pending)) => self.sum_of_ranks(pending)?,
            // Not asked for; or there was no batch after those that seemed to be followed by others.
            (false, None) => {
                let mut pending = Vec::new();
                let tensors: Option<Vec<_>> = tensors.map(|tensors| tensors.iter().cloned().map(Some).collect());
                for bucket in self.flat.buckets(self.group.size()) {
                    pending.push(self.start(&bucket, tensors.as_deref(), used)?);
                }
                self.sum_of_ranks(pending)?
            }
        };
        let squares = self.squares(&gradients)?;
        let (losses, squares, stop) = self.agree(losses, squares, stop, used)?;
        let losses = losses.ok_or(TrainError::Worker)?;
        Ok(Reduced {
            loss: losses.loss,
            target_tokens: losses.target_tokens as usize,
            alignment_loss: losses.alignment_loss,
            linked_tokens: losses.linked_tokens as usize,
            norm: squares.iter().sum::<f64>().sqrt() / losses.target_tokens as f64,
            stop,
            gradients,
        })
    }

    /// Computes the gradients of an update's last batch, and starts to add up buckets over ranks while they are
    /// computed. `sums` are those of earlier batches, by worker; their losses become those of all batches.
    fn on_the_way(
        &self,
        (model, params): (&Transformer, &Params),
        sums: &mut Vec<Gradients>,
        used: usize,
        batch: Batch,
        options: GradientOptions,
    ) -> Result<Vec<Pending<Option<Vec<f32>>>>, TrainError> {
        let taken = |sum: &mut Gradients| std::mem::take(&mut sum.tensors).into_iter().map(Some).collect();
        let before: Vec<Vec<Option<Tensor>>> = sums.iter_mut().map(taken).collect();
        let of_batch = workers_used(&batch, &self.slots());
        let (sender, receiver) = channel();
        let (computed, pending) = thread::scope(|scope| {
            let collector = scope.spawn(|| self.collect_arrived(params, before, of_batch, used, receiver));
            let places = (self.slots(), self.all_workers());
            let computed = of_workers(model, params, batch, options, places, Some(&sender), &self.device);
            drop(sender);
            (computed, collector.join().unwrap_or(Err(TrainError::Worker)))
        });
        match (computed, pending) {
            // Workers cannot send any more once adding up has failed, which is the cause.
            (Err(TrainError::Worker), Err(cause)) => Err(cause),
            (computed, pending) => {
                add_batch(sums, computed?)?;
                pending
            }
        }
    }

    /// Adds up the gradients of this rank's workers as they arrive, and starts each bucket as soon as it is complete.
    /// `of_batch` workers send gradients; `before` has the sums of earlier batches, by worker and parameter.
    fn collect_arrived(
        &self,
        params: &Params,
        mut before: Vec<Vec<Option<Tensor>>>,
        of_batch: usize,
        used: usize,
        arrivals: Receiver<Arrived>,
    ) -> Result<Vec<Pending<Option<Vec<f32>>>>, TrainError> {
        let workers = before.len().max(of_batch);
        let parameters: Vec<_> = params.iter().collect();
        let mut of_workers: Vec<Vec<Option<Tensor>>> = vec![vec![None; workers]; parameters.len()];
        let mut missing = vec![of_batch; parameters.len()];
        for (worker, tensors) in before.iter_mut().enumerate().skip(of_batch) {
            for (of_workers, tensor) in of_workers.iter_mut().zip(tensors) {
                of_workers[worker] = tensor.take();
            }
        }
        let mut sums: Vec<Option<Tensor>> = vec![None; parameters.len()];
        let mut buckets = self.flat.buckets(self.group.size()).into_iter().peekable();
        let mut pending = Vec::new();
        if of_batch == 0 && workers > 0 {
            for (parameter, sum) in sums.iter_mut().enumerate() {
                *sum = sum_of_parameter(parameters[parameter], std::mem::take(&mut of_workers[parameter]))?;
            }
        }
        for Arrived {
            worker,
            parameter,
            gradient,
        } in arrivals
        {
            let sum_before = before.get_mut(worker).and_then(|before| before[parameter].take());
            of_workers[parameter][worker] = Some(match sum_before {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            });
            missing[parameter] -= 1;
            if missing[parameter] > 0 {
                continue;
            }
            sums[parameter] = sum_of_parameter(parameters[parameter], std::mem::take(&mut of_workers[parameter]))?;
            let is_complete = |bucket: &Range<usize>| {
                let pieces = self.flat.pieces(bucket.clone());
                pieces.iter().all(|piece| sums[piece.parameter].is_some())
            };
            while let Some(bucket) = buckets.next_if(is_complete) {
                pending.push(self.start(&bucket, Some(&sums), used)?);
            }
        }
        for bucket in buckets {
            // Without sentences of any batch, this rank has nothing to add.
            let sums = (workers > 0).then_some(&sums[..]);
            pending.push(self.start(&bucket, sums, used)?);
        }
        Ok(pending)
    }

    /// Starts to add up a bucket over ranks. `sums` are those of this rank's workers; `used` of all workers have any.
    fn start(
        &self,
        bucket: &Range<usize>,
        sums: Option<&[Option<Tensor>]>,
        used: usize,
    ) -> Result<Pending<Option<Vec<f32>>>, TrainError> {
        let size = self.group.size();
        let has_numbers: Vec<bool> = (0..size).map(|rank| rank * self.workers < used).collect();
        let numbers = sums.map(|sums| self.numbers(bucket.clone(), sums)).transpose()?;
        let shares: Vec<Range<usize>> = self.flat.shares(bucket, size);
        let shares: Vec<Range<usize>> = shares
            .into_iter()
            .map(|share| share.start - bucket.start..share.end - bucket.start)
            .collect();
        let numbers = numbers.as_deref();
        Ok(self.group.start_sum(numbers, &shares, &has_numbers, self.wire))
    }

    /// The pieces of this rank when it updates everything.
    fn whole(&self, tensors: &[Tensor]) -> Result<Vec<Tensor>, TrainError> {
        let pieces = self.own_pieces();
        let of = |piece: &Piece| Ok(piece.of(&tensors[piece.parameter])?);
        pieces.iter().map(of).collect()
    }

    /// The pieces of this rank of the sum over all ranks.
    fn sum_of_ranks(&self, pending: Vec<Pending<Option<Vec<f32>>>>) -> Result<Vec<Tensor>, TrainError> {
        let buckets = self.flat.buckets(self.group.size());
        let mut sums = Vec::with_capacity(pending.len());
        for pending in pending {
            sums.push(pending.wait()?.ok_or(TrainError::Worker)?);
        }
        if !self.shard {
            let pending: Vec<_> = buckets
                .iter()
                .zip(&sums)
                .map(|(bucket, sum)| self.group.start_collecting(sum, &self.lengths(bucket), self.wire))
                .collect();
            sums.clear();
            for pending in pending {
                sums.push(pending.wait()?.concat());
            }
        }
        let line: Vec<f32> = sums.concat();
        let mut from = 0;
        let of = |piece: Piece| {
            let values = line[from..from + piece.len()].to_vec();
            from += piece.len();
            Ok(Tensor::from_vec(values, piece.len(), &Device::Cpu)?)
        };
        self.own_pieces().into_iter().map(of).collect()
    }

    /// The numbers of a range of the line, of which there must be all.
    fn numbers(&self, range: Range<usize>, tensors: &[Option<Tensor>]) -> Result<Vec<f32>, TrainError> {
        let mut numbers = Vec::with_capacity(range.len());
        for piece in self.flat.pieces(range) {
            let tensor = tensors[piece.parameter].as_ref().ok_or(TrainError::Worker)?;
            numbers.extend(piece.of(tensor)?.to_vec1::<f32>()?);
        }
        Ok(numbers)
    }

    fn lengths(&self, bucket: &Range<usize>) -> Vec<usize> {
        let shares = self.flat.shares(bucket, self.group.size());
        shares.iter().map(ExactSizeIterator::len).collect()
    }

    /// The sum of the squares of each cut of this rank's ranges.
    fn squares(&self, gradients: &[Tensor]) -> Result<Vec<f64>, TrainError> {
        let pieces = self.own_pieces();
        let mut cuts = Vec::new();
        let mut at = 0;
        for cut in self
            .ranges_of(self.group.rank())
            .into_iter()
            .flat_map(|range| self.flat.cuts(range))
        {
            while pieces[at].parameter != cut.parameter || pieces[at].elements.end <= cut.elements.start {
                at += 1;
            }
            let start = cut.elements.start - pieces[at].elements.start;
            cuts.push(gradients[at].narrow(0, start, cut.len())?);
        }
        sums_of_squares(&cuts, self.workers)
    }

    /// Brings together what only all ranks know: the losses, the squares of all cuts in the order of the line, and
    /// whether any rank shall stop.
    fn agree(
        &self,
        losses: Option<Losses>,
        squares: Vec<f64>,
        stop: bool,
        used: usize,
    ) -> Result<(Option<Losses>, Vec<f64>, bool), TrainError> {
        let size = self.group.size();
        if size == 1 {
            return Ok((losses, squares, stop));
        }
        let words = losses.unwrap_or_default().words();
        let sent = if self.shard { &squares[..] } else { &[] };
        let mut own = vec![u8::from(stop)];
        own.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        own.extend(sent.iter().flat_map(|square| square.to_ne_bytes()));
        // For each rank, the number of its cuts in each bucket.
        let counts: Vec<Vec<usize>> = match self.shard {
            false => vec![Vec::new(); size],
            true => {
                let buckets = self.flat.buckets(size);
                let of = |rank: usize| {
                    let shares = buckets
                        .iter()
                        .map(|bucket| self.flat.shares(bucket, size)[rank].clone());
                    shares.map(|share| self.flat.cuts(share).len()).collect()
                };
                (0..size).map(of).collect()
            }
        };
        let length = |rank: usize| 1 + Losses::BYTES + size_of::<f64>() * counts[rank].iter().sum::<usize>();
        let all = self.group.all_gather(&own, length)?;
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
        let read = |bytes: &[u8]| bytes.chunks_exact(8).map(word).collect::<Vec<u64>>();
        let stop = all.iter().any(|bytes| bytes[0] != 0);
        let mut of_ranks = Vec::with_capacity(size);
        let mut squares_of: Vec<std::vec::IntoIter<f64>> = Vec::with_capacity(size);
        for (rank, bytes) in all.iter().enumerate() {
            let words = read(&bytes[1..]);
            let losses = Losses::from_words([words[0], words[1], words[2], words[3]]);
            of_ranks.push((rank * self.workers < used).then_some(losses));
            let squares: Vec<f64> = words[4..].iter().map(|word| f64::from_bits(*word)).collect();
            squares_of.push(squares.into_iter());
        }
        let losses = tree_fold(of_ranks, |sum: &mut Losses, other| {
            sum.add(other);
            Ok::<_, TrainError>(())
        })?;
        if !self.shard {
            return Ok((losses, squares, stop));
        }
        let buckets = self.flat.buckets(size).len();
        let in_order = (0..buckets).flat_map(|bucket| (0..size).map(move |rank| (bucket, rank)));
        let mut squares = Vec::new();
        for (bucket, rank) in in_order {
            squares.extend(squares_of[rank].by_ref().take(counts[rank][bucket]));
        }
        Ok((losses, squares, stop))
    }

    /// Brings the parameters that each rank has updated to all ranks.
    pub(crate) fn collect(&self, params: &Params) -> Result<(), TrainError> {
        if !self.shard {
            return Ok(());
        }
        let vars: Vec<Tensor> = params
            .iter()
            .map(|parameter| parameter.var.as_detached_tensor())
            .collect();
        let all: Vec<Option<Tensor>> = vars.iter().cloned().map(Some).collect();
        let (rank, size) = (self.group.rank(), self.group.size());
        let mut pending = Vec::new();
        for bucket in self.flat.buckets(size) {
            let shares = self.flat.shares(&bucket, size);
            let own = self.numbers(shares[rank].clone(), &all)?;
            let collected = self.group.start_collecting(&own, &self.lengths(&bucket), Wire::F32);
            pending.push((shares, collected));
        }
        for (shares, collected) in pending {
            let values = collected.wait()?;
            for (_, (share, values)) in shares.into_iter().zip(values).enumerate().filter(|(of, _)| *of != rank) {
                let mut from = 0;
                for piece in self.flat.pieces(share) {
                    let part = values[from..from + piece.len()].to_vec();
                    from += piece.len();
                    let part = Tensor::from_vec(part, piece.len(), &Device::Cpu)?;
                    piece.of(&vars[piece.parameter])?.slice_set(&part, 0, 0)?;
                }
            }
        }
        Ok(())
    }
}
