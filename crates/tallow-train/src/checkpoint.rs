//! Checkpoints: a model directory and everything that a run needs to continue.

use crate::checksum;
use crate::finiteness::not_finite_in_words;
use crate::run_directory::{self, replace_directory};
use crate::{Ema, ModelCard, Optimizer, RunDirectory, TrainError, TrainState};
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tallow_model::{Architecture, Params, SearchSettings};
use tallow_text::Tokenizers;

const STATE: &str = "state";
const STATE_FILE: &str = "state.json";
const MOMENTS_FILE: &str = "moments.safetensors";
const EMA_FILE: &str = "ema.safetensors";

/// The largest whole number that every JSON reader represents exactly. No counter comes near it.
const LARGEST_COUNT: u64 = 1 << 53;

/// The parts of a model to be written.
#[derive(Clone, Debug)]
pub struct Checkpoint<'a> {
    /// The architecture.
    pub architecture: &'a Architecture,
    /// The weights in training.
    pub params: &'a Params,
    /// A constant added to the logits.
    pub logits_bias: Option<&'a Tensor>,
    /// The tokenizers.
    pub tokenizers: &'a Tokenizers,
    /// The default settings of the search.
    pub search: SearchSettings,
    /// The model card.
    pub card: &'a ModelCard,
}

/// Reads the counters, cursor and selection of a checkpoint.
///
/// # Errors
/// When the file is missing, damaged, or has another version of the format.
pub fn read_state(directory: &Path) -> Result<TrainState, TrainError> {
    let path = directory.join(STATE).join(STATE_FILE);
    let text = std::fs::read_to_string(&path).map_err(TrainError::file(&path))?;
    let state: TrainState = serde_json::from_str(&text).map_err(|error| damaged(&path, &error))?;
    if !(1..=TrainState::VERSION).contains(&state.version) {
        return Err(TrainError::Checkpoint {
            path,
            reason: format!(
                "its format is version {}, this program reads 1 to {}",
                state.version,
                TrainState::VERSION
            ),
        });
    }
    // Larger numbers, which no run reaches, would overflow in sums.
    let counters = [
        ("update", state.update),
        ("cursor.epoch", state.cursor.epoch),
        ("cursor.batch", state.cursor.batch),
        ("target_tokens", state.target_tokens),
        ("skipped", state.skipped),
        ("skipped_in_a_row", state.skipped_in_a_row),
        (
            "selection.validations_without_improvement",
            state.selection.validations_without_improvement,
        ),
        ("metrics_bytes", state.metrics_bytes),
    ];
    match counters.into_iter().find(|(_, count)| *count > LARGEST_COUNT) {
        Some((key, count)) => Err(damaged(&path, &format!("{key} is {count}"))),
        None => Ok(state),
    }
}

/// The tensors of a checkpoint.
#[derive(Debug)]
pub struct Saved {
    /// The weights.
    pub params: Params,
    /// The constant added to the logits.
    pub logits_bias: Option<Tensor>,
    /// The moments.
    pub optimizer: Optimizer,
    /// Averaged weights.
    pub ema: Option<Ema>,
}

