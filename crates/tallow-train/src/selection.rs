//! Decides which checkpoints to keep, and whether training still improves.

use crate::Measure;
use serde::{Deserialize, Serialize};

/// The memory of a run's validations and checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// The best validation so far: update and standing ([`Measure::standing`]).
    pub best: Option<(u64, f64)>,
    /// The most recent validation: update, and standing if it was a finite number.
    pub latest: Option<(u64, Option<f64>)>,
    /// Validations since the best one.
    pub validations_without_improvement: u64,
    /// Checkpoints on disk, oldest first: update, and standing if it was validated.
    pub checkpoints: Vec<(u64, Option<f64>)>,
}

impl Selection {
    /// Records a validation and says whether it is the best so far.
    pub fn validated(&mut self, update: u64, standing: f64, metric: Measure) -> bool {
        self.latest = Some((update, Some(standing).filter(|value| value.is_finite())));
        let better = metric.beats(standing, self.best.map(|best| best.1));
        if better {
            self.best = Some((update, standing));
            self.validations_without_improvement = 0;
        } else {
            self.validations_without_improvement += 1;
        }
        better
    }

    /// Records a validation whose result is unknown through no fault of the model. It cannot be the best one.
    pub fn not_measured(&mut self, update: u64) -> bool {
        self.latest = Some((update, None));
        false
    }

    /// Forgets the results of validations, because the next ones are measured in another way. Says whether there were
    /// any.
    pub fn forget_scores(&mut self) -> bool {
        let had_any = self.best.is_some() || self.latest.is_some();
        self.best = None;
        self.latest = None;
        self.validations_without_improvement = 0;
        for (_, value) in &mut self.checkpoints {
            *value = None;
        }
        had_any
    }

    /// Whether the most recent validation was the one after this update.
    pub fn is_validated(&self, update: u64) -> bool {
        self.latest.is_some_and(|(latest, _)| latest == update)
    }

    /// Records a checkpoint and returns the checkpoints to remove: all except the `last` most recent and the `best`
    /// best.
    pub fn saved(&mut self, update: u64, metric: Measure, best: usize, last: usize) -> Vec<u64> {
        let value = self
            .latest
            .filter(|(latest, _)| *latest == update)
            .and_then(|(_, value)| value);
        self.checkpoints.retain(|(other, _)| *other != update);
        self.checkpoints.push((update, value));
        let mut scored: Vec<(u64, f64)> = self
            .checkpoints
            .iter()
            .filter_map(|(u, v)| v.map(|v| (*u, v)))
            .collect();
        // Of equal standings the earlier one is better, as in `validated`.
        scored.sort_by(|a, b| metric.best_first(a.1, b.1).then(a.0.cmp(&b.0)));
        scored.truncate(best);
        let recent = self.checkpoints.len().saturating_sub(last);
        let keep: Vec<u64> = self.checkpoints[recent..]
            .iter()
            .map(|c| c.0)
            .chain(scored.iter().map(|s| s.0))
            .collect();
        let removed = self
            .checkpoints
            .iter()
            .map(|c| c.0)
            .filter(|update| !keep.contains(update))
            .collect();
        self.checkpoints.retain(|(update, _)| keep.contains(update));
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallow_score::CHRF;

    #[test]
    fn best_and_patience() {
        let mut selection = Selection::default();
        assert!(selection.validated(10, 11.0, Measure::default()));
        assert!(!selection.validated(20, 11.0, Measure::default()));
        assert!(!selection.validated(30, f64::NAN, Measure::default()));
        assert!(selection.is_validated(30) && !selection.is_validated(20));
        selection.saved(30, Measure::default(), 1, 1);
        assert_eq!(selection.checkpoints, [(30, None)]);
        assert_eq!(selection.validations_without_improvement, 2);
        assert!(selection.validated(40, 12.0, Measure::default()));
        assert_eq!(
            (selection.best, selection.validations_without_improvement),
            (Some((40, 12.0)), 0)
        );
        assert!(selection.validated(50, 1.0, Measure::Loss));
    }

    #[test]
    fn checkpoints_of_low_bleu_are_kept_by_their_loss() {
        // Losses of 6, 5 and 7, then BLEU of 9, 8 and below 5 again, then a loss of 4.
        let standings = [-6.0, -5.0, -7.0, 9.0, 8.0, -4.0];
        let kept = |count: usize| -> Vec<u64> {
            let mut selection = Selection::default();
            for (update, standing) in (0..).zip(&standings[..count]) {
                selection.validated(update, *standing, Measure::default());
                selection.saved(update, Measure::default(), 2, 1);
            }
            selection.checkpoints.iter().map(|kept| kept.0).collect()
        };
        assert_eq!(kept(3), [0, 1, 2]);
        assert_eq!(kept(4), [1, 3]);
        assert_eq!(kept(6), [3, 4, 5]);
    }

    #[test]
    fn the_best_and_the_last_are_kept() {
        let mut selection = Selection::default();
        let values = [3.0, 9.0, 5.0, 1.0, 2.0];
        let mut removed = Vec::new();
        for (i, value) in values.iter().enumerate() {
            selection.validated(i as u64, *value, Measure::Score(CHRF));
            removed.extend(selection.saved(i as u64, Measure::Score(CHRF), 1, 2));
        }
        assert_eq!(removed, [0, 2]);
        assert_eq!(selection.checkpoints, [(1, Some(9.0)), (3, Some(1.0)), (4, Some(2.0))]);
        let mut selection = Selection::default();
        for (i, value) in values.iter().enumerate() {
            selection.validated(i as u64, *value, Measure::Perplexity);
            selection.saved(i as u64, Measure::Perplexity, 2, 1);
        }
        assert_eq!(selection.checkpoints, [(3, Some(1.0)), (4, Some(2.0))]);
        // Saved again, with its score.
        assert!(selection.saved(4, Measure::Perplexity, 2, 1).is_empty());
        assert_eq!(selection.checkpoints, [(3, Some(1.0)), (4, Some(2.0))]);
        selection.saved(5, Measure::Perplexity, 2, 1);
        assert_eq!(selection.checkpoints, [(3, Some(1.0)), (4, Some(2.0)), (5, None)]);
    }
}
