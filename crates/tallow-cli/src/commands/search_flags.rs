//! Conversion of search flags into a [`DecodeConfig`], and errors that name the flags.

use crate::arguments::SearchArguments;
use crate::usage::wrong_usage;
use anyhow::Result;
use candle_core::Device;
use serde::Deserialize;
use tallow::SavedModel;
use tallow::config::keys_of;
use tallow::config::{parse_value, unknown_where_only};
use tallow_decode::{DecodeConfig, Utility};
use toml::{Table, Value};

impl SearchArguments {
    /// The settings of the model's run, changed by the flags.
    ///
    /// # Errors
    /// Of wrong usage: unknown keys, settings that contradict each other, and lengths beyond the positions of the
    /// model.
    pub(crate) fn decode_config(&self, saved: &SavedModel) -> Result<DecodeConfig> {
        let mut table = Table::try_from(saved.decode_config())?;
        for assignment in &self.set {
            let (key, value) = decode_key(assignment)?;
            table.insert(key.to_owned(), parse_value(value));
        }
        let mut config = match DecodeConfig::deserialize(Value::Table(table)) {
            Ok(config) => config,
            Err(error) => return Err(wrong_usage(self.named_by_key(&error))),
        };
        let set = |to: &mut usize, from: Option<usize>| *to = from.unwrap_or(*to);
        set(&mut config.beam, self.beam);
        set(&mut config.max_length, self.max_length);
        set(&mut config.min_length, self.min_length);
        set(&mut config.n_best, self.n_best);
        set(&mut config.no_repeat_ngram, self.no_repeat_ngram);
        set(&mut config.top_k, self.top_k);
        set(&mut config.groups, self.groups);
        set(&mut config.mbr_samples, self.mbr_samples);
        let set = |to: &mut f64, from: Option<f64>| *to = from.unwrap_or(*to);
        set(&mut config.length_penalty, self.length_penalty);
        set(&mut config.max_length_factor, self.max_length_factor);
        set(&mut config.repetition_penalty, self.repetition_penalty);
        set(&mut config.coverage_penalty, self.coverage_penalty);
        set(&mut config.diversity, self.diversity);
        set(&mut config.temperature, self.temperature);
        set(&mut config.top_p, self.top_p);
        config.compute = self.compute.unwrap_or(config.compute);
        config.unknown = self.unknown.unwrap_or(config.unknown);
        config.shortlist = self.shortlist.clone().or(config.shortlist);
        config.mbr = self.mbr.unwrap_or(config.mbr);
        config.forbid.extend(self.forbid.iter().cloned());
        for kind in &self.keep {
            if !config.keep.contains(kind) {
                config.keep.push(*kind);
            }
        }
        config.distinct |= self.distinct;
        config.split_sentences |= self.split_sentences;
        config.sample |= self.sample || self.temperature.is_some() || self.top_k.is_some() || self.top_p.is_some();
        let is_search = !config.sample && config.mbr == Utility::None;
        if self.n_best.is_some_and(|n| n > config.beam) && self.beam.is_none() && is_search {
            // A user who asks for ten translations and gives no beam needs a beam that is wide enough.
            config.beam = config.n_best;
        }
        if self.beam.is_some() && self.groups.is_none() && !config.beam.is_multiple_of(config.groups.max(1)) {
            // The groups of the run's own beam.
            config.groups = 1;
        }
        let mut faults = config.validate();
        faults.extend(config.position_faults(saved.position_limit()));
        if !faults.is_empty() {
            let named: Vec<String> = faults.iter().map(|fault| self.named(fault)).collect();
            return Err(wrong_usage(match named.as_slice() {
                [one] => one.clone(),
                more => format!("these search settings make no sense:\n  {}", more.join("\n  ")),
            }));
        }
        Ok(config)
    }

    /// A fault of a key, with the flag that set it.
    fn named(&self, fault: &str) -> String {
        let flags = [
            ("beam", self.beam.is_some()),
            ("length_penalty", self.length_penalty.is_some()),
            ("max_length", self.max_length.is_some()),
            ("min_length", self.min_length.is_some()),
            ("n_best", self.n_best.is_some()),
            ("no_repeat_ngram", self.no_repeat_ngram.is_some()),
            ("max_length_factor", self.max_length_factor.is_some()),
            ("repetition_penalty", self.repetition_penalty.is_some()),
            ("coverage_penalty", self.coverage_penalty.is_some()),
            ("groups", self.groups.is_some()),
            ("diversity", self.diversity.is_some()),
            ("forbid", !self.forbid.is_empty()),
            ("keep", !self.keep.is_empty()),
            ("mbr_samples", self.mbr_samples.is_some()),
            ("temperature", self.temperature.is_some()),
            ("top_k", self.top_k.is_some()),
            ("top_p", self.top_p.is_some()),
        ];
        let key = fault.split(':').next().and_then(|path| path.strip_prefix("decode."));
        let flag = flags.iter().find(|(name, is_given)| *is_given && key == Some(name));
        let is_set = |key: &str| {
            self.set
                .iter()
                .any(|set| decode_key(set).is_ok_and(|(other, _)| other == key))
        };
        match (flag, key) {
            (Some((name, _)), _) => format!("--{} ({fault})", name.replace('_', "-")),
            (None, Some(key)) if is_set(key) => format!("--set {fault}"),
            _ => fault.to_owned(),
        }
    }

    /// The fault of a key or its value. Each assignment is checked by itself, because the error of all together names
    /// no key.
    fn named_by_key(&self, error: &toml::de::Error) -> String {
        for assignment in &self.set {
            let Ok((key, value)) = decode_key(assignment) else {
                continue;
            };
            let known = keys_of::<DecodeConfig>();
            if !known.contains(&key) {
                return format!("--set {}", unknown_where_only("decode", key, known));
            }
            let alone = Table::from_iter([(key.to_owned(), parse_value(value))]);
            if let Err(error) = DecodeConfig::deserialize(Value::Table(alone)) {
                return format!("--set decode.{key}: {}", error.message());
            }
        }
        format!("--set: {}", error.message())
    }

    /// The number of threads that translate.
    pub(crate) fn workers(&self, device: &Device) -> usize {
        self.workers
            .unwrap_or_else(|| if device.is_cpu() { tallow::cores() } else { 1 })
            .max(1)
    }
}

/// Key and value of `decode.key=value`.
pub(super) fn decode_key(assignment: &str) -> Result<(&str, &str)> {
    let Some((key, value)) = assignment.split_once('=') else {
        return Err(wrong_usage(format!("--set {assignment}: write it as decode.key=value")));
    };
    let Some(key) = key.trim().strip_prefix("decode.") else {
        return Err(wrong_usage(format!(
            "--set {assignment}: only keys of [decode] can be set here, as decode.key=value"
        )));
    };
    Ok((key, value.trim()))
}
