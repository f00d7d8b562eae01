//! The decoder's memory of a batch, and the buffers of a step.

use super::restriction::Restriction;
use crate::ModelError;
use crate::alignment_heads::StepAttention;
use tallow_ops::inference::Scratch;

/// Memory that every step uses again.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// The normalised input of a sublayer.
    pub(super) input: Vec<f32>,
    /// Queries, keys and values, or the inner rows of a feed-forward layer.
    pub(super) wide: Vec<f32>,
    /// The context of attention.
    pub(super) context: Vec<f32>,
    /// The output of a sublayer's function.
    pub(super) y: Vec<f32>,
    /// The rows of activations in the form of the weights.
    pub(super) rows: Scratch,
}

/// Keys and values of one layer: for every position so far, a block of rows of `2 d` values.
///
/// Rows never move. Each hypothesis has a list of slots, which says in what row of each block its keys and values are.
/// So a search reorders these lists, and not the cache.
#[derive(Debug, Default)]
pub(super) struct SelfCache(Vec<Vec<f32>>);

impl SelfCache {
    /// Adds a block for the next position: the keys and values among rows of queries, keys and values.
    pub(super) fn append(&mut self, qkv: &[f32], width: usize) {
        let mut block = Vec::with_capacity(qkv.len() / 3 * 2);
        for row in qkv.chunks_exact(3 * width) {
            block.extend_from_slice(&row[width..]);
        }
        self.0.push(block);
    }

    pub(super) fn blocks(&self) -> &[Vec<f32>] {
        &self.0
    }
}

/// The memory of one decoder layer.
#[derive(Debug)]
pub(super) struct LayerState {
    pub(super) cache: SelfCache,
    /// The encoder's output as keys and values, `[s, 2 d]`.
    pub(super) memory: Vec<f32>,
}

/// The state of a decoder between tokens.
#[derive(Debug)]
pub(super) struct PackedState {
    pub(super) layers: Vec<LayerState>,
    /// For each hypothesis, its row in the block of every position.
    pub(super) slots: Vec<Vec<u32>>,
    /// For each hypothesis, the first source token of its sentence and their number.
    pub(super) sources: Vec<(usize, usize)>,
    pub(super) position: usize,
    pub(super) sentences: usize,
    pub(super) buffers: Buffers,
    pub(super) x: Vec<f32>,
    pub(super) logits: Vec<f32>,
    /// The pieces that each sentence may be translated with, if not all.
    pub(super) restriction: Option<Restriction>,
    /// The attention to the source; `None` if nobody asks for it.
    pub(super) attention: Option<StepAttention>,
}

impl PackedState {
    /// Chooses the hypotheses that go on; every sentence gets the same number of rows.
    pub(super) fn reorder(&mut self, rows: &[u32]) -> Result<(), ModelError> {
        let before = self.slots.len() / self.sentences.max(1);
        let now = rows.len() / self.sentences.max(1);
        let stays = |(i, row): (usize, &u32)| *row as usize / before == i / now;
        if now == 0 || rows.len() != now * self.sentences || !rows.iter().enumerate().all(stays) {
            return Err(ModelError::Batch(format!(
                "rows {rows:?} do not continue {} rows of {} sentences",
                self.slots.len(),
                self.sentences
            )));
        }
        self.select(rows, self.sentences);
        Ok(())
    }

    /// Keeps only the given sentences, in the given order.
    pub(super) fn keep(&mut self, sentences: &[u32]) -> Result<(), ModelError> {
        if sentences.is_empty() || sentences.iter().any(|sentence| *sentence as usize >= self.sentences) {
            return Err(ModelError::Batch(format!(
                "sentences {sentences:?} are not among {}",
                self.sentences
            )));
        }
        let hypotheses = (self.slots.len() / self.sentences) as u32;
        let rows: Vec<u32> = sentences
            .iter()
            .flat_map(|sentence| sentence * hypotheses..(sentence + 1) * hypotheses)
            .collect();
        self.select(&rows, sentences.len());
        Ok(())
    }

    /// Chooses hypotheses: the new row `i` continues the old row `rows[i]`.
    fn select(&mut self, rows: &[u32], sentences: usize) {
        let mut slots = Vec::with_capacity(rows.len());
        let mut sources = Vec::with_capacity(rows.len());
        for row in rows {
            let mut of_row = Vec::with_capacity(self.position + 1);
            of_row.extend_from_slice(&self.slots[*row as usize]);
            slots.push(of_row);
            sources.push(self.sources[*row as usize]);
        }
        if let Some(restriction) = &mut self.restriction {
            restriction.select(rows);
        }
        self.slots = slots;
        self.sources = sources;
        self.sentences = sentences;
    }
}
