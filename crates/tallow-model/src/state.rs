//! The state of a decoder between tokens.

use crate::alignment_heads::StepAttention;
use crate::{AlignmentHeads, ModelError};
use candle_core::Tensor;
use tallow_ops::AttentionMask;

/// The number of positions that a new buffer has room for.
const FIRST_CAPACITY: usize = 16;

/// Keys and values of the positions so far, in buffers with spare room: `[rows, h, capacity, k]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct SelfCache(Option<(Tensor, Tensor)>);

impl SelfCache {
    /// Writes one position and returns all positions up to it: `[rows, h, position + 1, k]`.
    pub(crate) fn append(&mut self, k: &Tensor, v: &Tensor, position: usize) -> Result<(Tensor, Tensor), ModelError> {
        let (rows, heads, _, width) = k.dims4()?;
        let capacity = self.0.as_ref().map_or(Ok(0), |(keys, _)| keys.dim(2))?;
        if position >= capacity {
            let wanted = (capacity * 2).max(FIRST_CAPACITY).max(position + 1);
            let grow = |old: Option<&Tensor>| -> Result<Tensor, ModelError> {
                let buffer = Tensor::zeros((rows, heads, wanted, width), k.dtype(), k.device())?;
                if let Some(old) = old {
                    buffer.slice_set(old, 2, 0)?;
                }
                Ok(buffer)
            };
            let old = self.0.as_ref();
            self.0 = Some((grow(old.map(|o| &o.0))?, grow(old.map(|o| &o.1))?));
        }
        let Some((keys, values)) = &self.0 else {
            return Err(ModelError::Batch("an empty decoder cache".into()));
        };
        keys.slice_set(&k.contiguous()?, 2, position)?;
        values.slice_set(&v.contiguous()?, 2, position)?;
        Ok((keys.narrow(2, 0, position + 1)?, values.narrow(2, 0, position + 1)?))
    }

    fn select(&mut self, rows: &[u32]) -> Result<(), ModelError> {
        if let Some((keys, values)) = &self.0 {
            let rows = Tensor::new(rows, keys.device())?;
            self.0 = Some((keys.index_select(&rows, 0)?, values.index_select(&rows, 0)?));
        }
        Ok(())
    }
}

/// The encoder's output as one layer's keys and values: `[sentences, h, s, k]`.
#[derive(Clone, Debug)]
pub(crate) struct CrossCache {
    pub(crate) keys: Tensor,
    pub(crate) values: Tensor,
}

/// The state of one decoder layer.
#[derive(Clone, Debug)]
pub(crate) struct LayerState {
    pub(crate) self_attention: SelfCache,
    /// None if the decoder does not see the source.
    pub(crate) cross_attention: Option<CrossCache>,
}

/// The state of a decoder between tokens: a value that a search reorders and shrinks.
///
/// Every sentence has the same number of hypotheses. The hypotheses of a sentence are adjacent rows: row = sentence *
/// hypotheses + hypothesis.
#[derive(Clone, Debug)]
pub struct DecoderState {
    pub(crate) layers: Vec<LayerState>,
    pub(crate) mask: AttentionMask,
    pub(crate) position: usize,
    sentences: usize,
    hypotheses: usize,
    /// The attention to the source; `None` if nobody asks for it.
    pub(crate) attention: Option<StepAttention>,
}

impl DecoderState {
    pub(crate) fn new(layers: Vec<LayerState>, mask: AttentionMask, sentences: usize) -> Self {
        Self {
            layers,
            mask,
            position: 0,
            sentences,
            hypotheses: 1,
            attention: None,
        }
    }

    /// Asks for the attention of these heads in the steps to come.
    pub fn record_attention(&mut self, heads: &AlignmentHeads) {
        self.attention = Some(StepAttention::new(heads));
    }

    /// The attention of every row's newest token to the source tokens of its sentence, if it was asked for: the mean of
    /// the heads. It may be longer than the sentence; what follows is zero. Valid from a step until the rows change.
    pub fn attention(&self) -> Option<&[Vec<f32>]> {
        Some(&self.attention.as_ref()?.weights)
    }

    /// The number of sentences that are still being decoded.
    pub fn sentences(&self) -> usize {
        self.sentences
    }

    /// The number of rows of a batch: sentences times hypotheses.
    pub fn rows(&self) -> usize {
        self.sentences * self.hypotheses
    }

    /// The number of tokens decoded so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Chooses the hypotheses that go on: the new row `i` continues the old row `rows[i]`. Every sentence gets the same
    /// number of rows, which may differ from that before. A row must stay within its sentence.
    ///
    /// # Errors
    /// When the rows do not divide among the sentences, or a row leaves its sentence.
    pub fn reorder(&mut self, rows: &[u32]) -> Result<(), ModelError> {
        let hypotheses = rows.len() / self.sentences.max(1);
        let stays = |(i, row): (usize, &u32)| *row as usize / self.hypotheses == i / hypotheses;
        if hypotheses == 0 || rows.len() != hypotheses * self.sentences || !rows.iter().enumerate().all(stays) {
            return Err(ModelError::Batch(format!(
                "rows {rows:?} do not continue {} rows of {} sentences",
                self.rows(),
                self.sentences
            )));
        }
        let is_same = rows.len() == self.rows() && rows.iter().enumerate().all(|(i, row)| *row as usize == i);
        self.hypotheses = hypotheses;
        if is_same { Ok(()) } else { self.select_rows(rows) }
    }

    /// Keeps only the given sentences, in the given order.
    ///
    /// # Errors
    /// When a sentence is not in the state.
    pub fn keep(&mut self, sentences: &[u32]) -> Result<(), ModelError> {
        let identity = sentences
            .iter()
            .enumerate()
            .all(|(i, sentence)| *sentence as usize == i);
        if identity && sentences.len() == self.sentences {
            return Ok(());
        }
        if sentences.is_empty() || sentences.iter().any(|sentence| *sentence as usize >= self.sentences) {
            return Err(ModelError::Batch(format!(
                "sentences {sentences:?} are not among {}",
                self.sentences
            )));
        }
        let hypotheses = self.hypotheses as u32;
        let rows: Vec<u32> = sentences
            .iter()
            .flat_map(|s| s * hypotheses..(s + 1) * hypotheses)
            .collect();
        self.mask = self.mask.select(sentences)?;
        self.sentences = sentences.len();
        for cache in self
            .layers
            .iter_mut()
            .filter_map(|layer| layer.cross_attention.as_mut())
        {
            let indices = Tensor::new(sentences, cache.keys.device())?;
            cache.keys = cache.keys.index_select(&indices, 0)?;
            cache.values = cache.values.index_select(&indices, 0)?;
        }
        self.select_rows(&rows)
    }

    fn select_rows(&mut self, rows: &[u32]) -> Result<(), ModelError> {
        self.layers
            .iter_mut()
            .try_for_each(|layer| layer.self_attention.select(rows))
    }
}
