//! Beam search.

use crate::beam_record::{BeamCandidate, BeamObserver, BeamStep, Fate};
use crate::hypothesis::TextOf;
use crate::phrases::{Phrases, Progress};
use crate::rules::{RowRules, Rules};
use crate::search::Search;
use crate::{Autoregressive, AutoregressiveState, DecodeConfig, DecodeError, Hypothesis, SentenceRequest};
use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tallow_model::{BestPieces, Tokens};

/// A live hypothesis of a beam.
#[derive(Clone, Debug)]
struct Live {
    tokens: Vec<u32>,
    token_log_probabilities: Vec<f32>,
    log_probability: f64,
    /// What the rules of the search add to the log-probability when hypotheses are compared.
    adjustment: f64,
    progress: Progress,
    /// For each token, the attention of the step that chose it, if the search records it.
    attention: Vec<Arc<[f32]>>,
}

/// A group of hypotheses that compete with each other.
#[derive(Default)]
struct Group {
    live: Vec<Live>,
    finished: Vec<Hypothesis>,
    /// The index in `finished` of each text, if hypotheses are compared by text.
    texts: HashMap<String, usize>,
}

/// The beam of one sentence.
struct Beam<'a> {
    sentence: usize,
    /// The sentence's number in its request.
    number: u64,
    rules: Rules<'a>,
    observer: Option<&'a dyn BeamObserver>,
    groups: Vec<Group>,
}

impl Group {
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

impl Group {
    /// [`Self::finish`] for a hypothesis that another group may have found, too.
    fn finish_new(&mut self, ended: Hypothesis, text_of: Option<&TextOf>) -> Result<(), DecodeError> {
        let is_same = |other: &Hypothesis| other.finished == ended.finished && other.tokens == ended.tokens;
        match self.finished.iter().any(is_same) {
            true => Ok(()),
            false => self.finish(ended, text_of),
        }
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
    adjustment: f64,
    /// The number by which the continuations of a group are compared.
    standing: f64,
}

impl Candidate {
    /// Best first; among equals the better parent, then the smaller token, so that ties never depend on chance.
    fn order(&self, other: &Self) -> Ordering {
        let by_standing = other.standing.total_cmp(&self.standing);
        by_standing
            .then(self.parent.cmp(&other.parent))
            .then(self.token.cmp(&other.token))
    }

