//! Vocabularies that were learned before.

use super::{hash_of, hashes, keys};
use crate::Result;
use crate::config::Config;
use crate::error::WithContext;
use crate::notice::{Listener, Notice};
use crate::vocabulary::{language_tags, learn};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use tallow_data::{AugmentConfig, Reading, TextRecord};
use tallow_text::{TextConfig, Tokenizers};

/// Raised whenever learning gives another vocabulary for the same text and settings.
const LEARNING: u32 = 1;

/// The file with what a vocabulary was learned from.
const RECIPE: &str = "vocabulary.json";

/// What a vocabulary was learned from. The same recipe gives the same vocabulary.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    /// The version of learning: the same text gives the same vocabulary.
    version: u32,
    /// The `[text]` table, without the keys that matter only later.
    text: TextConfig,
    /// How often each corpus counts.
    times: Vec<u64>,
    /// The hashes of the text.
    hashes: Vec<String>,
    /// How each corpus is read.
    readings: Vec<Reading>,
    /// The seed, if only a sample was taken, or lines were drawn that are in capitals.
    seed: Option<u64>,
    /// The shares of lines in capitals and with a capital for each word, if there are any (`data.augment`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cased: Option<[f64; 2]>,
    /// SHA-256 of the tokenizers of both sides.
    tokenizers: Option<[String; 2]>,
}

/// The vocabulary that a config asks for: one that was learned before, or a new one.
///
/// # Errors
/// When the text is too small for the vocabulary, or the folder cannot be written.
pub(super) fn learned(
    config: &Config,
    folder: &Path,
    texts: &[TextRecord],
    listener: &dyn Listener,
) -> Result<Tokenizers> {
    let pairs = texts.iter().map(|text| text.report.lines).sum();
    let files: Vec<_> = texts.iter().flat_map(|text| &text.files).collect();
    let cased = config.data.augment.as_ref().and_then(AugmentConfig::cased_shares);
    let is_sample = pairs > config.text.sample_lines as u64;
    let recipe = Recipe {
        version: LEARNING,
        text: TextConfig {
            bpe_dropout: 0.0,
            unigram_alpha: None,
            ..config.text.clone()
        },
        times: config
            .data
            .train
            .iter()
            .map(|files| files.weight.ceil().max(1.0) as u64)
            .collect(),
        hashes: hashes(&files),
        readings: config.data.train.iter().map(Reading::of).collect(),
        seed: (is_sample || cased.is_some()).then_some(config.seed),
        cased,
        tokenizers: None,
    };
    let mut parts: Vec<String> = config.data.train.iter().flat_map(keys).collect();
    parts.push(format!("{:?} {:?} {:?}", recipe.text, recipe.times, recipe.seed));
    parts.extend(recipe.cased.map(|shares| format!("{shares:?}")));
    let place = folder.join(format!("vocabulary-{}", hash_of(&parts)));
    if let Some(tokenizers) = existing(&place, &recipe) {
        listener.notice(&Notice::KnownVocabulary {
            pieces: tokenizers.source.vocabulary_size(),
            path: place,
        });
        if let Some(tags) = language_tags(&tokenizers) {
            listener.notice(&Notice::LanguageTags(tags));
        }
        return Ok(tokenizers);
    }
    let tokenizers = learn(config, pairs, listener)?;
    let write = || -> Result<()> {
        if place.exists() {
            fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
        }
        fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
        tokenizers.save(&place)?;
        let described = Recipe {
            tokenizers: Some([tokenizers.source.sha256(), tokenizers.target.sha256()]),
            ..recipe
        };
        // The description is written last: without it, the vocabulary is not used.
        let text = serde_json::to_string_pretty(&described).context("the vocabulary cannot be described")?;
        let path = place.join(RECIPE);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write()?;
    Ok(tokenizers)
}

/// The vocabulary that was learned here before, if it is the same and intact.
fn existing(place: &Path, recipe: &Recipe) -> Option<Tokenizers> {
    let found: Recipe = serde_json::from_str(&fs::read_to_string(place.join(RECIPE)).ok()?).ok()?;
    let described = found.tokenizers.clone()?;
    let tokenizers = Tokenizers::open(place).ok()?;
    let is_intact = described == [tokenizers.source.sha256(), tokenizers.target.sha256()];
    let without = Recipe {
        tokenizers: None,
        ..found
    };
    (is_intact && without == *recipe).then_some(tokenizers)
}
