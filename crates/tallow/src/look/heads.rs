//! The heads of attention, and the translation without them.

use super::numbers::{Matrix, entropy, matrix, norms, rows, short};
use super::output::best;
use crate::{Result, cores};
use serde::Serialize;
use tallow_data::in_order;
use tallow_decode::{DecodeConfig, Translator};
use tallow_model::{AttentionTrace, Block, Head, InferenceCompute, Transformer};
use tallow_text::{Tokenizer, Tokenizers};

/// The most weights that are prepared anew to translate without each head: some ten seconds on two cores.
const MOST_WEIGHTS: usize = 10_000_000_000;

/// The most multiplications of the passes without each head: about a minute on two cores.
const MOST_MULTIPLICATIONS: usize = 4_000_000_000_000;

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
    /// In cross-attention, the share of target tokens whose greatest weight is on the same source token as in the mean
    /// of the heads that align (`decode.alignment_heads`).
    pub agreement: Option<f64>,
    /// The norm of each answering token's value.
    #[serde(serialize_with = "short")]
    pub value_norms: Vec<f32>,
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
    #[serde(serialize_with = "short")]
    pub log_probabilities: Vec<f32>,
    /// The most probable piece in every step.
    pub best: Vec<String>,
    /// The log-probability of the whole target if this head is the only one of its sublayer.
    pub alone: f64,
    /// What the model translates without this head; `None` where that was not asked for or would take too long.
    pub translation: Option<String>,
}

/// The name of a kind of attention.
pub(super) fn name(block: Block) -> &'static str {
    match block {
        Block::EncoderSelf => "encoder-self",
        Block::DecoderSelf => "decoder-self",
        Block::DecoderCross => "cross",
    }
}

impl Attention {
    pub(super) fn new(block: Block, layer: usize, trace: &AttentionTrace) -> Result<Self> {
        let heads = (0..trace.weights.dim(0)?).map(|head| {
            let (products, weights) = (matrix(&trace.products.get(head)?)?, matrix(&trace.weights.get(head)?)?);
            Ok(HeadView::new(products, weights, norms(&trace.values.get(head)?)?))
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
    fn new(products: Matrix, weights: Matrix, value_norms: Vec<f32>) -> Self {
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
            agreement: None,
            products,
            weights,
            value_norms,
        }
    }

    /// For each asking token, the token with the greatest weight.
    fn links(&self) -> Vec<usize> {
        self.weights.0.iter().map(|row| greatest(row)).collect()
    }
}

/// The place of the greatest value; the first of equals.
fn greatest(row: &[f32]) -> usize {
    let places = 0..row.len();
    places
        .max_by(|a, b| row[*a].total_cmp(&row[*b]).then(b.cmp(a)))
        .unwrap_or(0)
}

/// Tells every head of the cross-attention how far it agrees with the heads that align.
pub(super) fn tell_agreement(attention: &mut [Attention], aligning: &[(usize, usize)]) {
    let last = attention.iter().map(|layer| layer.layer).max().unwrap_or(0);
    let is_chosen = |layer: usize, head: usize| match aligning {
        [] => layer == last,
        chosen => chosen.contains(&(layer, head)),
    };
    let cross = || {
        attention
            .iter()
            .filter(|layer| layer.block == name(Block::DecoderCross))
    };
    let mut sum: Vec<Vec<f32>> = Vec::new();
    for layer in cross() {
        for (_, view) in layer
            .heads
            .iter()
            .enumerate()
            .filter(|(head, _)| is_chosen(layer.layer, *head))
        {
            if sum.is_empty() {
                sum.clone_from(&view.weights.0);
                continue;
            }
            for (sum, row) in sum.iter_mut().zip(&view.weights.0) {
                sum.iter_mut().zip(row).for_each(|(sum, weight)| *sum += weight);
            }
        }
    }
    let links: Vec<usize> = sum.iter().map(|row| greatest(row)).collect();
    for layer in attention
        .iter_mut()
        .filter(|layer| layer.block == name(Block::DecoderCross))
    {
        for view in &mut layer.heads {
            let same = view.links().iter().zip(&links).filter(|(a, b)| a == b).count();
            view.agreement = Some(same as f64 / links.len().max(1) as f64);
        }
    }
}

/// The translation by a model without some heads.
pub(super) struct Translating<'a> {
    pub(super) source: &'a str,
    pub(super) tokenizers: &'a Tokenizers,
    pub(super) config: &'a DecodeConfig,
}

impl Translating<'_> {
    fn without(&self, model: &Transformer, head: Head) -> Result<String> {
        let model = model.without_heads(&[head])?.prepare(InferenceCompute::F32)?;
        let translator = Translator::builder(model, self.tokenizers.clone())
            .config(self.config.clone())
            .build()?;
        let found = translator.translate(&[self.source], 0)?;
        Ok(found.first().map_or("", |found| found.text()).to_owned())
    }
}

