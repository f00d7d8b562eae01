//! The stacks of layers: what they read, and what their sublayers add.

use super::Piece;
use super::heads::Attention;
use super::numbers::{Matrix, matrix, norms, rows, short};
use crate::Result;
use serde::Serialize;
use tallow_model::{AttentionTrace, Block, FeedForwardTrace, StackTrace};

/// One stack of layers.
#[derive(Clone, Debug, Serialize)]
pub struct Stack {
    /// The tokens that it reads.
    pub tokens: Vec<Piece>,
    /// The embedding of every token, times the scale: `[n, d]`.
    pub embedding: Matrix,
    /// What the first layer reads, embeddings and positions: `[n, d]`.
    pub input: Matrix,
    /// For every token, the place among the sentence's whose vector is nearest by angle to what the first layer reads;
    /// none if the model has no positions.
    pub nearest_position: Option<Vec<usize>>,
    /// The attention of its layers.
    pub attention: Vec<Attention>,
    /// What every sublayer adds to the residual stream, in their order.
    pub stream: Vec<Added>,
}

/// What a sublayer adds to the residual stream.
#[derive(Clone, Debug, Serialize)]
pub struct Added {
    /// The layer, from 0.
    pub layer: usize,
    /// `self-attention`, `cross-attention` or `feed-forward`.
    pub sublayer: &'static str,
    /// The norm of what it adds, for each token.
    #[serde(serialize_with = "short")]
    pub added: Vec<f32>,
    /// The norm of the stream after it, for each token.
    #[serde(serialize_with = "short")]
    pub stream: Vec<f32>,
    /// In a feed-forward layer, the share of its units that are above zero, for each token.
    pub units_on: Option<Vec<f32>>,
}

impl Stack {
    pub(super) fn new(trace: &StackTrace, tokens: Vec<Piece>, is_decoder: bool) -> Result<Self> {
        let (mut attention, mut stream) = (Vec::new(), Vec::new());
        for (layer, of_layer) in trace.layers.iter().enumerate() {
            let own = if is_decoder {
                Block::DecoderSelf
            } else {
                Block::EncoderSelf
            };
            attention.push(Attention::new(own, layer, &of_layer.self_attention)?);
            stream.push(Added::of_attention(layer, "self-attention", &of_layer.self_attention)?);
            if let Some(cross) = &of_layer.cross_attention {
                attention.push(Attention::new(Block::DecoderCross, layer, cross)?);
                stream.push(Added::of_attention(layer, "cross-attention", cross)?);
            }
            if let Some(feed_forward) = &of_layer.feed_forward {
                stream.push(Added::of_feed_forward(layer, feed_forward)?);
            }
        }
        Ok(Self {
            tokens,
            embedding: matrix(&trace.embedding)?,
            input: matrix(&trace.input)?,
            nearest_position: match &trace.positions {
                Some(positions) => Some(nearest(&rows(&trace.input)?, &rows(positions)?)),
                None => None,
            },
            attention,
            stream,
        })
    }
}

/// For every row, the number of the vector that is nearest by angle; the first of equals.
fn nearest(rows: &[Vec<f32>], vectors: &[Vec<f32>]) -> Vec<usize> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let of_row = |row: &Vec<f32>| {
        let likeness = |number: &usize| {
            let vector = &vectors[*number];
            dot(row, vector) / dot(vector, vector).sqrt().max(f32::MIN_POSITIVE)
        };
        let best = (0..vectors.len()).max_by(|a, b| likeness(a).total_cmp(&likeness(b)).then(b.cmp(a)));
        best.unwrap_or(0)
    };
    rows.iter().map(of_row).collect()
}

impl Added {
    fn of_attention(layer: usize, sublayer: &'static str, trace: &AttentionTrace) -> Result<Self> {
        Ok(Self {
            layer,
            sublayer,
            added: norms(&trace.output)?,
            stream: norms(&trace.stream)?,
            units_on: None,
        })
    }

    fn of_feed_forward(layer: usize, trace: &FeedForwardTrace) -> Result<Self> {
        let share = |row: &Vec<f32>| row.iter().filter(|unit| **unit > 0.0).count() as f32 / row.len().max(1) as f32;
        Ok(Self {
            layer,
            sublayer: "feed-forward",
            added: norms(&trace.output)?,
            stream: norms(&trace.stream)?,
            units_on: Some(rows(&trace.units)?.iter().map(share).collect()),
        })
    }
}
