//! The `[decode]` section of a config.

use crate::{DecodeCompute, Keep, LengthNormalization, LongLines, UnknownPieces, Utility};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tallow_model::SearchSettings;

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
    /// Maximum number of target tokens for each source token, `</s>` included; 0 sets no such limit. Default 0.
    pub max_length_factor: f64,
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
    /// The factor of the log-probability of a token that the hypothesis contains already; above 1, it becomes less
    /// probable (after Keskar et al. 2019). Default 1.0.
    pub repetition_penalty: f64,
    /// The weight of the logarithm of the attention that source tokens lack, in the score of a hypothesis (Wu et al.
    /// 2016, equation 14). Default 0.
    pub coverage_penalty: f64,
    /// Groups into which the beam is divided, to search for different translations (diverse beam search, Vijayakumar et
    /// al. 2018). Default 1.
    pub groups: usize,
    /// What a continuation loses for each hypothesis of an earlier group that chose the same token in the same step.
    /// Default 0.5.
    pub diversity: f64,
    /// Texts that no translation contains, cut into pieces as the target vocabulary does. Default none.
    pub forbid: Vec<String>,
    /// Kinds of text that stand in the translation as in the source: `url`, `email`, `tag`, `number`, `emoji`. Needs
    /// beam search. Default none.
    pub keep: Vec<Keep>,
    /// Heads of the decoder's cross-attention as pairs of a layer and a head, both from 0, such as `[[5, 0]]`. Their
    /// mean is the attention of alignments, of copies of unknown words and of the coverage penalty. Default none: all
    /// heads of the last layer; with `train.guided_alignment`, the head that learns the alignments.
    pub alignment_heads: Vec<(usize, usize)>,
    /// The treatment of `<unk>`: `allow`, `forbid` or `copy`. Default `allow`.
    pub unknown: UnknownPieces,
    /// Draws tokens at random instead of searching for the best. Default false.
    pub sample: bool,
    /// The divisor of logits before sampling. Default 1.0.
    pub temperature: f64,
    /// Samples among this many most probable pieces; 0 means all. Default 0.
    pub top_k: usize,
    /// Samples among the fewest most probable pieces whose probabilities reach this sum; 1 means all. Default 1.0.
    pub top_p: f64,
    /// Minimum-Bayes-risk decoding: draws `mbr_samples` samples, and returns those with the greatest mean utility among
    /// all of them. `none`, `chrf` or `bleu`. Default `none`.
    pub mbr: Utility,
    /// The number of samples of a sentence in minimum-Bayes-risk decoding. Default 32.
    pub mbr_samples: usize,
    /// Maximum number of source tokens, `</s>` included. Default 512.
    pub max_source_length: usize,
    /// Translates the sentences of every line one by one, and not only those of longer lines. Default false.
    pub split_sentences: bool,
    /// The treatment of longer lines: `split`, `truncate` or `fail`. Default `split`.
    pub long_lines: LongLines,
    /// The size limit of a worker's batch: padded source tokens times hypotheses. Default 2048.
    pub batch_tokens: usize,
    /// A file of `tallow shortlist`: every sentence is translated with its pieces only. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortlist: Option<PathBuf>,
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
            max_length_factor: 0.0,
            min_length: 1,
            patience: 1.0,
            early_stopping: false,
            n_best: 1,
            distinct: false,
            no_repeat_ngram: 0,
            repetition_penalty: 1.0,
            coverage_penalty: 0.0,
            groups: 1,
            diversity: 0.5,
            forbid: Vec::new(),
            keep: Vec::new(),
            alignment_heads: Vec::new(),
            unknown: UnknownPieces::Allow,
            sample: false,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            mbr: Utility::None,
            mbr_samples: 32,
            max_source_length: 512,
            split_sentences: false,
            long_lines: LongLines::Split,
            batch_tokens: 2048,
            shortlist: None,
            compute: DecodeCompute::F32,
        }
    }
}

impl DecodeConfig {
    /// All faults of the section, each beginning with the key's path; empty if there is none.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let of_beam = if self.mbr != Utility::None {
            (self.mbr_samples.max(1), "decode.mbr_samples = ")
        } else if self.sample {
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
            ("mbr_samples", self.mbr_samples, 1, (1 << 10, "")),
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
        // The least and the greatest value, and whether the least one is excluded.
        let numbers = [
            ("length_penalty", self.length_penalty, (0.0, 10.0), false),
            ("max_length_factor", self.max_length_factor, (0.0, 1000.0), false),
            ("patience", self.patience, (0.0, 1000.0), true),
            ("repetition_penalty", self.repetition_penalty, (0.0, 100.0), true),
            ("coverage_penalty", self.coverage_penalty, (0.0, 100.0), false),
            ("diversity", self.diversity, (0.0, 100.0), false),
            ("top_p", self.top_p, (0.0, 1.0), true),
        ];
        for (key, value, (least, most), excludes_least) in numbers {
            if !(least..=most).contains(&value) || (excludes_least && value == least) {
                let excluded = if excludes_least { " (excluded)" } else { "" };
                faults.push(format!(
                    "decode.{key}: {value} is not between {least}{excluded} and {most}"
                ));
            }
        }
        if self.groups == 0 || !self.beam.is_multiple_of(self.groups) {
            faults.push(format!(
                "decode.groups: decode.beam = {} cannot be divided into {} groups of equal size",
                self.beam, self.groups
            ));
        }
        if self.split_sentences && self.long_lines != LongLines::Split {
            faults.push("decode.split_sentences: decode.long_lines must be \"split\" then, as by default".into());
        }
        if !self.keep.is_empty() && (self.sample || self.mbr != Utility::None || self.beam < 2 * self.groups) {
            faults.push(
                "decode.keep: needs a decode.beam of 2 or more (for each of decode.groups), and neither decode.sample nor \
                 decode.mbr"
                    .into(),
            );
        }
        if self.forbid.iter().any(|text| text.trim().is_empty()) {
            faults.push("decode.forbid: a text is blank".into());
        }
        if !self.temperature.is_finite() || self.temperature <= 0.0 {
            faults.push(format!(
                "decode.temperature: {} is not a positive number",
                self.temperature
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
        if self.mbr != Utility::None {
            let utility = match self.mbr {
                Utility::Bleu => "BLEU",
                Utility::None | Utility::Chrf => "chrF",
            };
            return format!("minimum Bayes risk, {utility}, {} samples", self.mbr_samples);
        }
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
        let mut told = format!("beam {}", self.beam);
        if self.groups > 1 {
            told += &format!(" in {} groups", self.groups);
        }
        told += &format!(", length penalty {:?}{normalization}", self.length_penalty);
        for (name, value, usual) in [
            ("repetition penalty", self.repetition_penalty, 1.0),
            ("coverage penalty", self.coverage_penalty, 0.0),
        ] {
            if value != usual {
                told += &format!(", {name} {value:?}");
            }
        }
        told
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
            alignment_heads: self.alignment_heads.clone(),
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
