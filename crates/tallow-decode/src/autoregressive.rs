//! The model as a search sees it.

use crate::DecodeError;
use candle_core::Tensor;
use tallow_model::{Architecture, DecoderState, Pass, Tokens, Transformer};

/// A model that predicts one target token after another: a Transformer, or several that vote.
///
/// Every sentence of a batch has the same number of hypotheses, side by side; a row is `sentence * hypotheses +
/// hypothesis`.
pub trait Autoregressive: Send + Sync {
    /// The memory of the tokens so far.
    type State: AutoregressiveState;

    /// The vocabularies, the ids of special pieces and the limits of the model.
    fn architecture(&self) -> &Architecture;

    /// Reads the source; the state before the first token, with `hypotheses` rows for each sentence.
    ///
    /// # Errors
    /// When an id is outside the vocabulary or a sentence is longer than learned positions.
    fn start(&self, source: &Tokens, hypotheses: usize) -> Result<Self::State, DecodeError>;

    /// Feeds one token to every row and returns logits of the next: `[rows, v]`, `<pad>` included. Their softmax over
    /// all pieces but `<pad>` is the distribution; so log-probabilities are logits, too.
    ///
    /// # Errors
    /// When there is not one token per row.
    fn step(&self, last: &[u32], state: &mut Self::State) -> Result<Tensor, DecodeError>;
}

/// A memory of tokens that a search reorders and shrinks.
pub trait AutoregressiveState: Send {
    /// Sentences that are still decoded.
    fn sentences(&self) -> usize;

    /// Row `i` continues what row `rows[i]` was. Rows stay within their sentence.
    ///
    /// # Errors
    /// When the rows are not as many as the state's, or one leaves its sentence.
    fn reorder(&mut self, rows: &[u32]) -> Result<(), DecodeError>;

    /// Drops every sentence that is not in `sentences`, and brings the others into that order.
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
