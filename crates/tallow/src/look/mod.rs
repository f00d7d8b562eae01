//! What happens inside a model while it translates a sentence, from the text to the probabilities of every piece.
//!
//! A [`Look`] holds the numbers of one pass, in the order in which data flows, and can be written as JSON or as a page
//! ([`Look::to_html`]). The numbers come from [`Transformer::trace`], which computes what the model computes.

mod numbers;
mod page;

use crate::{Error, Result, cores};
pub use numbers::Matrix;
use numbers::{entropy, matrix, norms, rows};
use serde::Serialize;
use tallow_data::in_order;
use tallow_model::{AttentionTrace, Block, FeedForwardTrace, ForwardTrace, Head, Norm, StackTrace, Transformer};
use tallow_text::{Tokenizer, Tokenizers};

/// The number of positions in the picture of positions.
const POSITIONS: usize = 64;

/// The most weights of attention, of all heads together. A sentence of 60 pieces in a model of 12 + 12 layers with 16
/// heads has half as many.
const MOST_CELLS: usize = 4_000_000;

/// The number of pieces that are named beside the one that is predicted.
const RIVALS: usize = 5;

/// A pass over one pair of sentences.
#[derive(Clone, Debug, Serialize)]
pub struct Look {
    /// The name of the model, for the title.
    pub model: String,
    /// The source line.
    pub source_text: String,
    /// The text of the target.
    pub target_text: String,
    /// Whether the target was given, and not found by the model.
    pub is_forced: bool,
    /// The width of the model.
    pub width: usize,
    /// Whether sublayers normalise their input (pre-norm) or their result (post-norm).
    pub is_pre_norm: bool,
    /// The factor of embeddings before positions are added.
    pub embedding_scale: f64,
    /// The vectors of the first positions, `[64, d]` at most; none if the model has none.
    pub positions: Option<Matrix>,
    /// The encoder, over the source.
    pub encoder: Stack,
    /// The decoder. Its tokens are those that it reads, from its start token on; see `steps` for what it predicts.
    pub decoder: Stack,
    /// The predictions, one for each token of the target.
    pub steps: Vec<Step>,
    /// The same translation without one head at a time.
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

/// One stack of layers.
#[derive(Clone, Debug, Serialize)]
pub struct Stack {
    /// The tokens that it reads.
    pub tokens: Vec<Piece>,
    /// The embedding of every token, times the scale: `[n, d]`.
    pub embedding: Matrix,
    /// What the first layer reads, embeddings and positions: `[n, d]`.
    pub input: Matrix,
    /// For every token, the place among the sentence's whose vector is nearest by angle to what the first layer reads;
    /// none if the model has no positions.
    pub nearest_position: Option<Vec<usize>>,
    /// The attention of its layers.
    pub attention: Vec<Attention>,
    /// What every sublayer adds to the residual stream, in their order.
    pub stream: Vec<Added>,
}

/// The attention of one sublayer.
#[derive(Clone, Debug, Serialize)]
pub struct Attention {
    /// `encoder-self`, `decoder-self` or `cross`.
    pub block: &'static str,
    /// The layer, from 0.
    pub layer: usize,
    /// The factor that turns products of queries and keys into scores.
    pub scale: f64,
    /// Whether a token sees only itself and the tokens before it.
    pub is_causal: bool,
    /// Its heads.
    pub heads: Vec<HeadView>,
}

/// One head.
#[derive(Clone, Debug, Serialize)]
pub struct HeadView {
    /// The products of queries and keys, not scaled, also of what the mask forbids: `[n, m]`.
    pub products: Matrix,
    /// The weights after mask and softmax: `[n, m]`.
    pub weights: Matrix,
    /// The mean entropy of its rows, in nats.
    pub entropy: f64,
    /// The mean weight of the token at the same place.
    pub same: f64,
    /// The mean weight of the token before.
    pub previous: f64,
    /// The mean weight of the last token, which is `</s>` in the source.
    pub last: f64,
}

/// What a sublayer adds to the residual stream.
#[derive(Clone, Debug, Serialize)]
pub struct Added {
    /// The layer, from 0.
    pub layer: usize,
    /// `self-attention`, `cross-attention` or `feed-forward`.
    pub sublayer: &'static str,
    /// The norm of what it adds, for each token.
    pub added: Vec<f32>,
    /// The norm of the stream after it, for each token.
    pub stream: Vec<f32>,
    /// In a feed-forward layer, the share of its units that are above zero, for each token.
    pub units_on: Option<Vec<f32>>,
}

/// The prediction of one token of the target.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The token.
    pub token: Piece,
    /// Its log-probability, in nats.
    pub log_probability: f32,
    /// The entropy of the distribution, in nats.
    pub entropy: f64,
    /// The most probable pieces.
    pub best: Vec<Candidate>,
    /// What each decoder layer would predict: the most probable pieces if its state went to the output layer.
    pub lens: Vec<Vec<Candidate>>,
}

