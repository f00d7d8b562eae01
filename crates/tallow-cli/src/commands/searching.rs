//! From search flags to a [`DecodeConfig`], and what there is to say about translations.

use crate::arguments::SearchArguments;
use crate::layers::parse_value;
use crate::located::Located;
use crate::threads;
use anyhow::{Result, bail};
use candle_core::Device;
use serde::Deserialize;
use tallow_decode::{DecodeConfig, Translation};
use toml::{Table, Value};

impl SearchArguments {
    /// The settings of the model's run with the flags on top.
    pub(crate) fn decode_config(&self, located: &Located) -> Result<DecodeConfig> {
        let mut table = Table::try_from(located.decode_config())?;
        for assignment in &self.set {
            let Some((key, value)) = assignment.split_once('=') else {
                bail!("--set {assignment}: write it as decode.key=value");
            };
            let Some(key) = key.trim().strip_prefix("decode.") else {
                bail!("--set {assignment}: only keys of [decode] can be set here, as decode.key=value");
            };
            table.insert(key.to_string(), parse_value(value.trim()));
        }
        let mut config = match DecodeConfig::deserialize(Value::Table(table)) {
            Ok(config) => config,
            Err(error) => bail!("--set: {}", error.message()),
        };
        let set = |to: &mut usize, from: Option<usize>| *to = from.unwrap_or(*to);
        set(&mut config.beam, self.beam);
        set(&mut config.max_length, self.max_length);
        set(&mut config.min_length, self.min_length);
        set(&mut config.n_best, self.n_best);
        set(&mut config.no_repeat_ngram, self.no_repeat_ngram);
        set(&mut config.top_k, self.top_k);
        config.length_penalty = self.length_penalty.unwrap_or(config.length_penalty);
        config.temperature = self.temperature.unwrap_or(config.temperature);
        config.top_p = self.top_p.unwrap_or(config.top_p);
        config.sample |= self.sample || self.temperature.is_some() || self.top_k.is_some() || self.top_p.is_some();
        if self.n_best.is_some_and(|n| n > config.beam) && self.beam.is_none() && !config.sample {
            // Who asks for ten translations and says nothing of the beam wants one that is wide enough.
            config.beam = config.n_best;
        }
        let faults = config.validate();
        if !faults.is_empty() {
            bail!("these search settings make no sense:\n  {}", faults.join("\n  "));
        }
        Ok(config)
    }

    /// Threads that translate.
    pub(crate) fn workers(&self, device: &Device) -> usize {
        self.workers
            .unwrap_or_else(|| if device.is_cpu() { threads::cores() } else { 1 })
            .max(1)
    }
}

/// Lines that were not translated as they are.
#[derive(Default)]
pub(crate) struct Shortcomings {
    cut: u64,
    split: u64,
    unfinished: u64,
}

impl Shortcomings {
    pub(crate) fn count(&mut self, translation: &Translation) {
        self.cut += u64::from(translation.cut_tokens > 0);
        self.split += u64::from(translation.parts.len() > 1);
        let is_finished = translation
            .candidates
            .first()
            .is_none_or(|best| best.hypothesis.finished);
        self.unfinished += u64::from(!is_finished);
    }

    pub(crate) fn warn(&self, config: &DecodeConfig) {
        let (source, target) = (config.max_source_length, config.max_length);
        let lines = |count| {
            if count == 1 {
                "1 line was".to_owned()
            } else {
                format!("{count} lines were")
            }
        };
        if self.cut > 0 {
            eprintln!(
                "warning: {} longer than {source} tokens (decode.max_source_length) and cut there (decode.long_lines)",
                lines(self.cut)
            );
        }
        if self.split > 0 {
            eprintln!(
                "warning: {} longer than {source} tokens (decode.max_source_length) and translated sentence by sentence \
                 (decode.long_lines)",
                lines(self.split)
            );
        }
        match self.unfinished {
            0 => {}
            1 => eprintln!("warning: 1 translation was cut at {target} tokens (decode.max_length)"),
            count => eprintln!("warning: {count} translations were cut at {target} tokens (decode.max_length)"),
        }
    }
}
