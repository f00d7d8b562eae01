//! The prepared model and its state.

use super::embedding::Embedding;
use super::layers::{Heads, LastNorm, PreparedCrossAttention, PreparedFeedForward, PreparedSelfAttention};
use super::parameters::{self, Parameters, Table};
use super::restriction::Restriction;
use super::state::{Buffers, LayerState, PackedState, SelfCache};
use crate::alignment_heads::StepAttention;
use crate::directory::Unopened;
use crate::sublayer::Around;
use crate::{AlignmentHeads, Architecture, DecoderState, ModelError, Pass, Tokens, Transformer};
use candle_core::{DType, Device, Tensor};
use std::sync::{Arc, OnceLock};

use tallow_ops::inference::{
    BestOfRows, BestPieces, InferenceCompute, InputRows, PreparedLinear, RowRequest, best_of_logits, in_parallel,
};

/// The number of pieces whose logits are computed at a time. The logits of a block stay in the second-level cache until
/// they have been used.
const BLOCK: usize = 512;

/// A Transformer for inference. On the CPU, its weights are packed for the kernels of this repository; elsewhere, it
/// runs Candle's operations, in f32. It is cheap to clone.
#[derive(Clone, Debug)]
pub struct PreparedTransformer {
    architecture: Architecture,
    engine: Engine,
    origin: Arc<Origin>,
}

#[derive(Clone, Debug)]
enum Engine {
    Packed(Arc<Packed>),
    /// Candle's operations.
    Tensors,
}

/// The model that was prepared.
#[derive(Debug)]
enum Origin {
    Model(Transformer),
    /// Files, and the model once it has been needed.
    Files(Arc<Unopened>, OnceLock<Transformer>),
}

impl Origin {
    fn model(&self) -> Result<&Transformer, ModelError> {
        match self {
            Self::Model(model) => Ok(model),
            Self::Files(files, opened) => {
                if opened.get().is_none() {
                    let model = files.to_model(&Device::Cpu)?.for_inference()?;
                    // Another thread may have been faster; the models are the same.
                    drop(opened.set(model));
                }
                opened.get().ok_or_else(foreign)
            }
        }
    }
}

/// A layer of the decoder, with the sublayers that the model has.
#[derive(Debug)]
struct PreparedDecoderLayer {
    self_attention: PreparedSelfAttention,
    cross_attention: Option<PreparedCrossAttention>,
    feed_forward: Option<PreparedFeedForward>,
}

#[derive(Debug)]
struct Packed {
    source: Embedding,
    target: Embedding,
    encoder: Vec<(PreparedSelfAttention, Option<PreparedFeedForward>)>,
    encoder_norm: LastNorm,
    decoder: Vec<PreparedDecoderLayer>,
    decoder_norm: LastNorm,
    /// The output layer in blocks of [`BLOCK`] pieces.
    output: Vec<PreparedLinear>,
    /// The same, not packed, and its bias, for batches that need some of the pieces only.
    output_table: Table,
    logits_bias: Option<Vec<f32>>,
    compute: InferenceCompute,
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
    Packed(Box<PackedState>),
    Tensors(DecoderState),
}

impl PreparedTransformer {
    /// Prepares a model. Later changes of its parameters have no effect.
    ///
    /// # Errors
    /// When the model is not in f32 on the CPU and `compute` is another format than f32.
    pub fn new(model: Transformer, compute: InferenceCompute) -> Result<Self, ModelError> {
        let architecture = model.architecture().clone();
        let table = &model.output_vd;
        let engine = if table.device().is_cpu() && table.dtype() == DType::F32 {
            let parameters = Parameters::of_model(&model);
            Engine::Packed(Arc::new(Packed::of(&architecture, &parameters, compute)?))
        } else if compute == InferenceCompute::F32 {
            Engine::Tensors
        } else {
            return Err(ModelError::Compute(compute));
        };
        Ok(Self {
            architecture,
            engine,
            origin: Arc::new(Origin::Model(model)),
        })
    }

    /// Prepares the model of files, for the CPU. The weights go from the files to their packed forms without a copy in
    /// between.
    pub(crate) fn of_files(files: Unopened, compute: InferenceCompute) -> Result<Self, ModelError> {
        let files = Arc::new(files);
        let parameters = Parameters::of_files(files.clone());
        let packed = Packed::of(&files.architecture, &parameters, compute)?;
        Ok(Self {
            architecture: files.architecture.clone(),
            engine: Engine::Packed(Arc::new(packed)),
            origin: Arc::new(Origin::Files(files, OnceLock::new())),
        })
    }

    /// The model itself, in f32 and not packed: for passes over whole targets, and to record attention.
    ///
    /// # Errors
    /// When the model was prepared from files and these can no longer be read.
    pub fn transformer(&self) -> Result<&Transformer, ModelError> {
        self.origin.model()
    }

    /// The architecture of the model.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The size of the packed weights in memory, in bytes; `None` where Candle's operations run.
    pub fn packed_bytes(&self) -> Option<usize> {
        match &self.engine {
            Engine::Packed(packed) => Some(packed.bytes()),
            Engine::Tensors => None,
        }
    }

