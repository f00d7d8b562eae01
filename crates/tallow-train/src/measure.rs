//! The numbers of a validation that can decide which model is best.

use crate::Validation;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::cmp::Ordering;
use tallow_score::{BLEU, METRICS, Metric};

/// The measure that decides which checkpoint is best, and when training has stopped improving. Configs and files store
/// it as its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Cross-entropy per target token in nats, without label smoothing; less is better.
    Loss,
    /// The exponential of the cross-entropy; less is better.
    Perplexity,
    /// A score of translations.
    Score(&'static dyn Metric),
    /// The number that the program of `train.valid_command` prints; more is better.
    Command,
}

/// BLEU.
impl Default for Measure {
    fn default() -> Self {
        Measure::Score(BLEU)
    }
}

impl Measure {
    /// All measures: the loss, the perplexity, the metrics in the order of [`METRICS`], and the user's program.
    pub fn all() -> impl Iterator<Item = Measure> {
        let scores = METRICS.iter().map(|metric| Measure::Score(*metric));
        let own = [Measure::Loss, Measure::Perplexity];
        own.into_iter().chain(scores).chain([Measure::Command])
    }

    /// The name: that of the metric, `loss`, `perplexity` or `command`.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Loss => "loss",
            Measure::Perplexity => "perplexity",
            Measure::Score(metric) => metric.name(),
            Measure::Command => "command",
        }
    }

    /// The metric whose score this is, if the measure is a score of translations.
    pub fn metric(self) -> Option<&'static dyn Metric> {
        match self {
            Measure::Loss | Measure::Perplexity | Measure::Command => None,
            Measure::Score(metric) => Some(metric),
        }
    }

    /// Whether the measure looks at translations.
    pub fn is_of_translations(self) -> bool {
        matches!(self, Measure::Score(_) | Measure::Command)
    }

    /// The number by which validations are compared: the value of this measure. If the value is too low to decide, it
    /// is the negative loss instead. For the negative loss, too, more is better, and it is below every value that
    /// decides.
    pub fn standing(self, validation: &Validation) -> f64 {
        match validation.value(self) {
            value if self.is_too_low(value) => -validation.loss,
            value => value,
        }
    }

    /// The lowest value that decides, if lower ones do not.
    fn least(self) -> Option<f64> {
        Some(self.metric()?.threshold()?.least)
    }

    /// Whether a value is too low to decide.
    fn is_too_low(self, value: f64) -> bool {
        self.least().is_some_and(|least| value < least)
    }

    /// The measure behind a standing, and its value.
    pub fn of_standing(self, standing: f64) -> (Measure, f64) {
        match self.least() {
            Some(_) if standing.is_sign_negative() => (Measure::Loss, -standing),
            _ => (self, standing),
        }
    }

    /// Compares two standings. The better one is less, as in a list with the best first.
    pub fn best_first(self, a: f64, b: f64) -> Ordering {
        match self {
            Measure::Score(metric) if metric.is_more_better() => {
                // Runs of versions without a threshold have low standings. Their losses are not known, and a known
                // loss is better.
                let is_noise = |standing: f64| standing.is_sign_positive() && self.is_too_low(standing);
                is_noise(a).cmp(&is_noise(b)).then(b.total_cmp(&a))
            }
            Measure::Command => b.total_cmp(&a),
            _ => a.total_cmp(&b),
        }
    }

    /// Whether a standing is finite, and better than `best` if there is one.
    pub(crate) fn beats(self, standing: f64, best: Option<f64>) -> bool {
        standing.is_finite() && best.is_none_or(|best| self.best_first(standing, best) == Ordering::Less)
    }
}

