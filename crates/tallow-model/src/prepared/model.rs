//! The prepared model and its state.

use super::layers::{LastNorm, PreparedCrossAttention, PreparedFeedForward, PreparedSelfAttention};
use super::state::{Buffers, LayerState, PackedState, SelfCache};
use crate::transformer::Input;
use crate::{Architecture, DecoderState, ModelError, Pass, Tokens, Transformer};
use candle_core::{DType, Device, Tensor};
use std::sync::Arc;
use tallow_ops::Sentences;
use tallow_ops::inference::{
    BestOfRows, BestPieces, InferenceCompute, InputRows, PreparedLinear, RowRequest, best_of_logits,
};

/// The number of pieces whose logits are computed at a time. The logits of a block stay in the second-level cache until
/// they have been used.
const BLOCK: usize = 512;

/// A Transformer for inference. On the CPU, its weights are packed for the kernels of this repository; elsewhere, it
/// runs Candle's operations, in f32. It is cheap to clone.
#[derive(Clone, Debug)]
pub struct PreparedTransformer {
    transformer: Transformer,
    packed: Option<Arc<Packed>>,
}

#[derive(Debug)]
struct Packed {
    source: Input,
    target: Input,
    encoder: Vec<(PreparedSelfAttention, PreparedFeedForward)>,
    encoder_norm: LastNorm,
    decoder: Vec<(PreparedSelfAttention, PreparedCrossAttention, PreparedFeedForward)>,
    decoder_norm: LastNorm,
    /// The output layer in blocks of [`BLOCK`] pieces.
    output: Vec<PreparedLinear>,
    width: usize,
}

/// The state of a decoder between tokens: a value that a search reorders and shrinks.
///
/// Every sentence has the same number of hypotheses. The hypotheses of a sentence are adjacent rows: row = sentence *
/// hypotheses + hypothesis.
#[derive(Debug)]
pub struct PreparedState(State);

#[derive(Debug)]
enum State {
    Packed(PackedState),
    Tensors(DecoderState),
}

impl PreparedTransformer {
    /// Prepares a model. Later changes of its parameters have no effect.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn new(transformer: Transformer, compute: InferenceCompute) -> Result<Self, ModelError> {
        let table = &transformer.output_vd;
        let packed = if table.device().is_cpu() && table.dtype() == DType::F32 {
            Some(Arc::new(Packed::of(&transformer, compute)?))
        } else {
            None
        };
        Ok(Self { transformer, packed })
    }

    /// The model itself.
    pub fn transformer(&self) -> &Transformer {
        &self.transformer
    }

    /// The architecture of the model.
    pub fn architecture(&self) -> &Architecture {
        self.transformer.architecture()
    }

    /// Reads the source and makes the decoder's state before the first token, with one row for each sentence.
    ///
    /// # Errors
    /// When an id is outside the vocabulary or a sentence is longer than the learned positions.
    pub fn start(&self, source: &Tokens) -> Result<PreparedState, ModelError> {
        Ok(PreparedState(match &self.packed {
            Some(packed) => State::Packed(packed.start(source)?),
            None => {
                let encoded = self.transformer.encode(source, Pass::default())?;
                State::Tensors(self.transformer.start(&encoded)?)
            }
        }))
    }

    /// Feeds one token to every row and returns the scores of the next token: `[rows, v]`.
    ///
    /// # Errors
    /// When the number of tokens differs from the number of rows, or an id is outside the vocabulary.
    pub fn step(&self, tokens: &[u32], state: &mut PreparedState) -> Result<Tensor, ModelError> {
        match (&mut state.0, &self.packed) {
            (State::Packed(state), Some(packed)) => {
                packed.step(tokens, state)?;
                packed.logits(state, self.architecture().target_vocabulary)
            }
            (State::Tensors(state), _) => self.transformer.step(tokens, state),
            _ => Err(foreign()),
        }
    }

    /// Feeds one token to every row and returns the `count` best next pieces of every row; `None` for rows whose scores
    /// are not finite. It does not store the scores of all pieces.
    ///
    /// # Errors
    /// As [`Self::step`], and when there is not one request for each row.
    pub fn best(
        &self,
        tokens: &[u32],
        state: &mut PreparedState,
        count: usize,
        requests: &[RowRequest],
    ) -> Result<Vec<Option<BestPieces>>, ModelError> {
        if requests.len() != tokens.len() {
            return Err(ModelError::Batch(format!(
                "{} requests for {} rows",
                requests.len(),
                tokens.len()
            )));
        }
        let classes = self.architecture().classes();
        match (&mut state.0, &self.packed) {
            (State::Packed(state), Some(packed)) => {
                packed.step(tokens, state)?;
                Ok(packed.best(state, classes, count, requests))
            }
            (State::Tensors(state), _) => {
                let logits = self.transformer.step(tokens, state)?;
                Ok(best_of_logits(&logits, classes, count, requests)?)
            }
            _ => Err(foreign()),
        }
    }
}

