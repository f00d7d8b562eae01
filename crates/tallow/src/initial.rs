//! The model that training begins with: a new or an existing one.

use crate::Result;
use crate::config::Config;
use crate::error::{WithContext, bail};
use crate::hub::Hub;
use crate::notice::{Listener, Notice};
use crate::run_record::InitRecord;
use crate::saved_model::SavedModel;
use candle_core::{DType, Device, Tensor};
use std::path::PathBuf;
use tallow_model::{Architecture, Opened, Params};
use tallow_text::Tokenizers;

/// The existing model of `init`.
#[derive(Debug)]
pub struct Initial {
    /// The opened model.
    pub opened: Opened,
    /// The tokenizers of the model.
    pub tokenizers: Tokenizers,
    /// The entry about the model in the run's record.
    pub record: InitRecord,
    directory: PathBuf,
}

impl Initial {
    /// Finds the model, as [`SavedModel::find`] does, and opens it.
    ///
    /// # Errors
    /// When the model is not available or cannot be opened.
    pub fn open(name: &str, hub: &Hub, device: &Device, listener: &dyn Listener) -> Result<Self> {
        let saved = SavedModel::find(name, hub, listener).with_context(|| format!("init = {name:?}"))?;
        let (opened, tokenizers) = saved.open(device).with_context(|| format!("init = {name:?}"))?;
        listener.notice(&Notice::BeginsWith(saved.directory.clone()));
        Ok(Self {
            opened,
            tokenizers,
            record: InitRecord::of(name, &saved)?,
            directory: saved.directory,
        })
    }

    /// Checks that weights and tokenizers belong together: the architecture that follows from the tokenizers must be
    /// that of the opened model.
    fn check(&self, made: &Architecture) -> Result<()> {
        let told = |of: &Architecture| (of.source_vocabulary, of.target_vocabulary, of.eos_id);
        let (weights, tokenizers) = (told(&self.opened.architecture), told(made));
        if weights != tokenizers {
            bail!(
                "{}: its tokenizers and its weights are not of one model: source pieces, target pieces and the id of \
                 </s> are {tokenizers:?} in the former and {weights:?} in the latter",
                self.directory.display()
            );
        }
        Ok(())
    }
}

/// The architecture of a config's model, with these tokenizers.
///
/// # Errors
/// When the tokenizers do not fit together.
pub fn architecture(config: &Config, tokenizers: &Tokenizers) -> Result<Architecture> {
    if tokenizers.source.eos_id() != tokenizers.target.eos_id() {
        bail!(
            "</s> must have the same id in the tokenizers of both sides, not {} and {}",
            tokenizers.source.eos_id(),
            tokenizers.target.eos_id()
        );
    }
    Ok(Architecture {
        model: config.model.clone(),
        source_vocabulary: tokenizers.source.vocabulary_size(),
        target_vocabulary: tokenizers.target.vocabulary_size(),
        shared_vocabulary: tokenizers.is_shared_vocabulary(),
        eos_id: tokenizers.target.eos_id(),
        unk_id: tokenizers.target.unk_id(),
    })
}

/// The weights that a run begins with, and the constant added to its logits: those of the model of `init`, or new ones.
///
/// # Errors
/// When weights and tokenizers do not belong together.
pub fn weights(
    config: &Config,
    init: Option<Initial>,
    architecture: &Architecture,
    device: &Device,
) -> Result<(Params, Option<Tensor>)> {
    Ok(match init {
        Some(init) => {
            init.check(architecture)?;
            (init.opened.params, init.opened.logits_bias)
        }
        None => (
            Params::initialise(
                architecture,
                config.train.initialisation,
                config.seed,
                DType::F32,
                device,
            )?,
            None,
        ),
    })
}
