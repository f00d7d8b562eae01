//! The learning rate of an update.

use crate::{Schedule, TrainConfig};

impl TrainConfig {
    /// The learning rate of an update, counted from 1, for a model of width `d_model`.
    pub fn learning_rate_at(&self, update: u64, d_model: usize) -> f64 {
        let (now, warmup) = (update.max(1) as f64, self.warmup_updates as f64);
        if self.schedule == Schedule::Noam {
            return self.learning_rate * (d_model as f64).powf(-0.5) * now.powf(-0.5).min(now * warmup.powf(-1.5));
        }
        if now < warmup {
            return self.learning_rate * now / warmup;
        }
        let span = (self.max_updates as f64 - warmup).max(1.0);
        let progress = ((now - warmup) / span).clamp(0.0, 1.0);
        let above = self.learning_rate - self.min_learning_rate;
        match self.schedule {
            Schedule::InverseSqrt => self.learning_rate * (warmup.max(1.0) / now).sqrt(),
            Schedule::Cosine => self.min_learning_rate + above * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Schedule::Linear => self.min_learning_rate + above * (1.0 - progress),
            Schedule::Constant | Schedule::Noam => self.learning_rate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: Schedule, updates: &[u64]) -> Vec<f64> {
        let config = TrainConfig {
            schedule,
            learning_rate: 2.0,
            min_learning_rate: 0.5,
            warmup_updates: 100,
            max_updates: 1100,
            ..TrainConfig::default()
        };
        updates
            .iter()
            .map(|update| config.learning_rate_at(*update, 64))
            .collect()
    }

    fn near(got: Vec<f64>, expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        assert!(
            got.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-12),
            "{got:?} {expected:?}"
        );
    }

    #[test]
    fn literal() {
        near(rates(Schedule::InverseSqrt, &[1, 50, 100, 400]), &[0.02, 1.0, 2.0, 1.0]);
        near(
            rates(Schedule::Cosine, &[50, 100, 600, 1100, 2000]),
            &[1.0, 2.0, 1.25, 0.5, 0.5],
        );
        near(
            rates(Schedule::Linear, &[50, 100, 600, 1100, 2000]),
            &[1.0, 2.0, 1.25, 0.5, 0.5],
        );
        near(rates(Schedule::Constant, &[50, 100, 2000]), &[1.0, 2.0, 2.0]);
        // 2 * 64^-0.5 * min(n^-0.5, n * 100^-1.5)
        near(rates(Schedule::Noam, &[50, 100, 400]), &[0.0125, 0.025, 0.0125]);
    }

    #[test]
    fn no_warmup() {
        let config = TrainConfig {
            schedule: Schedule::InverseSqrt,
            warmup_updates: 0,
            learning_rate: 1.0,
            ..TrainConfig::default()
        };
        assert_eq!(config.learning_rate_at(1, 64), 1.0);
        assert_eq!(config.learning_rate_at(4, 64), 0.5);
    }
}