    /// The candidate for an observer, before its fate is known.
    fn recorded(&self) -> BeamCandidate {
        BeamCandidate {
            parent: self.parent,
            token: self.token,
            token_log_probability: self.token_log_probability,
            log_probability: self.log_probability,
            fate: Fate::Dies,
        }
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
/// With `groups`, the beam is divided into groups that search one after another (diverse beam search, Vijayakumar et
/// al. 2018): a continuation loses `diversity` for each hypothesis of an earlier group that has chosen the same token
/// in this step. This influences only the choice; scores are those of the model.
///
/// If a translation must contain phrases, the places of the beam are dealt out, one after another, to hypotheses that
/// lack none of their tokens, that lack all, that lack one, two and so on, so that none of these kinds crowds out the
/// others (dynamic beam allocation, Post and Vilar 2018, in another order).
///
/// # Errors
/// When the model fails or its scores are not finite.
pub fn beam_search<M: Autoregressive>(
    model: &M,
    source: &Tokens,
    config: &DecodeConfig,
) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
    let numbers: Vec<u64> = (0..source.sentences.count() as u64).collect();
    let requests: Vec<SentenceRequest> = numbers.into_iter().map(SentenceRequest::numbered).collect();
    search_beams(model, source, &Search::new(config), &requests)
}

/// [`beam_search`] with the requests of each sentence.
pub(crate) fn search_beams<M: Autoregressive>(
    model: &M,
    source: &Tokens,
    search: &Search,
    requests: &[SentenceRequest],
) -> Result<Vec<Vec<Hypothesis>>, DecodeError> {
    let architecture = model.architecture();
    let (config, eos, text_of) = (search.config, architecture.eos_id, search.text_of);
    let width = config.beam;
    let sentences = source.sentences.count();
    let mut state = search.start(model, source, requests)?;
    let mut beams: Vec<Beam> = (0..sentences)
        .map(|sentence| {
            let length = source.sentences.lengths()[sentence];
            let rules = search.rules(eos, length, &requests[sentence]);
            let root = Live {
                tokens: Vec::new(),
                token_log_probabilities: Vec::new(),
                log_probability: 0.0,
                adjustment: 0.0,
                progress: rules.phrases.start(),
                attention: Vec::new(),
            };
            let group = || Group {
                live: vec![root.clone()],
                ..Group::default()
            };
            Beam {
                sentence,
                number: requests[sentence].number,
                rules,
                observer: search.observer,
                groups: (0..config.groups).map(|_| group()).collect(),
            }
        })
        .collect();
    // Before the first token, a sentence has one row, which all groups share.
    let mut rows = 1;
    let mut last = vec![architecture.target_pad_id(); sentences];
    let mut results: Vec<Vec<Hypothesis>> = vec![Vec::new(); sentences];
    for length in 1.. {
        let rules: Vec<RowRules> = beams.iter().flat_map(|beam| beam.rows(rows)).collect();
        let asked: Vec<_> = rules.iter().map(RowRules::request).collect();
        let found = model.best(&last, &mut state, 2 * width, &asked)?;
        let attention = state.attention();
        let mut parents: Vec<u32> = Vec::with_capacity(beams.len() * width);
        last.clear();
        for (index, beam) in beams.iter_mut().enumerate() {
            let own = index * rows..(index + 1) * rows;
            let of_rows = Rows {
                found: &found[own.clone()],
                rules: &rules[own.clone()],
                attention: attention.as_ref().map(|rows| &rows[own]),
            };
            for (parent, token) in beam.advance(&of_rows, length, text_of)? {
                parents.push((index * rows + parent) as u32);
                last.push(token);
            }
        }
        rows = width;
        let open: Vec<u32> = (0..beams.len() as u32)
            .filter(|i| !beams[*i as usize].is_done(length))
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
                results[sentence] = beam.best(text_of)?;
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

/// What the model has said about the rows of one beam.
struct Rows<'a> {
    found: &'a [BestPieces],
    rules: &'a [RowRules],
    /// For each row, the attention to the source tokens.
    attention: Option<&'a [Arc<[f32]>]>,
}

impl Beam<'_> {
    /// The hypotheses of each group.
    fn size(&self) -> usize {
        self.rules.config.beam / self.groups.len()
    }

    /// The row of a group's hypothesis, if the beam has this many rows.
    fn row_of(&self, group: usize, parent: usize, rows: usize) -> usize {
        if rows == 1 { 0 } else { group * self.size() + parent }
    }

    /// The rules for each row. Rows without a hypothesis have none.
    fn rows(&self, rows: usize) -> Vec<RowRules> {
        let mut rules = vec![RowRules::default(); rows];
        for (number, group) in self.groups.iter().enumerate() {
            for (parent, live) in group.live.iter().enumerate() {
                rules[self.row_of(number, parent, rows)] = self.rules.row(&live.tokens, &live.progress);
            }
        }
        rules
    }

    /// Takes one step in all groups, and returns the row and the token that each of the next rows continues.
    fn advance(
        &mut self,
        rows: &Rows,
        length: usize,
        text_of: Option<&TextOf>,
    ) -> Result<Vec<(usize, u32)>, DecodeError> {
        let size = self.size();
        // How often earlier groups have chosen each token.
        let mut chosen: HashMap<u32, usize> = HashMap::new();
        let mut next = Vec::with_capacity(self.rules.config.beam);
        for number in 0..self.groups.len() {
            let continued = self.advance_group(number, rows, length, &chosen, text_of)?;
            for row in 0..size {
                // A group that is not full repeats its first row; the results of the repeated rows are never read.
                let (parent, token) = continued.get(row).copied().unwrap_or((0, self.rules.eos));
                next.push((self.row_of(number, parent, rows.found.len()), token));
            }
            for (_, token) in continued {
                *chosen.entry(token).or_default() += 1;
            }
        }
        Ok(next)
    }

    /// Takes one step in a group, and returns the parent and the token of every live hypothesis.
    fn advance_group(
        &mut self,
        number: usize,
        rows: &Rows,
        length: usize,
        chosen: &HashMap<u32, usize>,
        text_of: Option<&TextOf>,
    ) -> Result<Vec<(usize, u32)>, DecodeError> {
        let size = self.size();
        let mut group = std::mem::take(&mut self.groups[number]);
        let rules = &self.rules;
        let (mut candidates, mut crowded) = (Vec::new(), Vec::new());
        for (parent, live) in group.live.iter_mut().enumerate() {
            let row = self.row_of(number, parent, rows.found.len());
            if let Some(attention) = rows.attention {
                live.attention.push(attention[row].clone());
            }
            for next in rows.rules[row].possible(&rows.found[row]) {
                let log_probability = live.log_probability + f64::from(next.log_probability);
                let adjustment = live.adjustment + next.adjustment;
                let rivals = chosen.get(&next.token).copied().unwrap_or(0) as f64;
                let candidate = Candidate {
                    parent,
                    token: next.token,
                    token_log_probability: next.log_probability,
                    log_probability,
                    adjustment,
                    standing: log_probability + adjustment - rules.config.diversity * rivals,
                };
                match rules.leaves_room(live.tokens.len(), &live.progress, next.token) {
                    true => candidates.push(candidate),
                    false => crowded.push(candidate),
                }
            }
        }
        if candidates.is_empty() {
            // Phrases that end within each other can leave no way to all of them. Something must be the result.
            candidates = crowded;
        }
        candidates.sort_by(Candidate::order);
        if rules.phrases.is_empty() {
            candidates.truncate(2 * size);
        }
        let mut record: Vec<BeamCandidate> = match self.observer {
            Some(_) => candidates.iter().map(Candidate::recorded).collect(),
            None => Vec::new(),
        };
        let (ends, others): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .enumerate()
            .partition(|(_, candidate)| candidate.token == rules.eos);
        for (rank, candidate) in ends {
            let parent = &group.live[candidate.parent];
            // Before all phrases are there, nothing can end.
            let before = &others[..others.partition_point(|(other, _)| *other < rank)];
            let rivals = before
                .iter()
                .filter(|(_, other)| rules.is_complete(&group.live[other.parent].progress, other.token));
            if rivals.count() + (rank - before.len()) < size {
                let mut token_log_probabilities = parent.token_log_probabilities.clone();
                token_log_probabilities.push(candidate.token_log_probability);
                let total = candidate.log_probability + candidate.adjustment;
                let ended = Hypothesis {
                    tokens: parent.tokens.clone(),
                    score: rules.score(total, &parent.tokens, &token_log_probabilities, &parent.attention),
                    token_log_probabilities,
                    log_probability: candidate.log_probability,
                    finished: true,
                    attention: parent.attention.clone(),
                };
                if let Some(recorded) = record.get_mut(rank) {
                    recorded.fate = Fate::Ends(ended.score);
                }
                group.finish(ended, text_of)?;
            }
        }
        let others: Vec<Candidate> = others.into_iter().map(|(_, candidate)| candidate).collect();
        let mut live = Vec::with_capacity(size);
        let mut continued = Vec::with_capacity(size);
        for candidate in choose(&rules.phrases, &group.live, others, size) {
            let parent = &group.live[candidate.parent];
            let mut next = parent.clone();
            next.tokens.push(candidate.token);
            next.token_log_probabilities.push(candidate.token_log_probability);
            next.log_probability = candidate.log_probability;
            next.adjustment = candidate.adjustment;
            next.progress = rules.phrases.advance(&parent.progress, candidate.token);
            live.push(next);
            let is_same =
                |other: &&mut BeamCandidate| (other.parent, other.token) == (candidate.parent, candidate.token);
            if let Some(recorded) = record.iter_mut().find(is_same) {
                recorded.fate = Fate::Lives(continued.len());
            }
            continued.push((candidate.parent, candidate.token));
        }
        group.live = live;
        if let Some(observer) = self.observer {
            observer.step(BeamStep {
                sentence: self.number,
                group: number,
                length,
                candidates: record,
            });
        }
        if is_done(&group, rules, size, self.groups.len(), length) {
            // Only hypotheses that were cut are still of interest.
            group.live.retain(|live| live.tokens.len() >= rules.limit);
        }
        self.groups[number] = group;
        Ok(continued)
    }

    /// Whether no group needs a further step.
    fn is_done(&self, length: usize) -> bool {
        length >= self.rules.limit || self.groups.iter().all(|group| group.live.is_empty())
    }

    /// The best hypotheses of a beam that is done, finished ones and those cut at the maximum length.
    fn best(self, text_of: Option<&TextOf>) -> Result<Vec<Hypothesis>, DecodeError> {
        let rules = self.rules;
        let has_finished = self.groups.iter().any(|group| !group.finished.is_empty());
        let mut groups = self.groups.into_iter();
        let mut all = groups.next().unwrap_or_default();
        let mut cut = std::mem::take(&mut all.live);
        for group in groups {
            cut.extend(group.live);
            for hypothesis in group.finished {
                all.finish_new(hypothesis, text_of)?;
            }
        }
        // What was cut before all its phrases were there is better than nothing only.
        cut.retain(|live| !has_finished || rules.phrases.missing(&live.progress) == 0);
        for live in cut {
            let total = live.log_probability + live.adjustment;
            let hypothesis = Hypothesis {
                score: rules.score(total, &live.tokens, &live.token_log_probabilities, &live.attention),
                tokens: live.tokens,
                token_log_probabilities: live.token_log_probabilities,
                log_probability: live.log_probability,
                finished: false,
                attention: live.attention,
            };
            all.finish_new(hypothesis, text_of)?;
        }
        all.finished.sort_by(best_first);
        all.finished.truncate(rules.config.n_best);
        Ok(all.finished)
    }
}

/// Chooses the continuations that stay alive, of candidates that are sorted best first.
fn choose(phrases: &Phrases, live: &[Live], mut candidates: Vec<Candidate>, size: usize) -> Vec<Candidate> {
    if phrases.is_empty() {
        candidates.truncate(size);
        return candidates;
    }
    // Candidates by the number of phrase tokens that they lack.
    let mut kinds: Vec<VecDeque<usize>> = vec![VecDeque::new(); phrases.tokens() + 1];
    for (number, candidate) in candidates.iter().enumerate() {
        let progress = phrases.advance(&live[candidate.parent].progress, candidate.token);
        kinds[phrases.missing(&progress)].push_back(number);
    }
    // First those that lack nothing, then those that lack all, so that a phrase can still come in a better place.
    kinds[1..].rotate_right(1);
    let mut chosen = Vec::with_capacity(size);
    while chosen.len() < size && kinds.iter().any(|kind| !kind.is_empty()) {
        chosen.extend(kinds.iter_mut().filter_map(VecDeque::pop_front));
    }
    chosen.truncate(size);
    chosen.sort_unstable();
    chosen.into_iter().map(|number| candidates[number]).collect()
}

/// Whether a group of `size` hypotheses, one of `groups`, needs no further step.
fn is_done(group: &Group, rules: &Rules, size: usize, groups: usize, length: usize) -> bool {
    if length >= rules.limit || group.live.is_empty() {
        return true;
    }
    let config = rules.config;
    let wanted = config.n_best.div_ceil(groups);
    // Log-probabilities only fall, and a score is best at one of the two ends of the lengths that remain.
    let now = |live: &Live| config.score(live.log_probability + live.adjustment, length + 1);
    let hope = |live: &Live| now(live).max(config.score(live.log_probability + live.adjustment, rules.limit));
    let beaten = |best: &dyn Fn(&Live) -> f64| {
        let best = group.live.iter().map(best).fold(f64::NEG_INFINITY, f64::max);
        group.finished.iter().filter(|finished| finished.score >= best).count() >= wanted
    };
    // Enough finished hypotheses alone are not a good reason to stop: under label smoothing an early `</s>` is as
    // probable as any other wrong token, and would end the search while the right hypothesis is alive and far ahead.
    let enough = group.finished.len() as f64 >= (size as f64 * config.patience).max(wanted as f64);
    // A beam of one is greedy search, which ends with its first `</s>`.
    let early = config.early_stopping || size == 1;
    if !rules.phrases.is_empty() {
        // Scores with phrases have no such bound.
        return enough;
    }
    beaten(&hope) || (enough && (early || beaten(&now)))
}
