//! Attention of all heads in one operation: scores, mask, softmax, dropout and weighted values go through memory that
//! is as long as a block of queries, and the weights are computed again for the gradient instead of being kept.

use super::softmax::softmax_row;
use super::{AttentionMask, mask::seen_keys};
use crate::Dropout;
use crate::product::{Left, Matrix, Right, small_product, transpose};
use crate::profile::{Operation, span};
use crate::rows::{LANES, sum};
use crate::values::{Values, slice};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Device, Layout, Result, Shape, Tensor};

/// Queries whose scores are held at a time.
const BLOCK: usize = 64;

/// What all heads share.
#[derive(Clone)]
pub(crate) struct Attention {
    heads: usize,
    scale: f32,
    mask: Option<AttentionMask>,
    /// Active dropout on the weights.
    dropout: Option<Dropout>,
}

/// Attention of a sequence to itself, from packed queries, keys and values.
pub(super) struct OfSelf(pub(super) Attention);

/// Attention of queries to packed keys and values.
pub(super) struct OfMemory(pub(super) Attention);

/// Sentences, queries, keys and width of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Lengths {
    sentences: usize,
    queries: usize,
    keys: usize,
    width: usize,
}

impl Lengths {
    pub(crate) fn of_self(sentences: usize, positions: usize, width: usize) -> Self {
        Self {
            sentences,
            queries: positions,
            keys: positions,
            width,
        }
    }

    /// `queries`: the shape `[b, t, d]` of what attends.
    pub(crate) fn of_memory(queries: (usize, usize, usize), keys: usize) -> Self {
        Self {
            sentences: queries.0,
            queries: queries.1,
            keys,
            width: queries.2,
        }
    }
}

/// Where the rows of queries, keys or values lie: `offset` values into rows of `stride` values.
#[derive(Clone, Copy)]
struct Place {
    offset: usize,
    stride: usize,
}

impl Place {
    /// Where a head of a sentence of `length` rows begins.
    fn start(self, sentence: usize, length: usize, column: usize) -> usize {
        sentence * length * self.stride + self.offset + column
    }
}

