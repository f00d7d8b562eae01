//! Greedy search and sampling: hypotheses are extended independently of each other.

use crate::beam::{possible, request};
use crate::constraint::{constrain, forbidden};
use crate::distribution::log_probabilities;
use crate::hypothesis::TextOf;
use crate::{Autoregressive, AutoregressiveState, DecodeConfig, DecodeError, Hypothesis};
use std::collections::HashSet;
use tallow_model::{RowRequest, Tokens};
use tallow_ops::{Key, Purpose};

/// The rule that chooses the next token.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// The most probable token.
    Greedy,
    /// A random token. The random numbers depend only on the seed, the sentence, the sample and the position.
    Random {
        /// The seed.
        seed: u64,
        /// A number for each sentence of the batch, such as its line number in a file.
        sentences: &'a [u64],
    },
}

/// An unfinished hypothesis.
struct Live {
    sentence: usize,
    sample: usize,
    tokens: Vec<u32>,
    log_probabilities: Vec<f32>,
}

/// Extends hypotheses token by token until they end: one for each sentence if the choice is greedy, `config.n_best` if
/// it is random. Returns the hypotheses of each sentence, best score first.
///
/// # Errors
/// When the model fails or its scores are not finite.
pub fn sample<M: Autoregressive>(
    model: &M,
    source: &Tokens,
    config: &DecodeConfig,
    choice: Choice,
) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
    let architecture = model.architecture();
    let (eos, start) = (architecture.eos_id, architecture.target_pad_id());
    let sentences = source.sentences.count();
    let samples = if matches!(choice, Choice::Greedy) {
        1
    } else {
        config.n_best
    };
    let mut state = model.start(source)?;
    let every_row = |sentence| std::iter::repeat_n(sentence as u32, samples);
    state.reorder(&(0..sentences).flat_map(every_row).collect::<Vec<_>>())?;
    let mut done: Vec<Vec<Hypothesis>> = vec![Vec::new(); sentences];
    let new = |sentence, sample| Live {
        sentence,
        sample,
        tokens: Vec::new(),
        log_probabilities: Vec::new(),
    };
    // Rows of the state. A sentence leaves when all its samples have ended; until then its ended rows are still
    // computed.
    let mut rows: Vec<Option<Live>> = (0..sentences)
        .flat_map(|s| (0..samples).map(move |i| (s, i)))
        .map(|(s, i)| Some(new(s, i)))
        .collect();
    let mut last = vec![start; rows.len()];
    for length in 1..=config.max_length {
        let chosen = choose(model, &last, &mut state, &rows, (config, choice, length))?;
        for (row, (token, log_probability)) in chosen.into_iter().enumerate() {
            let Some(live) = &mut rows[row] else { continue };
            live.log_probabilities.push(log_probability);
            last[row] = token;
            if token != eos {
                live.tokens.push(token);
            }
            if (token == eos || length == config.max_length)
                && let Some(live) = rows[row].take()
            {
                done[live.sentence].push(finish(live, token == eos, config));
            }
        }
        let open: Vec<u32> = (0..state.sentences() as u32)
            .filter(|s| rows_of(&rows, *s, samples).iter().any(Option::is_some))
            .collect();
        if open.is_empty() {
            break;
        }
        if open.len() < state.sentences() {
            let kept: Vec<usize> = open
                .iter()
                .flat_map(|s| *s as usize * samples..(*s as usize + 1) * samples)
                .collect();
            last = kept.iter().map(|row| last[*row]).collect();
            rows = kept.iter().map(|row| rows[*row].take()).collect();
            state.keep(&open)?;
        }
    }
    for hypotheses in &mut done {
        hypotheses.sort_by(|a, b| b.score.total_cmp(&a.score));
    }
    Ok(done)
}

/// Feeds the last tokens to the model, and chooses the next token of every row, with its log-probability.
fn choose<M: Autoregressive>(
    model: &M,
    last: &[u32],
    state: &mut M::State,
    rows: &[Option<Live>],
    (config, choice, length): (&DecodeConfig, Choice, usize),
) -> Result<Vec<(u32, f32)>, DecodeError> {
    let architecture = model.architecture();
    let eos = architecture.eos_id;
    let Choice::Random { seed, sentences } = choice else {
        let of_row = |row: &Option<Live>| row.as_ref().map(|live| forbidden(&live.tokens, eos, config));
        let forbidden: Vec<Vec<u32>> = rows.iter().map(|row| of_row(row).unwrap_or_default()).collect();
        let requests: Vec<RowRequest> = forbidden.iter().map(|forbidden| request(forbidden, eos)).collect();
        let found = model.best(last, state, 1, &requests)?;
        let first = |found| possible(found, eos).first().copied().ok_or(DecodeError::NotFinite);
        return found.into_iter().map(first).collect();
    };
    let logits = model.step(last, state)?;
    let next = log_probabilities(&logits, architecture.classes())?;
    let draw = |(row, mut next): (&Option<Live>, Vec<f32>)| {
        let Some(live) = row else { return (eos, 0.0) };
        constrain(&mut next, &live.tokens, eos, config);
        let key = Key::new(seed, Purpose::Sampling)
            .fold(sentences[live.sentence])
            .fold(live.sample as u64);
        let token = draw(&next, config, key.fold(length as u64));
        (token as u32, next[token])
    };
    Ok(rows.iter().zip(next).map(draw).collect())
}

