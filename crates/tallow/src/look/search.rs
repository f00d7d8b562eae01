//! The search: which hypotheses lived and died, and what it found.

use super::{LookRequest, pieces_of};
use crate::Result;
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use tallow_decode::{
    BeamObserver, BeamStep, Candidate, DecodeConfig, Fate, LengthNormalization, Translation, Translator, Utility,
};
use tallow_model::PreparedTransformer;
use tallow_text::Tokenizers;

/// The beam that is shown of models that search greedily.
const USUAL_BEAM: usize = 4;

/// A beam search beside greedy search.
#[derive(Clone, Debug, Serialize)]
pub struct Searched {
    /// The hypotheses that are kept.
    pub beam: usize,
    /// The groups of the beam.
    pub groups: usize,
    /// The exponent of the length in scores.
    pub length_penalty: f64,
    /// What stands for the length in scores: `plain` or `wu`.
    pub length_normalization: LengthNormalization,
    /// The translation of greedy search.
    pub greedy: Found,
    /// The translations that the beam has finished or cut, best first; with groups, one may be there several times.
    pub found: Vec<Found>,
    /// The steps of the beam, group by group.
    pub steps: Vec<SearchStep>,
}

/// A translation that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Its text.
    pub text: String,
    /// Its pieces.
    pub pieces: Vec<String>,
    /// Its log-probability, in nats.
    pub log_probability: f64,
    /// The log-probability after length normalisation and penalties, by which translations are compared.
    pub score: f64,
    /// Whether it ended with `</s>`, and was not cut.
    pub is_finished: bool,
}

/// One step of one group.
#[derive(Clone, Debug, Serialize)]
pub struct SearchStep {
    /// The group, from 0.
    pub group: usize,
    /// The continuations that were compared, best first.
    pub nodes: Vec<SearchNode>,
}

/// A continuation of a hypothesis by one piece.
#[derive(Clone, Debug, Serialize)]
pub struct SearchNode {
    /// The place of the hypothesis that it continues, among those that lived after the step before.
    pub parent: usize,
    /// The piece.
    pub piece: String,
    /// The probability of the piece.
    pub probability: f32,
    /// The log-probability of the whole, in nats.
    pub log_probability: f64,
    /// The place at which it lives on; `None` if it ended or died.
    pub lives: Option<usize>,
    /// The score with which it ended.
    pub ends: Option<f64>,
    /// Whether the translation that won came this way.
    pub is_winner: bool,
}

#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<BeamStep>>);

impl BeamObserver for Recorder {
    fn step(&self, step: BeamStep) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }
}

/// The settings with which a look searches: one translation of one sentence. Nothing is drawn, so that a look is the
/// same each time.
pub(super) fn settings(config: &DecodeConfig) -> DecodeConfig {
    DecodeConfig {
        split_sentences: false,
        sample: false,
        mbr: Utility::None,
        n_best: 1,
        ..config.without_failing()
    }
}

