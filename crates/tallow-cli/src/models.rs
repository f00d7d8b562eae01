//! One model or several, opened for translation.

use crate::arguments::SearchArguments;
use crate::hub::hub;
use crate::notices::PrintNotices;
use anyhow::{Result, anyhow};
use tallow::{Device, SavedModel};
use tallow_decode::{DecodeConfig, Ensemble};
use tallow_model::PreparedTransformer;
use tallow_text::Tokenizers;

/// What translates.
pub(crate) enum Models {
    One(PreparedTransformer),
    Several(Ensemble<PreparedTransformer>),
}

/// Finds models by their names; there is at least one.
pub(crate) fn find_models(names: &[String], offline: bool) -> Result<Vec<SavedModel>> {
    let hub = hub(offline);
    let find = |name: &String| Ok(SavedModel::find(name, &hub, &PrintNotices)?);
    names.iter().map(find).collect()
}

/// The settings of a search by these models: those of the first, in part. Where several models look is not what one of
/// them recommends, so each looks with its last layer, unless the command line names heads.
pub(crate) fn settings_of(saved: &[SavedModel], arguments: &SearchArguments) -> Result<DecodeConfig> {
    let mut config = arguments.decode_config(&saved[0])?;
    let is_set = arguments
        .set
        .iter()
        .any(|set| set.starts_with("decode.alignment_heads"));
    if saved.len() > 1 && !is_set {
        config.alignment_heads.clear();
    }
    Ok(config)
}

/// Opens models and their common tokenizers.
///
/// # Errors
/// When a model cannot be opened, or has other vocabularies than the first.
pub(crate) fn open_models(
    names: &[String],
    saved: &[SavedModel],
    device: &Device,
    config: &DecodeConfig,
) -> Result<(Models, Tokenizers)> {
    let open = |saved: &SavedModel| saved.open_prepared(device, config.compute.into());
    let (first, tokenizers) = open(&saved[0])?;
    if saved.len() == 1 {
        return Ok((Models::One(first), tokenizers));
    }
    let mut models = vec![first];
    for (saved, name) in saved.iter().zip(names).skip(1) {
        let (model, of_model) = open(saved)?;
        for (side, a, b) in [
            ("source", &tokenizers.source, &of_model.source),
            ("target", &tokenizers.target, &of_model.target),
        ] {
            let pieces = a.vocabulary_size().max(b.vocabulary_size()) as u32;
            if (0..pieces).any(|id| a.piece(id) != b.piece(id)) {
                return Err(anyhow!(
                    "{name}: its {side} vocabulary is not that of {}; only models with the same vocabularies translate \
                     together",
                    names[0]
                ));
            }
        }
        models.push(model);
    }
    Ok((Models::Several(Ensemble::new(models)?), tokenizers))
}
