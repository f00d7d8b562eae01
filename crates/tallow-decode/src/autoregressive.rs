//! Autoregressive models: the interface between a search and a model.

use crate::DecodeError;
use candle_core::Tensor;
use tallow_model::{Architecture, DecoderState, Pass, Tokens, Transformer};

/// A model that predicts target tokens one by one: a Transformer, or an ensemble of several.
///
/// Every sentence of a batch has the same number of hypotheses. The hypotheses of a sentence are adjacent rows: row =
/// `sentence * hypotheses + hypothesis`.
pub trait Autoregressive: Send + Sync {
    /// The decoding state: a memory of the tokens so far.
    type State: AutoregressiveState;

    /// The vocabularies, the ids of special pieces and the limits of the model.
    fn architecture(&self) -> &Architecture;

    /// Reads the source and returns the state before the first token, with `hypotheses` rows for each sentence.
    ///
    /// # Errors
    /// When an id is outside the vocabulary or a sentence is longer than learned positions.
    fn start(&self, source: &Tokens, hypotheses: usize) -> Result<Self::State, DecodeError>;

    /// Feeds one token to every row and returns the logits of the next token, `[rows, v]`, `<pad>` included. The
    /// softmax of the logits over all pieces but `<pad>` is the distribution, so log-probabilities are valid logits
    /// too.
    ///
    /// # Errors
    /// When the number of tokens differs from the number of rows.
    fn step(&self, last: &[u32], state: &mut Self::State) -> Result<Tensor, DecodeError>;
}

/// A decoding state that a search can reorder and shrink.
pub trait AutoregressiveState: Send {
    /// The number of sentences that are still being decoded.
    fn sentences(&self) -> usize;

    /// Reorders the rows: the new row `i` continues the old row `rows[i]`. A row must stay within its sentence.
    ///
    /// # Errors
    /// When the number of `rows` differs from the number of rows of the state, or a row leaves its sentence.
    fn reorder(&mut self, rows: &[u32]) -> Result<(), DecodeError>;

    /// Keeps only the given sentences, in the given order.
    ///
    /// # Errors
    /// When a sentence is not in the state.
    fn keep(&mut self, sentences: &[u32]) -> Result<(), DecodeError>;
}

impl Autoregressive for Transformer {
    type State = DecoderState;

    fn architecture(&self) -> &Architecture {
        self.architecture()
    }

    fn start(&self, source: &Tokens, hypotheses: usize) -> Result<DecoderState, DecodeError> {
        Ok(self.start(&self.encode(source, Pass::default())?, hypotheses)?)
    }

    fn step(&self, last: &[u32], state: &mut DecoderState) -> Result<Tensor, DecodeError> {
        Ok(self.step(last, state)?)
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
}