/// Searches by beam and greedily. The translation that is returned is the one that the settings ask for.
pub(super) fn search(
    model: &Arc<PreparedTransformer>,
    tokenizers: &Tokenizers,
    request: &LookRequest,
) -> Result<(Translation, Searched)> {
    let asked = settings(&request.config);
    let recorder = Arc::new(Recorder::default());
    let translate = |config: DecodeConfig, recorder: Option<Arc<Recorder>>| -> Result<(Translation, Vec<Found>)> {
        let mut builder = Translator::builder(model.clone(), tokenizers.clone()).config(config);
        if let Some(recorder) = recorder {
            builder = builder.observer(recorder);
        }
        let translator = builder.build()?;
        let translation = translator
            .translate(std::slice::from_ref(&request.source), 0)?
            .remove(0);
        let found = translation.candidates.iter();
        let found = found.map(|candidate| Found::new(candidate, &translator)).collect();
        Ok((translation, found))
    };
    let greedy = DecodeConfig {
        beam: 1,
        groups: 1,
        n_best: 1,
        // Greedy search cannot keep anything.
        keep: Vec::new(),
        ..asked.clone()
    };
    let beam = if asked.beam > 1 { asked.beam } else { USUAL_BEAM };
    let wide = DecodeConfig { beam, ..asked.clone() };
    let (of_greedy, mut found_greedily) = translate(greedy, None)?;
    let (of_beam, best) = translate(wide, Some(recorder.clone()))?;
    let steps = std::mem::take(&mut *recorder.0.lock().unwrap_or_else(PoisonError::into_inner));
    let winner = of_beam.best.first().map(|best| best.tokens.clone()).unwrap_or_default();
    let (steps, endings) = tree(&steps, &winner, tokenizers)?;
    // A translation that was cut is in no ending.
    let cut = best.into_iter().filter(|found| !found.is_finished);
    let mut found: Vec<Found> = endings.into_iter().chain(cut).collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let searched = Searched {
        beam,
        groups: asked.groups,
        length_penalty: asked.length_penalty,
        length_normalization: asked.length_normalization,
        greedy: found_greedily.remove(0),
        steps,
        found,
    };
    Ok((if asked.beam > 1 { of_beam } else { of_greedy }, searched))
}

impl Found {
    fn new(candidate: &Candidate, translator: &Translator) -> Self {
        Self {
            text: candidate.text.clone(),
            pieces: translator.target_pieces(&candidate.hypothesis.tokens),
            log_probability: candidate.hypothesis.log_probability,
            score: candidate.hypothesis.score,
            is_finished: candidate.hypothesis.finished,
        }
    }
}

/// The steps with the pieces of their continuations, the way to the winner marked; and every translation that ended.
fn tree(steps: &[BeamStep], winner: &[u32], tokenizers: &Tokenizers) -> Result<(Vec<SearchStep>, Vec<Found>)> {
    let mut endings = Vec::new();
    // For each group, the tokens of the hypotheses that are alive.
    let mut alive: Vec<Vec<Vec<u32>>> = Vec::new();
    let of_step = |step: &BeamStep| {
        if alive.len() <= step.group {
            alive.resize(step.group + 1, vec![Vec::new()]);
        }
        let before = std::mem::take(&mut alive[step.group]);
        let places = step
            .candidates
            .iter()
            .filter(|candidate| matches!(candidate.fate, Fate::Lives(_)));
        let mut next = vec![Vec::new(); places.count()];
        let mut nodes = Vec::with_capacity(step.candidates.len());
        for candidate in &step.candidates {
            let so_far = before.get(candidate.parent).cloned().unwrap_or_default();
            let tokens = [&so_far[..], &[candidate.token]].concat();
            if let Fate::Ends(score) = candidate.fate {
                endings.push(Found {
                    text: tokenizers.target.decode(&so_far)?,
                    pieces: pieces_of(&tokenizers.target, &so_far),
                    log_probability: candidate.log_probability,
                    score,
                    is_finished: true,
                });
            }
            nodes.push(SearchNode {
                parent: candidate.parent,
                piece: tokenizers.target.piece(candidate.token).unwrap_or_default().to_owned(),
                probability: candidate.token_log_probability.exp(),
                log_probability: candidate.log_probability,
                lives: match candidate.fate {
                    Fate::Lives(place) => Some(place),
                    Fate::Ends(_) | Fate::Dies => None,
                },
                ends: match candidate.fate {
                    Fate::Ends(score) => Some(score),
                    Fate::Lives(_) | Fate::Dies => None,
                },
                is_winner: match candidate.fate {
                    Fate::Ends(_) => so_far == winner,
                    Fate::Lives(_) | Fate::Dies => winner.starts_with(&tokens),
                },
            });
            if let Fate::Lives(place) = candidate.fate
                && let Some(next) = next.get_mut(place)
            {
                *next = tokens;
            }
        }
        alive[step.group] = next;
        Ok(SearchStep {
            group: step.group,
            nodes,
        })
    };
    let steps = steps.iter().map(of_step).collect::<Result<_>>()?;
    Ok((steps, endings))
}
