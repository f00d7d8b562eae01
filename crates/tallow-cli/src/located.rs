//! What a name given as a model stands for.

use crate::config::Config;
use crate::hub;
use anyhow::{Context, Result, bail};
use candle_core::Device;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tallow_decode::DecodeConfig;
use tallow_model::{CONFIG_FILE, Opened};
use tallow_text::Tokenizers;
use tallow_train::RunDirectory;

/// A model directory, and the run that it belongs to.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) directory: PathBuf,
    /// The config of the run, if the model belongs to one.
    pub(crate) config: Option<Config>,
}

/// Files of a model on the Hub, and whether a model can do without them.
const HUB_FILES: [(&str, bool); 6] = [
    (CONFIG_FILE, false),
    ("model.safetensors", false),
    ("generation_config.json", true),
    ("tokenizer.json", true),
    ("tokenizer.source.json", true),
    ("tokenizer.target.json", true),
];

impl Located {
    /// Finds a model: a run directory (its best model), a checkpoint, a model directory, or a name on the Hub.
    pub(crate) fn find(name: &str) -> Result<Self> {
        let path = Path::new(name);
        if !path.exists() {
            if hub::is_hub_name(name) {
                return Ok(Self {
                    directory: hub::fetch(name, &HUB_FILES)?,
                    config: None,
                });
            }
            bail!("{name}: there is no such run, checkpoint or model directory, and it is no name on the Hub either");
        }
        let run = RunDirectory::new(path);
        if run.is_run() {
            let config = run_config(&run)?;
            if run.best().join(CONFIG_FILE).is_file() {
                return Ok(Self {
                    directory: run.best(),
                    config: Some(config),
                });
            }
            // A run that was interrupted before its first validation has checkpoints only.
            return match run.saved_updates()?.last() {
                Some(update) => Ok(Self {
                    directory: run.checkpoint(*update),
                    config: Some(config),
                }),
                None => bail!("{name}: this run has neither a best model nor a checkpoint yet"),
            };
        }
        if !path.join(CONFIG_FILE).is_file() {
            bail!("{name}: neither a run directory (it has no config.toml) nor a model directory (no {CONFIG_FILE})");
        }
        // `<run>/best` and `<run>/checkpoints/<update>` belong to their run.
        let config = path.canonicalize().ok().and_then(|path| {
            let ancestors: Vec<PathBuf> = path.ancestors().skip(1).take(2).map(PathBuf::from).collect();
            ancestors.into_iter().map(RunDirectory::new).find(RunDirectory::is_run)
        });
        let config = config.map(|run| run_config(&run)).transpose()?;
        Ok(Self {
            directory: path.to_path_buf(),
            config,
        })
    }

    /// Opens the model and its tokenizers.
    pub(crate) fn open(&self, device: &Device) -> Result<(Opened, Tokenizers)> {
        let opened = tallow_model::open(&self.directory, device)?;
        let tokenizers = Tokenizers::open(&self.directory)?;
        Ok((opened, tokenizers))
    }

    /// The search settings that the model comes with: those of its run, or those of `generation_config.json`.
    pub(crate) fn decode_config(&self) -> DecodeConfig {
        if let Some(config) = &self.config {
            return config.decode.clone();
        }
        let mut decode = DecodeConfig::default();
        let text = std::fs::read_to_string(self.directory.join("generation_config.json")).unwrap_or_default();
        if let Ok(Value::Object(keys)) = serde_json::from_str(&text) {
            let size = |key: &str| {
                keys.get(key)
                    .and_then(Value::as_u64)
                    .and_then(|n| usize::try_from(n).ok())
            };
            decode.beam = size("num_beams").unwrap_or(decode.beam);
            decode.max_length = size("max_length").unwrap_or(decode.max_length);
        }
        decode
    }
}

fn run_config(run: &RunDirectory) -> Result<Config> {
    let composed = Config::compose(&run.config(), &[]);
    Ok(composed
        .with_context(|| format!("{}: the run's config", run.path().display()))?
        .config)
}
