//! Attention of all heads in one operation. Scores, mask, softmax, dropout and weighted values are computed for one
//! block of queries at a time, in memory for one block. The weights are computed again for the gradient instead of
//! being kept.

use super::softmax::softmax_vectors;
use crate::product::{Left, Matrix, Right, small_product, transpose};
use crate::profile::{Operation, span};
use crate::rows::{LANES, sum};
use crate::values::{Values, slice};
use crate::{Dropout, Sentences};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Device, Layout, Result, Shape, Tensor};
use std::ops::Range;

/// The number of queries in a block.
const BLOCK: usize = 64;

/// Settings that all heads share.
#[derive(Clone)]
pub(crate) struct Attention {
    heads: usize,
    scale: f32,
    /// Whether a query sees only keys up to its own position.
    causal: bool,
    /// Active dropout on the weights.
    dropout: Option<Dropout>,
}

/// Attention of sentences to themselves, from packed queries, keys and values.
pub(super) struct OfSelf {
    pub(super) attention: Attention,
    pub(super) sentences: Sentences,
}

/// Attention of queries to packed keys and values.
pub(super) struct OfMemory {
    pub(super) attention: Attention,
    pub(super) queries: Sentences,
    pub(super) keys: Sentences,
}

/// Consecutive sentences of a batch, and the width of their rows. Queries, keys and values hold only these sentences.
#[derive(Clone)]
pub(crate) struct Sides<'a> {
    pub(crate) queries: &'a Sentences,
    pub(crate) keys: &'a Sentences,
    pub(crate) sentences: Range<usize>,
    pub(crate) width: usize,
}

impl Sides<'_> {
    /// Each sentence, with the ranges of its queries and its keys in these rows.
    fn each(&self) -> impl Iterator<Item = (usize, Range<usize>, Range<usize>)> {
        let (queries, keys) = (self.queries.places(&self.sentences), self.keys.places(&self.sentences));
        let places = self.sentences.clone().zip(queries.zip(keys));
        places.map(|(sentence, (queries, keys))| (sentence, queries, keys))
    }
}

/// The layout of queries, keys or values in packed rows: `offset` values into rows of `stride` values.
#[derive(Clone, Copy)]
struct Place {
    offset: usize,
    stride: usize,
}

impl Place {
    /// The position at which a head begins in the rows from `row` on.
    fn start(self, row: usize, column: usize) -> usize {
        row * self.stride + self.offset + column
    }
}

