//! A config together with the layers that it was made of.

use super::{Config, keys_of, sections};
use crate::error::{WithContext, bail};
use crate::{Error, Result};
use tallow_decode::UnknownPieces;
use tallow_model::ModelConfig;
use tallow_train::TrainConfig;
use toml::{Table, Value};

/// The origin of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody has set the value.
    Default,
    /// The config file.
    File,
    /// An assignment on the command line: `--set`.
    CommandLine,
}

/// A config together with the layers that it was composed from.
#[derive(Clone, Debug)]
pub struct Composed {
    /// All values.
    pub config: Config,
    /// The name of the file, for messages.
    pub name: String,
    pub(super) file: Table,
    pub(super) command_line: Table,
}

/// A key with its section, if it has one, and its value, if it is set.
pub type Effective = (Option<&'static str>, &'static str, Option<Value>);

impl Composed {
    /// Refuses values that make no sense, alone or together.
    pub(crate) fn check(&self) -> Result<()> {
        let mut faults = self.config.validate(self.config.init.is_none());
        // The config that a run writes names the default, too.
        let weight = self.config.train.guided_alignment;
        let is_asked_for = weight > 0.0 && weight != TrainConfig::default().guided_alignment;
        let has_alignments = self.config.data.train.iter().any(|corpus| corpus.alignments.is_some());
        if is_asked_for && !has_alignments {
            faults.push("train.guided_alignment: no corpus of data.train has `alignments`".into());
        }
        let is_blind = self.config.init.is_none() && !self.config.model.cross_attention;
        let decode = &self.config.decode;
        for (is_asked_for, key) in [
            (has_alignments && weight > 0.0, "train.guided_alignment"),
            (decode.coverage_penalty > 0.0, "decode.coverage_penalty"),
            (decode.unknown == UnknownPieces::Copy, "decode.unknown"),
            (!decode.alignment_heads.is_empty(), "decode.alignment_heads"),
        ] {
            if is_blind && is_asked_for {
                faults.push(format!(
                    "{key}: it needs the attention to the source, which model.cross_attention = false leaves out"
                ));
            }
        }
        if faults.is_empty() {
            return Ok(());
        }
        let name = self.name.clone();
        Err(Error::Config { name, faults })
    }

    /// The config of a run that begins with a model of this shape. Of the keys of `[model]`, only the rates of dropout
    /// may differ from those of the model.
    ///
    /// # Errors
    /// When the config contradicts the model.
    pub fn with_model_of(mut self, init: &ModelConfig) -> Result<Config> {
        const RATES: [&str; 3] = ["dropout", "attention_dropout", "activation_dropout"];
        let table = |model: &ModelConfig| Table::try_from(model).context("the config cannot be written as TOML");
        let (ours, mut theirs) = (table(&self.config.model)?, table(init)?);
        let mut faults = Vec::new();
        for key in keys_of::<ModelConfig>() {
            if self.origin(Some("model"), key) == Origin::Default || ours.get(*key) == theirs.get(*key) {
                continue;
            }
            match ours.get(*key) {
                Some(rate) if RATES.contains(key) => {
                    theirs.insert((*key).to_string(), rate.clone());
                }
                value => {
                    let show = |value: Option<&Value>| value.map_or("unset".to_string(), Value::to_string);
                    let (value, theirs) = (show(value), show(theirs.get(*key)));
                    faults.push(format!("model.{key}: {value}, but the model of `init` has {theirs}"));
                }
            }
        }
        if !faults.is_empty() {
            bail!(
                "this config does not fit its `init`; remove these keys:\n  {}",
                faults.join("\n  ")
            );
        }
        self.config.model = theirs.try_into().context("the model of `init` cannot be trained")?;
        self.fit_model();
        let faults = self.config.validate(true);
        if !faults.is_empty() {
            bail!("this config does not fit its `init`:\n  {}", faults.join("\n  "));
        }
        Ok(self.config)
    }

    /// Fits values that nobody has set to the shape of the model: lowers the lengths to the number of positions that it
    /// learns, and makes the head that learns alignments the one that tells them.
    pub(super) fn fit_model(&mut self) {
        let has_alignments = self.config.data.train.iter().any(|corpus| corpus.alignments.is_some());
        let is_guided = has_alignments && self.config.train.guided_alignment > 0.0;
        if is_guided && self.origin(Some("decode"), "alignment_heads") == Origin::Default {
            let last = self.config.model.decoder_layers.saturating_sub(1);
            self.config.decode.alignment_heads = vec![(last, 0)];
        }
        let limit = self.config.model.position_limit();
        let is_set = |section, key| self.origin(Some(section), key) != Origin::Default;
        let [data, target, source] = [
            is_set("data", "max_length"),
            is_set("decode", "max_length"),
            is_set("decode", "max_source_length"),
        ];
        let fitting = self.config.decode.within(limit);
        let decode = &mut self.config.decode;
        if !target {
            (decode.max_length, decode.min_length) = (fitting.max_length, fitting.min_length);
        }
        if !source {
            decode.max_source_length = fitting.max_source_length;
        }
        if let Some(limit) = limit.filter(|_| !data) {
            self.config.data.max_length = self.config.data.max_length.min(limit.max(2));
        }
    }

    /// The origin of a key's value.
    pub fn origin(&self, section: Option<&str>, key: &str) -> Origin {
        let has = |table: &Table| match section {
            None => table.contains_key(key),
            Some(section) => table
                .get(section)
                .and_then(Value::as_table)
                .is_some_and(|table| table.contains_key(key)),
        };
        if has(&self.command_line) {
            Origin::CommandLine
        } else if has(&self.file) {
            Origin::File
        } else {
            Origin::Default
        }
    }

    /// Every key in order, with its effective value if it has one.
    ///
    /// # Errors
    /// As for [`Config::to_toml`].
    pub fn values(&self) -> Result<Vec<Effective>> {
        let table = Table::try_from(&self.config).context("the config cannot be written as TOML")?;
        let mut values = Vec::new();
        let sections = sections();
        for key in keys_of::<Config>() {
            if !sections.iter().any(|section| section.0 == *key) {
                values.push((None, *key, table.get(*key).cloned()));
            }
        }
        for (name, keys, _) in sections {
            let section = table.get(name).and_then(Value::as_table);
            values.extend(
                keys.iter()
                    .map(|key| (Some(name), *key, section.and_then(|s| s.get(*key)).cloned())),
            );
        }
        Ok(values)
    }
}
