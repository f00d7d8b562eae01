//! Greedy search and sampling: hypotheses are extended independently of each other.

use crate::distribution::log_probabilities;
use crate::hypothesis::TextOf;
use crate::phrases::Progress;
use crate::rules::{RowRules, Rules};
use crate::search::Search;
use crate::{Autoregressive, AutoregressiveState, DecodeConfig, DecodeError, Hypothesis, SentenceRequest};
use std::collections::HashSet;
use std::sync::Arc;
use tallow_model::Tokens;
use tallow_ops::{Key, Purpose};

/// The rule that chooses the next token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The most probable token.
    Greedy,
    /// A random token. The random numbers depend only on the seed, the sentence's number, the sample and the position.
    Random,
}

/// An unfinished hypothesis.
struct Live {
    sentence: usize,
    sample: usize,
    tokens: Vec<u32>,
    log_probabilities: Vec<f32>,
    adjustment: f64,
    /// For each token, the attention of the step that chose it, if the search records it.
    attention: Vec<Arc<[f32]>>,
}

/// Extends hypotheses token by token until they end: one for each sentence if the choice is greedy, `config.n_best` if
/// it is random. Returns the hypotheses of each sentence, best score first.
///
/// # Errors
/// When the model fails or its scores are not finite.
pub(crate) fn sample<M: Autoregressive>(
    model: &M,
    source: &Tokens,
    search: &Search,
    requests: &[SentenceRequest],
    choice: Choice,
) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
    let architecture = model.architecture();
    let (config, eos, start) = (search.config, architecture.eos_id, architecture.target_pad_id());
    let sentences = source.sentences.count();
    let rules: Vec<Rules> = source
        .sentences
        .lengths()
        .iter()
        .zip(requests)
        .map(|(length, request)| search.rules(eos, *length, request))
        .collect();
    let samples = match choice {
        Choice::Greedy => 1,
        Choice::Random => config.n_best,
    };
    let mut state = search.start(model, source, requests)?;
    let every_row = |sentence| std::iter::repeat_n(sentence as u32, samples);
    state.reorder(&(0..sentences).flat_map(every_row).collect::<Vec<_>>())?;
    let mut done: Vec<Vec<Hypothesis>> = vec![Vec::new(); sentences];
    let new = |sentence, sample| Live {
        sentence,
        sample,
        tokens: Vec::new(),
        log_probabilities: Vec::new(),
        adjustment: 0.0,
        attention: Vec::new(),
    };
    // Rows of the state. A sentence leaves when all its samples have ended; until then its ended rows are still
    // computed.
    let mut rows: Vec<Option<Live>> = (0..sentences)
        .flat_map(|s| (0..samples).map(move |i| (s, i)))
        .map(|(s, i)| Some(new(s, i)))
        .collect();
    let mut last = vec![start; rows.len()];
    for length in 1.. {
        let of_row = |row: &Option<Live>| match row {
            Some(live) => rules[live.sentence].row(&live.tokens, &Progress::default()),
            None => RowRules::default(),
        };
        let of_rows: Vec<RowRules> = rows.iter().map(of_row).collect();
        let chosen = match choice {
            Choice::Greedy => most_probable(model, &last, &mut state, &of_rows)?,
            Choice::Random => {
                let key = |live: &Live| {
                    let key = Key::new(search.seed, Purpose::Sampling).fold(requests[live.sentence].number);
                    key.fold(live.sample as u64).fold(length as u64)
                };
                let keys: Vec<Option<Key>> = rows.iter().map(|row| row.as_ref().map(key)).collect();
                draw_all(model, &last, &mut state, (&of_rows, &keys), config)?
            }
        };
        let attention = state.attention();
        for (row, (token, log_probability, adjustment)) in chosen.into_iter().enumerate() {
            let Some(live) = &mut rows[row] else { continue };
            live.attention.extend(attention.as_ref().map(|rows| rows[row].clone()));
            live.log_probabilities.push(log_probability);
            live.adjustment += adjustment;
            last[row] = token;
            if token != eos {
                live.tokens.push(token);
            }
            if (token == eos || length >= rules[live.sentence].limit)
                && let Some(live) = rows[row].take()
            {
                let rules = &rules[live.sentence];
                done[live.sentence].push(finish(live, token == eos, rules));
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

/// A token with its log-probability and what the search adds to it.
type Chosen = (u32, f32, f64);

/// Feeds the last tokens to the model, and chooses the most probable next token of every row.
fn most_probable<M: Autoregressive>(
    model: &M,
    last: &[u32],
    state: &mut M::State,
    rules: &[RowRules],
) -> Result<Vec<Chosen>, DecodeError> {
    let asked: Vec<_> = rules.iter().map(RowRules::request).collect();
    let found = model.best(last, state, 1, &asked)?;
    let first = |(rules, found): (&RowRules, _)| {
        let next = *rules.possible(found).first().ok_or(DecodeError::NotFinite)?;
        Ok((next.token, next.log_probability, next.adjustment))
    };
    rules.iter().zip(&found).map(first).collect()
}

/// Feeds the last tokens to the model, and draws the next token of every row that has a key.
fn draw_all<M: Autoregressive>(
    model: &M,
    last: &[u32],
    state: &mut M::State,
    (rules, keys): (&[RowRules], &[Option<Key>]),
    config: &DecodeConfig,
) -> Result<Vec<Chosen>, DecodeError> {
    let architecture = model.architecture();
    let logits = model.step(last, state)?;
    let next = log_probabilities(&logits, architecture.classes())?;
    let draw = |((rules, key), of_model): ((&RowRules, &Option<Key>), Vec<f32>)| {
        let Some(key) = key else {
            return (architecture.eos_id, 0.0, 0.0);
        };
        let mut adjusted = of_model.clone();
        rules.apply(&mut adjusted);
        let token = draw(&adjusted, config, *key);
        let log_probability = of_model[token];
        (
            token as u32,
            log_probability,
            f64::from(adjusted[token]) - f64::from(log_probability),
        )
    };
    Ok(rules.iter().zip(keys).zip(next).map(draw).collect())
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

fn finish(live: Live, finished: bool, rules: &Rules) -> Hypothesis {
    let log_probability = live.log_probabilities.iter().map(|x| f64::from(*x)).sum();
    Hypothesis {
        score: rules.score(
            log_probability + live.adjustment,
            &live.tokens,
            &live.log_probabilities,
            &live.attention,
        ),
        tokens: live.tokens,
        token_log_probabilities: live.log_probabilities,
        log_probability,
        finished,
        attention: live.attention,
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
