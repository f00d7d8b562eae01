//! What the model predicts in every step.

use super::numbers::{entropy, rows};
use super::{Piece, piece};
use crate::Result;
use serde::Serialize;
use tallow_model::{ForwardTrace, Transformer};
use tallow_text::Tokenizer;

/// The number of pieces that are named beside the one that is predicted.
const RIVALS: usize = 5;

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

/// The pieces of the highest log-probabilities, highest first.
pub(super) fn best(tokenizer: &Tokenizer, log_probabilities: &[f32], count: usize) -> Vec<Candidate> {
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

pub(super) fn steps(
    model: &Transformer,
    trace: &ForwardTrace,
    tokenizer: &Tokenizer,
    target: &[u32],
) -> Result<Vec<Step>> {
    let of_layers: Vec<Vec<Vec<f32>>> = trace
        .decoder
        .layers
        .iter()
        .map(|layer| rows(&model.lens(layer.stream())?))
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
