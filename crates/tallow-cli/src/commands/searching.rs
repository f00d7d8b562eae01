//! From search flags to a [`DecodeConfig`], and what there is to say about translations.

use crate::arguments::SearchArguments;
use crate::colour::warning;
use crate::count::agreeing;
use crate::ingredients::language_tags;
use crate::keys::keys_of;
use crate::layers::{parse_value, unknown_in};
use crate::located::Located;
use crate::threads;
use crate::usage::UsageError;
use anyhow::Result;
use candle_core::Device;
use serde::Deserialize;
use std::collections::BTreeSet;
use tallow_decode::{DecodeConfig, Translation};
use tallow_text::Tokenizers;
use toml::{Table, Value};

impl SearchArguments {
    /// The settings of the model's run with the flags on top.
    ///
    /// # Errors
    /// Of usage: what cannot be set, settings that make no sense together, and lengths that the model has no positions for.
    pub(crate) fn decode_config(&self, located: &Located) -> Result<DecodeConfig> {
        let mut table = Table::try_from(located.decode_config())?;
        for assignment in &self.set {
            let (key, value) = decode_key(assignment)?;
            table.insert(key.to_owned(), parse_value(value));
        }
        let mut config = match DecodeConfig::deserialize(Value::Table(table)) {
            Ok(config) => config,
            Err(error) => return Err(UsageError::of(self.named_by_key(&error))),
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
        config.distinct |= self.distinct;
        config.sample |= self.sample || self.temperature.is_some() || self.top_k.is_some() || self.top_p.is_some();
        if self.n_best.is_some_and(|n| n > config.beam) && self.beam.is_none() && !config.sample {
            // Who asks for ten translations and says nothing of the beam wants one that is wide enough.
            config.beam = config.n_best;
        }
        let mut faults = config.validate();
        faults.extend(config.position_faults(located.position_limit()));
        if !faults.is_empty() {
            let named: Vec<String> = faults.iter().map(|fault| self.named(fault)).collect();
            return Err(UsageError::of(match named.as_slice() {
                [one] => one.clone(),
                more => format!("these search settings make no sense:\n  {}", more.join("\n  ")),
            }));
        }
        Ok(config)
    }

    /// A fault of a key, with the flag that has set it.
    fn named(&self, fault: &str) -> String {
        let flags = [
            ("beam", self.beam.is_some()),
            ("length_penalty", self.length_penalty.is_some()),
            ("max_length", self.max_length.is_some()),
            ("min_length", self.min_length.is_some()),
            ("n_best", self.n_best.is_some()),
            ("no_repeat_ngram", self.no_repeat_ngram.is_some()),
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

    /// What is wrong with the value or the name of a key: each assignment by itself, because the error of all of them
    /// together names none.
    fn named_by_key(&self, error: &toml::de::Error) -> String {
        for assignment in &self.set {
            let Ok((key, value)) = decode_key(assignment) else {
                continue;
            };
            let known = keys_of::<DecodeConfig>();
            if !known.contains(&key) {
                return format!("--set {}", unknown_in("decode", key, known));
            }
            let alone = Table::from_iter([(key.to_owned(), parse_value(value))]);
            if let Err(error) = DecodeConfig::deserialize(Value::Table(alone)) {
                return format!("--set decode.{key}: {}", error.message());
            }
        }
        format!("--set: {}", error.message())
    }

    /// Threads that translate.
    pub(crate) fn workers(&self, device: &Device) -> usize {
        self.workers
            .unwrap_or_else(|| if device.is_cpu() { threads::cores() } else { 1 })
            .max(1)
    }
}

/// Key and value of a `decode.key=value`.
fn decode_key(assignment: &str) -> Result<(&str, &str)> {
    let Some((key, value)) = assignment.split_once('=') else {
        return Err(UsageError::of(format!(
            "--set {assignment}: write it as decode.key=value"
        )));
    };
    let Some(key) = key.trim().strip_prefix("decode.") else {
        return Err(UsageError::of(format!(
            "--set {assignment}: only keys of [decode] can be set here, as decode.key=value"
        )));
    };
    Ok((key, value.trim()))
}

/// Unknown language tags that a warning names.
const SHOWN_TAGS: usize = 5;

/// Characters that are shown of each.
const SHOWN_CHARACTERS: usize = 40;

/// Lines that were not translated as they are.
#[derive(Default)]
pub(crate) struct Shortcomings {
    cut: u64,
    split: u64,
    unfinished: u64,
    /// Lines that begin with a language tag which the vocabulary does not have, and the first of these tags.
    tagged: u64,
    unknown_tags: BTreeSet<String>,
}

impl Shortcomings {
    pub(crate) fn count(&mut self, translation: &Translation) {
        self.cut += u64::from(translation.cut_tokens > 0);
        if let Some(tag) = &translation.unknown_tag {
            self.tagged += 1;
            if self.unknown_tags.len() < SHOWN_TAGS {
                self.unknown_tags
                    .insert(tag.escape_debug().take(SHOWN_CHARACTERS).collect());
            }
        }
        self.split += u64::from(translation.parts.len() > 1);
        let is_finished = translation
            .candidates
            .first()
            .is_none_or(|best| best.hypothesis.finished);
        self.unfinished += u64::from(!is_finished);
    }

    pub(crate) fn warn(&self, config: &DecodeConfig, tokenizers: &Tokenizers) {
        let (source, target) = (config.max_source_length, config.max_length);
        let say = |text: String| eprintln!("{} {text}", warning());
        let lines = |count: u64| agreeing(count, "line was", "lines were");
        if self.tagged > 0 {
            let unknown = self
                .unknown_tags
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            let known = match language_tags(tokenizers) {
                Some(tags) => format!("it has {tags}"),
                None => "it has none, and reads them as text".into(),
            };
            say(format!(
                "{} with a language tag that the model does not have ({unknown}); {known}",
                agreeing(self.tagged, "line begins", "lines begin")
            ));
        }
        if self.cut > 0 {
            say(format!(
                "{} longer than {source} tokens (decode.max_source_length) and cut there (decode.long_lines)",
                lines(self.cut)
            ));
        }
        if self.split > 0 {
            say(format!(
                "{} longer than {source} tokens (decode.max_source_length) and translated sentence by sentence \
                 (decode.long_lines)",
                lines(self.split)
            ));
        }
        if self.unfinished > 0 {
            say(format!(
                "{} cut at {target} tokens (decode.max_length)",
                agreeing(self.unfinished, "translation was", "translations were")
            ));
        }
    }
}
