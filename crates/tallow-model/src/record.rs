//! Recorded attention weights.

use candle_core::Tensor;
use std::sync::{Mutex, PoisonError};

/// The kind of attention in a layer.
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
    /// The kind of attention.
    pub block: Block,
    /// The layer, from 0.
    pub layer: usize,
    /// The weights `[b, h, t, s]`, where `t` and `s` are the lengths of the longest sentences. Rows add up to one. Keys
    /// beyond the end of a sentence have a weight of zero; rows of queries beyond the end have no meaning.
    pub weights_bhts: Tensor,
}

/// A collector for the attention weights of a forward pass.
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

    /// The recorded weights, in the order of the pass.
    pub fn into_inner(self) -> Vec<RecordedAttention> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
