//! Rules of a search: which tokens may come next, which must, and what a choice costs beyond its probability.

use crate::DecodeConfig;
use crate::phrases::{Phrases, Progress};
use std::sync::Arc;
use tallow_model::{BestPieces, RowRequest};

/// The rules for all hypotheses of one sentence.
#[derive(Clone, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) config: &'a DecodeConfig,
    /// `</s>`.
    pub(crate) eos: u32,
    /// Sequences of tokens that no translation contains.
    pub(crate) forbidden: &'a [Vec<u32>],
    /// The tokens with which the translation begins.
    pub(crate) prefix: &'a [u32],
    /// Whether the translation ends behind its prefix.
    pub(crate) ends: bool,
    pub(crate) phrases: Phrases<'a>,
    /// The largest number of tokens, `</s>` included.
    pub(crate) limit: usize,
    /// The number of source tokens, `</s>` included.
    pub(crate) source_length: usize,
}

/// A token that may come next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Next {
    pub(crate) token: u32,
    /// The model's log-probability.
    pub(crate) log_probability: f32,
    /// What the search adds to the log-probability when it compares hypotheses. The sum is never positive.
    pub(crate) adjustment: f64,
}

/// The rules for the next token of one hypothesis.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowRules {
    /// The only token that may come next.
    forced: Option<u32>,
    /// Tokens that are not to be chosen as the most probable ones: they are forbidden, or handled separately.
    excluded: Vec<u32>,
    /// Tokens that may come next whatever their probability, with the factor of their log-probability.
    separate: Vec<(u32, f64)>,
    /// Tokens whose log-probabilities are wanted: those that are forced or separate, and `</s>` if others are excluded.
    reported: Vec<u32>,
}