/// A piece and its probability.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// The piece.
    pub piece: String,
    /// Its probability.
    pub probability: f32,
}

/// The target without one head.
#[derive(Clone, Debug, Serialize)]
pub struct Without {
    /// `encoder-self`, `decoder-self` or `cross`.
    pub block: &'static str,
    /// The layer, from 0.
    pub layer: usize,
    /// The head, from 0.
    pub head: usize,
    /// The log-probability of the whole target.
    pub log_probability: f64,
    /// The log-probability of each token.
    pub log_probabilities: Vec<f32>,
    /// The most probable piece in every step.
    pub best: Vec<String>,
}

/// A pair to look at.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The source line.
    pub source: String,
    /// Its tokens, `</s>` last.
    pub source_tokens: Vec<u32>,
    /// The target line.
    pub target: String,
    /// Its tokens, `</s>` last.
    pub target_tokens: Vec<u32>,
    /// Whether the target was given.
    pub is_forced: bool,
}

impl Look {
    /// Looks at a model while it predicts the target of a pair. The model runs once for itself, and once more for each
    /// of its heads.
    ///
    /// # Errors
    /// When the pair does not fit the model, or all of its weights would be more than a page can show.
    pub fn new(name: &str, model: &Transformer, tokenizers: &Tokenizers, pair: &Pair) -> Result<Self> {
        let architecture = model.architecture();
        let config = &architecture.model;
        let (s, t) = (pair.source_tokens.len(), pair.target_tokens.len());
        let cells =
            config.encoder_layers * config.heads * s * s + config.decoder_layers * config.decoder_heads() * t * (s + t);
        if cells > MOST_CELLS {
            return Err(Error::Other(format!(
                "a sentence of {s} and {t} pieces is too long to look at every head of this model: {cells} weights, where \
                 {MOST_CELLS} are the most; take a shorter one"
            )));
        }
        let (source, target) = (&pair.source_tokens, &pair.target_tokens);
        let trace = model.trace(source, target, &[])?;
        let before_last = &target[..target.len() - 1];
        let read = [&[architecture.target_pad_id()], before_last].concat();
        let sides = (&tokenizers.source, &tokenizers.target);
        Ok(Self {
            model: name.to_owned(),
            source_text: pair.source.clone(),
            target_text: pair.target.clone(),
            is_forced: pair.is_forced,
            width: architecture.model.d_model,
            is_pre_norm: architecture.model.norm == Norm::Pre,
            embedding_scale: match architecture.model.scale_embedding {
                true => (architecture.model.d_model as f64).sqrt(),
                false => 1.0,
            },
            positions: match model.source_positions(POSITIONS)? {
                Some(positions) => Some(matrix(&positions)?),
                None => None,
            },
            encoder: Stack::new(&trace.encoder, pieces(sides.0, source), false)?,
            decoder: Stack::new(&trace.decoder, pieces(sides.1, &read), true)?,
            steps: steps(model, &trace, sides.1, target)?,
            without: without(model, sides.1, (source, target))?,
        })
    }
}

fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<Piece> {
    ids.iter().map(|id| piece(tokenizer, *id)).collect()
}

fn piece(tokenizer: &Tokenizer, id: u32) -> Piece {
    let piece = tokenizer.piece(id).unwrap_or_default().to_owned();
    Piece { piece, id }
}

impl Stack {
    fn new(trace: &StackTrace, tokens: Vec<Piece>, is_decoder: bool) -> Result<Self> {
        let (mut attention, mut stream) = (Vec::new(), Vec::new());
        for (layer, of_layer) in trace.layers.iter().enumerate() {
            let own = if is_decoder {
                Block::DecoderSelf
            } else {
                Block::EncoderSelf
            };
            attention.push(Attention::new(own, layer, &of_layer.self_attention)?);
            stream.push(Added::of_attention(layer, "self-attention", &of_layer.self_attention)?);
            if let Some(cross) = &of_layer.cross_attention {
                attention.push(Attention::new(Block::DecoderCross, layer, cross)?);
                stream.push(Added::of_attention(layer, "cross-attention", cross)?);
            }
            stream.push(Added::of_feed_forward(layer, &of_layer.feed_forward)?);
        }
        Ok(Self {
            tokens,
            embedding: matrix(&trace.embedding)?,
            input: matrix(&trace.input)?,
            nearest_position: match &trace.positions {
                Some(positions) => Some(nearest(&rows(&trace.input)?, &rows(positions)?)),
                None => None,
            },
            attention,
            stream,
        })
    }
}

/// For every row, the number of the vector that is nearest by angle; the first of equals.
fn nearest(rows: &[Vec<f32>], vectors: &[Vec<f32>]) -> Vec<usize> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let of_row = |row: &Vec<f32>| {
        let likeness = |number: &usize| {
            let vector = &vectors[*number];
            dot(row, vector) / dot(vector, vector).sqrt().max(f32::MIN_POSITIVE)
        };
        let best = (0..vectors.len()).max_by(|a, b| likeness(a).total_cmp(&likeness(b)).then(b.cmp(a)));
        best.unwrap_or(0)
    };
    rows.iter().map(of_row).collect()
}

/// The name of a kind of attention.
fn name(block: Block) -> &'static str {
    match block {
        Block::EncoderSelf => "encoder-self",
        Block::DecoderSelf => "decoder-self",
        Block::DecoderCross => "cross",
    }
}

impl Attention {
    fn new(block: Block, layer: usize, trace: &AttentionTrace) -> Result<Self> {
        let heads = (0..trace.weights.dim(0)?).map(|head| {
            let (products, weights) = (matrix(&trace.products.get(head)?)?, matrix(&trace.weights.get(head)?)?);
            Ok(HeadView::new(products, weights))
        });
        Ok(Self {
            block: name(block),
            layer,
            scale: trace.scale,
            is_causal: trace.is_causal,
            heads: heads.collect::<Result<_>>()?,
        })
    }
}

impl HeadView {
    fn new(products: Matrix, weights: Matrix) -> Self {
        let count = weights.0.len().max(1) as f64;
        let mean = |of_row: &dyn Fn(usize, &[f32]) -> f64| -> f64 {
            let rows = weights.0.iter().enumerate();
            rows.map(|(number, row)| of_row(number, row)).sum::<f64>() / count
        };
        let weight =
            |row: &[f32], place: Option<usize>| place.and_then(|place| row.get(place)).map_or(0.0, |w| f64::from(*w));
        Self {
            entropy: mean(&|_, row| entropy(row)),
            same: mean(&|number, row| weight(row, Some(number))),
            previous: mean(&|number, row| weight(row, number.checked_sub(1))),
            last: mean(&|_, row| weight(row, row.len().checked_sub(1))),
            products,
            weights,
        }
    }
}

impl Added {
    fn of_attention(layer: usize, sublayer: &'static str, trace: &AttentionTrace) -> Result<Self> {
        Ok(Self {
            layer,
            sublayer,
            added: norms(&trace.output)?,
            stream: norms(&trace.stream)?,
            units_on: None,
        })
    }

