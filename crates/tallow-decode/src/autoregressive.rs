//! Autoregressive models: the interface between a search and a model.

use crate::DecodeError;
use candle_core::Tensor;
use std::sync::Arc;
use tallow_model::{
    AlignmentHeads, Architecture, BestPieces, DecoderState, Pass, PreparedState, PreparedTransformer, RowRequest,
    Tokens, Transformer,
};
use tallow_ops::inference::best_of_logits;

/// A model that predicts target tokens one by one: a Transformer, or an ensemble of several.
///
/// Every sentence of a batch has the same number of hypotheses. The hypotheses of a sentence are adjacent rows: row =
/// `sentence * hypotheses + hypothesis`.
pub trait Autoregressive: Send + Sync {
    /// The decoding state: a memory of the tokens so far.
    type State: AutoregressiveState;

    /// The vocabularies, the ids of special pieces and the limits of the model.
    fn architecture(&self) -> &Architecture;

    /// Reads the source and returns the state before the first token, with one row for each sentence.
    ///
    /// # Errors
    /// When an id is outside the vocabulary or a sentence is longer than learned positions.
    fn start(&self, source: &Tokens) -> Result<Self::State, DecodeError>;

    /// [`Self::start`] for sentences each of which may be translated with some pieces only, ascending. The
    /// probabilities of a sentence are those among its own pieces.
    ///
    /// # Errors
    /// Those of [`Self::start`], and when the model cannot be restricted, as by default.
    fn start_among(&self, _source: &Tokens, _candidates: &[Vec<u32>]) -> Result<Self::State, DecodeError> {
        Err(DecodeError::NoShortlists)
    }

    /// Feeds one token to every row and returns the logits of the next token, `[rows, v]`, `<pad>` included. The
    /// softmax of the logits over all pieces but `<pad>` is the distribution, so log-probabilities are valid logits
    /// too.
    ///
    /// # Errors
    /// When the number of tokens differs from the number of rows.
    fn step(&self, last: &[u32], state: &mut Self::State) -> Result<Tensor, DecodeError>;

    /// Feeds one token to every row and returns the `count` best next pieces of every row.
    ///
    /// The default implementation selects from the logits of [`Self::step`]. A model can do better, because it need not
    /// store whole rows of logits.
    ///
    /// # Errors
    /// When the number of tokens or requests differs from the number of rows, or a row has no finite scores.
    fn best(
        &self,
        last: &[u32],
        state: &mut Self::State,
        count: usize,
        requests: &[RowRequest],
    ) -> Result<Vec<BestPieces>, DecodeError> {
        let classes = self.architecture().classes();
        all_finite(best_of_logits(&self.step(last, state)?, classes, count, requests)?)
    }

    /// Asks for the mean attention of some heads in the steps to come: see [`AlignmentHeads`].
    ///
    /// # Errors
    /// When the model has no such heads, or records no attention, as by default.
    fn record_attention(&self, state: &mut Self::State, heads: &[(usize, usize)]) -> Result<(), DecodeError> {
        let _ = (state, heads);
        Err(DecodeError::NoAttention)
    }
}

/// The answers, if all rows have one.
fn all_finite(rows: Vec<Option<BestPieces>>) -> Result<Vec<BestPieces>, DecodeError> {
    rows.into_iter().map(|row| row.ok_or(DecodeError::NotFinite)).collect()
}

/// A decoding state that a search can reorder and shrink.
pub trait AutoregressiveState: Send {
    /// The number of sentences that are still being decoded.
    fn sentences(&self) -> usize;

    /// Chooses the rows that go on: the new row `i` continues the old row `rows[i]`. A row must stay within its
    /// sentence. Every sentence gets the same number of rows, which may differ from that before.
    ///
    /// # Errors
    /// When the rows do not divide among the sentences, or a row leaves its sentence.
    fn reorder(&mut self, rows: &[u32]) -> Result<(), DecodeError>;

    /// Keeps only the given sentences, in the given order.
    ///
    /// # Errors
    /// When a sentence is not in the state.
    fn keep(&mut self, sentences: &[u32]) -> Result<(), DecodeError>;

    /// The attention of every row's newest token to the source tokens of its sentence, if it was asked for
    /// ([`Autoregressive::record_attention`]). Valid from a step until the rows change.
    fn attention(&self) -> Option<Vec<Arc<[f32]>>> {
        None
    }
}

impl Autoregressive for Transformer {
    type State = DecoderState;

    fn architecture(&self) -> &Architecture {
        self.architecture()
    }

    fn start(&self, source: &Tokens) -> Result<DecoderState, DecodeError> {
        Ok(self.start(&self.encode(source, Pass::default())?)?)
    }

    fn step(&self, last: &[u32], state: &mut DecoderState) -> Result<Tensor, DecodeError> {
        Ok(self.step(last, state)?)
    }

    fn record_attention(&self, state: &mut DecoderState, heads: &[(usize, usize)]) -> Result<(), DecodeError> {
        if !self.architecture().model.cross_attention {
            return Err(DecodeError::NoAttention);
        }
        state.record_attention(&AlignmentHeads::new(heads, &self.architecture().model)?);
        Ok(())
    }
}

impl AutoregressiveState for DecoderState {
    fn sentences(&self) -> usize {
        self.sentences()
    }

    fn reorder(&mut self, rows: &[u32]) -> Result<(), DecodeError> {
        Ok(self.reorder(rows)?)
    }

    fn keep(&mut self, sentences: &[u32]) -> Result<(), DecodeError> {
        Ok(self.keep(sentences)?)
    }

    fn attention(&self) -> Option<Vec<Arc<[f32]>>> {
        Some(self.attention()?.iter().map(|row| row.as_slice().into()).collect())
    }
}

impl Autoregressive for PreparedTransformer {
    type State = PreparedState;

    fn architecture(&self) -> &Architecture {
        self.architecture()
    }

    fn start(&self, source: &Tokens) -> Result<PreparedState, DecodeError> {
        Ok(self.start(source)?)
    }

    fn start_among(&self, source: &Tokens, candidates: &[Vec<u32>]) -> Result<PreparedState, DecodeError> {
        Ok(self.start_among(source, candidates)?)
    }

    fn step(&self, last: &[u32], state: &mut PreparedState) -> Result<Tensor, DecodeError> {
        Ok(self.step(last, state)?)
    }

    fn best(
        &self,
        last: &[u32],
        state: &mut PreparedState,
        count: usize,
        requests: &[RowRequest],
    ) -> Result<Vec<BestPieces>, DecodeError> {
        all_finite(self.best(last, state, count, requests)?)
    }

    fn record_attention(&self, state: &mut PreparedState, heads: &[(usize, usize)]) -> Result<(), DecodeError> {
        if !self.architecture().model.cross_attention {
            return Err(DecodeError::NoAttention);
        }
        state.record_attention(&AlignmentHeads::new(heads, &self.architecture().model)?);
        Ok(())
    }
}

impl AutoregressiveState for PreparedState {
    fn sentences(&self) -> usize {
        self.sentences()
    }

    fn reorder(&mut self, rows: &[u32]) -> Result<(), DecodeError> {
        Ok(self.reorder(rows)?)
    }

    fn keep(&mut self, sentences: &[u32]) -> Result<(), DecodeError> {
        Ok(self.keep(sentences)?)
    }

    fn attention(&self) -> Option<Vec<Arc<[f32]>>> {
        Some(self.attention()?.iter().map(|row| row.as_slice().into()).collect())
    }
}
