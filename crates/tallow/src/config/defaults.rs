//! Defaults that depend on other values of a config, and defaults that have changed between versions.
//!
//! `docs/defaults.md` has the measurements behind them.

use super::{Composed, Config, Origin, parse_value};
use crate::Result;
use tallow_train::Schedule;
use toml::{Table, Value};

/// A key whose default depends on other values, or was different in an earlier version.
pub(super) struct Default {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    /// The value that the default depends on, in words.
    pub(super) because: fn(&Config) -> Option<String>,
    /// The earlier default.
    pub(super) before: &'static str,
}

/// All such keys.
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

/// The learning rate for a model that has been trained before. It is low, because training should adjust the weights
/// and not start over.
const FINE_TUNING_RATE: f64 = 1e-4;

/// The peak learning rate for new models of this width, rounded to two digits. It is inversely proportional to the
/// width, as a good step size is for matrices of that width.
fn learning_rate(d_model: usize) -> f64 {
    let rate = (0.512 / d_model.max(1) as f64).min(4e-3);
    let digits = 10f64.powf(rate.log10().floor() - 1.0);
    // The last division gives the number that a person would type, to the bit.
    ((rate / digits).round() * digits * 1e9).round() / 1e9
}

/// The warmup of a run with this number of updates. A faster rise would end on a plateau. A short run keeps half of its
/// updates for the time after the warmup.
fn warmup_updates(max_updates: u64) -> u64 {
    (max_updates / 2).clamp(1, 500)
}

impl Composed {
    /// Replaces the values of keys that nobody has set by defaults that fit the other values.
    pub(super) fn fit_defaults(&mut self) {
        let is_set = |key| self.origin(Some("train"), key) != Origin::Default;
        let [rate, warmup] = ["learning_rate", "warmup_updates"].map(is_set);
        if !rate {
            self.config.train.learning_rate = self.fitting_rate();
        }
        if !warmup {
            self.config.train.warmup_updates = warmup_updates(self.config.train.max_updates);
        }
    }

    /// The learning rate that fits the other values.
    fn fitting_rate(&self) -> f64 {
        match (self.config.train.schedule, &self.config.init) {
            // A factor: the paper's formula already contains the width.
            (Schedule::Noam, _) => 1.0,
            (_, Some(_)) => FINE_TUNING_RATE,
            (_, None) => learning_rate(self.config.model.d_model),
        }
    }

    /// For keys that nobody has set, takes the values that a run began with, because today's defaults may be different.
    /// `began_with` holds keys as `section.key` with their values. A key that it lacks did not exist when the run
    /// began: the run had the earlier default.
    ///
    /// A learning rate is not taken over if only one of both schedules is `noam`, which has a factor in its place.
    ///
    /// # Errors
    /// When the config cannot be written as TOML.
    pub(crate) fn keep_defaults_of(&mut self, began_with: &[(String, String)]) -> Result<()> {
        let value = |default: &Default| {
            let name = format!("{}.{}", default.section, default.key);
            let found = began_with.iter().find(|(known, _)| *known == name);
            parse_value(found.map_or(default.before, |(_, value)| value))
        };
        let noam = Value::String("noam".to_owned());
        let was_noam = DEFAULTS
            .iter()
            .any(|default| default.key == "schedule" && value(default) == noam);
        let mut table = Table::try_from(&self.config)?;
        for default in &DEFAULTS {
            if self.is_kept(default.section, default.key)
                && let Some(Value::Table(section)) = table.get_mut(default.section)
            {
                section.insert(default.key.to_owned(), value(default));
            }
        }
        // The values may come from another version and be unreadable here. Then today's defaults stay, and the
        // comparison with the checkpoint decides.
        if let Ok(config) = table.try_into() {
            self.config = config;
        }
        let is_noam = self.config.train.schedule == Schedule::Noam;
        if self.is_kept("train", "learning_rate") && was_noam != is_noam {
            self.config.train.learning_rate = self.fitting_rate();
        }
        Ok(())
    }

    /// Whether a resumed run keeps its own value of a key.
    pub fn is_kept(&self, section: &str, key: &str) -> bool {
        let is_listed = |default: &Default| default.section == section && default.key == key;
        DEFAULTS.iter().any(is_listed) && self.origin(Some(section), key) == Origin::Default
    }

    /// A remark to print beside a default: the value that it depends on, and the earlier default.
    pub fn about_default(&self, section: Option<&str>, key: &str) -> Option<String> {
        let found = DEFAULTS
            .iter()
            .find(|default| Some(default.section) == section && default.key == key)?;
        let because = (found.because)(&self.config);
        let is_same = self.value(found.section, found.key) == Some(parse_value(found.before));
        let before = (!is_same).then(|| format!("was {}", found.before));
        let remarks: Vec<String> = because.into_iter().chain(before).collect();
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }

    fn value(&self, section: &str, key: &str) -> Option<Value> {
        let table = Table::try_from(&self.config).ok()?;
        table.get(section)?.get(key).cloned()
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
        assert_eq!([1, 100, 999, 1000, 100_000].map(warmup_updates), [1, 50, 499, 500, 500]);
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
        // A struct alone has the same defaults as an empty config.
        assert_eq!(compose("").config.train, tallow_train::TrainConfig::default());
    }

    #[test]
    fn an_earlier_default_is_told_where_it_differs() {
        let about = |text: &str, key: &str| compose(text).about_default(Some("train"), key);
        let wide = "[model]\nd_model = 512";
        assert_eq!(about(wide, "learning_rate").as_deref(), Some("for model.d_model = 512"));
        let told = about("", "learning_rate").unwrap();
        assert!(told.ends_with("; was 0.001"), "{told}");
        assert_eq!(about("", "schedule").as_deref(), Some("was \"inverse-sqrt\""));
        assert_eq!(about("[train]\nschedule = \"inverse-sqrt\"", "schedule"), None);
        assert_eq!(about("", "max_updates"), None);
    }

    #[test]
    fn a_run_keeps_the_defaults_that_it_began_with() {
        let kept = |text: &str, began_with: &[(&str, &str)]| {
            let mut composed = compose(text);
            let began_with: Vec<(String, String)> = began_with
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            composed.keep_defaults_of(&began_with).unwrap();
            composed.config.train
        };
        let run = [
            ("train.initialisation", "\"xavier\""),
            ("train.schedule", "\"inverse-sqrt\""),
            ("train.warmup_updates", "1000"),
            ("train.learning_rate", "0.003"),
        ];
        let train = kept("[train]\nwarmup_updates = 20", &run);
        assert_eq!(train.schedule, Schedule::InverseSqrt);
        assert_eq!((train.warmup_updates, train.learning_rate), (20, 3e-3));
        // A run from before a key existed.
        let train = kept("", &run[1..]);
        assert_eq!(train.initialisation, tallow_model::Initialisation::Xavier);
        // The factor of noam is no rate, and a rate is no factor.
        let noam = [("train.schedule", "\"noam\""), ("train.learning_rate", "1.0")];
        assert_eq!(kept("", &noam).learning_rate, 1.0);
        assert_eq!(kept("[train]\nschedule = \"cosine\"", &noam).learning_rate, 2e-3);
        let train = kept("[train]\nschedule = \"noam\"", &run);
        // The warmup is the run's in any case.
        assert_eq!((train.learning_rate, train.warmup_updates), (1.0, 1000));
        // A word of another version.
        assert_eq!(kept("", &[("train.schedule", "\"wavy\"")]).schedule, Schedule::Cosine);
    }
}
