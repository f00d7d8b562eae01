//! What decides which model is best.

use crate::Validation;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// What decides which checkpoint is best, and when training has stopped to improve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Cross-entropy per target token in nats, without label smoothing; less is better.
    Loss,
    /// The exponential of the cross-entropy; less is better.
    Perplexity,
    /// BLEU of translations; more is better.
    #[default]
    Bleu,
    /// chrF of translations; more is better.
    Chrf,
    /// Percent of translations that equal their reference; more is better.
    ExactMatch,
}

/// Below this, differences of BLEU are noise: they come from a few short matches.
const DECISIVE_BLEU: f64 = 5.0;

impl Metric {
    /// The number by which a validation is compared with others: its value of the metric. In place of a value that is too low
    /// to decide it is the loss with a minus in front, of which more is better, too, and which is below any value that decides.
    pub fn standing(self, validation: &Validation) -> f64 {
        match validation.value(self) {
            value if self.is_too_low(value) => -validation.loss,
            value => value,
        }
    }

    /// Whether a value says too little to decide: a BLEU that is noise, or no exact match at all, which most models begin with.
    fn is_too_low(self, value: f64) -> bool {
        match self {
            Metric::Bleu => value < DECISIVE_BLEU,
            Metric::ExactMatch => value <= 0.0,
            Metric::Loss | Metric::Perplexity | Metric::Chrf => false,
        }
    }

    /// What a standing is a value of, and that value.
    pub fn of_standing(self, standing: f64) -> (Metric, f64) {
        match self {
            Metric::Bleu | Metric::ExactMatch if standing.is_sign_negative() => (Metric::Loss, -standing),
            metric => (metric, standing),
        }
    }

    /// How two standings compare; the better one is less, as in a list with the best first.
    pub fn best_first(self, a: f64, b: f64) -> Ordering {
        match self {
            Metric::Loss | Metric::Perplexity => a.total_cmp(&b),
            // Runs that began when any value decided have low ones. Nothing is known of their losses; what is, is better.
            Metric::Bleu | Metric::Chrf | Metric::ExactMatch => {
                let is_noise = |standing: f64| standing.is_sign_positive() && self.is_too_low(standing);
                is_noise(a).cmp(&is_noise(b)).then(b.total_cmp(&a))
            }
        }
    }

    /// Whether a standing is finite and better than another one, if there is one.
    pub(crate) fn beats(self, standing: f64, best: Option<f64>) -> bool {
        standing.is_finite() && best.is_none_or(|best| self.best_first(standing, best) == Ordering::Less)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validation(bleu: f64, loss: f64) -> Validation {
        Validation {
            loss,
            perplexity: loss.exp(),
            bleu: Some(bleu),
            chrf: Some(bleu),
            exact_match: Some(0.0),
            samples: Vec::new(),
        }
    }

    #[test]
    fn the_loss_decides_until_bleu_can() {
        let standing = |bleu, loss| Metric::Bleu.standing(&validation(bleu, loss));
        let beats = |(bleu, loss), best| Metric::Bleu.beats(standing(bleu, loss), best);
        // Better BLEU, worse loss.
        let first = standing(0.445, 5.75);
        assert_eq!(Metric::Bleu.of_standing(first), (Metric::Loss, 5.75));
        assert!(
            beats((0.371, 5.58), Some(first)) && !beats((4.9, 5.76), Some(first)) && !beats((0.5, 5.75), Some(first))
        );
        // From 5 on, however bad the loss, and even beside none at all.
        let decisive = standing(5.0, 9.0);
        assert_eq!(Metric::Bleu.of_standing(decisive), (Metric::Bleu, 5.0));
        for best in [first, standing(1.0, 0.0)] {
            assert!(beats((5.0, 9.0), Some(best)) && !beats((4.99, 0.0), Some(decisive)));
        }
        assert!(beats((5.1, 10.0), Some(decisive)) && !beats((5.0, 1.0), Some(decisive)));
        // What an earlier version has kept.
        assert!(beats((0.1, 9.0), Some(0.445)) && beats((6.0, 9.0), Some(0.445)) && !beats((6.0, 9.0), Some(7.0)));
        assert_eq!(Metric::Bleu.of_standing(0.445), (Metric::Bleu, 0.445));
        assert!(!beats((0.1, f64::NAN), None) && beats((0.1, 9.0), None));
    }

    #[test]
    fn other_metrics_decide_always() {
        let low = validation(0.5, 5.0);
        for (metric, expected) in [
            (Metric::Loss, 5.0),
            (Metric::Perplexity, 5f64.exp()),
            (Metric::Chrf, 0.5),
        ] {
            assert_eq!(metric.standing(&low), expected);
            assert_eq!(metric.of_standing(expected), (metric, expected));
        }
        assert!(Metric::Loss.beats(4.0, Some(5.0)) && Metric::Chrf.beats(0.6, Some(0.5)));
        assert!(!Metric::Loss.beats(5.0, Some(5.0)) && !Metric::Chrf.beats(0.0, Some(0.0)));
    }

    #[test]
    fn the_loss_decides_until_there_is_an_exact_match() {
        let standing = |exact, loss| {
            Metric::ExactMatch.standing(&Validation {
                exact_match: Some(exact),
                ..validation(0.0, loss)
            })
        };
        let beats = |standing, best| Metric::ExactMatch.beats(standing, Some(best));
        let (first, second, matches) = (standing(0.0, 5.0), standing(0.0, 4.0), standing(0.1, 9.0));
        assert_eq!(Metric::ExactMatch.of_standing(first), (Metric::Loss, 5.0));
        assert_eq!(Metric::ExactMatch.of_standing(matches), (Metric::ExactMatch, 0.1));
        assert!(beats(second, first) && !beats(first, second));
        assert!(beats(matches, second) && !beats(second, matches));
        assert!(!beats(standing(0.1, 1.0), matches) && beats(standing(0.2, 9.0), matches));
        // A 0 that an earlier version has kept.
        assert!(beats(standing(0.0, 9.0), 0.0) && beats(matches, 0.0) && !beats(0.0, first));
    }
}
