//! The state that a run needs to continue, besides its tensors.

use crate::{LossWatch, Measure, Selection, StagePlace};
use serde::{Deserialize, Serialize};
use tallow_data::Cursor;

/// The properties that a resumed run must share to equal the uninterrupted one.
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
    /// For each key, its value in a run that began before the key existed. Mostly this is the key's default.
    #[serde(skip)]
    pub defaults: Vec<(String, String)>,
    /// Threads that share an update. Another number gives the same training up to rounding.
    pub workers: usize,
    /// The vector instructions in use. Others give the same training up to rounding.
    pub instruction_set: String,
}

impl Fingerprint {
    /// The differences from the run that this one continues: first those that forbid to continue, then the harmless
    /// ones.
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
        let mut keys: Vec<&String> = self.config.iter().chain(&before.config).map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let (now, then) = (value(&self.config, key), self.value_in(before, key));
            if now != then {
                let text = |value: Option<&str>| value.unwrap_or("(unset)").to_string();
                let line = format!("{key}: {} instead of {}", text(now), text(then));
                if may_change(key) {
                    harmless.push(line)
                } else {
                    fatal.push(line)
                }
            }
        }
        if self.valid != before.valid {
            harmless.push("the validation corpus".to_string());
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

impl Fingerprint {
    /// The value of a key in the run that this one continues.
    fn value_in<'a>(&'a self, before: &'a Fingerprint, key: &str) -> Option<&'a str> {
        value(&before.config, key).or_else(|| value(&self.defaults, key))
    }

    /// The difference, if any, that makes values of the metric incomparable with those of earlier validations. It is
    /// another text, or, if the metric looks at translations, another search.
    pub fn other_measure(&self, before: &Fingerprint, metric: Measure) -> Option<&'static str> {
        if self.valid != before.valid {
            return Some("another validation corpus");
        }
        let is_other_key = |key: &str| value(&self.config, key) != self.value_in(before, key);
        if is_other_key("train.valid_set") {
            return Some("another choice among the validation sets (train.valid_set)");
        }
        if metric == Measure::Command && is_other_key("train.valid_command") {
            return Some("another program (train.valid_command)");
        }
        // Loss and perplexity do not use translations.
        if !metric.is_of_translations() {
            return None;
        }
        let beams = [value(&self.config, BEAM), self.value_in(before, BEAM)];
        let keys = match beams.iter().all(|beam| beam.is_none_or(|beam| beam == "1")) {
            true => &SEARCH_KEYS[OF_BEAMS..],
            false => &SEARCH_KEYS[..],
        };
        // Validations split long lines even where other commands fail.
        let in_effect = |value: Option<&str>| value.map(|value| value.replace("fail", "split"));
        let is_other = |key: &&str| in_effect(value(&self.config, key)) != in_effect(self.value_in(before, key));
        keys.iter()
            .any(is_other)
            .then_some("another search (train.valid_beam, [decode])")
    }
}

/// The beam of validations.
const BEAM: &str = "train.valid_beam";
/// Keys that change the results of validations. The first ones matter only if their beam is wider than one.
const SEARCH_KEYS: [&str; 10] = [
    "decode.length_penalty",
    "decode.length_normalization",
    "decode.patience",
    "decode.early_stopping",
    BEAM,
    "decode.max_length",
    "decode.min_length",
    "decode.no_repeat_ngram",
    "decode.max_source_length",
    "decode.long_lines",
];
/// How many of the keys matter only for beams.
const OF_BEAMS: usize = 4;

/// The value of a key in a flat config.
fn value<'a>(config: &'a [(String, String)], key: &str) -> Option<&'a str> {
    config
        .iter()
        .find(|(known, _)| known == key)
        .map(|(_, value)| value.as_str())
}

/// The state of a run after an update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// The version of this format.
    pub version: u32,
    /// Updates done.
    pub update: u64,
    /// The position in the corpus.
    pub cursor: Cursor,
    /// The stage of `data.stage`.
    #[serde(default, skip_serializing_if = "StagePlace::is_first")]
    pub stage: StagePlace,
    /// Target tokens trained on.
    pub target_tokens: u64,
    /// Updates left out because loss or gradient were not finite.
    pub skipped: u64,
    /// Updates most recently left out in a row.
    pub skipped_in_a_row: u64,
    /// The factor that multiplies the learning rate, because the run went back from divergence.
    #[serde(default = "one")]
    pub learning_rate_factor: f64,
    /// How often the run went back.
    #[serde(default)]
    pub setbacks: u64,
    /// The update to which it most recently went back.
    #[serde(default)]
    pub gone_back_to: Option<u64>,
    /// The last update whose loss came from weights that had not exploded.
    #[serde(default)]
    pub last_sound: Option<u64>,
    /// The averages that give the usual loss.
    #[serde(default)]
    pub loss_watch: LossWatch,
    /// The update after which the last checkpoints were averaged.
    #[serde(default)]
    pub averaged: Option<u64>,
    /// Validations, checkpoints, patience.
    pub selection: Selection,
    /// Length of `metrics.jsonl` in bytes. Later lines were logged after this checkpoint.
    pub metrics_bytes: u64,
    /// The fingerprint of the run.
    pub fingerprint: Fingerprint,
}

/// The factor of checkpoints from before there was one.
fn one() -> f64 {
    1.0
}

impl TrainState {
    /// The version that this program writes. It also reads older ones, with defaults for fields that they lack.
    pub const VERSION: u32 = 4;

    /// The state before the first update.
    pub fn new(fingerprint: Fingerprint) -> Self {
        Self {
            version: Self::VERSION,
            update: 0,
            cursor: Cursor::default(),
            stage: StagePlace::default(),
            target_tokens: 0,
            skipped: 0,
            skipped_in_a_row: 0,
            learning_rate_factor: 1.0,
            setbacks: 0,
            gone_back_to: None,
            last_sound: None,
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
        assert_eq!(
            other.other_measure(&before, Measure::Loss),
            Some("another validation corpus")
        );
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

    #[test]
    fn a_search_that_finds_something_else() {
        let of = |pairs: &[(&str, &str)]| Fingerprint {
            config: pairs
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            ..Fingerprint::default()
        };
        let other = |now: &[(&str, &str)], then: &[(&str, &str)], metric| of(now).other_measure(&of(then), metric);
        let (greedy, beam) = (("train.valid_beam", "1"), ("train.valid_beam", "4"));
        let penalties = [("decode.length_penalty", "1.0"), ("decode.length_penalty", "0.6")];
        let found = Some("another search (train.valid_beam, [decode])");
        assert_eq!(other(&[beam], &[greedy], Measure::default()), found);
        assert_eq!(other(&[beam], &[greedy], Measure::Loss), None);
        // A length penalty changes nothing if there is only one hypothesis.
        for (beams, expected) in [(greedy, None), (beam, found)] {
            assert_eq!(
                other(
                    &[beams, penalties[0]],
                    &[beams, penalties[1]],
                    Measure::Score(tallow_score::CHRF)
                ),
                expected
            );
        }
        let lines = |value| [("decode.long_lines", value)];
        assert_eq!(other(&lines("\"fail\""), &lines("\"split\""), Measure::default()), None);
        assert_eq!(
            other(&lines("\"truncate\""), &lines("\"split\""), Measure::default()),
            found
        );
        assert_eq!(
            other(&[("decode.beam", "2")], &[("decode.beam", "5")], Measure::default()),
            None
        );
    }
}
