//! Defaults that follow from other values of a config, and defaults that are not what they were.
//!
//! `docs/defaults.md` has the measurements that they come from.

use super::{Composed, Config, Origin};
use crate::Result;
use tallow_train::Schedule;
use toml::{Table, Value};

/// A key whose default follows from other values, or was another one before.
pub(super) struct Default {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    /// In words, what the default follows from.
    pub(super) because: fn(&Config) -> Option<String>,
    /// The default before.
    pub(super) before: &'static str,
}

/// All of them.
pub(super) const DEFAULTS: [Default; 4] = [
    Default {
        section: "train",
        key: "initialisation",
        because: |_| None,
        before: "\"xavier\"",
    },
    Default {
        section: "train",
        key: "learning_rate",
        because: |config| {
            Some(match (config.train.schedule, &config.init) {
                (Schedule::Noam, _) => "for the noam schedule".to_owned(),
                (_, Some(_)) => "for a model of `init`".to_owned(),
                (_, None) => format!("for model.d_model = {}", config.model.d_model),
            })
        },
        before: "0.001",
    },
    Default {
        section: "train",
        key: "schedule",
        because: |_| None,
        before: "\"inverse-sqrt\"",
    },
    Default {
        section: "train",
        key: "warmup_updates",
        because: |config| Some(format!("for train.max_updates = {}", config.train.max_updates)),
        before: "1000",
    },
];

/// The learning rate of a model that was trained before: it is to be changed, not to begin anew.
const FINE_TUNING_RATE: f64 = 1e-4;

/// The highest learning rate for new models of a width: inversely proportional to it, as the size of a good step is for
/// matrices of that width, with two digits.
fn learning_rate(d_model: usize) -> f64 {
    let rate = (0.512 / d_model.max(1) as f64).min(4e-3);
    let digits = 10f64.powf(rate.log10().floor() - 1.0);
    // Through text: a product would have other last bits than what a person types.
    format!("{:e}", (rate / digits).round() * digits)
        .parse()
        .map_or(rate, |rate: f64| (rate * 1e9).round() / 1e9)
}

/// The warmup of a run of so many updates: a faster rise would end on a plateau, and a short run has half of its
/// updates after it.
fn warmup_updates(max_updates: u64) -> u64 {
    (max_updates / 2).min(500)
}

impl Composed {
    /// Gives keys that nobody has set the defaults that fit what is set.
    pub(super) fn fit_defaults(&mut self) {
        let is_set = |key| self.origin(Some("train"), key) != Origin::Default;
        let [rate, warmup] = ["learning_rate", "warmup_updates"].map(is_set);
        let train = &mut self.config.train;
        if !rate {
            train.learning_rate = match (train.schedule, &self.config.init) {
                // The factor of the paper's formula, which knows the width.
                (Schedule::Noam, _) => 1.0,
                (_, Some(_)) => FINE_TUNING_RATE,
                (_, None) => learning_rate(self.config.model.d_model),
            };
        }
        if !warmup {
            train.warmup_updates = warmup_updates(train.max_updates).max(1);
        }
    }

    /// For keys that nobody has set, takes the values that a run has written into its config where the defaults of
    /// today may be others.
    ///
    /// # Errors
    /// When the config cannot be written as TOML.
    pub(crate) fn keep_defaults_of(&mut self, written: &Table) -> Result<()> {
        let mut table = Table::try_from(&self.config)?;
        for Default { section, key, .. } in &DEFAULTS {
            let value = |table: &Table| table.get(*section).and_then(Value::as_table)?.get(*key).cloned();
            if self.origin(Some(section), key) == Origin::Default
                && let Some(value) = value(written)
                && let Some(Value::Table(section)) = table.get_mut(*section)
            {
                section.insert((*key).to_owned(), value);
            }
        }
        // What another version has written need not be understood; then today's defaults stay, and the checkpoint
        // decides.
        if let Ok(config) = table.try_into() {
            self.config = config;
        }
        Ok(())
    }

    /// What there is to say of a default beside its value: what it follows from, and what it was.
    pub fn about_default(&self, section: Option<&str>, key: &str) -> Option<String> {
        let found = DEFAULTS
            .iter()
            .find(|default| Some(default.section) == section && default.key == key)?;
        let because = (found.because)(&self.config).map_or(String::new(), |because| format!("{because}; "));
        Some(format!("{because}was {}", found.before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_the_width() {
        let rates = [1, 64, 128, 256, 384, 512, 1024].map(learning_rate);
        assert_eq!(rates, [0.004, 0.004, 0.004, 0.002, 0.0013, 0.001, 0.0005]);
    }

    #[test]
    fn warmups_follow_the_length() {
        assert_eq!([1, 100, 999, 1000, 100_000].map(warmup_updates), [0, 50, 499, 500, 500]);
    }

    const DATA: &str = "[data]\ntrain = [{ source = \"a\", target = \"b\" }]\n";

    fn compose(text: &str) -> Composed {
        Config::layer::<&str>(
            toml::from_str(&format!("{text}\n{DATA}")).unwrap(),
            &[],
            "x",
            "x".into(),
        )
        .unwrap()
    }

    #[test]
    fn only_what_nobody_has_set_is_fitted() {
        let train = compose("[model]\nd_model = 512\n[train]\nmax_updates = 200")
            .config
            .train;
        assert_eq!((train.learning_rate, train.warmup_updates), (1e-3, 100));
        let train = compose("[model]\nd_model = 512\n[train]\nlearning_rate = 0.5\nwarmup_updates = 7")
            .config
            .train;
        assert_eq!((train.learning_rate, train.warmup_updates), (0.5, 7));
        assert_eq!(compose("[train]\nschedule = \"noam\"").config.train.learning_rate, 1.0);
        assert_eq!(compose("init = \"a/b\"").config.train.learning_rate, FINE_TUNING_RATE);
        // A struct alone has the defaults of a config that says nothing.
        assert_eq!(compose("").config.train, tallow_train::TrainConfig::default());
    }

    #[test]
    fn a_run_keeps_the_defaults_that_it_began_with() {
        let written = toml::from_str("[train]\nschedule = \"inverse-sqrt\"\nwarmup_updates = 1000\nseed = 3").unwrap();
        let mut composed = compose("[train]\nwarmup_updates = 20");
        composed.keep_defaults_of(&written).unwrap();
        let train = &composed.config.train;
        assert_eq!(train.schedule, tallow_train::Schedule::InverseSqrt);
        assert_eq!((train.warmup_updates, train.learning_rate), (20, 2e-3));
        // Another version's word for it.
        composed
            .keep_defaults_of(&toml::from_str("[train]\nschedule = \"wavy\"").unwrap())
            .unwrap();
        assert_eq!(composed.config.train.schedule, tallow_train::Schedule::InverseSqrt);
    }
}
