//! Everything a run needs to go on, besides its tensors.

use crate::{LossWatch, Selection};
use serde::{Deserialize, Serialize};
use tallow_data::Cursor;

/// What must be the same for a resumed run to be the uninterrupted one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// The seed of all random numbers.
    pub seed: u64,
    /// SHA-256 of the corpora's text, in order.
    pub data: Vec<String>,
    /// SHA-256 of the validation corpus.
    pub valid: Vec<String>,
    /// SHA-256 of the tokenizers.
    pub tokenizers: Vec<String>,
    /// The effective config, key by key, as text.
    pub config: Vec<(String, String)>,
    /// The same of a config that sets nothing: what a key was in a run that began before there was this key.
    #[serde(skip)]
    pub defaults: Vec<(String, String)>,
    /// Threads that share an update. Another number gives the same training up to rounding.
    pub workers: usize,
    /// The vector instructions in use. Others give the same training up to rounding.
    pub instruction_set: String,
}

impl Fingerprint {
    /// What differs from the run that this one continues: what forbids to go on, and what merely changes it.
    pub fn differences(&self, before: &Fingerprint, may_change: impl Fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
        let (mut fatal, mut harmless) = (Vec::new(), Vec::new());
        if self.data != before.data {
            fatal.push("the training corpora are not those that the run began with".to_string());
        }
        if self.tokenizers != before.tokenizers {
            fatal.push("the tokenizer is not the one that the run began with".to_string());
        }
        if self.seed != before.seed {
            fatal.push(format!("seed: {} instead of {}", self.seed, before.seed));
        }
        let find = |list: &[(String, String)], key: &str| list.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
        let mut keys: Vec<&String> = self.config.iter().chain(&before.config).map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let (now, then) = (find(&self.config, key), find(&before.config, key));
            let then = then.or_else(|| find(&self.defaults, key));
            if now != then {
                let text = |value: Option<String>| value.unwrap_or_else(|| "(unset)".into());
                let line = format!("{key}: {} instead of {}", text(now), text(then));
                if may_change(key) {
                    harmless.push(line)
                } else {
                    fatal.push(line)
                }
            }
        }
        if self.valid != before.valid {
            harmless.push("the validation corpus: the best model so far was chosen by another".to_string());
        }
        if self.workers != before.workers {
            harmless.push(format!(
                "{} workers instead of {}: equal up to rounding",
                self.workers, before.workers
            ));
        }
        if self.instruction_set != before.instruction_set {
            let (now, then) = (&self.instruction_set, &before.instruction_set);
            harmless.push(format!("{now} instructions instead of {then}: equal up to rounding"));
        }
        (fatal, harmless)
    }
}

/// The state of a run after an update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// The version of this format.
    pub version: u32,
    /// Updates done.
    pub update: u64,
    /// Where the corpus continues.
    pub cursor: Cursor,
    /// Target tokens trained on.
    pub target_tokens: u64,
    /// Updates left out because loss or gradient were not finite.
    pub skipped: u64,
    /// Of these, how many most recently in a row.
    pub skipped_in_a_row: u64,
    /// What the learning rate is multiplied by, since the run has gone back from divergence.
    #[serde(default = "one")]
    pub learning_rate_factor: f64,
    /// How often it has.
    #[serde(default)]
    pub setbacks: u64,
    /// The update to which it has most recently.
    #[serde(default)]
    pub gone_back_to: Option<u64>,
    /// The usual loss.
    #[serde(default)]
    pub loss_watch: LossWatch,
    /// The update after which the last checkpoints were averaged.
    #[serde(default)]
    pub averaged: Option<u64>,
    /// Validations, checkpoints, patience.
    pub selection: Selection,
    /// Bytes of `metrics.jsonl`; what stands beyond them was logged after this checkpoint.
    pub metrics_bytes: u64,
    /// What the run is.
    pub fingerprint: Fingerprint,
}

/// What checkpoints have that know no factor.
fn one() -> f64 {
    1.0
}

impl TrainState {
    /// The version that this program writes. It reads older ones, too: what they lack has a default.
    pub const VERSION: u32 = 2;

    /// The state before the first update.
    pub fn new(fingerprint: Fingerprint) -> Self {
        Self {
            version: Self::VERSION,
            update: 0,
            cursor: Cursor::default(),
            target_tokens: 0,
            skipped: 0,
            skipped_in_a_row: 0,
            learning_rate_factor: 1.0,
            setbacks: 0,
            gone_back_to: None,
            loss_watch: LossWatch::default(),
            averaged: None,
            selection: Selection::default(),
            metrics_bytes: 0,
            fingerprint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        let pair = |k: &str, v: &str| (k.to_string(), v.to_string());
        let before = Fingerprint {
            config: vec![pair("train.max_updates", "10"), pair("model.d_model", "64")],
            workers: 2,
            ..Fingerprint::default()
        };
        let after = Fingerprint {
            config: vec![
                pair("train.max_updates", "20"),
                pair("model.d_model", "32"),
                pair("model.heads", "2"),
            ],
            workers: 1,
            seed: 5,
            ..Fingerprint::default()
        };
        let (fatal, harmless) = after.differences(&before, |key| key.starts_with("train."));
        assert_eq!(
            fatal,
            [
                "seed: 5 instead of 0",
                "model.d_model: 32 instead of 64",
                "model.heads: 2 instead of (unset)"
            ]
        );
        assert_eq!(harmless.len(), 2);
        let other = Fingerprint {
            valid: vec!["0".into()],
            ..before.clone()
        };
        assert!(other.differences(&before, |_| false).1[0].contains("validation corpus"));
        assert_eq!(before.differences(&before, |_| false), (vec![], vec![]));
        // A key that did not exist yet had its default.
        let with_defaults = |value| Fingerprint {
            defaults: vec![pair("model.heads", value)],
            seed: 0,
            ..after.clone()
        };
        let (fatal, _) = with_defaults("2").differences(&before, |_| false);
        assert!(!fatal.join("\n").contains("model.heads"), "{fatal:?}");
        let (fatal, _) = with_defaults("4").differences(&before, |_| false);
        assert!(fatal.join("\n").contains("model.heads: 2 instead of 4"), "{fatal:?}");
    }
}