/// Queries, keys and values to read.
#[derive(Clone, Copy)]
struct Sources<'a> {
    q: (&'a [f32], Place),
    k: (&'a [f32], Place),
    v: (&'a [f32], Place),
}

/// The positions of one head of one sentence in queries, keys and values.
#[derive(Clone, Copy)]
struct Head {
    sentence: usize,
    head: usize,
    /// The number of queries and keys of the sentence.
    queries: usize,
    keys: usize,
    q: usize,
    k: usize,
    v: usize,
    /// The position of its context.
    context: usize,
}

/// Memory for one block of queries.
#[derive(Default)]
struct Scratch {
    /// Keys and values, transposed; their rows are padded to multiples of [`LANES`], which are whole vectors on every
    /// machine.
    k_t: Vec<f32>,
    v_t: Vec<f32>,
    /// The weights of a block, before and after dropout, and their gradient.
    weights: Vec<f32>,
    dropped: Vec<f32>,
    gradient: Vec<f32>,
    /// The dropout mask of the block.
    factors: Vec<f32>,
    /// A row of products of weights and their gradients.
    products: Vec<f32>,
}

impl Scratch {
    /// The weights that multiply the values.
    fn applied(&self, attention: &Attention) -> &[f32] {
        if attention.dropout.is_some() {
            &self.dropped
        } else {
            &self.weights
        }
    }
}

impl Attention {
    pub(crate) fn new(heads: usize, scale: f64, causal: bool, dropout: Option<&Dropout>) -> Self {
        Self {
            heads,
            scale: scale as f32,
            causal,
            dropout: dropout.filter(|dropout| dropout.is_active()).cloned(),
        }
    }

    /// Appends the context of packed queries, keys and values, rows of three times the width.
    pub(crate) fn self_attention(&self, qkv: &[f32], sides: Sides, context: &mut Vec<f32>) {
        let [q, k, v] = packed(sides.width).map(|place| (qkv, place));
        self.forward(&sides, &Sources { q, k, v }, context);
    }

    /// Computes the gradient of the packed queries, keys and values. The old contents of `d_qkv` do not matter.
    pub(crate) fn self_attention_backward(&self, qkv: &[f32], d_context: &[f32], sides: Sides, d_qkv: &mut Vec<f32>) {
        let [q, k, v] = packed(sides.width).map(|place| (qkv, place));
        zeros(d_qkv, qkv.len());
        self.backward(&sides, &Sources { q, k, v }, d_context, &mut [d_qkv], [0, 0, 0]);
    }

    /// Appends the context of queries and of packed keys and values, rows of twice the width.
    pub(crate) fn cross_attention(&self, (q, kv): (&[f32], &[f32]), sides: Sides, context: &mut Vec<f32>) {
        let [k, v] = packed_pair(sides.width).map(|place| (kv, place));
        let q = (q, alone(sides.width));
        self.forward(&sides, &Sources { q, k, v }, context);
    }

    /// Computes the gradients of the queries and of the packed keys and values. The old contents of the results do
    /// not matter.
    pub(crate) fn cross_attention_backward(
        &self,
        (q, kv): (&[f32], &[f32]),
        d_context: &[f32],
        sides: Sides,
        (dq, d_kv): (&mut Vec<f32>, &mut Vec<f32>),
    ) {
        let [k, v] = packed_pair(sides.width).map(|place| (kv, place));
        zeros(dq, q.len());
        zeros(d_kv, kv.len());
        let q = (q, alone(sides.width));
        self.backward(&sides, &Sources { q, k, v }, d_context, &mut [dq, d_kv], [0, 1, 1]);
    }

    fn each_head(&self, batch: &Sides, sources: &Sources, mut work: impl FnMut(Head)) {
        let width = batch.width / self.heads;
        for (sentence, queries, keys) in batch.each() {
            for head in 0..self.heads {
                let column = head * width;
                work(Head {
                    sentence,
                    head,
                    queries: queries.len(),
                    keys: keys.len(),
                    q: sources.q.1.start(queries.start, column),
                    k: sources.k.1.start(keys.start, column),
                    v: sources.v.1.start(keys.start, column),
                    context: queries.start * batch.width + column,
                });
            }
        }
    }

    /// The number of keys, from the first, that a query sees.
    fn seen(&self, query: usize, keys: usize) -> usize {
        if self.causal { keys.min(query + 1) } else { keys }
    }

    /// Computes the weights of a block of queries, before dropout and, if there is any, after it. Keys that no query of
    /// the block sees are left out. Returns the number of the other keys, and the width of the rows.
    fn weights(
        &self,
        batch: &Sides,
        sources: &Sources,
        at: Head,
        (start, rows): (usize, usize),
        scratch: &mut Scratch,
    ) -> (usize, usize) {
        let width = batch.width / self.heads;
        let keys = self.seen(start + rows - 1, at.keys);
        let padded = at.keys.next_multiple_of(LANES);
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
                let seen = self.seen(start + row, at.keys);
                softmax_vectors(weights, seen, self.scale);
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
                    dropout.fill(at.sentence, at.head, start + row, factors);
                    for ((dropped, weight), factor) in dropped.iter_mut().zip(weights).zip(factors) {
                        *dropped = weight * *factor;
                    }
                }
            }
        });
        (keys, columns)
    }

    fn forward(&self, batch: &Sides, sources: &Sources, context: &mut Vec<f32>) {
        let _span = span(Operation::Attention);
        let width = batch.width / self.heads;
        let so_far = context.len();
        context.resize(
            so_far + batch.queries.rows_of(&batch.sentences).len() * batch.width,
            0.0,
        );
        let context = &mut context[so_far..];
        let mut scratch = Scratch::default();
        self.each_head(batch, sources, |at| {
            let of_k = Matrix::with_stride(&sources.k.0[at.k..], at.keys, width, sources.k.1.stride);
            transpose(of_k, &mut scratch.k_t);
            for start in (0..at.queries).step_by(BLOCK) {
                let rows = BLOCK.min(at.queries - start);
                let (keys, columns) = self.weights(batch, sources, at, (start, rows), &mut scratch);
                let first = at.context + start * batch.width;
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
    }

    /// Computes the gradients of queries, keys and values. `sources` and the results have the same layouts; `buffers`
    /// names the result that holds each of the three.
    ///
    /// With w the weights, m the dropout mask and dc the gradient of the context:
    /// dv = (w m)ᵀ dc, dw = (dc vᵀ) m, ds = scale · w (dw - Σ w dw), dq = ds k, dk = dsᵀ q.
    fn backward(
        &self,
        batch: &Sides,
        sources: &Sources,
        d_context: &[f32],
        results: &mut [&mut Vec<f32>],
        buffers: [usize; 3],
    ) {
        let _span = span(Operation::AttentionGradient);
        let width = batch.width / self.heads;
        let mut scratch = Scratch::default();
        self.each_head(batch, sources, |at| {
            let of_k = Matrix::with_stride(&sources.k.0[at.k..], at.keys, width, sources.k.1.stride);
            transpose(of_k, &mut scratch.k_t);
            let of_v = Matrix::with_stride(&sources.v.0[at.v..], at.keys, width, sources.v.1.stride);
            transpose(of_v, &mut scratch.v_t);
            let padded = at.keys.next_multiple_of(LANES);
            for start in (0..at.queries).step_by(BLOCK) {
                let rows = BLOCK.min(at.queries - start);
                let (keys, columns) = self.weights(batch, sources, at, (start, rows), &mut scratch);
                let first = at.context + start * batch.width;
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

    /// Turns the gradient of a block's weights into the gradient of its scores.
    fn score_gradient(&self, rows: usize, columns: usize, scratch: &mut Scratch) {
        vectorized!({
            scratch.products.resize(columns, 0.0);
            let lines = scratch
                .weights
                .chunks_exact(columns)
                .zip(scratch.gradient.chunks_exact_mut(columns));
            for (row, (w, dw)) in lines.take(rows).enumerate() {
                if self.dropout.is_some() {
                    let factors = &scratch.factors[row * columns..][..columns];
                    dw.iter_mut().zip(factors).for_each(|(dw, factor)| *dw *= factor);
                }
                for ((product, w), dw) in scratch.products.iter_mut().zip(w).zip(dw.iter()) {
                    *product = w * dw;
                }
                let dot = sum(&scratch.products, |x| x);
                // Hidden keys and the columns after the last key have a weight of zero.
                for (dw, w) in dw.iter_mut().zip(w) {
                    *dw = self.scale * w * (*dw - dot);
                }
            }
        });
    }
}

/// Fills memory with `count` zeros.
fn zeros(values: &mut Vec<f32>, count: usize) {
    values.clear();
    values.resize(count, 0.0);
}

/// The layouts of queries, keys and values that are packed side by side.
fn packed(width: usize) -> [Place; 3] {
    [0, 1, 2].map(|part| Place {
        offset: part * width,
        stride: 3 * width,
    })
}

/// The layout of queries that are not packed with others.
fn alone(width: usize) -> Place {
    Place {
        offset: 0,
        stride: width,
    }
}

/// The layouts of keys and values that are packed side by side.
fn packed_pair(width: usize) -> [Place; 2] {
    [0, 1].map(|part| Place {
        offset: part * width,
        stride: 2 * width,
    })
}

impl OfSelf {
    fn sides(&self, width: usize) -> Sides<'_> {
        Sides {
            queries: &self.sentences,
            keys: &self.sentences,
            sentences: 0..self.sentences.count(),
            width,
        }
    }
}

impl CustomOp1 for OfSelf {
    fn name(&self) -> &'static str {
        "self-attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        let mut context = Vec::new();
        self.attention
            .self_attention(slice(qkv, layout)?, self.sides(width / 3), &mut context);
        Ok((CpuStorage::F32(context), Shape::from((rows, width / 3))))
    }

    fn bwd(&self, qkv: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let sides = self.sides(qkv.dim(1)? / 3);
        let gradient = gradient.contiguous()?;
        let (values, d_context) = (Values::of(qkv)?, Values::of(&gradient)?);
        let mut d_qkv = Vec::new();
        self.attention
            .self_attention_backward(&values, &d_context, sides, &mut d_qkv);
        Tensor::from_vec(d_qkv, qkv.shape(), &Device::Cpu).map(Some)
    }
}

impl OfMemory {
    fn sides(&self, width: usize) -> Sides<'_> {
        Sides {
            queries: &self.queries,
            keys: &self.keys,
            sentences: 0..self.queries.count(),
            width,
        }
    }
}

impl CustomOp2 for OfMemory {
    fn name(&self) -> &'static str {
        "cross-attention"
    }

    fn cpu_fwd(&self, q: &CpuStorage, of_q: &Layout, kv: &CpuStorage, of_kv: &Layout) -> Result<(CpuStorage, Shape)> {
        let sides = self.sides(of_q.shape().dims2()?.1);
        let mut context = Vec::new();
        let sources = (slice(q, of_q)?, slice(kv, of_kv)?);
        self.attention.cross_attention(sources, sides, &mut context);
        Ok((CpuStorage::F32(context), of_q.shape().clone()))
    }

    fn bwd(&self, q: &Tensor, kv: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let sides = self.sides(q.dim(1)?);
        let gradient = gradient.contiguous()?;
        let (q_values, kv_values, d_context) = (Values::of(q)?, Values::of(kv)?, Values::of(&gradient)?);
        let (mut dq, mut d_kv) = (Vec::new(), Vec::new());
        let gradients = (&mut dq, &mut d_kv);
        self.attention
            .cross_attention_backward((&q_values, &kv_values), &d_context, sides, gradients);
        let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), &Device::Cpu).map(Some);
        Ok((tensor(dq, q)?, tensor(d_kv, kv)?))
    }
}
