//! What happens inside a model while it translates a sentence, from the text to the probabilities of every piece.
//!
//! A [`Look`] holds the numbers of one pass, in the order in which data flows, and can be written as JSON or as a page
//! ([`to_html`]). The numbers come from [`Transformer::trace`], which computes what the model computes, and from the
//! model's own search.

mod cut;
mod heads;
mod numbers;
mod output;
mod page;
mod pair;
mod search;
mod stack;

use crate::cost::{Cost, Measured, curve};
use crate::{Error, Result};
pub use cut::{CutView, RankedPieces};
pub use heads::{Attention, HeadView, Without};
use heads::{Translating, tell_agreement, without};
pub use numbers::Matrix;
use numbers::matrix;
use output::steps;
pub use output::{Candidate, Step};
pub use page::to_html;
use pair::Pair;
pub use search::{Found, SearchNode, SearchStep, Searched};
use serde::Serialize;
pub use stack::{Added, Stack};
use std::sync::Arc;
use tallow_decode::DecodeConfig;
use tallow_model::{InferenceCompute, Norm, Transformer};
use tallow_text::{Tokenizer, Tokenizers};

/// The number of positions in the picture of positions.
const POSITIONS: usize = 64;

/// The most weights of attention, of all heads together. A sentence of 60 pieces in a model of 12 + 12 layers with 16
/// heads has half as many.
pub const MOST_CELLS: usize = 4_000_000;

/// The longest sentence whose translation is timed, and the time for each length in seconds.
const LONGEST: u64 = 256;
const MOST_SECONDS: f64 = 1.0;

/// What to look at.
#[derive(Clone, Debug, Default)]
pub struct LookRequest {
    /// The sentence.
    pub source: String,
    /// A translation to look at instead of the model's own.
    pub target: Option<String>,
    /// The search settings. Nothing is drawn at random, and lines are not split.
    pub config: DecodeConfig,
    /// Whether to translate without each head, too.
    pub without_heads: bool,
    /// Whether to measure how the time grows with the length.
    pub is_timed: bool,
}

/// A pass over one pair of sentences.
#[derive(Clone, Debug, Serialize)]
pub struct Look {
    /// The name of the model, for the title.
    pub model: String,
    /// The update of a checkpoint, where several of a run are looked at.
    pub update: Option<u64>,
    /// The source line.
    pub source_text: String,
    /// The text of the target.
    pub target_text: String,
    /// Whether the target was given, and not found by the model.
    pub is_forced: bool,
    /// The width of the model.
    pub width: usize,
    /// The layers of the decoder.
    pub decoder_layers: usize,
    /// Where sublayers normalise: their result, their input, or nowhere.
    pub norm: Norm,
    /// Whether sublayers add their input to their result.
    pub residual: bool,
    /// The factor of embeddings before positions are added.
    pub embedding_scale: f64,
    /// The vectors of the first positions, `[64, d]` at most; none if the model has none.
    pub positions: Option<Matrix>,
    /// How the vocabularies cut the source and the target.
    pub cuts: [CutView; 2],
    /// The encoder, over the source.
    pub encoder: Stack,
    /// The decoder. Its tokens are those that it reads, from its start token on; see `steps` for what it predicts.
    pub decoder: Stack,
    /// The predictions, one for each token of the target.
    pub steps: Vec<Step>,
    /// The model's own search for a translation.
    pub search: Searched,
    /// What the translation costs by calculation.
    pub cost: Cost,
    /// The time of sentences of several lengths on one core of this machine; empty unless it was asked for.
    pub times: Vec<Measured>,
    /// The same translation without one head at a time; empty if the model is so large that this would take minutes.
    pub without: Vec<Without>,
}

/// A piece of a vocabulary.
#[derive(Clone, Debug, Serialize)]
pub struct Piece {
    /// Its spelling.
    pub piece: String,
    /// Its id.
    pub id: u32,
}