impl Rules<'_> {
    /// The rules for the token after `tokens`.
    pub(crate) fn row(&self, tokens: &[u32], progress: &Progress) -> RowRules {
        let end = self.ends.then_some(&self.eos);
        if let Some(token) = self.prefix.get(tokens.len()).or(end) {
            return RowRules {
                forced: Some(*token),
                reported: vec![*token],
                ..RowRules::default()
            };
        }
        let (config, eos) = (self.config, self.eos);
        let mut excluded = repeating(tokens, config.no_repeat_ngram);
        excluded.extend(self.forbidden.iter().filter_map(|sequence| {
            let (last, rest) = sequence.split_last()?;
            tokens.ends_with(rest).then_some(*last)
        }));
        if tokens.len() + 1 < config.min_length || self.phrases.missing(progress) > 0 {
            excluded.push(eos);
        }
        // Phrases that were asked for are more important than the tokens that are forbidden.
        let mut separate: Vec<(u32, f64)> = Vec::new();
        if !self.phrases.is_empty() {
            separate.extend(self.phrases.wanted(progress).into_iter().map(|token| (token, 1.0)));
        }
        if config.repetition_penalty != 1.0 {
            let mut repeated = tokens.to_vec();
            repeated.sort_unstable();
            repeated.dedup();
            for token in repeated {
                match separate.iter_mut().find(|(other, _)| *other == token) {
                    Some((_, factor)) => *factor = config.repetition_penalty,
                    None if excluded.contains(&token) => {}
                    None => separate.push((token, config.repetition_penalty)),
                }
            }
        }
        excluded.extend(separate.iter().map(|(token, _)| *token));
        let mut reported: Vec<u32> = separate.iter().map(|(token, _)| *token).collect();
        if !excluded.is_empty() {
            reported.push(eos);
        }
        RowRules {
            forced: None,
            excluded,
            separate,
            reported,
        }
    }

    /// The score of a hypothesis: its log-probability with all adjustments, normalised by length, and what it lacks in
    /// coverage of the source. The tokens of its phrases are normalised by themselves: they cost much where a model
    /// would not say them, and a long translation must not be better only because it dilutes this cost.
    pub(crate) fn score(
        &self,
        log_probability: f64,
        tokens: &[u32],
        token_log_probabilities: &[f32],
        attention: &[Arc<[f32]>],
    ) -> f64 {
        let is_phrase = self.phrases.places(tokens);
        let count = is_phrase.iter().filter(|is_phrase| **is_phrase).count();
        let length = token_log_probabilities.len();
        let normalised = if count == 0 {
            self.config.score(log_probability, length)
        } else {
            let logs = token_log_probabilities.iter().zip(is_phrase);
            let of_phrases: f64 = logs.filter(|(_, is)| *is).map(|(log, _)| f64::from(*log)).sum();
            self.config.score(of_phrases, count) + self.config.score(log_probability - of_phrases, length - count)
        };
        normalised + self.coverage(attention)
    }

    /// What the coverage of the source adds to a score: never positive, and zero if every source token has got the
    /// attention of a whole target token (Wu et al. 2016, equation 14). `</s>` needs none.
    fn coverage(&self, attention: &[Arc<[f32]>]) -> f64 {
        if self.config.coverage_penalty == 0.0 {
            return 0.0;
        }
        let of_token = |source: usize| {
            let sum: f32 = attention.iter().map(|of_step| of_step[source]).sum();
            f64::from(sum.clamp(f32::MIN_POSITIVE, 1.0)).ln()
        };
        let sum: f64 = (0..self.source_length.saturating_sub(1)).map(of_token).sum();
        self.config.coverage_penalty * sum
    }

    /// Whether all phrases are complete after one more token.
    pub(crate) fn is_complete(&self, progress: &Progress, token: u32) -> bool {
        self.phrases.is_empty() || self.phrases.missing(&self.phrases.advance(progress, token)) == 0
    }

    /// Whether a token may follow a hypothesis of `length` tokens. All phrases must still fit, with `</s>` behind them.
    pub(crate) fn leaves_room(&self, length: usize, progress: &Progress, token: u32) -> bool {
        if self.phrases.is_empty() || length < self.prefix.len() {
            return true;
        }
        match self.phrases.missing(&self.phrases.advance(progress, token)) {
            0 => true,
            missing => length + 1 + missing < self.limit,
        }
    }
}

impl RowRules {
    /// The question about the row.
    pub(crate) fn request(&self) -> RowRequest<'_> {
        RowRequest {
            forbidden: &self.excluded,
            reported: &self.reported,
        }
    }

    /// The tokens that may come next, best first. If there is no other, `</s>` may, because a sentence must always be
    /// able to end.
    pub(crate) fn possible(&self, found: &BestPieces) -> Vec<Next> {
        if let Some(token) = self.forced {
            // The model may consider it impossible. The sum of log-probabilities must stay a number.
            let log_probability = found.reported.first().map_or(f32::MIN, |log| log.max(f32::MIN));
            return vec![Next {
                token,
                log_probability,
                adjustment: 0.0,
            }];
        }
        let as_next = |(token, log_probability): (&u32, &f32)| Next {
            token: *token,
            log_probability: *log_probability,
            adjustment: 0.0,
        };
        let mut next: Vec<Next> = found.best.iter().map(|(token, log)| as_next((token, log))).collect();
        let mut reported = found.reported.iter();
        for ((token, factor), log_probability) in self.separate.iter().zip(&mut reported) {
            next.push(Next {
                token: *token,
                log_probability: *log_probability,
                adjustment: (factor - 1.0) * f64::from(*log_probability),
            });
        }
        if !self.separate.is_empty() {
            next.retain(|next| next.log_probability.is_finite());
            next.sort_by(|a, b| b.standing().total_cmp(&a.standing()).then(a.token.cmp(&b.token)));
        }
        if next.is_empty()
            && let Some(end) = self.reported.last().zip(reported.next().filter(|log| log.is_finite()))
        {
            next.push(as_next(end));
        }
        next
    }

    /// Applies the rules to the log-probabilities of all pieces, for sampling.
    pub(crate) fn apply(&self, log_probabilities: &mut [f32]) {
        if let Some(token) = self.forced {
            for (piece, log_probability) in log_probabilities.iter_mut().enumerate() {
                *log_probability = match piece == token as usize {
                    // However improbable.
                    true => log_probability.max(f32::MIN),
                    false => f32::NEG_INFINITY,
                };
            }
            return;
        }
        let end = self.reported.last().map(|eos| (*eos, log_probabilities[*eos as usize]));
        let separate: Vec<(u32, f32)> = self
            .separate
            .iter()
            .map(|(token, factor)| (*token, (factor * f64::from(log_probabilities[*token as usize])) as f32))
            .collect();
        for token in &self.excluded {
            log_probabilities[*token as usize] = f32::NEG_INFINITY;
        }
        for (token, log_probability) in separate {
            log_probabilities[token as usize] = log_probability;
        }
        if let Some((eos, log_probability)) = end
            && !log_probabilities.iter().any(|x| x.is_finite())
        {
            log_probabilities[eos as usize] = log_probability;
        }
    }
}

