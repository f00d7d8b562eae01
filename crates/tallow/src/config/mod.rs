//! A run's config: a TOML file, with `--set` values above it and defaults below it.

mod composed;
mod defaults;
mod keys;
mod overlay;
mod synonyms;

use crate::error::WithContext;
use crate::{Error, Result};
pub use composed::{Composed, Effective, Origin};
pub use keys::{keys_of, nearest};
pub use overlay::{ASSIGNMENT, parse_value, unknown_where_only};
use overlay::{assign, faults_of, merge};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
pub use synonyms::{Synonym, synonym};
use tallow_data::DataConfig;
use tallow_decode::DecodeConfig;
use tallow_model::{AlignmentHeads, ModelConfig, Positions, Tie};
use tallow_score::ScoreConfig;
use tallow_text::TextConfig;
use tallow_train::{CardConfig, TrainConfig};
use toml::{Table, Value};

/// All settings of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The run's name; its directory is `runs/<name>`. Default: the file's name.
    pub name: String,
    /// The seed of all random numbers. Default 1.
    pub seed: u64,
    /// The run directory, if it is not `runs/<name>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// A model that provides the weights, shape and tokenizers that training begins with: a path, or `owner/name` on
    /// the Hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// How text becomes pieces: `[text]`.
    pub text: TextConfig,
    /// The corpora and their batches: `[data]`.
    pub data: DataConfig,
    /// The shape of the model: `[model]`.
    pub model: ModelConfig,
    /// The settings of training: `[train]`.
    pub train: TrainConfig,
    /// The settings of the search: `[decode]`.
    pub decode: DecodeConfig,
    /// How translations are scored: `[score]`.
    pub score: ScoreConfig,
    /// Facts about the model that only a person knows: `[card]`.
    pub card: CardConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            seed: 1,
            output: None,
            init: None,
            text: TextConfig::default(),
            data: DataConfig::default(),
            model: ModelConfig::default(),
            train: TrainConfig::default(),
            decode: DecodeConfig::default(),
            score: ScoreConfig::default(),
            card: CardConfig::default(),
        }
    }
}

/// A check of the values of a section. It is called with one key at a time.
pub type Check = fn(Value) -> Result<(), toml::de::Error>;

fn check<T: for<'de> Deserialize<'de>>(section: Value) -> Result<(), toml::de::Error> {
    T::deserialize(section).map(|_| ())
}

