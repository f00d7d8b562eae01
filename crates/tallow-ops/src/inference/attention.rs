//! Attention of a decoder's newest tokens, and of whole sentences to themselves.

use crate::Sentences;
use crate::attention::{Attention, Sides};
use crate::exponential::exp_nonpositive_fusing;
use crate::path::{arch, fuses};
use crate::rows::LANES;
use pulp::{Simd, WithSimd};

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

/// Where the weights of some heads go: they are added up over the heads, divided, and added to what is there.
#[derive(Debug)]
pub struct RecordedHeads<'a> {
    /// The heads.
    pub heads: &'a [usize],
    /// The divisor of the sum.
    pub divisor: usize,
    /// For each query, one weight for each token of its sentence; empty where nothing has been added yet.
    pub weights: &'a mut Vec<Vec<f32>>,
}

impl RecordedHeads<'_> {
    /// Adds the weights of a query. `sum(token)` is the sum over the heads.
    pub fn add(&mut self, query: usize, count: usize, sum: impl Fn(usize) -> f32) {
        let share = |token: usize| sum(token) / self.divisor as f32;
        match self.weights.get_mut(query) {
            Some(weights) => (0..count)
                .zip(weights)
                .for_each(|(token, weight)| *weight += share(token)),
            None => self.weights.push((0..count).map(share).collect()),
        }
    }
}

impl DecodingAttention {
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
        let size = 2 * self.width;
        let tokens = |query: usize, i: usize| &blocks[i][slots[query][i] as usize * size..][..size];
        self.run((queries, stride), |_| blocks.len(), tokens, context, None);
    }

    /// Attention of every query to the source of its sentence.
    ///
    /// # Shapes
    /// `queries`: `[n, d]`; `memory`: keys and values of all source tokens, `[s, 2 d]`; `sources`: for each query, the
    /// first row and the number of rows of its sentence; the context, which replaces `context`: `[n, d]`. The weights
    /// of heads are added to `recorded`, if it is given.
    ///
    /// # Panics
    /// When a range lies outside the memory.
    pub fn to_memory(
        &self,
        queries: &[f32],
        memory: &[f32],
        sources: &[(usize, usize)],
        context: &mut Vec<f32>,
        recorded: Option<RecordedHeads>,
    ) {
        let size = 2 * self.width;
        let tokens = |query: usize, i: usize| &memory[(sources[query].0 + i) * size..][..size];
        self.run(
            (queries, self.width),
            |query| sources[query].1,
            tokens,
            context,
            recorded,
        );
    }

    fn run<'a>(
        &self,
        (queries, stride): (&[f32], usize),
        count: impl Fn(usize) -> usize,
        tokens: impl Fn(usize, usize) -> &'a [f32],
        context: &mut Vec<f32>,
        recorded: Option<RecordedHeads>,
    ) {
        context.clear();
        context.resize(queries.len() / stride * self.width, 0.0);
        arch().dispatch(Run {
            attention: *self,
            queries,
            stride,
            count,
            tokens,
            context,
            recorded,
            fuses: fuses(),
        });
    }
}

/// The attention of several queries. `tokens(query, i)` returns the keys and values of the `i`-th of the `count(query)`
/// tokens that a query sees.
struct Run<'c, 'q, N, T> {
    attention: DecodingAttention,
    queries: &'q [f32],
    stride: usize,
    count: N,
    tokens: T,
    context: &'c mut [f32],
    recorded: Option<RecordedHeads<'c>>,
    /// Whether the instructions multiply and add in one.
    fuses: bool,
}

/// Vectors of the context that are summed in registers at a time.
const SUMS: usize = 4;

impl<'a, N: Fn(usize) -> usize, T: Fn(usize, usize) -> &'a [f32]> WithSimd for Run<'_, '_, N, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let DecodingAttention { width, heads, scale } = self.attention;
        let of_head = width / heads;
        // The weights of a token's heads side by side.
        let room = room_for(heads);
        let (mut weights, mut rows) = (Vec::new(), Vec::new());
        let queries = self.queries.chunks_exact(self.stride);
        for (number, (query, context)) in queries.zip(self.context.chunks_exact_mut(width)).enumerate() {
            let count = (self.count)(number);
            rows.clear();
            rows.extend((0..count).map(|token| (self.tokens)(number, token)));
            weights.clear();
            weights.resize(count * room, 0.0);
            weights.resize((count * room).next_multiple_of(LANES), f32::NEG_INFINITY);
            for (weights, row) in weights.chunks_exact_mut(room).zip(&rows) {
                for (head, weight) in weights[..heads].iter_mut().enumerate() {
                    let values = head * of_head..(head + 1) * of_head;
                    *weight = dot(simd, &query[values.clone()], &row[values]) * scale;
                }
            }
            if self.fuses {
                softmax_of_heads::<true>(&mut weights, room);
            } else {
                softmax_of_heads::<false>(&mut weights, room);
            }
            for (head, context) in context.chunks_exact_mut(of_head).enumerate() {
                let weight = |token: usize| weights[token * room + head];
                let values = |token: usize| &rows[token][width + head * of_head..][..of_head];
                weighted_sum(simd, count, weight, values, context);
            }
            if let Some(recorded) = &mut self.recorded {
                let heads = recorded.heads;
                let sum = |token: usize| heads.iter().map(|head| weights[token * room + head]).sum();
                recorded.add(number, count, sum);
            }
        }
    }
}

