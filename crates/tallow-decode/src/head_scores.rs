//! How well the heads of a decoder align words.

use crate::DecodeError;
use std::collections::BTreeSet;
use tallow_data::{Link, in_order};
use tallow_model::{AttentionRecord, Block, Pass, Tokens, Transformer};

/// The size limit of a batch: pairs times the square of the longest side. The weights of all heads are in memory.
const BATCH: usize = 32 * 40 * 40;

/// A pair of sentences with its alignment.
#[derive(Clone, Debug)]
pub struct AlignedPair {
    /// The source tokens, the last of them `</s>`.
    pub source: Vec<u32>,
    /// The target tokens, the last of them `</s>`.
    pub target: Vec<u32>,
    /// For each source token but `</s>`, the unit to which it belongs, such as its word.
    pub source_units: Vec<u32>,
    /// For each target token but `</s>`, the unit to which it belongs.
    pub target_units: Vec<u32>,
    /// Links between units.
    pub links: Vec<Link>,
}

/// How well the mean weights of some heads align units, over all pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadScore {
    /// The heads, as pairs of a layer and a head, both from 0.
    pub heads: Vec<(usize, usize)>,
    /// The share of their links that are sure or possible.
    pub precision: f64,
    /// The share of the sure links that they find.
    pub recall: f64,
    /// The alignment error rate (Och and Ney 2003): 1 - (found sure + found possible) / (found + sure), where every
    /// sure link is possible, too.
    pub error_rate: f64,
}

/// Counts of links.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    found: usize,
    found_sure: usize,
    found_possible: usize,
    sure: usize,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.found += other.found;
        self.found_sure += other.found_sure;
        self.found_possible += other.found_possible;
        self.sure += other.sure;
    }

    fn score(&self, heads: &[(usize, usize)]) -> HeadScore {
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        HeadScore {
            heads: heads.to_vec(),
            precision: share(self.found_possible, self.found),
            recall: share(self.found_sure, self.sure),
            error_rate: 1.0 - share(self.found_sure + self.found_possible, self.found + self.sure),
        }
    }
}

/// Scores every head of the decoder's cross-attention, and the mean of each layer with several heads: the best first.
/// Each target token is linked with the source token to which it pays most attention in the step that predicts it, as
/// in alignments of translations.
///
/// # Errors
/// When the model fails.
pub fn score_heads(model: &Transformer, pairs: &[AlignedPair], workers: usize) -> Result<Vec<HeadScore>, DecodeError> {
    let config = &model.architecture().model;
    if !config.cross_attention {
        return Err(DecodeError::NoAttention);
    }
    let (layers, heads) = (config.decoder_layers, config.decoder_heads());
    let mut candidates: Vec<Vec<(usize, usize)>> = Vec::new();
    for layer in 0..layers {
        candidates.extend((0..heads).map(|head| vec![(layer, head)]));
        if heads > 1 {
            candidates.push((0..heads).map(|head| (layer, head)).collect());
        }
    }
    let mut sorted: Vec<&AlignedPair> = pairs.iter().collect();
    sorted.sort_by_key(|pair| pair.source.len().max(pair.target.len()));
    let longest = |pair: &AlignedPair| pair.source.len().max(pair.target.len()).max(1);
    let mut batches: Vec<&[&AlignedPair]> = Vec::new();
    let mut rest = &sorted[..];
    while !rest.is_empty() {
        let fits = |count: &usize| *count * longest(rest[count - 1]).pow(2) <= BATCH;
        let count = (2..=rest.len()).take_while(fits).last().unwrap_or(1);
        let (batch, others) = rest.split_at(count);
        batches.push(batch);
        rest = others;
    }
    let of_batches = in_order(workers, &batches, |batch| counts(model, batch, &candidates))?;
    let mut sums = vec![Counts::default(); candidates.len()];
    for of_batch in &of_batches {
        for (sum, counts) in sums.iter_mut().zip(of_batch) {
            sum.add(counts);
        }
    }
    let mut scores: Vec<HeadScore> = sums
        .iter()
        .zip(&candidates)
        .map(|(sum, heads)| sum.score(heads))
        .collect();
    scores.sort_by(|a, b| a.error_rate.total_cmp(&b.error_rate));
    Ok(scores)
}

/// The counts of a batch for each set of heads.
fn counts(
    model: &Transformer,
    batch: &[&AlignedPair],
    candidates: &[Vec<(usize, usize)>],
) -> Result<Vec<Counts>, DecodeError> {
    let architecture = model.architecture();
    let device = model.device();
    let sources: Vec<&[u32]> = batch.iter().map(|pair| &pair.source[..]).collect();
    let shifted = |pair: &&AlignedPair| {
        let before_last = &pair.target[..pair.target.len().saturating_sub(1)];
        [&[architecture.target_pad_id()], before_last].concat()
    };
    let inputs: Vec<Vec<u32>> = batch.iter().map(shifted).collect();
    let record = AttentionRecord::new();
    let pass = Pass {
        record: Some(&record),
        ..Pass::default()
    };
    let encoded = model.encode(&Tokens::new(&sources, device)?, Pass::default())?;
    model.decode(&Tokens::new(&inputs, device)?, &encoded, pass)?;
    // By layer, sentence, head, target and source token.
    let mut weights: Vec<Vec<Vec<Vec<Vec<f32>>>>> = Vec::new();
    for block in record.into_inner() {
        if block.block == Block::DecoderCross {
            let of_sentence = |b: usize| block.weights_bhts.get(b)?.to_dtype(candle_core::DType::F32)?.to_vec3();
            weights.push((0..batch.len()).map(of_sentence).collect::<Result<_, _>>()?);
        }
    }
    let mut all = vec![Counts::default(); candidates.len()];
    for (number, pair) in batch.iter().enumerate() {
        let of_kind = |is_wanted: fn(&Link) -> bool| -> BTreeSet<(u32, u32)> {
            let links = pair.links.iter().filter(|link| is_wanted(link));
            links.map(|link| (link.source, link.target)).collect()
        };
        let (sure, possible) = (of_kind(|link| link.is_sure), of_kind(|_| true));
        for (heads, counts) in candidates.iter().zip(&mut all) {
            let mut found = BTreeSet::new();
            for (target, unit) in pair.target_units.iter().enumerate() {
                let weight = |source: usize| -> f32 {
                    let of_head = |(layer, head): &(usize, usize)| weights[*layer][number][*head][target][source];
                    heads.iter().map(of_head).sum()
                };
                // The first of equals.
                let most = (0..pair.source_units.len()).max_by(|a, b| weight(*a).total_cmp(&weight(*b)).then(b.cmp(a)));
                found.extend(most.map(|source| (pair.source_units[source], *unit)));
            }
            counts.add(&Counts {
                found: found.len(),
                found_sure: found.intersection(&sure).count(),
                found_possible: found.intersection(&possible).count(),
                sure: sure.len(),
            });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_rate_written_out() {
        // Och and Ney's definition, with 8 found links, of which 3 are sure and 5 possible, and 4 sure ones.
        let counts = Counts {
            found: 8,
            found_sure: 3,
            found_possible: 5,
            sure: 4,
        };
        let score = counts.score(&[(1, 2)]);
        assert_eq!((score.precision, score.recall), (5.0 / 8.0, 3.0 / 4.0));
        assert_eq!(score.error_rate, 1.0 - 8.0 / 12.0);
        assert_eq!(Counts::default().score(&[]).error_rate, 1.0);
    }
}