fn rows_of(x: &Tensor) -> Result<Vec<f32>, ModelError> {
    Ok(x.flatten_all()?.to_vec1()?)
}

fn foreign() -> ModelError {
    ModelError::Batch("the decoding state belongs to another model".into())
}

impl PreparedState {
    /// The number of sentences that are still being decoded.
    pub fn sentences(&self) -> usize {
        match &self.0 {
            State::Packed(state) => state.sentences,
            State::Tensors(state) => state.sentences(),
        }
    }

    /// The number of rows of a batch: sentences times hypotheses.
    pub fn rows(&self) -> usize {
        match &self.0 {
            State::Packed(state) => state.slots.len(),
            State::Tensors(state) => state.rows(),
        }
    }

    /// Chooses the hypotheses that go on; see [`DecoderState::reorder`].
    ///
    /// # Errors
    /// When the rows do not divide among the sentences, or a row leaves its sentence.
    pub fn reorder(&mut self, rows: &[u32]) -> Result<(), ModelError> {
        match &mut self.0 {
            State::Packed(state) => state.reorder(rows),
            State::Tensors(state) => state.reorder(rows),
        }
    }

    /// Keeps only the given sentences, in the given order.
    ///
    /// # Errors
    /// When a sentence is not in the state.
    pub fn keep(&mut self, sentences: &[u32]) -> Result<(), ModelError> {
        match &mut self.0 {
            State::Packed(state) => state.keep(sentences),
            State::Tensors(state) => state.keep(sentences),
        }
    }
}

impl Packed {
    fn of(transformer: &Transformer, compute: InferenceCompute) -> Result<Self, ModelError> {
        let model = &transformer.architecture().model;
        let (norm, width) = (model.norm, model.d_model);
        let encoder = transformer.encoder.layers.iter().map(|(attention, feed_forward)| {
            Ok((
                PreparedSelfAttention::of(attention, norm, compute)?,
                PreparedFeedForward::of(feed_forward, norm, width, compute)?,
            ))
        });
        let decoder = transformer.decoder.layers.iter().map(|layer| {
            Ok((
                PreparedSelfAttention::of(&layer.self_attention, norm, compute)?,
                PreparedCrossAttention::of(&layer.cross_attention, norm, compute)?,
                PreparedFeedForward::of(&layer.feed_forward, norm, width, compute)?,
            ))
        });
        let pieces = transformer.output_vd.dim(0)?;
        let bias = transformer.logits_bias.as_ref().map(Tensor::flatten_all).transpose()?;
        let output = (0..pieces).step_by(BLOCK).map(|first| {
            let count = BLOCK.min(pieces - first);
            let weight = transformer.output_vd.narrow(0, first, count)?;
            let bias = bias.as_ref().map(|bias| bias.narrow(0, first, count)).transpose()?;
            Ok(PreparedLinear::of(&weight, bias.as_ref(), compute)?)
        });
        Ok(Self {
            source: transformer.source.clone(),
            target: transformer.target.clone(),
            encoder: encoder.collect::<Result<_, ModelError>>()?,
            encoder_norm: LastNorm::of(transformer.encoder.last_norm.as_ref())?,
            decoder: decoder.collect::<Result<_, ModelError>>()?,
            decoder_norm: LastNorm::of(transformer.decoder.last_norm.as_ref())?,
            output: output.collect::<Result<_, ModelError>>()?,
            width,
        })
    }