impl Look {
    /// Looks at a model while it translates. The model runs once for itself, and twice more for each of its heads.
    ///
    /// # Errors
    /// When the sentence or the translation does not fit the model, or all weights of attention would be more than a
    /// page can show.
    pub fn new(name: &str, model: &Transformer, tokenizers: &Tokenizers, request: &LookRequest) -> Result<Self> {
        let architecture = model.architecture();
        pair::check(request, tokenizers)?;
        let prepared = Arc::new(model.prepare(InferenceCompute::F32)?);
        let (translation, search) = search::search(&prepared, tokenizers, request)?;
        let pair = Pair::new(request, tokenizers, architecture, translation)?;
        let (source, target) = (&pair.source, &pair.target);
        let cells = cells(model, source.len(), target.len());
        if cells > MOST_CELLS {
            return Err(Error::Other(format!(
                "a sentence of {} and {} pieces is too long to look at every head of this model: {cells} weights, where \
                 {MOST_CELLS} are the most; take a shorter one",
                source.len(),
                target.len()
            )));
        }
        let trace = model.trace(source, target, &[])?;
        let before_last = &target[..target.len() - 1];
        let read = [&[architecture.target_pad_id()], before_last].concat();
        let sides = (&tokenizers.source, &tokenizers.target);
        let eos = architecture.eos_id;
        let mut decoder = Stack::new(&trace.decoder, pieces(sides.1, &read), true)?;
        tell_agreement(&mut decoder.attention, &request.config.alignment_heads);
        let settings = search::settings(&request.config);
        let translating = Translating {
            source: &request.source,
            tokenizers,
            config: &settings,
        };
        Ok(Self {
            model: name.to_owned(),
            update: None,
            source_text: request.source.clone(),
            is_forced: request.target.is_some(),
            width: architecture.model.d_model,
            decoder_layers: architecture.model.decoder_layers,
            norm: architecture.model.norm,
            residual: architecture.model.residual,
            embedding_scale: match architecture.model.scale_embedding {
                true => (architecture.model.d_model as f64).sqrt(),
                false => 1.0,
            },
            positions: match model.source_positions(POSITIONS)? {
                Some(positions) => Some(matrix(&positions)?),
                None => None,
            },
            cuts: [CutView::new(sides.0, source, eos), CutView::new(sides.1, target, eos)],
            encoder: Stack::new(&trace.encoder, pieces(sides.0, source), false)?,
            decoder,
            steps: steps(model, &trace, sides.1, target)?,
            search,
            cost: Cost::new(architecture, source.len() as u64, target.len() as u64),
            times: match request.is_timed {
                true => curve((model, &prepared), LONGEST, MOST_SECONDS)?,
                false => Vec::new(),
            },
            without: without(
                model,
                sides.1,
                (source, target),
                request.without_heads.then_some(&translating),
            )?,
            target_text: pair.target_text,
        })
    }

    /// The weights of attention, of all heads together.
    pub fn cells(&self) -> usize {
        let layers = self.encoder.attention.iter().chain(&self.decoder.attention);
        let views = layers.flat_map(|layer| &layer.heads);
        views.flat_map(|view| &view.weights.0).map(Vec::len).sum()
    }
}

/// The weights of attention for so many source and target tokens.
fn cells(model: &Transformer, s: usize, t: usize) -> usize {
    let config = &model.architecture().model;
    config.encoder_layers * config.heads * s * s + config.decoder_layers * config.decoder_heads() * t * (s + t)
}

fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<Piece> {
    ids.iter().map(|id| piece(tokenizer, *id)).collect()
}

fn piece(tokenizer: &Tokenizer, id: u32) -> Piece {
    let piece = tokenizer.piece(id).unwrap_or_default().to_owned();
    Piece { piece, id }
}

/// The spelling of pieces.
fn pieces_of(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter().map(|id| piece(tokenizer, *id).piece).collect()
}