impl Next {
    /// The number by which continuations of one hypothesis are compared.
    fn standing(&self) -> f64 {
        f64::from(self.log_probability) + self.adjustment
    }
}

/// The tokens that would repeat a sequence of `size` tokens; none if it is 0.
fn repeating(tokens: &[u32], size: usize) -> Vec<u32> {
    if size == 0 || tokens.len() + 1 < size {
        return Vec::new();
    }
    let start = &tokens[tokens.len() + 1 - size..];
    let repeated = |window: &[u32]| {
        let (last, rest) = window.split_last()?;
        (rest == start).then_some(*last)
    };
    tokens.windows(size).filter_map(repeated).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules<'a>(config: &'a DecodeConfig, forbidden: &'a [Vec<u32>], phrases: &[Vec<u32>]) -> Rules<'a> {
        Rules {
            config,
            eos: 0,
            forbidden,
            prefix: &[],
            ends: false,
            phrases: Phrases::new(phrases, &[]),
            limit: 10,
            source_length: 5,
        }
    }

    /// The log-probabilities of six pieces after some tokens, if each had -1 without rules.
    fn after(rules: &Rules, tokens: &[u32]) -> Vec<f32> {
        let progress = tokens.iter().fold(rules.phrases.start(), |progress, token| {
            rules.phrases.advance(&progress, *token)
        });
        let row = rules.row(tokens, &progress);
        let mut values = vec![-1.0; 6];
        row.apply(&mut values);
        // A search among the best of all pieces sees the same.
        let request = row.request();
        let best = (0..6)
            .filter(|piece| !request.forbidden.contains(piece))
            .map(|piece| (piece, -1.0));
        let found = BestPieces {
            best: best.collect(),
            reported: vec![-1.0; request.reported.len()],
        };
        let mut by_search = vec![f32::NEG_INFINITY; 6];
        for next in row.possible(&found) {
            by_search[next.token as usize] = next.standing() as f32;
        }
        assert_eq!(values, by_search);
        values
    }

    fn allowed(rules: &Rules, tokens: &[u32]) -> Vec<usize> {
        let values = after(rules, tokens);
        (0..6).filter(|i| values[*i].is_finite()).collect()
    }

    #[test]
    fn repeated_ngrams() {
        let allowed = |tokens: &[u32], size| {
            let config = DecodeConfig {
                no_repeat_ngram: size,
                ..DecodeConfig::default()
            };
            allowed(&rules(&config, &[], &[]), tokens)
        };
        assert_eq!(allowed(&[2, 3, 4, 2, 3], 3), [0, 1, 2, 3, 5]);
        assert_eq!(allowed(&[2, 3, 4, 2], 2), [0, 1, 2, 4, 5]);
        assert_eq!(allowed(&[2, 3], 1), [0, 1, 4, 5]);
        assert_eq!(allowed(&[2, 3], 0).len(), 6);
        assert_eq!(allowed(&[], 4).len(), 6);
    }

    #[test]
    fn minimum_length_counts_the_end() {
        let allowed = |tokens: &[u32], least| {
            let config = DecodeConfig {
                min_length: least,
                ..DecodeConfig::default()
            };
            allowed(&rules(&config, &[], &[]), tokens)
        };
        assert_eq!(allowed(&[2], 3), [1, 2, 3, 4, 5]);
        assert_eq!(allowed(&[2, 3], 3).len(), 6);
        assert_eq!(allowed(&[], 1).len(), 6);
    }

    #[test]
    fn forbidden_sequences() {
        let config = DecodeConfig::default();
        let forbidden = [vec![1], vec![2, 3], vec![2, 4, 5]];
        let rules = rules(&config, &forbidden, &[]);
        assert_eq!(allowed(&rules, &[]), [0, 2, 3, 4, 5]);
        assert_eq!(allowed(&rules, &[4, 2]), [0, 2, 4, 5]);
        assert_eq!(allowed(&rules, &[2, 4]), [0, 2, 3, 4]);
        // Everything is forbidden: the sentence ends.
        let all: Vec<Vec<u32>> = (0..6).map(|piece| vec![piece]).collect();
        let rules = super::tests::rules(&config, &all, &[]);
        assert_eq!(allowed(&rules, &[]), [0]);
    }

    #[test]
    fn repeated_tokens_cost() {
        let config = DecodeConfig {
            repetition_penalty: 1.5,
            no_repeat_ngram: 2,
            ..DecodeConfig::default()
        };
        let found = after(&rules(&config, &[], &[]), &[2, 3, 2, 3, 4, 3]);
        assert_eq!(found, [-1.0, -1.0, f32::NEG_INFINITY, -1.5, f32::NEG_INFINITY, -1.0]);
    }

    #[test]
    fn prefixes_leave_no_choice() {
        let config = DecodeConfig {
            min_length: 5,
            ..DecodeConfig::default()
        };
        let forbidden = [vec![3]];
        let rules = Rules {
            prefix: &[4, 3],
            ..rules(&config, &forbidden, &[])
        };
        assert_eq!(allowed(&rules, &[]), [4]);
        assert_eq!(allowed(&rules, &[4]), [3]);
        assert_eq!(allowed(&rules, &[4, 3]), [1, 2, 4, 5]);
        let ended = Rules {
            ends: true,
            ..rules.clone()
        };
        assert_eq!((allowed(&ended, &[4]), allowed(&ended, &[4, 3])), (vec![3], vec![0]));
        // However improbable.
        let impossible = BestPieces {
            best: vec![(1, -0.5)],
            reported: vec![f32::NEG_INFINITY],
        };
        let next = rules.row(&[], &Progress::default()).possible(&impossible);
        assert!(next[0].token == 4 && next[0].log_probability.is_finite());
    }

    #[test]
    fn a_sentence_does_not_end_before_its_phrases() {
        let config = DecodeConfig::default();
        let forbidden = [vec![4]];
        let rules = rules(&config, &forbidden, &[vec![4, 5], vec![3]]);
        let progress = rules.phrases.start();
        assert_eq!(allowed(&rules, &[]), [1, 2, 3, 4, 5]);
        assert_eq!(allowed(&rules, &[4, 5, 3]), [0, 1, 2, 3, 5]);
        // Three tokens are missing, of at most ten with `</s>`.
        assert!(rules.leaves_room(5, &progress, 1));
        assert!(!rules.leaves_room(6, &progress, 1) && rules.leaves_room(6, &progress, 4));
        assert!(!rules.leaves_room(9, &rules.phrases.advance(&progress, 3), 0));
    }
}
