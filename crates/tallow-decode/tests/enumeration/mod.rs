//! Every translation of a sentence by a model with a tiny vocabulary.

use crate::specimen::batch;
use candle_core::Device;
use tallow_model::{Pass, PreparedTransformer, Tokens};

/// `</s>`, `<unk>`, three words and `<pad>`.
pub(crate) const VOCABULARY: usize = 6;
pub(crate) const MAX_LENGTH: usize = 4;
/// A sequence of tokens without `</s>`, its log-probability, its length for the score, and whether `</s>` ended it.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub(crate) tokens: Vec<u32>,
    pub(crate) log_probability: f64,
    pub(crate) length: usize,
    pub(crate) finished: bool,
}

/// All translations of a sentence: those that end within the maximum length, and those that are cut there. One pass
/// with teacher forcing scores all of them, without cache or search.
pub(crate) fn enumerate(model: &PreparedTransformer, source: &[u32]) -> Vec<Sequence> {
    let words: Vec<u32> = (1..VOCABULARY as u32 - 1).collect();
    let mut prefixes: Vec<Vec<u32>> = vec![Vec::new()];
    let mut all = prefixes.clone();
    for _ in 0..MAX_LENGTH {
        prefixes = prefixes
            .iter()
            .flat_map(|prefix| words.iter().map(move |word| [prefix.as_slice(), &[*word]].concat()))
            .collect();
        all.extend(prefixes.iter().cloned());
    }
    let pad = model.architecture().target_pad_id();
    let inputs: Vec<Vec<u32>> = all.iter().map(|tokens| [&[pad], tokens.as_slice()].concat()).collect();
    let encoded = model
        .transformer()
        .unwrap()
        .encode(&batch(&vec![source; all.len()]), Pass::default())
        .unwrap();
    let target = Tokens::new(&inputs, &Device::Cpu).unwrap();
    let logits = model
        .transformer()
        .unwrap()
        .logits(
            &model
                .transformer()
                .unwrap()
                .decode(&target, &encoded, Pass::default())
                .unwrap(),
        )
        .unwrap();
    let logits = logits.to_vec2::<f32>().unwrap();
    let rows: Vec<usize> = target.sentences.ranges().map(|range| range.start).collect();
    // Over all pieces but <pad>.
    let log_probability = |row: usize, position: usize, token: u32| -> f64 {
        let scores = &logits[rows[row] + position][..VOCABULARY - 1];
        let sum: f64 = scores.iter().map(|x| f64::from(*x).exp()).sum();
        f64::from(scores[token as usize]) - sum.ln()
    };
    let sequence = |(row, tokens): (usize, Vec<u32>)| {
        let finished = tokens.len() < MAX_LENGTH;
        let end = finished.then_some(0);
        let steps = tokens.iter().copied().chain(end).enumerate();
        Sequence {
            log_probability: steps
                .map(|(position, token)| log_probability(row, position, token))
                .sum(),
            length: tokens.len() + usize::from(finished),
            finished,
            tokens,
        }
    };
    all.into_iter().enumerate().map(sequence).collect()
}
