//! Beam search.

use crate::constraint::forbidden;
use crate::hypothesis::TextOf;
use crate::{Autoregressive, AutoregressiveState, DecodeConfig, DecodeError, Hypothesis};
use std::cmp::Ordering;
use std::collections::HashMap;
use tallow_model::{BestPieces, RowRequest, Tokens};

/// A live hypothesis of a beam.
#[derive(Clone, Debug)]
struct Live {
    tokens: Vec<u32>,
    token_log_probabilities: Vec<f32>,
    log_probability: f64,
}

/// The beam of one sentence.
struct Beam {
    sentence: usize,
    live: Vec<Live>,
    finished: Vec<Hypothesis>,
    /// The index in `finished` of each text, if hypotheses are compared by text.
    texts: HashMap<String, usize>,
}

impl Beam {
    /// Adds a hypothesis to the finished ones. If several have the same text, only the best one is kept.
    fn finish(&mut self, ended: Hypothesis, text_of: Option<&TextOf>) -> Result<(), DecodeError> {
        if let Some(text_of) = text_of {
            let next = self.finished.len();
            // Tokens that cannot be decoded get a text of their own.
            let text = text_of(&ended.tokens).unwrap_or_else(|_| format!("{:?}", ended.tokens));
            let place = *self.texts.entry(text).or_insert(next);
            if let Some(same) = self.finished.get_mut(place) {
                if best_first(&ended, same).is_lt() {
                    *same = ended;
                }
                return Ok(());
            }
        }
        self.finished.push(ended);
        Ok(())
    }
}

fn best_first(a: &Hypothesis, b: &Hypothesis) -> Ordering {
    b.score.total_cmp(&a.score).then_with(|| a.tokens.cmp(&b.tokens))
}

/// A continuation of one live hypothesis by one token.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    parent: usize,
    token: u32,
    token_log_probability: f32,
    log_probability: f64,
}

impl Candidate {
    /// Best first; among equals the better parent, then the smaller token, so that ties never depend on chance.
    fn order(&self, other: &Self) -> Ordering {
        let by_score = other.log_probability.total_cmp(&self.log_probability);
        by_score
            .then(self.parent.cmp(&other.parent))
            .then(self.token.cmp(&other.token))
    }
}

/// Finds the `config.n_best` best hypotheses of each sentence, best first.
///
/// Each step takes the `2 * beam` best continuations of all hypotheses of a sentence. Continuations that end the
/// sentence and are among the `beam` best are finished; the `beam` best of the others stay alive. A sentence is done in
/// one of three cases:
///
/// - No live hypothesis can overtake the best finished ones any more.
/// - `beam * patience`, but at least `n_best`, hypotheses are finished, and (without `early_stopping`) no live one is
///   ahead of the best of them.
/// - The maximum length is reached. Live hypotheses are then cut.
///
/// # Errors
/// When the model fails or its scores are not finite.
pub fn beam_search<M: Autoregressive>(
    model: &M,
    source: &Tokens,
    config: &DecodeConfig,
) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
    beam_search_of_texts(model, source, config, None)
}

/// [`beam_search`] in which hypotheses with the same text count as one.
pub(crate) fn beam_search_of_texts<M: Autoregressive>(
    model: &M,
    source: &Tokens,
    config: &DecodeConfig,
    text_of: Option<&TextOf>,
) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
    let architecture = model.architecture();
    let eos = architecture.eos_id;
    let width = config.beam;
    let sentences = source.sentences.count();
    let mut state = model.start(source)?;
    let root = Live {
        tokens: Vec::new(),
        token_log_probabilities: Vec::new(),
        log_probability: 0.0,
    };
    let mut beams: Vec<Beam> = (0..sentences)
        .map(|sentence| Beam {
            sentence,
            live: vec![root.clone()],
            finished: Vec::new(),
            texts: HashMap::new(),
        })
        .collect();
    // Before the first token, a sentence has one row.
    let mut rows = 1;
    let mut last = vec![architecture.target_pad_id(); sentences];
    let mut results: Vec<Vec<Hypothesis>> = vec![Vec::new(); sentences];
    for length in 1..=config.max_length {
        let forbidden: Vec<Vec<u32>> = beams
            .iter()
            .flat_map(|beam| forbidden_in(beam, rows, eos, config))
            .collect();
        let requests: Vec<RowRequest> = forbidden.iter().map(|forbidden| request(forbidden, eos)).collect();
        let mut next = model.best(&last, &mut state, 2 * width, &requests)?.into_iter();
        let mut parents: Vec<u32> = Vec::with_capacity(beams.len() * width);
        last.clear();
        for (index, beam) in beams.iter_mut().enumerate() {
            let found: Vec<BestPieces> = next.by_ref().take(rows).collect();
            let chosen = advance(beam, found, eos, length, config, text_of)?;
            // A beam that is not full repeats its first row; the results of the repeated rows are never read.
            for row in 0..width {
                let (parent, token) = chosen.get(row).copied().unwrap_or((0, eos));
                parents.push((index * rows + parent) as u32);
                last.push(token);
            }
        }
        rows = width;
        let open: Vec<u32> = (0..beams.len() as u32)
            .filter(|i| !is_done(&beams[*i as usize], length, config))
            .collect();
        state.reorder(&parents)?;
        if open.len() < beams.len() {
            last = open
                .iter()
                .flat_map(|i| last[*i as usize * width..(*i as usize + 1) * width].to_vec())
                .collect();
            let (still, done): (Vec<_>, Vec<_>) = beams
                .into_iter()
                .enumerate()
                .partition(|(i, _)| open.binary_search(&(*i as u32)).is_ok());
            for (_, beam) in done {
                let sentence = beam.sentence;
                results[sentence] = best(beam, config, text_of)?;
            }
            beams = still.into_iter().map(|(_, beam)| beam).collect();
            if beams.is_empty() {
                break;
            }
            state.keep(&open)?;
        }
    }
    Ok(results)
}

