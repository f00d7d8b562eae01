//! Detects losses far above the ones before.

use serde::{Deserialize, Serialize};

/// Updates before the first warning: the first losses fall too fast for an average.
const WARM: u64 = 50;
/// Weights of a new loss: in the average, large enough to follow a falling loss; and in the average of squared
/// deviations.
const OF_MEAN: f64 = 0.1;
const OF_VARIANCE: f64 = 0.02;
/// A spike is at least this many standard deviations above the average, and at least this many nats.
const DEVIATIONS: f64 = 6.0;
const LEAST: f64 = 0.25;

/// Exponential averages: of roughly the last ten losses, and of the last fifty squared deviations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossWatch {
    updates: u64,
    mean: f64,
    variance: f64,
}

impl LossWatch {
    /// Adds a finite loss. If the loss is a spike, returns the usual loss.
    pub(crate) fn take(&mut self, loss: f64) -> Option<f64> {
        self.updates += 1;
        if self.updates == 1 {
            self.mean = loss;
            return None;
        }
        let limit = self.mean + (DEVIATIONS * self.variance.sqrt()).max(LEAST);
        let usual = self.mean;
        let is_spike = self.updates > WARM && loss > limit;
        // A spike must not make the next one look usual.
        let taken = if self.updates > WARM { loss.min(limit) } else { loss };
        let deviation = taken - self.mean;
        self.mean += OF_MEAN * deviation;
        self.variance += OF_VARIANCE * (deviation * deviation - self.variance);
        is_spike.then_some(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spikes_are_noticed_and_falling_losses_are_not() {
        let mut watch = LossWatch::default();
        // Falling from 9 to 3, with some noise.
        let loss =
            |update: u64| 3.0 + 6.0 * (-(update as f64) / 100.0).exp() + 0.2 * ((update * 7919) % 13) as f64 / 13.0;
        for update in 0..400 {
            assert_eq!(watch.take(loss(update)), None, "{update}");
        }
        let usual = watch.take(4.5).unwrap();
        assert!((usual - 3.2).abs() < 0.1, "{usual}");
        // Another spike, and then usual losses.
        assert!(watch.take(4.5).is_some());
        assert_eq!(watch.take(loss(401)), None);
    }
}