/// The room for the weights of so many heads, such that vectors hold the same heads of several tokens, or some heads of
/// one token.
fn room_for(heads: usize) -> usize {
    match heads {
        0..=LANES => heads.next_power_of_two(),
        _ => heads.next_multiple_of(LANES),
    }
}

/// Softmax over tokens, for all heads side by side. It has no loops over single rows, which would take most of the time
/// with few tokens.
///
/// # Shapes
/// `scores`: `[s, room]` with a room of [`room_for`] heads, and minus infinity up to a multiple of [`LANES`].
#[inline(always)]
fn softmax_of_heads<const FUSED: bool>(scores: &mut [f32], room: usize) {
    let width = room.max(LANES);
    for first in (0..width).step_by(LANES) {
        let mut greatest = [f32::NEG_INFINITY; LANES];
        for row in scores.chunks_exact(width) {
            for (greatest, x) in greatest.iter_mut().zip(&row[first..first + LANES]) {
                *greatest = if *x > *greatest { *x } else { *greatest };
            }
        }
        fold(&mut greatest, room, |a, b| if b > a { b } else { a });
        let mut sums = [0f32; LANES];
        for row in scores.chunks_exact_mut(width) {
            let lanes = row[first..first + LANES].iter_mut().zip(&greatest).zip(&mut sums);
            for ((x, greatest), sum) in lanes {
                *x = exp_nonpositive_fusing::<FUSED>(*x - greatest);
                *sum += *x;
            }
        }
        fold(&mut sums, room, |a, b| a + b);
        let shares = sums.map(|sum| 1.0 / sum);
        for row in scores.chunks_exact_mut(width) {
            for (x, share) in row[first..first + LANES].iter_mut().zip(&shares) {
                *x *= share;
            }
        }
    }
}

/// Combines the lanes of each head. All of them then have the result.
#[inline(always)]
fn fold(lanes: &mut [f32; LANES], room: usize, combine: impl Fn(f32, f32) -> f32) {
    let mut distance = LANES / 2;
    while distance >= room {
        let before = *lanes;
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane = combine(before[i], before[i ^ distance]);
        }
        distance /= 2;
    }
}

/// The dot product of two rows. The order of additions depends only on their length and on the width of vectors.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sum = simd.splat_f32s(0.0);
    for (a, b) in a.iter().zip(b) {
        sum = simd.mul_add_e_f32s(*a, *b, sum);
    }
    let rest = a_rest.iter().zip(b_rest).fold(0.0, |sum, (a, b)| sum + a * b);
    simd.reduce_sum_f32s(sum) + rest
}