/// The tokens that each row of a beam must not continue with.
fn forbidden_in(beam: &Beam, rows: usize, eos: u32, config: &DecodeConfig) -> Vec<Vec<u32>> {
    let of_live = beam.live.iter().map(|live| forbidden(&live.tokens, eos, config));
    of_live.chain(std::iter::repeat(Vec::new())).take(rows).collect()
}

/// The question about a row. If everything else is forbidden, the sentence may end, so the probability of that is
/// wanted.
pub(crate) fn request(forbidden: &[u32], eos: u32) -> RowRequest<'_> {
    RowRequest {
        forbidden,
        reported: (!forbidden.is_empty()).then_some(eos),
    }
}

/// The pieces that may come next, best first: `</s>` if no other is possible.
pub(crate) fn possible(found: BestPieces, eos: u32) -> Vec<(u32, f32)> {
    match found.reported.filter(|eos| eos.is_finite()) {
        Some(log_probability) if found.best.is_empty() => vec![(eos, log_probability)],
        _ => found.best,
    }
}

/// Takes one step in one beam and returns the parent and token of every live hypothesis.
fn advance(
    beam: &mut Beam,
    rows: Vec<BestPieces>,
    eos: u32,
    length: usize,
    config: &DecodeConfig,
    text_of: Option<&TextOf>,
) -> Result<Vec<(usize, u32)>, DecodeError> {
    let mut candidates = Vec::new();
    for (parent, (live, found)) in beam.live.iter().zip(rows).enumerate() {
        for (token, token_log_probability) in possible(found, eos) {
            candidates.push(Candidate {
                parent,
                token,
                token_log_probability,
                log_probability: live.log_probability + f64::from(token_log_probability),
            });
        }
    }
    candidates.sort_by(Candidate::order);
    candidates.truncate(2 * config.beam);
    let mut live = Vec::with_capacity(config.beam);
    let mut chosen = Vec::with_capacity(config.beam);
    for (rank, candidate) in candidates.into_iter().enumerate() {
        let parent = &beam.live[candidate.parent];
        let mut token_log_probabilities = parent.token_log_probabilities.clone();
        token_log_probabilities.push(candidate.token_log_probability);
        let mut tokens = parent.tokens.clone();
        if candidate.token == eos {
            if rank < config.beam {
                let score = config.score(candidate.log_probability, length);
                let log_probability = candidate.log_probability;
                let ended = Hypothesis {
                    tokens,
                    token_log_probabilities,
                    log_probability,
                    score,
                    finished: true,
                };
                beam.finish(ended, text_of)?;
            }
        } else if live.len() < config.beam {
            tokens.push(candidate.token);
            live.push(Live {
                tokens,
                token_log_probabilities,
                log_probability: candidate.log_probability,
            });
            chosen.push((candidate.parent, candidate.token));
        }
    }
    beam.live = live;
    Ok(chosen)
}

/// Whether a beam needs no further step.
fn is_done(beam: &Beam, length: usize, config: &DecodeConfig) -> bool {
    if length >= config.max_length || beam.live.is_empty() {
        return true;
    }
    // Log-probabilities only fall, and a score is best at one of the two ends of the lengths that remain.
    let now = |live: &Live| config.score(live.log_probability, length + 1);
    let hope = |live: &Live| now(live).max(config.score(live.log_probability, config.max_length));
    let beaten = |best: &dyn Fn(&Live) -> f64| {
        let best = beam.live.iter().map(best).fold(f64::NEG_INFINITY, f64::max);
        beam.finished.iter().filter(|finished| finished.score >= best).count() >= config.n_best
    };
    // Enough finished hypotheses alone are not a good reason to stop: under label smoothing an early `</s>` is as
    // probable as any other wrong token, and would end the search while the right hypothesis is alive and far ahead.
    let enough = beam.finished.len() as f64 >= (config.beam as f64 * config.patience).max(config.n_best as f64);
    // A beam of one is greedy search, which ends with its first `</s>`.
    let early = config.early_stopping || config.beam == 1;
    beaten(&hope) || (enough && (early || beaten(&now)))
}

/// The best hypotheses of a beam that is done, finished ones and those cut at the maximum length.
fn best(mut beam: Beam, config: &DecodeConfig, text_of: Option<&TextOf>) -> Result<Vec<Hypothesis>, DecodeError> {
    let live = std::mem::take(&mut beam.live);
    for live in live.into_iter().filter(|live| live.tokens.len() >= config.max_length) {
        let cut = Hypothesis {
            score: config.score(live.log_probability, live.tokens.len()),
            tokens: live.tokens,
            token_log_probabilities: live.token_log_probabilities,
            log_probability: live.log_probability,
            finished: false,
        };
        beam.finish(cut, text_of)?;
    }
    beam.finished.sort_by(best_first);
    beam.finished.truncate(config.n_best);
    Ok(beam.finished)
}