    /// Reads the source and makes the decoder's state before the first token, with one row for each sentence.
    ///
    /// # Errors
    /// When an id is outside the vocabulary or a sentence is longer than the learned positions.
    pub fn start(&self, source: &Tokens) -> Result<PreparedState, ModelError> {
        Ok(PreparedState(match &self.engine {
            Engine::Packed(packed) => State::Packed(Box::new(packed.start(source)?)),
            Engine::Tensors => {
                let model = self.transformer()?;
                State::Tensors(model.start(&model.encode(source, Pass::default())?)?)
            }
        }))
    }

    /// [`Self::start`] for sentences each of which may be translated with some pieces only. The probabilities of a
    /// sentence are those among its own pieces, whatever sentences are beside it.
    ///
    /// # Errors
    /// Those of [`Self::start`]; when there are not pieces for every sentence, or pieces that cannot be predicted; when
    /// Candle's operations run, which cannot do this.
    pub fn start_among(&self, source: &Tokens, candidates: &[Vec<u32>]) -> Result<PreparedState, ModelError> {
        let Engine::Packed(packed) = &self.engine else {
            return Err(ModelError::NoRestriction);
        };
        if candidates.len() != source.sentences.count() {
            let (lists, sentences) = (candidates.len(), source.sentences.count());
            return Err(ModelError::Batch(format!(
                "{lists} lists of pieces for {sentences} sentences"
            )));
        }
        let mut state = packed.start(source)?;
        state.restriction = Some(packed.restriction(candidates, self.architecture().classes())?);
        Ok(PreparedState(State::Packed(Box::new(state))))
    }

