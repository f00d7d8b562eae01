//! The sublayers on plain rows, with packed weights.

use super::state::{Buffers, SelfCache};
use crate::sublayer::{Around, EPSILON};
use crate::{ModelConfig, Norm};
use tallow_ops::inference::{
    DecodingAttention, InferenceCompute, InputRows, PreparedLinear, RecordedHeads, add, add_and_normalise,
    attend_sentences, normalise_rows,
};
use tallow_ops::{Activation, Sentences};

/// A residual connection with its normalisation.
#[derive(Debug)]
struct Connection {
    around: Around,
    /// Empty without a normalisation.
    scale_shift: Vec<f32>,
}

impl Connection {
    fn new(around: Around, scale_shift: &[f32]) -> Self {
        Self {
            around,
            scale_shift: scale_shift.to_vec(),
        }
    }

    /// The input of the sublayer's function: `x` itself, or `x` normalised, in `input`.
    fn enter<'a>(&self, x: &'a [f32], input: &'a mut Vec<f32>) -> &'a [f32] {
        match self.around.norm {
            Norm::Post | Norm::None => x,
            Norm::Pre => {
                input.clear();
                input.extend_from_slice(x);
                normalise_rows(input, &self.scale_shift, EPSILON as f32);
                input
            }
        }
    }

    /// Adds the function's result `y` to `x`, or replaces `x` by it.
    fn leave(&self, x: &mut [f32], y: &[f32]) {
        let is_normalised = self.around.norm == Norm::Post;
        match (self.around.residual, is_normalised) {
            (true, true) => add_and_normalise(x, y, &self.scale_shift, EPSILON as f32),
            (true, false) => add(x, y),
            (false, true) => {
                x.copy_from_slice(y);
                normalise_rows(x, &self.scale_shift, EPSILON as f32);
            }
            (false, false) => x.copy_from_slice(y),
        }
    }
}

/// Cuts consecutive parts of the given lengths. What follows them is the second part of the result: scale and shift, if
/// there is a normalisation.
///
/// # Panics
/// When there are too few values; the inventory of parameters has fixed their number.
fn cut<const N: usize>(mut packed: &[f32], lengths: [usize; N]) -> ([&[f32]; N], &[f32]) {
    let parts = lengths.map(|length| {
        let (part, rest) = packed.split_at(length);
        packed = rest;
        part
    });
    (parts, packed)
}

/// The shape of attention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    width: usize,
    count: usize,
    scale: f64,
}

impl Heads {
    pub(super) fn new(model: &ModelConfig, count: usize) -> Self {
        Self {
            width: model.d_model,
            count,
            scale: model.attention_scale(count),
        }
    }

    fn decoding(self) -> DecodingAttention {
        DecodingAttention {
            width: self.width,
            heads: self.count,
            scale: self.scale as f32,
        }
    }
}

/// Attention of a sequence to itself.
#[derive(Debug)]
pub(super) struct PreparedSelfAttention {
    qkv: PreparedLinear,
    output: PreparedLinear,
    connection: Connection,
    heads: Heads,
}

impl PreparedSelfAttention {
    /// Packs the parameters of a sublayer.
    pub(super) fn new(packed: &[f32], around: Around, heads: Heads, compute: InferenceCompute) -> Self {
        let d = heads.width;
        let ([qkv, qkv_bias, output, output_bias], scale_shift) = cut(packed, [3 * d * d, 3 * d, d * d, d]);
        Self {
            qkv: PreparedLinear::new(qkv, Some(qkv_bias), d, compute),
            output: PreparedLinear::new(output, Some(output_bias), d, compute),
            connection: Connection::new(around, scale_shift),
            heads,
        }
    }

    /// The sizes of the packed weights in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.qkv.bytes() + self.output.bytes()
    }

    /// Replaces the rows of whole sentences, each token of which sees all others.
    pub(super) fn encode(&self, x: &mut [f32], sentences: &Sentences, buffers: &mut Buffers) {
        let Buffers {
            input,
            wide,
            context,
            y,
            rows,
        } = buffers;
        let input = self.connection.enter(x, input);
        self.qkv.apply(&mut InputRows::new(input, self.heads.width, rows), wide);
        attend_sentences(wide, sentences, self.heads.count, self.heads.scale, context);
        self.output
            .apply(&mut InputRows::new(context, self.heads.width, rows), y);
        self.connection.leave(x, y);
    }

    /// Replaces the newest token of every hypothesis and adds its keys and values to the cache.
    pub(super) fn step(&self, x: &mut [f32], cache: &mut SelfCache, slots: &[Vec<u32>], buffers: &mut Buffers) {
        let Buffers {
            input,
            wide,
            context,
            y,
            rows,
        } = buffers;
        let input = self.connection.enter(x, input);
        self.qkv.apply(&mut InputRows::new(input, self.heads.width, rows), wide);
        cache.append(wide, self.heads.width);
        let attention = self.heads.decoding();
        attention.to_hypotheses((wide, 3 * self.heads.width), cache.blocks(), slots, context);
        self.output
            .apply(&mut InputRows::new(context, self.heads.width, rows), y);
        self.connection.leave(x, y);
    }
}

