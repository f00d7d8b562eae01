//! Attention weights, kept on request.

use candle_core::Tensor;
use std::sync::{Mutex, PoisonError};

/// Which attention of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Block {
    /// The encoder's attention to itself.
    EncoderSelf,
    /// The decoder's attention to itself.
    DecoderSelf,
    /// The decoder's attention to the encoder.
    DecoderCross,
}

/// The weights of all heads of one attention block.
#[derive(Clone, Debug)]
pub struct RecordedAttention {
    /// Which attention of the layer.
    pub block: Block,
    /// The layer, from 0.
    pub layer: usize,
    /// The weights, rows adding up to one: `[b, h, t, s]`, with `t` and `s` as long as the longest sentence. Keys that
    /// are not there have a weight of zero; rows of queries that are not there mean nothing.
    pub weights_bhts: Tensor,
}

/// Collects the attention weights of a forward pass that it is lent to.
#[derive(Debug, Default)]
pub struct AttentionRecord(Mutex<Vec<RecordedAttention>>);

impl AttentionRecord {
    /// An empty record.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn push(&self, block: Block, layer: usize, weights_bhts: Tensor) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(RecordedAttention {
                block,
                layer,
                weights_bhts,
            });
    }

    /// What was recorded, in the order of the pass.
    pub fn into_inner(self) -> Vec<RecordedAttention> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
