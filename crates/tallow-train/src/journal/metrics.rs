//! The lines of `metrics.jsonl`. They are the same when a run is repeated.

use crate::{Event, Measure, Validation};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use tallow_score::{Metric, Score};

/// A line of `metrics.jsonl`. Losses are in nats per target token, and updates count from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MetricsLine {
    /// An update: the first one, and every `log_every`th.
    Training {
        /// The update.
        update: u64,
        /// The epoch of the update, from 0.
        epoch: u64,
        /// Label-smoothed cross-entropy of this update. With `train.r_drop`, the weighted disagreement is added, and
        /// with `train.guided_alignment`, the weighted loss of the alignment.
        loss: f64,
        /// The loss of guided alignment, without its weight, in nats per target token that has links; missing if none
        /// has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        alignment_loss: Option<f64>,
        /// The learning rate.
        learning_rate: f64,
        /// The gradient's norm, per target token and before clipping.
        gradient_norm: f64,
        /// Target tokens of this update, without padding.
        target_tokens: u64,
    },
    /// An update was left out because its loss or gradient was not finite.
    Skipped {
        /// The update.
        update: u64,
        /// Always true.
        skipped: bool,
        /// The loss. In the file, a number that is not finite is text, such as `"NaN"`.
        #[serde(with = "number_or_text")]
        loss: f64,
    },
    /// The run diverged and continues from an earlier checkpoint. The updates after that checkpoint follow again.
    WentBack {
        /// The update at which the run diverged.
        update: u64,
        /// The update after which the run continues.
        gone_back_to: u64,
        /// The factor that multiplies the config's learning rate from now on.
        learning_rate_factor: f64,
    },
    /// A loss far above the usual loss. The line stands before the training line of the same update.
    Spike {
        /// The update.
        update: u64,
        /// Always true.
        spike: bool,
        /// The loss of the update.
        loss: f64,
        /// The average of the losses before.
        usual: f64,
    },
    /// The first regular checkpoint that is left out because the loss does not come from sound weights.
    NotSaved {
        /// The update before the checkpoint.
        update: u64,
        /// Always true.
        not_saved: bool,
        /// The last update with a sound loss, if there was one.
        last_sound: Option<u64>,
    },
    /// A stage of `data.stage` begins.
    Stage {
        /// Updates already done.
        update: u64,
        /// The name of the stage.
        stage: String,
    },
    /// From this validation on, something else decides which model is best.
    Decides {
        /// The update before the validation.
        update: u64,
        /// The measure that decides now.
        decides: Measure,
    },
    /// A validation.
    Validation {
        /// The update before the validation.
        update: u64,
        /// The results.
        valid: ValidationLine,
        /// Whether this validation is the best so far.
        is_best: bool,
        /// Some lines of the set, the same in every validation: source, translation and reference.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        samples: Vec<[String; 3]>,
    },
}

impl MetricsLine {
    /// The line for an event, if the event has one.
    pub(super) fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Updated {
                update,
                epoch,
                loss,
                alignment_loss,
                target_tokens,
                learning_rate,
                gradient_norm,
                ..
            } => MetricsLine::Training {
                update: *update,
                epoch: *epoch,
                loss: *loss,
                alignment_loss: *alignment_loss,
                learning_rate: *learning_rate,
                gradient_norm: *gradient_norm,
                target_tokens: *target_tokens as u64,
            },
            Event::Skipped { update, loss, .. } => MetricsLine::Skipped {
                update: *update,
                skipped: true,
                loss: *loss,
            },
            Event::WentBack {
                from,
                to,
                learning_rate_factor,
            } => MetricsLine::WentBack {
                update: *from,
                gone_back_to: *to,
                learning_rate_factor: *learning_rate_factor,
            },
            Event::Spiked { update, loss, usual } => MetricsLine::Spike {
                update: *update,
                spike: true,
                loss: *loss,
                usual: *usual,
            },
            Event::NotSaved { update, last_sound } => MetricsLine::NotSaved {
                update: *update,
                not_saved: true,
                last_sound: *last_sound,
            },
            // A resumed run says again which stage it is in; the line is there already.
            Event::Stage {
                is_new: true,
                update,
                name,
                ..
            } => MetricsLine::Stage {
                update: *update,
                stage: name.clone(),
            },
            Event::Decides { update, by, .. } => MetricsLine::Decides {
                update: *update,
                decides: *by,
            },
            Event::Validated {
                update,
                validation,
                is_best,
                ..
            } => MetricsLine::Validation {
                update: *update,
                valid: ValidationLine::from(validation),
                is_best: *is_best,
                samples: validation.samples.clone(),
            },
            Event::Started { .. }
            | Event::Stage { .. }
            | Event::CommandFailed { .. }
            | Event::Saved { .. }
            | Event::Averaged { .. }
            | Event::Profiled(_) => return None,
        })
    }

    /// The update of the line.
    pub fn update(&self) -> u64 {
        match self {
            MetricsLine::Training { update, .. }
            | MetricsLine::Skipped { update, .. }
            | MetricsLine::WentBack { update, .. }
            | MetricsLine::Spike { update, .. }
            | MetricsLine::NotSaved { update, .. }
            | MetricsLine::Stage { update, .. }
            | MetricsLine::Decides { update, .. }
            | MetricsLine::Validation { update, .. } => *update,
        }
    }
}