    fn start(&self, source: &Tokens) -> Result<PackedState, ModelError> {
        let sentences = &source.sentences;
        let mut buffers = Buffers::default();
        let mut x = rows_of(&self.source.forward((&source.ids, sentences), 0, None)?)?;
        for (attention, feed_forward) in &self.encoder {
            attention.encode(&mut x, sentences, &mut buffers);
            feed_forward.apply(&mut x, &mut buffers);
        }
        self.encoder_norm.apply(&mut x);
        let layers = self.decoder.iter().map(|(_, cross_attention, _)| LayerState {
            cache: SelfCache::default(),
            memory: cross_attention.memory(&x, &mut buffers),
        });
        Ok(PackedState {
            layers: layers.collect(),
            slots: vec![Vec::new(); sentences.count()],
            sources: sentences.ranges().map(|rows| (rows.start, rows.len())).collect(),
            position: 0,
            sentences: sentences.count(),
            buffers,
            x: Vec::new(),
            logits: Vec::new(),
        })
    }

    /// Feeds one token to every row; `state.x` then holds the last hidden states.
    fn step(&self, tokens: &[u32], state: &mut PackedState) -> Result<(), ModelError> {
        if tokens.len() != state.slots.len() {
            return Err(ModelError::Batch(format!(
                "{} tokens for {} rows",
                tokens.len(),
                state.slots.len()
            )));
        }
        let singles = Sentences::new(&vec![1; tokens.len()])?;
        let ids = Tensor::from_slice(tokens, tokens.len(), &Device::Cpu)?;
        state.x = rows_of(&self.target.forward((&ids, &singles), state.position, None)?)?;
        for (row, slots) in state.slots.iter_mut().enumerate() {
            slots.push(row as u32);
        }
        let x = &mut state.x;
        for ((self_attention, cross_attention, feed_forward), layer) in self.decoder.iter().zip(&mut state.layers) {
            self_attention.step(x, &mut layer.cache, &state.slots, &mut state.buffers);
            cross_attention.step(x, &layer.memory, &state.sources, &mut state.buffers);
            feed_forward.apply(x, &mut state.buffers);
        }
        self.decoder_norm.apply(x);
        state.position += 1;
        Ok(())
    }

    /// The logits of the last hidden states, `[rows, v]`.
    fn logits(&self, state: &mut PackedState, vocabulary: usize) -> Result<Tensor, ModelError> {
        let rows = state.slots.len();
        let mut logits = vec![0f32; rows * vocabulary];
        let mut x = InputRows::new(&state.x, self.width, &mut state.buffers.rows);
        for (number, block) in self.output.iter().enumerate() {
            block.apply(&mut x, &mut state.logits);
            let lines = logits.chunks_exact_mut(vocabulary);
            for (line, part) in lines.zip(state.logits.chunks_exact(block.outputs())) {
                line[number * BLOCK..][..part.len()].copy_from_slice(part);
            }
        }
        Ok(Tensor::from_vec(logits, (rows, vocabulary), &Device::Cpu)?)
    }

    fn best(
        &self,
        state: &mut PackedState,
        classes: usize,
        count: usize,
        requests: &[RowRequest],
    ) -> Vec<Option<BestPieces>> {
        let mut best = BestOfRows::new(count, requests);
        let mut x = InputRows::new(&state.x, self.width, &mut state.buffers.rows);
        for (number, block) in self.output.iter().enumerate() {
            let first = number * BLOCK;
            // `<pad>`, the last piece, is never predicted.
            let width = block.outputs().min(classes.saturating_sub(first));
            if width > 0 {
                block.apply(&mut x, &mut state.logits);
                best.add(first as u32, &state.logits, (width, block.outputs()));
            }
        }
        best.finish()
    }
}