/// The sections of a config: for each, its name, its keys and its check.
pub fn sections() -> [(&'static str, &'static [&'static str], Check); 7] {
    [
        ("text", keys_of::<TextConfig>(), check::<TextConfig>),
        ("data", keys_of::<DataConfig>(), check::<DataConfig>),
        ("model", keys_of::<ModelConfig>(), check::<ModelConfig>),
        ("train", keys_of::<TrainConfig>(), check::<TrainConfig>),
        ("decode", keys_of::<DecodeConfig>(), check::<DecodeConfig>),
        ("score", keys_of::<ScoreConfig>(), check::<ScoreConfig>),
        ("card", keys_of::<CardConfig>(), check::<CardConfig>),
    ]
}

/// The keys that belong to no section.
pub fn top_level_keys() -> Vec<&'static str> {
    let sections = sections().map(|section| section.0);
    let keys = keys_of::<Config>().iter().copied();
    keys.filter(|key| !sections.contains(key)).collect()
}

impl Config {
    /// Reads a file and checks everything. All faults are reported at once.
    ///
    /// # Errors
    /// As for [`Self::compose`].
    pub fn open(path: impl AsRef<Path>) -> Result<Composed> {
        Self::compose::<&str>(path, &[])
    }

    /// Reads a file, lays `--set section.key=value` over it, and checks everything. All faults are reported at once.
    ///
    /// # Errors
    /// When the file cannot be read, or when keys or values are wrong: then with every fault.
    pub fn compose<S: AsRef<str>>(path: impl AsRef<Path>, set: &[S]) -> Result<Composed> {
        let path = path.as_ref();
        let file = Self::read(path)?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Self::layer(file, set, &path.display().to_string(), stem.unwrap_or_default())
    }

    /// Does the same for a run that is to be resumed. The values of `[train]` are not checked yet, because the run has
    /// some of them: [`Training::prepare`](crate::Training::prepare) checks them together.
    ///
    /// # Errors
    /// As [`Self::compose`].
    pub fn compose_for_resume<S: AsRef<str>>(path: impl AsRef<Path>, set: &[S]) -> Result<Composed> {
        let path = path.as_ref();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = path.display().to_string();
        let composed = Self::merge(Self::read(path)?, set, &name, stem.unwrap_or_default())?;
        composed.config.refuse_faults_outside_training(&name)?;
        Ok(composed)
    }

    /// Reads the config of a run in order to use its model. Values that only training needs are not checked: the config
    /// may come from a version that allowed more.
    ///
    /// # Errors
    /// When the file cannot be read, or when values other than those of training are wrong: then with every fault.
    pub fn of_run(path: &Path) -> Result<Self> {
        let (name, file) = (path.display().to_string(), Self::read(path)?);
        let config = Self::merge::<&str>(file, &[], &name, String::new())?.config;
        config.refuse_faults_outside_training(&name)?;
        Ok(config)
    }

    fn refuse_faults_outside_training(&self, name: &str) -> Result<()> {
        let checked = Self {
            train: TrainConfig::default(),
            ..self.clone()
        };
        checked.refuse_faults(name)
    }

    fn read(path: &Path) -> Result<Table> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read the config {}", path.display()))?;
        toml::from_str(&text).map_err(|error| Error::Other(format!("{}: {error}", path.display())))
    }

    fn layer<S: AsRef<str>>(file: Table, set: &[S], name: &str, default_name: String) -> Result<Composed> {
        let composed = Self::merge(file, set, name, default_name)?;
        composed.check()?;
        Ok(composed)
    }

    fn refuse_faults(&self, name: &str) -> Result<()> {
        let faults = self.validate(self.init.is_none());
        if !faults.is_empty() {
            let name = name.to_owned();
            return Err(Error::Config { name, faults });
        }
        Ok(())
    }

    /// Puts the layers together and gives each value its type.
    fn merge<S: AsRef<str>>(file: Table, set: &[S], name: &str, default_name: String) -> Result<Composed> {
        let mut command_line = Table::new();
        let assigned = set
            .iter()
            .map(|assignment| assign(&mut command_line, assignment.as_ref()));
        let mut faults: Vec<String> = assigned.filter_map(Result::err).collect();
        let is_usage_wrong = !faults.is_empty();
        faults.extend(faults_of(&file));
        faults.extend(
            faults_of(&command_line)
                .into_iter()
                .map(|fault| format!("{ASSIGNMENT}{fault}")),
        );
        if !faults.is_empty() {
            let name = name.to_owned();
            let error = Error::Config { name, faults };
            return Err(match is_usage_wrong {
                true => Error::Usage(error.to_string()),
                false => error,
            });
        }
        let mut merged = Table::new();
        merged.insert("name".into(), Value::String(default_name));
        merge(&mut merged, &file);
        merge(&mut merged, &command_line);
        let config: Config = merged
            .try_into()
            .with_context(|| format!("{name}: this config cannot be used"))?;
        let mut composed = Composed {
            config,
            name: name.to_owned(),
            file,
            command_line,
        };
        composed.fit_defaults();
        if composed.config.init.is_none() {
            composed.fit_model();
        }
        Ok(composed)
    }

    /// Every fault of the values. The shape of a model of `init` is unknown until it is opened.
    fn validate(&self, is_model_known: bool) -> Vec<String> {
        let mut faults = Vec::new();
        if self.name.is_empty()
            || self.name.contains(['/', '\\'])
            || self.name.starts_with('.')
            || self.name.contains(char::is_control)
        {
            faults.push(format!("name: {:?} cannot name a directory under runs/", self.name));
        }
        if self.seed > i64::MAX as u64 {
            faults.push(format!("seed: {} is greater than {}", self.seed, i64::MAX));
        }
        faults.extend(self.text.validate());
        if self.init.is_none() {
            faults.extend(self.text.kind_faults());
        }
        faults.extend(self.data.validate());
        if is_model_known {
            faults.extend(self.model.validate());
        }
        faults.extend(self.train.validate());
        if let Some(choice) = self.train.chosen_valid_set()
            && !self.data.valid.names().any(|name| name == choice)
        {
            let names: Vec<&str> = self.data.valid.names().collect();
            faults.push(format!(
                "train.valid_set: {choice:?} is not the `name` of a set of data.valid ({}); \"mean\" stands for all together",
                if names.is_empty() { "none has a name".to_owned() } else { names.join(", ") }
            ));
        }
        faults.extend(self.decode.validate());
        faults.extend(self.score.validate());
        faults.extend(self.card.validate());
        if self.init.is_some() && !self.text.only_samples() {
            faults.push(
                "text: with `init`, the tokenizers are those of that model; remove the keys of [text] but for bpe_dropout and \
                 unigram_alpha"
                    .into(),
            );
        }
        if is_model_known && self.model.positions == Positions::Learned {
            let (limit, length) = (self.model.max_positions, self.data.max_length);
            if length > limit {
                faults.push(format!(
                    "data.max_length: {length} is more than the {limit} learned positions (model.max_positions)"
                ));
            }
            faults.extend(self.decode.position_faults(Some(limit)));
        }
        let rates = [
            self.model.dropout,
            self.model.attention_dropout,
            self.model.activation_dropout,
        ];
        if is_model_known && let Err(error) = AlignmentHeads::new(&self.decode.alignment_heads, &self.model) {
            faults.push(format!("decode.alignment_heads: {error}"));
        }
        if is_model_known && self.train.r_drop > 0.0 && rates.iter().all(|rate| *rate == 0.0) {
            faults.push("train.r_drop: without dropout (model.dropout) both passes of a sentence are the same".into());
        }
        if self.prepared_folder() == self.run_directory() {
            faults.push("data.prepared: this is the directory of the run; name another folder".into());
        }
        if self.model.tie == Tie::All && !self.text.shared && self.text.learns() {
            faults.push("model.tie: \"all\" needs text.shared = true; separate vocabularies can tie \"output\"".into());
        }
        faults
    }

    /// The directory of the run.
    pub fn run_directory(&self) -> PathBuf {
        self.output
            .clone()
            .unwrap_or_else(|| Path::new("runs").join(&self.name))
    }

    /// The folder for prepared corpora: that of `data.prepared`, or `prepared` beside the run's directory.
    pub fn prepared_folder(&self) -> PathBuf {
        let beside = || self.run_directory().with_file_name("prepared");
        self.data.prepared.clone().unwrap_or_else(beside)
    }

    /// The config as a TOML document.
    ///
    /// # Errors
    /// When a value cannot be written in TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).context("the config cannot be written as TOML")
    }

    /// Every value as `section.key` and text, for comparison with the values of another run.
    ///
    /// # Errors
    /// As for [`Self::to_toml`].
    pub fn flat(&self) -> Result<Vec<(String, String)>> {
        let table = Table::try_from(self).context("the config cannot be written as TOML")?;
        let mut flat = Vec::new();
        for (key, value) in table {
            match value {
                Value::Table(section) => {
                    flat.extend(
                        section
                            .into_iter()
                            .map(|(inner, value)| (format!("{key}.{inner}"), value.to_string())),
                    );
                }
                value => flat.push((key, value.to_string())),
            }
        }
        Ok(flat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = "[data]\ntrain = [{ source = \"a\", target = \"b\" }]\n";

    fn compose(text: &str, set: &[&str]) -> Result<Composed> {
        let set: Vec<String> = set.iter().map(ToString::to_string).collect();
        Config::layer(toml::from_str(text)?, &set, "run.toml", "run".into())
    }

    #[test]
    fn layers() {
        let text = format!("seed = 7\n{DATA}[model]\nheads = 8\n[train]\nworkers = \"auto\"\n");
        let composed = compose(
            &text,
            &["model.d_model=64", "train.workers=3", "text.kind=char", "name=x"],
        )
        .unwrap();
        let config = &composed.config;
        assert_eq!((config.seed, config.model.heads, config.model.d_model), (7, 8, 64));
        assert_eq!(config.train.workers, tallow_train::Workers::Count(3));
        assert_eq!(config.run_directory(), Path::new("runs/x"));
        assert_eq!(composed.origin(Some("model"), "heads"), Origin::File);
        assert_eq!(composed.origin(Some("model"), "d_model"), Origin::CommandLine);
        assert_eq!(composed.origin(Some("model"), "norm"), Origin::Default);
        assert_eq!(composed.origin(None, "seed"), Origin::File);
        // The written config can be read again.
        let again = compose(&config.to_toml().unwrap(), &[]).unwrap();
        assert_eq!(&again.config, config);
    }

    #[test]
    fn every_fault_at_once_with_the_nearest_key() {
        let text = format!(
            "sed = 1\nname = 3\n{DATA}[modle]\nx = 1\n[model]\nd_mdoel = 3\nheads = \"many\"\nlearning_rate = 1\n\
             [train]\nschedule = \"wavy\"\n"
        );
        let error = compose(&text, &["train.worker=2", "decode.beam=wide", "nonsense"])
            .unwrap_err()
            .to_string();
        for part in [
            "sed: unknown key; did you mean seed?",
            "name: invalid type",
            "modle: unknown key; did you mean model?",
            "model.d_mdoel: unknown key; did you mean model.d_model?",
            "model.heads: invalid type",
            "model.learning_rate: unknown key; there is train.learning_rate",
            "train.schedule: unknown variant `wavy`",
            "assignment train.worker: unknown key; did you mean train.workers?",
            "assignment decode.beam: invalid type",
            "assignment nonsense: write it as section.key=value",
        ] {
            assert!(error.contains(part), "{part}\n{error}");
        }
    }

    #[test]
    fn values_are_checked_together() {
        let text =
            format!("{DATA}[model]\nd_model = 30\nheads = 4\n[train]\nmax_updates = 0\n[text]\nshared = false\n");
        let error = compose(&text, &[]).unwrap_err().to_string();
        for part in ["model.heads: 4", "train.max_updates: 0", "model.tie"] {
            assert!(error.contains(part), "{part}\n{error}");
        }
        assert!(compose("", &[]).unwrap_err().to_string().contains("data.train"));
    }

    #[test]
    fn scores_name_the_model_that_they_need() {
        let faults = |set: &[&str]| compose(DATA, set).map(|_| ()).unwrap_err().to_string();
        for (tokenize, part) in [
            ("flores200", "score.sentencepiece: flores200 needs the file"),
            ("spm", "score.sentencepiece: flores101 needs the file"),
            ("ja-mecab", "score.tokenize: `ja-mecab` cuts lines by MeCab"),
            ("ko-mecab", "score.tokenize: `ko-mecab` cuts lines by MeCab"),
            (
                "japanese",
                "score.tokenize: unknown tokenization `japanese`; choose 13a",
            ),
        ] {
            let error = faults(&[&format!("score.tokenize={tokenize}")]);
            assert!(error.contains(part), "{error}");
        }
        let error = faults(&["score.tokenize=zh", "score.sentencepiece=x.model"]);
        assert!(error.contains("score.sentencepiece: zh does not use"), "{error}");
        // Nothing is read to check a config, and what is written can be read again.
        let set = ["score.tokenize=spm", "score.sentencepiece=missing.model"];
        let config = compose(DATA, &set).unwrap().config;
        let written = config.to_toml().unwrap();
        assert!(
            written.contains("tokenize = \"flores101\"\nsentencepiece = \"missing.model\""),
            "{written}"
        );
        assert_eq!(compose(&written, &[]).unwrap().config, config);
    }

    /// Lengths that nobody has set fit the positions that a model learns; a length that somebody has set too high is
    /// reported.
    #[test]
    fn lengths_fit_learned_positions() {
        let text = format!("{DATA}[model]\npositions = \"learned\"\nmax_positions = 60\n");
        let config = compose(&text, &[]).unwrap().config;
        let lengths = (
            config.data.max_length,
            config.decode.max_length,
            config.decode.max_source_length,
        );
        assert_eq!(lengths, (60, 60, 60));
        let set = [
            "data.max_length=61",
            "decode.max_length=61",
            "decode.max_source_length=61",
        ];
        let error = compose(&text, &set).unwrap_err().to_string();
        for set in set {
            let (key, _) = set.split_once('=').unwrap();
            assert!(error.contains(&format!("{key}: 61 is more than the 60")), "{error}");
        }
        // Positions of other kinds have no limit.
        assert_eq!(
            compose(DATA, &["model.max_positions=60"])
                .unwrap()
                .config
                .decode
                .max_source_length,
            512
        );
    }

    #[test]
    fn a_model_to_begin_with() {
        let init = ModelConfig {
            d_model: 64,
            heads: 8,
            dropout: 0.3,
            attention_dropout: 0.2,
            ..ModelConfig::default()
        };
        let text = format!("init = \"a/b\"\n{DATA}[model]\nheads = 8\ndropout = 0.0\n");
        let config = compose(&text, &[]).unwrap().with_model_of(&init).unwrap();
        // A number of heads that divides the width of `init`, but not the default width.
        let odd = ModelConfig {
            d_model: 48,
            heads: 3,
            ..init.clone()
        };
        assert!(compose(&text, &["model.heads=3"]).unwrap().with_model_of(&odd).is_ok());
        assert_eq!(
            config.model,
            ModelConfig {
                dropout: 0.0,
                ..init.clone()
            }
        );
        // The config that is written into the run's directory says the same.
        let again = compose(&config.to_toml().unwrap(), &[]).unwrap();
        assert_eq!(again.with_model_of(&init).unwrap(), config);
        let error = compose(&text, &["model.d_model=32", "model.decoder_heads=2"])
            .unwrap()
            .with_model_of(&init)
            .unwrap_err()
            .to_string();
        for part in [
            "model.d_model: 32, but the model of `init` has 64",
            "model.decoder_heads: 2",
        ] {
            assert!(error.contains(part), "{error}");
        }
        // A config may say how training sentences are cut; the kind of vocabulary comes from the model.
        for set in ["text.bpe_dropout=0.1", "text.unigram_alpha=0.2"] {
            assert!(compose(&text, &[set]).unwrap().with_model_of(&init).is_ok());
        }
        let error = compose(&text, &["text.vocabulary=300"]).unwrap_err().to_string();
        assert!(error.contains("text: with `init`"), "{error}");
    }
}