/// The sum of values by their weights.
#[inline(always)]
fn weighted_sum<'a, S: Simd>(
    simd: S,
    count: usize,
    weight: impl Fn(usize) -> f32,
    values: impl Fn(usize) -> &'a [f32],
    sum: &mut [f32],
) {
    let (sums, rest) = S::as_mut_simd_f32s(sum);
    let whole = sums.len() * S::F32_LANES;
    for (group, sums) in sums.chunks_mut(SUMS).enumerate() {
        let mut registers = [simd.splat_f32s(0.0); SUMS];
        for token in 0..count {
            let weight = simd.splat_f32s(weight(token));
            let (values, _) = S::as_simd_f32s(values(token));
            for (register, value) in registers.iter_mut().zip(&values[group * SUMS..]).take(sums.len()) {
                *register = simd.mul_add_e_f32s(weight, *value, *register);
            }
        }
        sums.iter_mut()
            .zip(registers)
            .for_each(|(sum, register)| *sum = register);
    }
    for (i, sum) in rest.iter_mut().enumerate() {
        let products = (0..count).map(|token| weight(token) * values(token)[whole + i]);
        *sum = products.fold(0.0, |sum, product| sum + product);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Path, with_path};

    fn values(count: usize, seed: u64) -> Vec<f32> {
        let key = crate::Key::new(seed, crate::Purpose::Initialisation);
        key.normal(count).into_iter().map(|x| x as f32).collect()
    }

    /// The weights of one head for one query by their definition, in f64.
    fn weights_of(attention: DecodingAttention, head: usize, q: &[f32], rows: &[&[f32]]) -> Vec<f64> {
        let of_head = attention.width / attention.heads;
        let score = |row: &&[f32]| -> f64 {
            let products = (head * of_head..(head + 1) * of_head).map(|i| f64::from(q[i]) * f64::from(row[i]));
            (products.sum::<f64>() * f64::from(attention.scale)).exp()
        };
        let scores: Vec<f64> = rows.iter().map(score).collect();
        let sum: f64 = scores.iter().sum();
        scores.into_iter().map(|score| score / sum).collect()
    }

    /// The mean weights of heads.
    fn mean_weights(attention: DecodingAttention, heads: &[usize], q: &[f32], rows: &[&[f32]]) -> Vec<f64> {
        let mut mean = vec![0.0; rows.len()];
        for head in heads {
            for (mean, weight) in mean.iter_mut().zip(weights_of(attention, *head, q, rows)) {
                *mean += weight / heads.len() as f64;
            }
        }
        mean
    }

    /// The context of one query by its definition, in f64.
    fn by_definition(attention: DecodingAttention, q: &[f32], rows: &[&[f32]]) -> Vec<f64> {
        let DecodingAttention { width, heads, .. } = attention;
        let of_head = width / heads;
        let mut context = vec![0.0; width];
        for head in 0..heads {
            let weights = weights_of(attention, head, q, rows);
            for i in head * of_head..(head + 1) * of_head {
                let products = weights
                    .iter()
                    .zip(rows)
                    .map(|(weight, row)| weight * f64::from(row[width + i]));
                context[i] = products.sum::<f64>();
            }
        }
        context
    }

    #[test]
    fn equals_the_definition() {
        for (width, heads) in [(64, 1), (64, 2), (256, 4), (36, 3), (10, 2), (7, 7), (40, 20), (66, 33)] {
            let attention = DecodingAttention {
                width,
                heads,
                scale: 0.3,
            };
            let (queries, positions, size) = (3, 19, 2 * width);
            let q = values(queries * (width + 5), 1);
            let blocks: Vec<Vec<f32>> = (0..positions).map(|i| values(4 * size, 2 + i)).collect();
            let slots: Vec<Vec<u32>> = (0..queries as u32)
                .map(|query| (0..positions as u32).map(|i| (query + i) % 4).collect())
                .collect();
            let memory = values(30 * size, 99);
            let sources = [(0, 1), (1, 16), (5, 25)];
            // All heads, and the last one once more, as if it were a head of another layer.
            let all: Vec<usize> = (0..heads).collect();
            let twice = [&all[..], &[heads - 1]].concat();
            for path in Path::KERNELS {
                let (mut to_hypotheses, mut to_memory, mut weights) = (Vec::new(), vec![7.0; 3], Vec::new());
                with_path(path, || {
                    attention.to_hypotheses((&q, width + 5), &blocks, &slots, &mut to_hypotheses);
                    let plain: Vec<f32> = q.chunks_exact(width + 5).flat_map(|q| &q[..width]).copied().collect();
                    for heads in [&all[..], &[heads - 1]] {
                        let recorded = RecordedHeads {
                            heads,
                            divisor: twice.len(),
                            weights: &mut weights,
                        };
                        attention.to_memory(&plain, &memory, &sources, &mut to_memory, Some(recorded));
                    }
                });
                assert_eq!(weights.len(), queries);
                for query in 0..queries {
                    let own = &q[query * (width + 5)..][..width];
                    let of_hypothesis: Vec<&[f32]> = blocks
                        .iter()
                        .zip(&slots[query])
                        .map(|(block, slot)| &block[*slot as usize * size..][..size])
                        .collect();
                    let (first, count) = sources[query];
                    let of_sentence: Vec<&[f32]> = memory.chunks_exact(size).skip(first).take(count).collect();
                    let expected = mean_weights(attention, &twice, own, &of_sentence);
                    assert_eq!(weights[query].len(), expected.len());
                    let mut both = weights[query].iter().zip(expected);
                    assert!(both.all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6));
                    for (got, rows) in [(&to_hypotheses, of_hypothesis), (&to_memory, of_sentence)] {
                        let got = &got[query * width..][..width];
                        for (got, expected) in got.iter().zip(by_definition(attention, own, &rows)) {
                            assert!(
                                (f64::from(*got) - expected).abs() < 1e-5,
                                "{path:?} {width} {got} {expected}"
                            );
                        }
                    }
                }
            }
        }
    }
}
