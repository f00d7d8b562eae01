//! Vocabularies and search settings of Marian toolkit models, from the files beside their weights.

use crate::{DecodeConfig, DecodeError};
use std::path::Path;
use tallow_model::{Architecture, MarianFiles};
use tallow_text::Tokenizers;

/// Opens the tokenizers of a model directory, or the vocabularies of a Marian toolkit model, with as many pieces as the
/// model has.
///
/// # Errors
/// If a file is missing, damaged or not supported.
pub fn open_tokenizers(path: &Path, architecture: &Architecture) -> Result<Tokenizers, DecodeError> {
    if !MarianFiles::are_at(path) {
        return Ok(Tokenizers::open(path)?);
    }
    let [source, target] = MarianFiles::find(path)?.vocabularies;
    // Marian has no <pad>.
    let rows = [architecture.source_vocabulary, architecture.target_vocabulary].map(|size| size.saturating_sub(1));
    Ok(Tokenizers::open_marian([&source, &target], rows)?)
}

impl DecodeConfig {
    /// The search settings that the `decoder.yml` of a Marian toolkit model recommends, without invalid values.
    pub fn of_marian(files: &MarianFiles) -> Self {
        let recommended = [
            Self {
                beam: files.beam.unwrap_or(Self::default().beam),
                ..Self::default()
            },
            Self {
                length_penalty: files.length_penalty.unwrap_or(Self::default().length_penalty),
                ..Self::default()
            },
        ];
        let [beam, penalty] = recommended.map(|config| match config.validate().as_slice() {
            [] => config,
            _ => Self::default(),
        });
        Self {
            beam: beam.beam,
            length_penalty: penalty.length_penalty,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recommendations() {
        let files = |beam, length_penalty| MarianFiles {
            weights: "model.npz".into(),
            vocabularies: ["vocab.spm".into(), "vocab.spm".into()],
            beam,
            length_penalty,
        };
        let config = DecodeConfig::of_marian(&files(Some(12), Some(0.6)));
        assert_eq!((config.beam, config.length_penalty), (12, 0.6));
        assert_eq!(DecodeConfig::of_marian(&files(None, None)), DecodeConfig::default());
        // A beam of zero is invalid.
        let config = DecodeConfig::of_marian(&files(Some(0), Some(0.0)));
        assert_eq!(
            (config.beam, config.length_penalty),
            (DecodeConfig::default().beam, 0.0)
        );
    }
}