impl Serialize for Measure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Measure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Measure::all().find(|measure| measure.name() == name).ok_or_else(|| {
            let known: Vec<String> = Measure::all().map(|measure| format!("`{}`", measure.name())).collect();
            de::Error::custom(format!(
                "unknown variant `{name}`, expected one of {}",
                known.join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallow_score::{EXACT_MATCH, Score};

    const EXACT: Measure = Measure::Score(EXACT_MATCH);
    const CHRF: Measure = Measure::Score(tallow_score::CHRF);
    const TER: Measure = Measure::Score(tallow_score::TER);

    fn validation(scores: &[(&'static dyn Metric, f64)], loss: f64) -> Validation {
        let score = |(metric, value): &(&'static dyn Metric, f64)| (*metric, Some(Score::new("", *value)));
        Validation {
            loss,
            perplexity: loss.exp(),
            scores: scores.iter().map(score).collect(),
            ..Validation::default()
        }
    }

    #[test]
    fn every_measure_has_a_name() {
        let mut names: Vec<&str> = Measure::all().map(Measure::name).collect();
        assert_eq!(names[..4], ["loss", "perplexity", "bleu", "chrf"]);
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), count), (count, METRICS.len() + 3));
        for measure in Measure::all() {
            let text = serde_json::to_string(&measure).unwrap();
            assert_eq!(serde_json::from_str::<Measure>(&text).unwrap(), measure);
        }
        let error = serde_json::from_str::<Measure>("\"blue\"").unwrap_err().to_string();
        let expected = "unknown variant `blue`, expected one of `loss`, `perplexity`, `bleu`, `chrf`, ";
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn the_loss_decides_until_bleu_can() {
        let standing = |bleu, loss| Measure::default().standing(&validation(&[(BLEU, bleu)], loss));
        let beats = |(bleu, loss), best| Measure::default().beats(standing(bleu, loss), best);
        // Better BLEU, but worse loss.
        let first = standing(0.445, 5.75);
        assert_eq!(Measure::default().of_standing(first), (Measure::Loss, 5.75));
        assert!(
            beats((0.371, 5.58), Some(first)) && !beats((4.9, 5.76), Some(first)) && !beats((0.5, 5.75), Some(first))
        );
        // From 5 on, the metric decides, however bad the loss is, and even if it is missing.
        let decisive = standing(5.0, 9.0);
        assert_eq!(Measure::default().of_standing(decisive), (Measure::default(), 5.0));
        for best in [first, standing(1.0, 0.0)] {
            assert!(beats((5.0, 9.0), Some(best)) && !beats((4.99, 0.0), Some(decisive)));
        }
        assert!(beats((5.1, 10.0), Some(decisive)) && !beats((5.0, 1.0), Some(decisive)));
        // Standings from an earlier version.
        assert!(beats((0.1, 9.0), Some(0.445)) && beats((6.0, 9.0), Some(0.445)) && !beats((6.0, 9.0), Some(7.0)));
        assert_eq!(Measure::default().of_standing(0.445), (Measure::default(), 0.445));
        assert!(!beats((0.1, f64::NAN), None) && beats((0.1, 9.0), None));
    }

    #[test]
    fn other_metrics_decide_always() {
        let low = validation(&[(tallow_score::CHRF, 0.5), (tallow_score::TER, 101.0)], 5.0);
        for (metric, expected) in [
            (Measure::Loss, 5.0),
            (Measure::Perplexity, 5f64.exp()),
            (CHRF, 0.5),
            (TER, 101.0),
        ] {
            assert_eq!(metric.standing(&low), expected);
            assert_eq!(metric.of_standing(expected), (metric, expected));
        }
        assert!(Measure::Loss.beats(4.0, Some(5.0)) && CHRF.beats(0.6, Some(0.5)));
        assert!(TER.beats(90.0, Some(101.0)) && !TER.beats(90.0, Some(0.0)) && TER.beats(0.0, Some(90.0)));
        // A metric that was not measured never wins.
        assert!(!TER.beats(TER.standing(&validation(&[], 5.0)), None));
        assert!(!Measure::Loss.beats(5.0, Some(5.0)) && !CHRF.beats(0.0, Some(0.0)));
    }

    #[test]
    fn the_loss_decides_until_there_is_an_exact_match() {
        let standing = |exact, loss| EXACT.standing(&validation(&[(BLEU, 0.0), (EXACT_MATCH, exact)], loss));
        let beats = |standing, best| EXACT.beats(standing, Some(best));
        let (first, second, matches) = (standing(0.0, 5.0), standing(0.0, 4.0), standing(0.1, 9.0));
        assert_eq!(EXACT.of_standing(first), (Measure::Loss, 5.0));
        assert_eq!(EXACT.of_standing(matches), (EXACT, 0.1));
        assert!(beats(second, first) && !beats(first, second));
        assert!(beats(matches, second) && !beats(second, matches));
        assert!(!beats(standing(0.1, 1.0), matches) && beats(standing(0.2, 9.0), matches));
        // A 0 from an earlier version.
        assert!(beats(standing(0.0, 9.0), 0.0) && beats(matches, 0.0) && !beats(0.0, first));
    }
}