/// Queries, keys and values to read.
#[derive(Clone, Copy)]
struct Sources<'a> {
    q: (&'a [f32], Place),
    k: (&'a [f32], Place),
    v: (&'a [f32], Place),
}

/// Where one head of one sentence begins in queries, keys and values.
#[derive(Clone, Copy)]
struct Head {
    sentence: usize,
    head: usize,
    q: usize,
    k: usize,
    v: usize,
}

/// Memory for one block of queries.
#[derive(Default)]
struct Scratch {
    /// Keys and values, transposed, their rows padded to multiples of [`LANES`]: whole vectors on every machine.
    k_t: Vec<f32>,
    v_t: Vec<f32>,
    /// The weights of a block, before and after dropout, and their gradient.
    weights: Vec<f32>,
    dropped: Vec<f32>,
    gradient: Vec<f32>,
    /// The dropout mask of the block.
    factors: Vec<f32>,
}

impl Scratch {
    /// The weights that values are multiplied by.
    fn applied(&self, attention: &Attention) -> &[f32] {
        if attention.dropout.is_some() {
            &self.dropped
        } else {
            &self.weights
        }
    }
}

impl Attention {
    pub(crate) fn new(heads: usize, scale: f64, mask: Option<&AttentionMask>, dropout: Option<&Dropout>) -> Self {
        Self {
            heads,
            scale: scale as f32,
            mask: mask.cloned(),
            dropout: dropout.filter(|dropout| dropout.is_active()).cloned(),
        }
    }

    /// The context of packed queries, keys and values, rows of three times the width.
    pub(crate) fn of_self(&self, qkv: &[f32], lengths: Lengths) -> Vec<f32> {
        let [q, k, v] = packed(lengths.width).map(|place| (qkv, place));
        self.forward(lengths, &Sources { q, k, v })
    }

    /// The gradient of the packed queries, keys and values.
    pub(crate) fn of_self_backward(&self, qkv: &[f32], d_context: &[f32], lengths: Lengths) -> Vec<f32> {
        let [q, k, v] = packed(lengths.width).map(|place| (qkv, place));
        let mut results = [vec![0f32; qkv.len()]];
        self.backward(lengths, &Sources { q, k, v }, d_context, &mut results, [0, 0, 0]);
        let [d_qkv] = results;
        d_qkv
    }

    /// The context of queries and of packed keys and values, rows of twice the width.
    pub(crate) fn of_memory(&self, q: &[f32], kv: &[f32], lengths: Lengths) -> Vec<f32> {
        let [k, v] = packed_pair(lengths.width).map(|place| (kv, place));
        let q = (q, alone(lengths.width));
        self.forward(lengths, &Sources { q, k, v })
    }

    /// The gradients of the queries and of the packed keys and values.
    pub(crate) fn of_memory_backward(
        &self,
        q: &[f32],
        kv: &[f32],
        d_context: &[f32],
        lengths: Lengths,
    ) -> (Vec<f32>, Vec<f32>) {
        let [k, v] = packed_pair(lengths.width).map(|place| (kv, place));
        let mut results = [vec![0f32; q.len()], vec![0f32; kv.len()]];
        let q = (q, alone(lengths.width));
        self.backward(lengths, &Sources { q, k, v }, d_context, &mut results, [0, 1, 1]);
        let [dq, d_kv] = results;
        (dq, d_kv)
    }

    fn each_head(&self, batch: Lengths, sources: &Sources, mut work: impl FnMut(Head)) {
        let width = batch.width / self.heads;
        for sentence in 0..batch.sentences {
            for head in 0..self.heads {
                work(Head {
                    sentence,
                    head,
                    q: sources.q.1.start(sentence, batch.queries, head * width),
                    k: sources.k.1.start(sentence, batch.keys, head * width),
                    v: sources.v.1.start(sentence, batch.keys, head * width),
                });
            }
        }
    }

    /// The weights of a block of queries, before dropout and, if there is any, after it. Keys that no query of the
    /// block sees are left out: the result counts the others, and the width of the rows.
    fn weights(
        &self,
        batch: Lengths,
        sources: &Sources,
        at: Head,
        (start, rows): (usize, usize),
        scratch: &mut Scratch,
    ) -> (usize, usize) {
        let width = batch.width / self.heads;
        let keys = seen_keys(self.mask.as_ref(), at.sentence, start + rows - 1, batch.keys);
        let padded = batch.keys.next_multiple_of(LANES);
        let columns = keys.next_multiple_of(LANES);
        scratch.weights.resize(BLOCK * padded, 0.0);
        let (q, place) = sources.q;
        small_product(
            &mut scratch.weights,
            columns,
            Left::new(&q[at.q + start * place.stride..], place.stride),
            Right::new(&scratch.k_t, padded),
            (rows, width, columns),
            false,
        );
        vectorized!({
            for (row, weights) in scratch.weights.chunks_exact_mut(columns).take(rows).enumerate() {
                let seen = seen_keys(self.mask.as_ref(), at.sentence, start + row, batch.keys);
                softmax_row(weights, seen, self.scale);
            }
            if let Some(dropout) = &self.dropout {
                scratch.factors.resize(BLOCK * padded, 0.0);
                scratch.dropped.resize(BLOCK * padded, 0.0);
                let lines = scratch
                    .weights
                    .chunks_exact(columns)
                    .zip(scratch.dropped.chunks_exact_mut(columns))
                    .zip(scratch.factors.chunks_exact_mut(columns));
                for (row, ((weights, dropped), factors)) in lines.take(rows).enumerate() {
                    dropout.fill_row(at.sentence, at.head, start + row, factors);
                    for ((dropped, weight), factor) in dropped.iter_mut().zip(weights).zip(factors) {
                        *dropped = weight * *factor;
                    }
                }
            }
        });
        (keys, columns)
    }

    fn forward(&self, batch: Lengths, sources: &Sources) -> Vec<f32> {
        let _span = span(Operation::Attention);
        let width = batch.width / self.heads;
        let mut context = vec![0f32; batch.sentences * batch.queries * batch.width];
        let mut scratch = Scratch::default();
        self.each_head(batch, sources, |at| {
            let of_k = Matrix::with_stride(&sources.k.0[at.k..], batch.keys, width, sources.k.1.stride);
            transpose(of_k, &mut scratch.k_t);
            for start in (0..batch.queries).step_by(BLOCK) {
                let rows = BLOCK.min(batch.queries - start);
                let (keys, columns) = self.weights(batch, sources, at, (start, rows), &mut scratch);
                let first = (at.sentence * batch.queries + start) * batch.width + at.head * width;
                small_product(
                    &mut context[first..],
                    batch.width,
                    Left::new(scratch.applied(self), columns),
                    Right::new(&sources.v.0[at.v..], sources.v.1.stride),
                    (rows, keys, width),
                    false,
                );
            }
        });
        context
    }

    /// The gradients of queries, keys and values. `sources` and the results share their places; `buffers` names the
    /// result that each of the three lies in.
    ///
    /// With w the weights, m the dropout mask and dc the gradient of the context:
    /// dv = (w m)ᵀ dc, dw = (dc vᵀ) m, ds = scale · w (dw - Σ w dw), dq = ds k, dk = dsᵀ q.
    fn backward(
        &self,
        batch: Lengths,
        sources: &Sources,
        d_context: &[f32],
        results: &mut [Vec<f32>],
        buffers: [usize; 3],
    ) {
        let _span = span(Operation::AttentionGradient);
        let width = batch.width / self.heads;
        let mut scratch = Scratch::default();
        let padded = batch.keys.next_multiple_of(LANES);
        self.each_head(batch, sources, |at| {
            let of_k = Matrix::with_stride(&sources.k.0[at.k..], batch.keys, width, sources.k.1.stride);
            transpose(of_k, &mut scratch.k_t);
            let of_v = Matrix::with_stride(&sources.v.0[at.v..], batch.keys, width, sources.v.1.stride);
            transpose(of_v, &mut scratch.v_t);
            for start in (0..batch.queries).step_by(BLOCK) {
                let rows = BLOCK.min(batch.queries - start);
                let (keys, columns) = self.weights(batch, sources, at, (start, rows), &mut scratch);
                let first = (at.sentence * batch.queries + start) * batch.width + at.head * width;
                let d_block = &d_context[first..];
                scratch.gradient.resize(BLOCK * padded, 0.0);
                small_product(
                    &mut scratch.gradient,
                    columns,
                    Left::new(d_block, batch.width),
                    Right::new(&scratch.v_t, padded),
                    (rows, width, columns),
                    false,
                );
                small_product(
                    &mut results[buffers[2]][at.v..],
                    sources.v.1.stride,
                    Left::transposed(scratch.applied(self), columns),
                    Right::new(d_block, batch.width),
                    (keys, rows, width),
                    true,
                );
                self.score_gradient(rows, columns, &mut scratch);
                small_product(
                    &mut results[buffers[0]][at.q + start * sources.q.1.stride..],
                    sources.q.1.stride,
                    Left::new(&scratch.gradient, columns),
                    Right::new(&sources.k.0[at.k..], sources.k.1.stride),
                    (rows, keys, width),
                    false,
                );
                small_product(
                    &mut results[buffers[1]][at.k..],
                    sources.k.1.stride,
                    Left::transposed(&scratch.gradient, columns),
                    Right::new(&sources.q.0[at.q + start * sources.q.1.stride..], sources.q.1.stride),
                    (keys, rows, width),
                    true,
                );
            }
        });
    }

    /// Turns the gradient of the weights of a block into that of the scores.
    fn score_gradient(&self, rows: usize, columns: usize, scratch: &mut Scratch) {
        vectorized!({
            let mut both = vec![0f32; columns];
            let lines = scratch
                .weights
                .chunks_exact(columns)
                .zip(scratch.gradient.chunks_exact_mut(columns));
            for (row, (w, dw)) in lines.take(rows).enumerate() {
                if self.dropout.is_some() {
                    let factors = &scratch.factors[row * columns..][..columns];
                    dw.iter_mut().zip(factors).for_each(|(dw, factor)| *dw *= factor);
                }
                for ((both, w), dw) in both.iter_mut().zip(w).zip(dw.iter()) {
                    *both = w * dw;
                }
                let dot = sum(&both, |x| x);
                // Hidden keys have a weight of zero, and so have the columns beyond the keys.
                for (dw, w) in dw.iter_mut().zip(w) {
                    *dw = self.scale * w * (*dw - dot);
                }
            }
        });
    }
}

/// The places of queries, keys and values that lie side by side.
fn packed(width: usize) -> [Place; 3] {
    [0, 1, 2].map(|part| Place {
        offset: part * width,
        stride: 3 * width,
    })
}

/// The place of queries that lie by themselves.
fn alone(width: usize) -> Place {
    Place {
        offset: 0,
        stride: width,
    }
}

/// The places of keys and values that lie side by side.
fn packed_pair(width: usize) -> [Place; 2] {
    [0, 1].map(|part| Place {
        offset: part * width,
        stride: 2 * width,
    })
}

impl CustomOp1 for OfSelf {
    fn name(&self) -> &'static str {
        "self-attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (sentences, positions, width) = layout.shape().dims3()?;
        let lengths = Lengths::of_self(sentences, positions, width / 3);
        let context = self.0.of_self(slice(qkv, layout)?, lengths);
        Ok((CpuStorage::F32(context), Shape::from((sentences, positions, width / 3))))
    }

    fn bwd(&self, qkv: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (sentences, positions, width) = qkv.dims3()?;
        let lengths = Lengths::of_self(sentences, positions, width / 3);
        let gradient = gradient.contiguous()?;
        let (values, d_context) = (Values::of(qkv)?, Values::of(&gradient)?);
        let d_qkv = self.0.of_self_backward(&values, &d_context, lengths);
        Tensor::from_vec(d_qkv, qkv.shape(), &Device::Cpu).map(Some)
    }
}

impl CustomOp2 for OfMemory {
    fn name(&self) -> &'static str {
        "cross-attention"
    }

    fn cpu_fwd(&self, q: &CpuStorage, of_q: &Layout, kv: &CpuStorage, of_kv: &Layout) -> Result<(CpuStorage, Shape)> {
        let lengths = Lengths::of_memory(of_q.shape().dims3()?, of_kv.shape().dims3()?.1);
        let context = self.0.of_memory(slice(q, of_q)?, slice(kv, of_kv)?, lengths);
        Ok((CpuStorage::F32(context), of_q.shape().clone()))
    }

    fn bwd(&self, q: &Tensor, kv: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let lengths = Lengths::of_memory(q.dims3()?, kv.dim(1)?);
        let gradient = gradient.contiguous()?;
        let (q_values, kv_values, d_context) = (Values::of(q)?, Values::of(kv)?, Values::of(&gradient)?);
        let (dq, d_kv) = self.0.of_memory_backward(&q_values, &kv_values, &d_context, lengths);
        let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), &Device::Cpu).map(Some);
        Ok((tensor(dq, q)?, tensor(d_kv, kv)?))
    }
}