/// All heads of a model.
fn heads_of(model: &Transformer) -> Vec<Head> {
    let config = &model.architecture().model;
    let places = [
        (Block::EncoderSelf, config.encoder_layers, config.heads),
        (Block::DecoderSelf, config.decoder_layers, config.decoder_heads()),
        (Block::DecoderCross, config.decoder_layers, config.decoder_heads()),
    ];
    let places = places
        .into_iter()
        .filter(|(block, ..)| *block != Block::DecoderCross || config.cross_attention);
    let of_layer = |block, layer, heads| (0..heads).map(move |head| Head { block, layer, head });
    let of_block = |(block, layers, heads)| (0..layers).flat_map(move |layer| of_layer(block, layer, heads));
    places.flat_map(of_block).collect()
}

/// The target without each head, and with each as the only one of its sublayer; and the translations without each.
/// Nothing where that would take minutes.
pub(super) fn without(
    model: &Transformer,
    tokenizer: &Tokenizer,
    (source, target): (&[u32], &[u32]),
    translating: Option<&Translating>,
) -> Result<Vec<Without>> {
    let heads = heads_of(model);
    let (of_source, of_target) = model.architecture().multiplications();
    let passes = 2 * heads.len();
    if passes.saturating_mul(of_source * source.len() + of_target * target.len()) > MOST_MULTIPLICATIONS {
        return Ok(Vec::new());
    }
    let translating = translating.filter(|_| (of_source + of_target) * heads.len() <= MOST_WEIGHTS);
    in_order(cores(), &heads, |head| {
        let predicted = rows(&model.trace(source, target, &[*head])?.log_probabilities)?;
        let log_probabilities = of_target_tokens(target, &predicted);
        let is_other = |other: &&Head| other.block == head.block && other.layer == head.layer && *other != head;
        let others: Vec<Head> = heads.iter().filter(is_other).copied().collect();
        let alone = rows(&model.trace(source, target, &others)?.log_probabilities)?;
        let sum = |logs: &[f32]| logs.iter().map(|log| f64::from(*log)).sum();
        let of_best = |row: &Vec<f32>| best(tokenizer, row, 1).remove(0).piece;
        Ok(Without {
            block: name(head.block),
            layer: head.layer,
            head: head.head,
            log_probability: sum(&log_probabilities),
            log_probabilities,
            best: predicted.iter().map(of_best).collect(),
            alone: sum(&of_target_tokens(target, &alone)),
            translation: match translating {
                Some(translating) => Some(translating.without(model, *head)?),
                None => None,
            },
        })
    })
}

/// The log-probabilities of the tokens of the target.
fn of_target_tokens(target: &[u32], predicted: &[Vec<f32>]) -> Vec<f32> {
    let log = |(token, row): (&u32, &Vec<f32>)| row.get(*token as usize).copied().unwrap_or(f32::NEG_INFINITY);
    target.iter().zip(predicted).map(log).collect()
}
