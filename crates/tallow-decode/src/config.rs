//! The `[decode]` section of a config.

use serde::{Deserialize, Serialize};
use tallow_model::{InferenceCompute, SearchSettings};

/// The normalisation of a hypothesis' score by its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LengthNormalization {
    /// log p / length^penalty, as Hugging Face, Marian and CTranslate2 do.
    #[default]
    Plain,
    /// log p / ((5 + length) / 6)^penalty (Wu et al. 2016, equation 14).
    Wu,
}

/// The treatment of a line that is longer than [`DecodeConfig::max_source_length`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LongLines {
    /// Translates the sentences of the line one by one.
    #[default]
    Split,
    /// Translates the beginning of the line.
    Truncate,
    /// Ends with an error.
    Fail,
}

/// The number format of matrix products while translating. Softmax, normalisation, residuals and scores are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecodeCompute {
    /// 32-bit floating point.
    #[default]
    F32,
    /// bfloat16, if the processor has a unit that is faster at that; otherwise f32.
    Bf16,
    /// 8-bit integers: weights with a scale for each output, activations with a scale for each row.
    Int8,
}

impl DecodeCompute {
    /// All formats, the most exact first.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Int8];

    /// The name in a config.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

impl From<DecodeCompute> for InferenceCompute {
    fn from(compute: DecodeCompute) -> Self {
        match compute {
            DecodeCompute::F32 => Self::F32,
            DecodeCompute::Bf16 => Self::Bf16,
            DecodeCompute::Int8 => Self::Int8,
        }
    }
}

/// Search settings: the `[decode]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecodeConfig {
    /// Hypotheses kept at every step; 1 is greedy search. Default 5.
    pub beam: usize,
    /// Exponent of the length in a hypothesis' score; 0 compares plain log-probabilities. Default 1.0.
    pub length_penalty: f64,
    /// `plain` or `wu`. Default `plain`.
    pub length_normalization: LengthNormalization,
    /// Maximum number of target tokens, `</s>` included; longer translations are cut. Default 100.
    pub max_length: usize,
    /// Minimum number of target tokens, `</s>` included. Default 1.
    pub min_length: usize,
    /// A sentence is done once `beam * patience` hypotheses, but at least `n_best`, are finished (Kasai et al. 2022)
    /// and no live hypothesis has a better score than the best finished one. Default 1.0.
    pub patience: f64,
    /// A sentence is done once `beam * patience` hypotheses, but at least `n_best`, are finished, even if a live
    /// hypothesis is better. Hugging Face has a setting of this name with this effect. Default false.
    pub early_stopping: bool,
    /// Maximum number of translations returned for each sentence. Default 1.
    pub n_best: usize,
    /// Returns only the best of several translations with the same text but different pieces. Beam search goes on to
    /// find others. Default false.
    pub distinct: bool,
    /// No sequence of this many tokens occurs twice in a translation; 0 allows all. Default 0.
    pub no_repeat_ngram: usize,
    /// Draws tokens at random instead of searching for the best. Default false.
    pub sample: bool,
    /// The divisor of logits before sampling. Default 1.0.
    pub temperature: f64,
    /// Samples among this many most probable pieces; 0 means all. Default 0.
    pub top_k: usize,
    /// Samples among the fewest most probable pieces whose probabilities reach this sum; 1 means all. Default 1.0.
    pub top_p: f64,
    /// Maximum number of source tokens, `</s>` included. Default 512.
    pub max_source_length: usize,
    /// The treatment of longer lines: `split`, `truncate` or `fail`. Default `split`.
    pub long_lines: LongLines,
    /// The size limit of a worker's batch: padded source tokens times hypotheses. Default 2048.
    pub batch_tokens: usize,
    /// The number format of matrix products: `f32`, `bf16` or `int8`. Only the CPU has the latter two. Default `f32`.
    pub compute: DecodeCompute,
}

impl Default for DecodeConfig {
    fn default() -> Self {
        Self {
            beam: 5,
            length_penalty: 1.0,
            length_normalization: LengthNormalization::Plain,
            max_length: 100,
            min_length: 1,
            patience: 1.0,
            early_stopping: false,
            n_best: 1,
            distinct: false,
            no_repeat_ngram: 0,
            sample: false,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            max_source_length: 512,
            long_lines: LongLines::Split,
            batch_tokens: 2048,
            compute: DecodeCompute::F32,
        }
    }
}