/// The samples of each sentence without repeated texts. Samples are sorted best first, so the best of each text is
/// kept.
pub(crate) fn without_repeats(
    drawn: Vec<Vec<Hypothesis>>,
    text_of: Option<&TextOf>,
) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
    let Some(text_of) = text_of else { return Ok(drawn) };
    let distinct = |samples: Vec<Hypothesis>| {
        let mut texts = HashSet::new();
        let mut kept = Vec::new();
        for sample in samples {
            if texts.insert(text_of(&sample.tokens)?) {
                kept.push(sample);
            }
        }
        Ok(kept)
    };
    drawn.into_iter().map(distinct).collect()
}

fn rows_of(rows: &[Option<Live>], sentence: u32, samples: usize) -> &[Option<Live>] {
    &rows[sentence as usize * samples..(sentence as usize + 1) * samples]
}

fn finish(live: Live, finished: bool, config: &DecodeConfig) -> Hypothesis {
    let log_probability = live.log_probabilities.iter().map(|x| f64::from(*x)).sum();
    Hypothesis {
        score: config.score(log_probability, live.log_probabilities.len()),
        tokens: live.tokens,
        token_log_probabilities: live.log_probabilities,
        log_probability,
        finished,
    }
}

/// Draws a piece: applies the temperature first, then keeps the `top_k` most probable pieces, then the nucleus of
/// `top_p` (Holtzman et al. 2020).
fn draw(log_probabilities: &[f32], config: &DecodeConfig, key: Key) -> usize {
    let mut pieces: Vec<usize> = (0..log_probabilities.len())
        .filter(|i| log_probabilities[*i].is_finite())
        .collect();
    pieces.sort_by(|a, b| log_probabilities[*b].total_cmp(&log_probabilities[*a]).then(a.cmp(b)));
    if config.top_k > 0 {
        pieces.truncate(config.top_k);
    }
    let best = pieces.first().map_or(0.0, |i| f64::from(log_probabilities[*i]));
    let weight = |i: &usize| ((f64::from(log_probabilities[*i]) - best) / config.temperature).exp();
    let mut weights: Vec<f64> = pieces.iter().map(weight).collect();
    let total: f64 = weights.iter().sum();
    let mut sum = 0.0;
    let nucleus = weights.iter().position(|w| {
        sum += w;
        sum >= config.top_p * total
    });
    weights.truncate(nucleus.map_or(weights.len(), |last| last + 1));
    let target = key.uniform(1)[0] * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    let drawn = weights.iter().position(|w| {
        sum += w;
        sum >= target
    });
    pieces.get(drawn.unwrap_or(0)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_distribution() {
        let p = [0.5f32, 0.3, 0.15, 0.05];
        let logs: Vec<f32> = p.iter().map(|p| p.ln()).collect();
        let share = |config: DecodeConfig| -> Vec<f64> {
            let mut counts = [0.0; 4];
            for i in 0..20_000 {
                counts[draw(&logs, &config, Key::new(3, Purpose::Sampling).fold(i))] += 1.0 / 20_000.0;
            }
            counts.to_vec()
        };
        let near = |got: Vec<f64>, expected: [f64; 4]| {
            assert!(
                got.iter().zip(expected).all(|(g, e)| (g - e).abs() < 0.015),
                "{got:?} {expected:?}"
            );
        };
        near(share(DecodeConfig::default()), [0.5, 0.3, 0.15, 0.05]);
        near(
            share(DecodeConfig {
                top_k: 2,
                ..DecodeConfig::default()
            }),
            [0.625, 0.375, 0.0, 0.0],
        );
        near(
            share(DecodeConfig {
                top_p: 0.9,
                ..DecodeConfig::default()
            }),
            [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0],
        );
        near(
            share(DecodeConfig {
                temperature: 0.01,
                ..DecodeConfig::default()
            }),
            [1.0, 0.0, 0.0, 0.0],
        );
        let hot: Vec<f64> = p.iter().map(|p| f64::from(*p).sqrt()).collect();
        let total: f64 = hot.iter().sum();
        near(
            share(DecodeConfig {
                temperature: 2.0,
                ..DecodeConfig::default()
            }),
            [hot[0] / total, hot[1] / total, hot[2] / total, hot[3] / total],
        );
    }
}
