//! Attention of a decoder's newest tokens, and of whole sentences to themselves.

use crate::Sentences;
use crate::attention::{Attention, Sides};
use crate::exponential::exp_nonpositive;
use crate::rows::{LANES, total};

/// Attention of single queries to keys and values in memory, for a decoder's step.
///
/// The keys and values of a token are one row of `2 d` values: all keys, then all values.
#[derive(Clone, Copy, Debug)]
pub struct DecodingAttention {
    /// The width of queries, keys and values, all heads together.
    pub width: usize,
    /// The number of heads, which divides the width.
    pub heads: usize,
    /// The factor of the scores.
    pub scale: f32,
}

impl DecodingAttention {
    /// Appends the context of one query. `row(i)` returns the keys and values of the `i`-th of `count` tokens;
    /// `weights` is scratch memory.
    #[inline(always)]
    fn attend<'a>(
        &self,
        q: &[f32],
        count: usize,
        row: impl Fn(usize) -> &'a [f32],
        weights: &mut Vec<f32>,
        context: &mut [f32],
    ) {
        let (heads, width) = (self.heads, self.width / self.heads);
        let stride = count.next_multiple_of(LANES);
        weights.clear();
        weights.resize(heads * stride, f32::NEG_INFINITY);
        for token in 0..count {
            let keys = &row(token)[..self.width];
            for (head, (q, k)) in q.chunks_exact(width).zip(keys.chunks_exact(width)).enumerate() {
                weights[head * stride + token] = dot(q, k) * self.scale;
            }
        }
        for weights in weights.chunks_exact_mut(stride) {
            softmax(weights);
        }
        context.fill(0.0);
        for token in 0..count {
            let values = &row(token)[self.width..];
            for (head, (sum, v)) in context
                .chunks_exact_mut(width)
                .zip(values.chunks_exact(width))
                .enumerate()
            {
                let weight = weights[head * stride + token];
                sum.iter_mut().zip(v).for_each(|(sum, v)| *sum += weight * v);
            }
        }
    }

    /// Attention of every query to the tokens of its own hypothesis.
    ///
    /// # Shapes
    /// `queries`: rows of `stride` values that begin with the query; `blocks`: for each position so far, rows of keys
    /// and values; `slots`: for each query, the row in each block; the context, which replaces `context`: `[n, d]`.
    ///
    /// # Panics
    /// When a slot lies outside its block, or the lengths do not fit.
    pub fn to_hypotheses(
        &self,
        (queries, stride): (&[f32], usize),
        blocks: &[Vec<f32>],
        slots: &[Vec<u32>],
        context: &mut Vec<f32>,
    ) {
        let (positions, rows) = (blocks.len(), queries.len() / stride);
        context.resize(rows * self.width, 0.0);
        let size = 2 * self.width;
        vectorized!({
            let mut weights = Vec::new();
            let queries = queries.chunks_exact(stride).zip(slots);
            for ((query, slots), context) in queries.zip(context.chunks_exact_mut(self.width)) {
                let row = |i: usize| &blocks[i][slots[i] as usize * size..][..size];
                self.attend(&query[..self.width], positions, row, &mut weights, context);
            }
        });
    }

    /// Attention of every query to the source of its sentence.
    ///
    /// # Shapes
    /// `queries`: `[n, d]`; `memory`: keys and values of all source tokens, `[s, 2 d]`; `sources`: for each query, the
    /// first row and the number of rows of its sentence; the context, which replaces `context`: `[n, d]`.
    ///
    /// # Panics
    /// When a range lies outside the memory.
    pub fn to_memory(&self, queries: &[f32], memory: &[f32], sources: &[(usize, usize)], context: &mut Vec<f32>) {
        context.resize(queries.len(), 0.0);
        let size = 2 * self.width;
        vectorized!({
            let mut weights = Vec::new();
            let rows = queries
                .chunks_exact(self.width)
                .zip(context.chunks_exact_mut(self.width));
            for ((query, context), (first, count)) in rows.zip(sources) {
                let rows = &memory[first * size..(first + count) * size];
                self.attend(query, *count, |i| &rows[i * size..][..size], &mut weights, context);
            }
        });
    }
}

/// Appends the context of whole sentences to `context`: every token sees all tokens of its sentence.
///
/// # Shapes
/// `qkv`: queries, keys and values, `[n, 3 d]`; the result: `[n, d]`.
pub fn attend_sentences(qkv: &[f32], sentences: &Sentences, heads: usize, scale: f64, context: &mut Vec<f32>) {
    let sides = Sides {
        queries: sentences,
        keys: sentences,
        sentences: 0..sentences.count(),
        width: qkv.len() / sentences.rows() / 3,
    };
    context.clear();
    Attention::new(heads, scale, false, None).self_attention(qkv, sides, context);
}

/// The dot product of two rows. The order of additions depends only on their length.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (rest_a, rest_b) = (a.remainder(), b.remainder());
    for (a, b) in a.zip(b) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(rest_a.iter().zip(rest_b)) {
        *lane += a * b;
    }
    total(lanes)
}

/// Softmax of a row of whole vectors, whose unused elements are minus infinity.
#[inline(always)]
fn softmax(row: &mut [f32]) {
    let (chunks, _) = row.as_chunks_mut::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for chunk in chunks.iter() {
        for (x, most) in chunk.iter().zip(&mut most) {
            *most = if *x > *most { *x } else { *most };
        }
    }
    let greatest = most.iter().fold(f32::NEG_INFINITY, |g, x| if *x > g { *x } else { g });
    let mut sums = [0f32; LANES];
    for chunk in chunks.iter_mut() {
        for (x, sum) in chunk.iter_mut().zip(&mut sums) {
            *x = exp_nonpositive(*x - greatest);
            *sum += *x;
        }
    }
    let share = 1.0 / total(sums);
    for x in chunks.as_flattened_mut() {
        *x *= share;
    }
}