impl DecodeConfig {
    /// All faults of the section, each beginning with the key's path; empty if there is none.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let of_beam = if self.sample {
            (1 << 10, "")
        } else {
            (self.beam.max(1), "decode.beam = ")
        };
        let sizes = [
            ("beam", self.beam, 1, (1 << 10, "")),
            ("max_length", self.max_length, 1, (1 << 16, "")),
            (
                "min_length",
                self.min_length,
                1,
                (self.max_length.max(1), "decode.max_length = "),
            ),
            ("n_best", self.n_best, 1, of_beam),
            ("max_source_length", self.max_source_length, 2, (1 << 16, "")),
            ("batch_tokens", self.batch_tokens, 1, (1 << 24, "")),
        ];
        for (key, value, least, (most, whose)) in sizes {
            if value < least || value > most {
                faults.push(format!(
                    "decode.{key}: {value} is not between {least} and {whose}{most}"
                ));
            }
        }
        if !(0.0..=10.0).contains(&self.length_penalty) {
            faults.push(format!(
                "decode.length_penalty: {} is not between 0 and 10",
                self.length_penalty
            ));
        }
        if !(0.0..=1000.0).contains(&self.patience) || self.patience == 0.0 {
            faults.push(format!(
                "decode.patience: {} is not between 0 (excluded) and 1000",
                self.patience
            ));
        }
        if !self.temperature.is_finite() || self.temperature <= 0.0 {
            faults.push(format!(
                "decode.temperature: {} is not a positive number",
                self.temperature
            ));
        }
        if !(0.0..=1.0).contains(&self.top_p) || self.top_p == 0.0 {
            faults.push(format!(
                "decode.top_p: {} is not between 0 (excluded) and 1",
                self.top_p
            ));
        }
        faults
    }

    /// The same settings for a model with at most this many positions, if it has a limit: all lengths are reduced to
    /// the limit.
    #[must_use]
    pub fn within(&self, position_limit: Option<usize>) -> Self {
        let Some(limit) = position_limit else {
            return self.clone();
        };
        let max_length = self.max_length.min(limit);
        Self {
            max_length,
            min_length: self.min_length.min(max_length),
            // A sentence has at least one piece and `</s>`.
            max_source_length: self.max_source_length.min(limit.max(2)),
            ..self.clone()
        }
    }

    /// The lengths that exceed the positions of a model, as faults that begin with the key's path; empty if there is
    /// none.
    pub fn position_faults(&self, position_limit: Option<usize>) -> Vec<String> {
        let lengths = [
            ("max_length", self.max_length),
            ("max_source_length", self.max_source_length),
        ];
        let Some(limit) = position_limit else {
            return Vec::new();
        };
        lengths
            .into_iter()
            .filter(|(_, length)| *length > limit)
            .map(|(key, length)| {
                format!("decode.{key}: {length} is more than the {limit} positions that this model has learned")
            })
            .collect()
    }

    /// The same settings for scoring a corpus. Long lines are split, because one long line must not end hours of
    /// training.
    #[must_use]
    pub fn without_failing(&self) -> Self {
        let long_lines = match self.long_lines {
            LongLines::Fail => LongLines::Split,
            other => other,
        };
        Self {
            long_lines,
            ..self.clone()
        }
    }

    /// A short description of the search, to be printed beside a score.
    pub fn summary(&self) -> String {
        if self.sample {
            return "sampled".into();
        }
        if self.beam == 1 {
            return "greedy".into();
        }
        let normalization = match self.length_normalization {
            LengthNormalization::Plain => "",
            LengthNormalization::Wu => " (wu)",
        };
        format!(
            "beam {}, length penalty {:?}{normalization}",
            self.beam, self.length_penalty
        )
    }

    /// The settings that a model directory passes on to other programs. Other programs only know the plain
    /// normalisation, so the length penalty is written as 1 if another normalisation is used. It is also 1 for greedy
    /// search, where a penalty has no effect: transformers treats another value as a fault.
    pub fn search_settings(&self) -> SearchSettings {
        SearchSettings {
            length_penalty: match self.length_normalization {
                LengthNormalization::Plain if self.beam > 1 => self.length_penalty,
                _ => 1.0,
            },
            no_repeat_ngram: self.no_repeat_ngram,
            ..SearchSettings::new(self.beam, self.max_length)
        }
    }

    /// The score of a hypothesis: its log-probability divided by its length (`</s>` included) to the power of the
    /// penalty.
    pub fn score(&self, log_probability: f64, length: usize) -> f64 {
        let length = length.max(1) as f64;
        let base = match self.length_normalization {
            LengthNormalization::Plain => length,
            LengthNormalization::Wu => (5.0 + length) / 6.0,
        };
        log_probability / base.powf(self.length_penalty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::IntoDeserializer;

    #[test]
    fn scores() {
        let plain = DecodeConfig {
            length_penalty: 0.5,
            ..DecodeConfig::default()
        };
        assert!((plain.score(-8.0, 4) + 4.0).abs() < 1e-12);
        let wu = DecodeConfig {
            length_normalization: LengthNormalization::Wu,
            ..DecodeConfig::default()
        };
        assert!((wu.score(-8.0, 7) + 4.0).abs() < 1e-12);
        assert_eq!(plain.summary(), "beam 5, length penalty 0.5");
        assert_eq!(wu.summary(), "beam 5, length penalty 1.0 (wu)");
        // Other programs only know the plain normalisation.
        assert_eq!(plain.search_settings().length_penalty, 0.5);
        let wu = DecodeConfig {
            length_penalty: 0.7,
            ..wu
        };
        assert_eq!(wu.search_settings().length_penalty, 1.0);
        let greedy = DecodeConfig { beam: 1, ..plain };
        assert_eq!(
            (greedy.search_settings().length_penalty, greedy.summary()),
            (1.0, "greedy".into())
        );
        let none = DecodeConfig {
            length_penalty: 0.0,
            ..DecodeConfig::default()
        };
        assert_eq!(none.score(-8.0, 7), -8.0);
    }

    #[test]
    fn computes_are_called_what_configs_call_them() {
        for compute in DecodeCompute::ALL {
            let name: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
                compute.name().into_deserializer();
            assert_eq!(DecodeCompute::deserialize(name), Ok(compute));
        }
    }

    #[test]
    fn every_fault_is_reported() {
        assert!(DecodeConfig::default().validate().is_empty());
        let config = DecodeConfig {
            beam: 0,
            temperature: 0.0,
            top_p: 1.5,
            min_length: 200,
            ..DecodeConfig::default()
        };
        let faults = config.validate().join("\n");
        for key in ["decode.beam", "decode.temperature", "decode.top_p", "decode.min_length"] {
            assert!(faults.contains(key), "{faults}");
        }
    }
}