    fn of_feed_forward(layer: usize, trace: &FeedForwardTrace) -> Result<Self> {
        let share = |row: &Vec<f32>| row.iter().filter(|unit| **unit > 0.0).count() as f32 / row.len().max(1) as f32;
        Ok(Self {
            layer,
            sublayer: "feed-forward",
            added: norms(&trace.output)?,
            stream: norms(&trace.stream)?,
            units_on: Some(rows(&trace.units)?.iter().map(share).collect()),
        })
    }
}

/// The pieces of the highest log-probabilities, highest first.
fn best(tokenizer: &Tokenizer, log_probabilities: &[f32], count: usize) -> Vec<Candidate> {
    let mut order: Vec<u32> = (0..log_probabilities.len() as u32).collect();
    let by_probability = |a: &u32, b: &u32| {
        let log = |id: &u32| log_probabilities[*id as usize];
        log(b).total_cmp(&log(a)).then(a.cmp(b))
    };
    let count = count.min(order.len());
    if count < order.len() {
        order.select_nth_unstable_by(count, by_probability);
        order.truncate(count);
    }
    order.sort_unstable_by(by_probability);
    let candidate = |id: u32| Candidate {
        piece: piece(tokenizer, id).piece,
        probability: log_probabilities[id as usize].exp(),
    };
    order.into_iter().map(candidate).collect()
}

fn steps(model: &Transformer, trace: &ForwardTrace, tokenizer: &Tokenizer, target: &[u32]) -> Result<Vec<Step>> {
    let of_layers: Vec<Vec<Vec<f32>>> = trace
        .decoder
        .layers
        .iter()
        .map(|layer| rows(&model.lens(&layer.feed_forward.stream)?))
        .collect::<Result<_>>()?;
    let predicted = rows(&trace.log_probabilities)?;
    let step = |(number, (token, row)): (usize, (&u32, &Vec<f32>))| {
        let probabilities: Vec<f32> = row.iter().map(|log| log.exp()).collect();
        Step {
            token: piece(tokenizer, *token),
            log_probability: row.get(*token as usize).copied().unwrap_or(f32::NEG_INFINITY),
            entropy: entropy(&probabilities),
            best: best(tokenizer, row, RIVALS),
            lens: of_layers
                .iter()
                .map(|layer| best(tokenizer, &layer[number], 3))
                .collect(),
        }
    };
    Ok(target.iter().zip(&predicted).enumerate().map(step).collect())
}

fn without(model: &Transformer, tokenizer: &Tokenizer, (source, target): (&[u32], &[u32])) -> Result<Vec<Without>> {
    let config = &model.architecture().model;
    let places = [
        (Block::EncoderSelf, config.encoder_layers, config.heads),
        (Block::DecoderSelf, config.decoder_layers, config.decoder_heads()),
        (Block::DecoderCross, config.decoder_layers, config.decoder_heads()),
    ];
    let heads: Vec<Head> = places
        .into_iter()
        .flat_map(|(block, layers, heads)| {
            (0..layers).flat_map(move |layer| (0..heads).map(move |head| Head { block, layer, head }))
        })
        .collect();
    in_order(cores(), &heads, |head| {
        let trace = model.trace(source, target, &[*head])?;
        let predicted = rows(&trace.log_probabilities)?;
        let log = |(token, row): (&u32, &Vec<f32>)| row.get(*token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let log_probabilities: Vec<f32> = target.iter().zip(&predicted).map(log).collect();
        let of_best = |row: &Vec<f32>| best(tokenizer, row, 1).remove(0).piece;
        Ok(Without {
            block: name(head.block),
            layer: head.layer,
            head: head.head,
            log_probability: log_probabilities.iter().map(|log| f64::from(*log)).sum(),
            log_probabilities,
            best: predicted.iter().map(of_best).collect(),
        })
    })
}