    /// Feeds one token to every row and returns the scores of the next token: `[rows, v]`.
    ///
    /// # Errors
    /// When the number of tokens differs from the number of rows, or an id is outside the vocabulary.
    pub fn step(&self, tokens: &[u32], state: &mut PreparedState) -> Result<Tensor, ModelError> {
        match (&mut state.0, &self.engine) {
            (State::Packed(state), Engine::Packed(packed)) => {
                packed.step(tokens, state)?;
                packed.logits(state, self.architecture().target_vocabulary)
            }
            (State::Tensors(state), Engine::Tensors) => self.transformer()?.step(tokens, state),
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
        match (&mut state.0, &self.engine) {
            (State::Packed(state), Engine::Packed(packed)) => {
                packed.step(tokens, state)?;
                Ok(packed.best(state, classes, count, requests))
            }
            (State::Tensors(state), Engine::Tensors) => {
                let logits = self.transformer()?.step(tokens, state)?;
                Ok(best_of_logits(&logits, classes, count, requests)?)
            }
            _ => Err(foreign()),
        }
    }
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

    /// Asks for the attention of these heads in the steps to come.
    pub fn record_attention(&mut self, heads: &AlignmentHeads) {
        match &mut self.0 {
            State::Packed(state) => state.attention = Some(StepAttention::new(heads)),
            State::Tensors(state) => state.record_attention(heads),
        }
    }

    /// The attention of every row's newest token to the source tokens of its sentence, if it was asked for: the mean of
    /// the heads. It may be longer than the sentence; what follows is zero. Valid from a step until the rows change.
    pub fn attention(&self) -> Option<&[Vec<f32>]> {
        match &self.0 {
            State::Packed(state) => Some(&state.attention.as_ref()?.weights),
            State::Tensors(state) => state.attention(),
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
    fn of(architecture: &Architecture, parameters: &Parameters, compute: InferenceCompute) -> Result<Self, ModelError> {
        let model = &architecture.model;
        let (around, width) = (Around::new(model), model.d_model);
        let feed_forward = |packed: &dyn Fn() -> Result<Vec<f32>, ModelError>, inner: usize| match inner {
            0 => Ok::<_, ModelError>(None),
            inner => Ok(Some(PreparedFeedForward::new(&packed()?, model, inner, compute))),
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let heads = Heads::new(model, model.heads);
        let encoder = in_parallel(threads, model.encoder_layers, |number| {
            let get = |name: &str| parameters.get(&format!("model.encoder.layers.{number}.{name}"));
            Ok((
                PreparedSelfAttention::new(&get("self_attn")?, around, heads, compute),
                feed_forward(&|| get("feed_forward"), model.feed_forward)?,
            ))
        });
        let heads = Heads::new(model, model.decoder_heads());
        let decoder = in_parallel(threads, model.decoder_layers, |number| {
            let get = |name: &str| parameters.get(&format!("model.decoder.layers.{number}.{name}"));
            Ok(PreparedDecoderLayer {
                self_attention: PreparedSelfAttention::new(&get("self_attn")?, around, heads, compute),
                cross_attention: match model.cross_attention {
                    true => Some(PreparedCrossAttention::new(
                        &get("encoder_attn")?,
                        around,
                        heads,
                        compute,
                    )),
                    false => None,
                },
                feed_forward: feed_forward(&|| get("feed_forward"), model.decoder_feed_forward())?,
            })
        });
        let last_norm = |stack: &str| match model.has_last_norm(stack) {
            true => Ok::<_, ModelError>(LastNorm(Some(parameters.get(&format!("model.{stack}.layer_norm"))?))),
            false => Ok(LastNorm(None)),
        };
        let bias = parameters.logits_bias()?;
        let output = |weight: &[f32]| {
            let blocks: Vec<&[f32]> = weight.chunks(BLOCK * width).collect();
            in_parallel(threads, blocks.len(), |number| {
                let (first, count) = (number * BLOCK, blocks[number].len() / width);
                let bias = bias.as_ref().map(|bias| &bias[first..first + count]);
                PreparedLinear::new(blocks[number], bias, width, compute)
            })
        };
        let output_table = parameters.table(&parameters::output(architecture))?;
        Ok(Self {
            source: Embedding::of(parameters, architecture, "encoder")?,
            target: Embedding::of(parameters, architecture, "decoder")?,
            encoder: encoder.into_iter().collect::<Result<_, ModelError>>()?,
            encoder_norm: last_norm("encoder")?,
            decoder: decoder.into_iter().collect::<Result<_, ModelError>>()?,
            decoder_norm: last_norm("decoder")?,
            output: output_table.with(output)?,
            output_table,
            logits_bias: bias,
            compute,
            width,
        })
    }

    /// The output layer over the pieces of some sentences.
    fn restriction(&self, candidates: &[Vec<u32>], classes: usize) -> Result<Restriction, ModelError> {
        let bias = self.logits_bias.as_deref();
        Restriction::new(
            candidates,
            &self.output_table,
            bias,
            (classes, self.width),
            self.compute,
        )
    }

    fn bytes(&self) -> usize {
        let of_feed_forward =
            |layer: &Option<PreparedFeedForward>| layer.as_ref().map_or(0, PreparedFeedForward::bytes);
        let encoder = self
            .encoder
            .iter()
            .map(|(attention, feed_forward)| attention.bytes() + of_feed_forward(feed_forward));
        let of_layer = |layer: &PreparedDecoderLayer| {
            let cross = layer.cross_attention.as_ref().map_or(0, PreparedCrossAttention::bytes);
            layer.self_attention.bytes() + cross + of_feed_forward(&layer.feed_forward)
        };
        let decoder = self.decoder.iter().map(of_layer);
        encoder.chain(decoder).sum::<usize>() + self.output.iter().map(PreparedLinear::bytes).sum::<usize>()
    }

    fn start(&self, source: &Tokens) -> Result<PackedState, ModelError> {
        let sentences = &source.sentences;
        let mut buffers = Buffers::default();
        let mut x = Vec::new();
        let positions = sentences.lengths().iter().flat_map(|length| 0..*length);
        self.source
            .embed(source.ids.to_vec1::<u32>()?.into_iter().zip(positions), &mut x)?;
        for (attention, feed_forward) in &self.encoder {
            attention.encode(&mut x, sentences, &mut buffers);
            if let Some(feed_forward) = feed_forward {
                feed_forward.apply(&mut x, &mut buffers);
            }
        }
        self.encoder_norm.apply(&mut x);
        let layers = self.decoder.iter().map(|layer| LayerState {
            cache: SelfCache::default(),
            memory: match &layer.cross_attention {
                Some(cross_attention) => cross_attention.memory(&x, &mut buffers),
                None => Vec::new(),
            },
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
            restriction: None,
            attention: None,
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
        let position = state.position;
        self.target
            .embed(tokens.iter().map(|token| (*token, position)), &mut state.x)?;
        for (row, slots) in state.slots.iter_mut().enumerate() {
            slots.push(row as u32);
        }
        if let Some(attention) = &mut state.attention {
            attention.clear();
        }
        let x = &mut state.x;
        let layers = self.decoder.iter().zip(&mut state.layers).enumerate();
        for (number, (sublayers, layer)) in layers {
            let recorded = state
                .attention
                .as_mut()
                .and_then(|attention| attention.of_layer(number));
            let buffers = &mut state.buffers;
            sublayers
                .self_attention
                .step(x, &mut layer.cache, &state.slots, buffers);
            if let Some(cross_attention) = &sublayers.cross_attention {
                cross_attention.step(x, &layer.memory, &state.sources, buffers, recorded);
            }
            if let Some(feed_forward) = &sublayers.feed_forward {
                feed_forward.apply(x, buffers);
            }
        }
        self.decoder_norm.apply(x);
        state.position += 1;
        Ok(())
    }

    /// The logits of the last hidden states, `[rows, v]`.
    fn logits(&self, state: &mut PackedState, vocabulary: usize) -> Result<Tensor, ModelError> {
        let rows = state.slots.len();
        if let Some(restriction) = &state.restriction {
            let scratch = (&mut state.buffers, &mut state.logits);
            let logits = restriction.logits((&state.x, self.width), scratch, vocabulary);
            return Ok(Tensor::from_vec(logits, (rows, vocabulary), &Device::Cpu)?);
        }
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
        if let Some(restriction) = &state.restriction {
            let scratch = (&mut state.buffers, &mut state.logits);
            return restriction.best((&state.x, self.width), scratch, count, requests);
        }
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
