//! The sublayers on plain rows, with packed weights.

use super::state::{Buffers, SelfCache};
use crate::attention::{CrossAttention, SelfAttention, Settings};
use crate::feed_forward::FeedForward;
use crate::sublayer::EPSILON;
use crate::{ModelError, Norm};
use candle_core::Tensor;
use tallow_ops::inference::{
    DecodingAttention, InferenceCompute, InputRows, PreparedLinear, add, add_and_normalise, attend_sentences,
    normalise_rows,
};
use tallow_ops::{Activation, FeedForwardParts, Sentences};

/// A residual connection with its normalisation.
#[derive(Debug)]
struct Connection {
    norm: Norm,
    scale_shift: Vec<f32>,
}

impl Connection {
    fn of(norm: Norm, scale_shift: &Tensor) -> Result<Self, ModelError> {
        Ok(Self {
            norm,
            scale_shift: values(scale_shift)?,
        })
    }

    /// The input of the sublayer's function: `x` itself, or `x` normalised, in `input`.
    fn enter<'a>(&self, x: &'a [f32], input: &'a mut Vec<f32>) -> &'a [f32] {
        match self.norm {
            Norm::Post => x,
            Norm::Pre => {
                input.clear();
                input.extend_from_slice(x);
                normalise_rows(input, &self.scale_shift, EPSILON as f32);
                input
            }
        }
    }

    /// Adds the function's result `y` to `x`.
    fn leave(&self, x: &mut [f32], y: &[f32]) {
        match self.norm {
            Norm::Post => add_and_normalise(x, y, &self.scale_shift, EPSILON as f32),
            Norm::Pre => add(x, y),
        }
    }
}

/// The normalisation after the last layer, which only pre-norm models have.
#[derive(Debug)]
pub(super) struct LastNorm(Option<Vec<f32>>);

impl LastNorm {
    pub(super) fn of(scale_shift: Option<&Tensor>) -> Result<Self, ModelError> {
        Ok(Self(scale_shift.map(values).transpose()?))
    }

    pub(super) fn apply(&self, x: &mut [f32]) {
        if let Some(scale_shift) = &self.0 {
            normalise_rows(x, scale_shift, EPSILON as f32);
        }
    }
}

fn values(x: &Tensor) -> Result<Vec<f32>, ModelError> {
    Ok(x.flatten_all()?.to_vec1()?)
}

fn decoding(settings: Settings, width: usize) -> DecodingAttention {
    DecodingAttention {
        width,
        heads: settings.heads,
        scale: settings.scale as f32,
    }
}

/// Attention of a sequence to itself.
#[derive(Debug)]
pub(super) struct PreparedSelfAttention {
    qkv: PreparedLinear,
    output: PreparedLinear,
    connection: Connection,
    settings: Settings,
    width: usize,
}

impl PreparedSelfAttention {
    pub(super) fn of(layer: &SelfAttention, norm: Norm, compute: InferenceCompute) -> Result<Self, ModelError> {
        let parts = &layer.parts;
        Ok(Self {
            qkv: PreparedLinear::of(&parts.qkv_weight, Some(&parts.qkv_bias), compute)?,
            output: PreparedLinear::of(&parts.output_weight, Some(&parts.output_bias), compute)?,
            connection: Connection::of(norm, &parts.norm)?,
            settings: layer.settings,
            width: parts.output_weight.dim(0)?,
        })
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
        self.qkv.apply(&mut InputRows::new(input, self.width, rows), wide);
        attend_sentences(wide, sentences, self.settings.heads, self.settings.scale, context);
        self.output.apply(&mut InputRows::new(context, self.width, rows), y);
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
        self.qkv.apply(&mut InputRows::new(input, self.width, rows), wide);
        cache.append(wide, self.width);
        let attention = decoding(self.settings, self.width);
        attention.to_hypotheses((wide, 3 * self.width), cache.blocks(), slots, context);
        self.output.apply(&mut InputRows::new(context, self.width, rows), y);
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
    settings: Settings,
    width: usize,
}

impl PreparedCrossAttention {
    pub(super) fn of(layer: &CrossAttention, norm: Norm, compute: InferenceCompute) -> Result<Self, ModelError> {
        let parts = &layer.parts;
        Ok(Self {
            q: PreparedLinear::of(&parts.q_weight, Some(&parts.q_bias), compute)?,
            kv: PreparedLinear::of(&parts.kv_weight, Some(&parts.kv_bias), compute)?,
            output: PreparedLinear::of(&parts.output_weight, Some(&parts.output_bias), compute)?,
            connection: Connection::of(norm, &parts.norm)?,
            settings: layer.settings,
            width: parts.output_weight.dim(0)?,
        })
    }

    /// The keys and values of the encoder's output: `[n, 2 d]`.
    pub(super) fn memory(&self, encoded: &[f32], buffers: &mut Buffers) -> Vec<f32> {
        let mut memory = Vec::new();
        self.kv
            .apply(&mut InputRows::new(encoded, self.width, &mut buffers.rows), &mut memory);
        memory
    }

    /// Replaces the newest token of every hypothesis, which sees the rows of `memory` that `sources` names.
    pub(super) fn step(&self, x: &mut [f32], memory: &[f32], sources: &[(usize, usize)], buffers: &mut Buffers) {
        let Buffers {
            input,
            wide,
            context,
            y,
            rows,
        } = buffers;
        let input = self.connection.enter(x, input);
        self.q.apply(&mut InputRows::new(input, self.width, rows), wide);
        decoding(self.settings, self.width).to_memory(wide, memory, sources, context);
        self.output.apply(&mut InputRows::new(context, self.width, rows), y);
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
    pub(super) fn of(
        layer: &FeedForward,
        norm: Norm,
        width: usize,
        compute: InferenceCompute,
    ) -> Result<Self, ModelError> {
        let parts = FeedForwardParts::of(&layer.packed, width, layer.inner)?;
        Ok(Self {
            inner: PreparedLinear::of(&parts.inner_weight, Some(&parts.inner_bias), compute)?,
            outer: PreparedLinear::of(&parts.outer_weight, Some(&parts.outer_bias), compute)?,
            activation: layer.activation,
            connection: Connection::of(norm, &parts.norm)?,
            width,
        })
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