/// The results of a validation, in `metrics.jsonl` and `average.json`. Numbers that are not finite are null there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationLine {
    /// Cross-entropy in nats per target token, without label smoothing; NaN if it was not finite.
    #[serde(deserialize_with = "number_or_nan")]
    pub loss: f64,
    /// The exponential of the loss.
    #[serde(deserialize_with = "number_or_nan")]
    pub perplexity: f64,
    /// The results of each set by its name, if there are several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sets: BTreeMap<String, ValidationLine>,
    /// The scores of translations in the order of the file, by the key of the metric: `bleu`, `chrf`, `ter`,
    /// `exact_match`, in percent; and `command`, the number of `train.valid_command`. A model whose scores are not
    /// finite has none.
    #[serde(flatten, with = "by_key")]
    pub scores: Vec<(String, Option<f64>)>,
}

impl ValidationLine {
    /// The score with a key, if it exists.
    pub fn score(&self, key: &str) -> Option<f64> {
        self.scores
            .iter()
            .find(|(of, _)| of == key)
            .and_then(|(_, score)| *score)
    }
}

impl From<&Validation> for ValidationLine {
    fn from(validation: &Validation) -> Self {
        let score = |(metric, score): &(&'static dyn Metric, Option<Score>)| {
            (metric.key(), score.as_ref().map(|score| score.score))
        };
        let command = validation
            .command
            .map(|value| ("command".to_owned(), Some(value).filter(|value| value.is_finite())));
        let set = |(name, set): &(String, Validation)| (name.clone(), ValidationLine::from(set));
        Self {
            loss: validation.loss,
            perplexity: validation.perplexity,
            sets: validation.sets.iter().map(set).collect(),
            scores: validation.scores.iter().map(score).chain(command).collect(),
        }
    }
}

fn number_or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// A number in JSON; a number that is not finite becomes text.
mod number_or_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        match value.is_finite() {
            true => serializer.serialize_f64(*value),
            false => serializer.collect_str(value),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(f64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(value) => Ok(value),
            Form::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

/// Pairs as the keys and values of an object, in the same order.
mod by_key {
    use serde::de::{MapAccess, Visitor};
    use serde::{Deserializer, Serializer};
    use std::fmt;

    type Scores = Vec<(String, Option<f64>)>;

    pub(super) fn serialize<S: Serializer>(scores: &Scores, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(scores.iter().map(|(key, score)| (key, score)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Scores, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Scores;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("scores by the names of their metrics")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scores, A::Error> {
                let mut scores = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    scores.push(pair);
                }
                Ok(scores)
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines from runs of earlier versions, byte by byte.
    #[test]
    fn lines_are_written_and_read_as_documented() {
        for text in [
            r#"{"update":1,"epoch":0,"loss":4.032377888263852,"learning_rate":0.004,"gradient_norm":4.409297626569728,"target_tokens":1886}"#,
            r#"{"update":20,"epoch":2,"loss":1e+30,"learning_rate":2.4999999999999998e-33,"gradient_norm":0.0,"target_tokens":1}"#,
            r#"{"update":1,"epoch":0,"loss":4.5,"alignment_loss":1.5,"learning_rate":0.004,"gradient_norm":4.25,"target_tokens":1886}"#,
            r#"{"update":10,"skipped":true,"loss":"NaN"}"#,
            r#"{"update":10,"skipped":true,"loss":"-inf"}"#,
            r#"{"update":10,"skipped":true,"loss":2.5}"#,
            r#"{"update":11,"gone_back_to":8,"learning_rate_factor":5e-17}"#,
            r#"{"update":12,"spike":true,"loss":7.25,"usual":2.0}"#,
            r#"{"update":12,"not_saved":true,"last_sound":null}"#,
            r#"{"update":12,"not_saved":true,"last_sound":9}"#,
            r#"{"update":4,"decides":"loss"}"#,
            r#"{"update":4,"decides":"exact-match"}"#,
            r#"{"update":4,"valid":{"loss":2.9027052364588783,"perplexity":18.223377292076947,"bleu":0.0425881381866157,"chrf":1.7389340560072266,"exact_match":0.0},"is_best":true}"#,
            r#"{"update":4,"valid":{"loss":null,"perplexity":null,"bleu":null,"chrf":null,"exact_match":null},"is_best":false}"#,
            // Lines of future versions, with future metrics.
            r#"{"update":4,"valid":{"loss":2.5,"perplexity":12.25,"ter":101.5},"is_best":true}"#,
        ] {
            let line: MetricsLine = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&line).unwrap(), text, "{line:?}");
        }
    }

    #[test]
    fn what_is_not_finite_is_read_again() {
        let read = |text| serde_json::from_str::<MetricsLine>(text).unwrap();
        let MetricsLine::Skipped { loss, .. } = read(r#"{"update":1,"skipped":true,"loss":"NaN"}"#) else {
            panic!("another line");
        };
        assert!(loss.is_nan());
        let text = r#"{"update":4,"valid":{"loss":null,"perplexity":null,"bleu":null,"ter":5.5},"is_best":false}"#;
        let MetricsLine::Validation { valid, .. } = read(text) else {
            panic!("another line");
        };
        assert!(valid.loss.is_nan() && valid.perplexity.is_nan());
        assert_eq!(
            ["bleu", "ter", "chrf"].map(|key| valid.score(key)),
            [None, Some(5.5), None]
        );
        for wrong in [r#"{"update":1,"skipped":true,"loss":"many"}"#, r#"{"update":1}"#, "{}"] {
            assert!(serde_json::from_str::<MetricsLine>(wrong).is_err(), "{wrong}");
        }
    }
}