impl Checkpoint<'_> {
    /// Writes a model directory with its tokenizer and its card, and replaces an existing one. `told` describes in
    /// Markdown which weights these are.
    ///
    /// # Errors
    /// When a file cannot be written; an existing directory then stays.
    pub fn save_model(&self, place: &Path, params: &Params, told: &str) -> Result<(), TrainError> {
        let aside = self.write_aside(place, params, told)?;
        checksum::write(&aside)?;
        replace_directory(&aside, place)
    }

    /// Writes the checkpoint of an update: first aside, then synced and renamed.
    ///
    /// # Errors
    /// When a file cannot be written; no other checkpoint is touched.
    pub fn save(
        &self,
        run: &RunDirectory,
        state: &TrainState,
        optimizer: &Optimizer,
        ema: Option<&Ema>,
    ) -> Result<PathBuf, TrainError> {
        let place = run.checkpoint(state.update);
        let told = format!("Weights: those of a checkpoint, after update {}.", state.update);
        let aside = self.write_aside(&place, self.params, &told)?;
        let directory = aside.join(STATE);
        std::fs::create_dir_all(&directory).map_err(TrainError::file(&directory))?;
        save_tensors(&directory.join(MOMENTS_FILE), &optimizer.tensors(self.params))?;
        if let Some(ema) = ema {
            save_tensors(&directory.join(EMA_FILE), &ema.params().parts()?.into_iter().collect())?;
        }
        let path = directory.join(STATE_FILE);
        let text = serde_json::to_string_pretty(state).map_err(|error| TrainError::Checkpoint {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        std::fs::write(&path, text + "\n").map_err(TrainError::file(&path))?;
        checksum::write(&aside)?;
        replace_directory(&aside, &place)?;
        // Other checkpoints are removed only after this one has been read back.
        checksum::check(&place).map_err(|faults| TrainError::Checkpoint {
            path: place.clone(),
            reason: format!("read back, it is not what was written: {}", faults.join(", ")),
        })?;
        Ok(place)
    }

    fn write_aside(&self, place: &Path, params: &Params, told: &str) -> Result<PathBuf, TrainError> {
        let aside = run_directory::aside(place);
        if aside.exists() {
            std::fs::remove_dir_all(&aside).map_err(TrainError::file(&aside))?;
        }
        tallow_model::save(&aside, self.architecture, params, self.logits_bias, self.search.clone())?;
        self.tokenizers.save_all(&aside)?;
        self.card.write(&aside, told)?;
        Ok(aside)
    }
}

fn save_tensors(path: &Path, tensors: &HashMap<String, Tensor>) -> Result<(), TrainError> {
    candle_core::safetensors::save(tensors, path).map_err(|error| TrainError::file(path)(std::io::Error::other(error)))
}

fn load_tensors(path: &Path, device: &Device) -> Result<HashMap<String, Tensor>, TrainError> {
    candle_core::safetensors::load(path, device).map_err(|error| damaged(path, &error))
}

/// The error for a file of a checkpoint with wrong content.
fn damaged(path: &Path, reason: &dyn std::fmt::Display) -> TrainError {
    TrainError::Checkpoint {
        path: path.to_path_buf(),
        reason: format!("{reason}; resume from an older checkpoint by removing this one"),
    }
}

impl Saved {
    /// Reads the tensors of a checkpoint. `ema_decay` is the configured decay; with 0, averaged weights are ignored.
    ///
    /// # Errors
    /// When a file is missing or damaged, or when the architecture differs from that of the checkpoint.
    pub fn open(
        directory: &Path,
        architecture: &Architecture,
        ema_decay: f64,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let opened = tallow_model::open(directory, device)?;
        if opened.architecture.canonical() != architecture.canonical() {
            let reason = "its model has another shape or vocabulary than the config asks for".into();
            return Err(TrainError::Checkpoint {
                path: directory.to_path_buf(),
                reason,
            });
        }
        let path = directory.join(STATE).join(MOMENTS_FILE);
        let optimizer = Optimizer::from_tensors(&opened.params, load_tensors(&path, device)?, device)
            .map_err(|error| damaged(&path, &error))?;
        let ema = if ema_decay > 0.0 {
            let path = directory.join(STATE).join(EMA_FILE);
            let tensors = load_tensors(&path, device)?;
            let part = |name: &str, shape: &[usize]| match tensors.get(name) {
                Some(tensor) if tensor.dims() == shape => Ok(tensor.clone()),
                _ => Err(tallow_model::ModelError::NoParameter(name.into())),
            };
            let params = Params::from_parts(architecture, device, part).map_err(|error| damaged(&path, &error))?;
            Some(Ema::from_params(params, ema_decay))
        } else {
            None
        };
        // Programs that wrote state.json before version 3 also saved numbers that are not finite.
        if let Some(what) = not_finite_in_words(&opened.params, &optimizer, ema.as_ref())? {
            return Err(damaged(directory, &format!("{what} are not finite numbers")));
        }
        Ok(Self {
            params: opened.params,
            logits_bias: opened.logits_bias,
            optimizer,
            ema,
        })
    }
}