/// Attention of the decoder to the encoder's output.
#[derive(Debug)]
pub(super) struct PreparedCrossAttention {
    q: PreparedLinear,
    kv: PreparedLinear,
    output: PreparedLinear,
    connection: Connection,
    heads: Heads,
}

impl PreparedCrossAttention {
    /// Packs the parameters of a sublayer.
    pub(super) fn new(packed: &[f32], around: Around, heads: Heads, compute: InferenceCompute) -> Self {
        let d = heads.width;
        let lengths = [d * d, d, 2 * d * d, 2 * d, d * d, d];
        let ([q, q_bias, kv, kv_bias, output, output_bias], scale_shift) = cut(packed, lengths);
        Self {
            q: PreparedLinear::new(q, Some(q_bias), d, compute),
            kv: PreparedLinear::new(kv, Some(kv_bias), d, compute),
            output: PreparedLinear::new(output, Some(output_bias), d, compute),
            connection: Connection::new(around, scale_shift),
            heads,
        }
    }

    /// The sizes of the packed weights in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.q.bytes() + self.kv.bytes() + self.output.bytes()
    }

    /// The keys and values of the encoder's output: `[n, 2 d]`.
    pub(super) fn memory(&self, encoded: &[f32], buffers: &mut Buffers) -> Vec<f32> {
        let mut memory = Vec::new();
        self.kv.apply(
            &mut InputRows::new(encoded, self.heads.width, &mut buffers.rows),
            &mut memory,
        );
        memory
    }

    /// Replaces the newest token of every hypothesis, which sees the rows of `memory` that `sources` names. The weights
    /// of heads are added to `recorded`.
    pub(super) fn step(
        &self,
        x: &mut [f32],
        memory: &[f32],
        sources: &[(usize, usize)],
        buffers: &mut Buffers,
        recorded: Option<RecordedHeads>,
    ) {
        let Buffers {
            input,
            wide,
            context,
            y,
            rows,
        } = buffers;
        let input = self.connection.enter(x, input);
        self.q.apply(&mut InputRows::new(input, self.heads.width, rows), wide);
        self.heads
            .decoding()
            .to_memory(wide, memory, sources, context, recorded);
        self.output
            .apply(&mut InputRows::new(context, self.heads.width, rows), y);
        self.connection.leave(x, y);
    }
}

/// The position-wise feed-forward sublayer.
#[derive(Debug)]
pub(super) struct PreparedFeedForward {
    inner: PreparedLinear,
    outer: PreparedLinear,
    activation: Activation,
    connection: Connection,
    width: usize,
}

impl PreparedFeedForward {
    /// Packs the parameters of a sublayer; `inner` is the width between its two maps.
    pub(super) fn new(packed: &[f32], model: &ModelConfig, inner: usize, compute: InferenceCompute) -> Self {
        let d = model.d_model;
        let ([up, up_bias, down, down_bias], scale_shift) = cut(packed, [inner * d, inner, d * inner, d]);
        Self {
            inner: PreparedLinear::new(up, Some(up_bias), d, compute),
            outer: PreparedLinear::new(down, Some(down_bias), inner, compute),
            activation: model.activation.into(),
            connection: Connection::new(Around::new(model), scale_shift),
            width: d,
        }
    }

    /// The sizes of the packed weights in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.inner.bytes() + self.outer.bytes()
    }

    /// Replaces every row.
    pub(super) fn apply(&self, x: &mut [f32], buffers: &mut Buffers) {
        let Buffers {
            input, wide, y, rows, ..
        } = buffers;
        let input = self.connection.enter(x, input);
        self.inner.apply(&mut InputRows::new(input, self.width, rows), wide);
        self.activation.apply(wide);
        self.outer
            .apply(&mut InputRows::new(wide, self.inner.outputs(), rows), y);
        self.connection.leave(x, y);
    }
}

/// The normalisation after the last layer, which only pre-norm models have.
#[derive(Debug)]
pub(super) struct LastNorm(pub(super) Option<Vec<f32>>);

impl LastNorm {
    pub(super) fn apply(&self, x: &mut [f32]) {
        if let Some(scale_shift) = &self.0 {
            normalise_rows(x, scale_shift, EPSILON as f32);
        }
    }
}
