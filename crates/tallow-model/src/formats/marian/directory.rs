//! The files of a Marian toolkit model.

use super::NPZ_FILE;
use super::yaml::{self, Value};
use crate::ModelError;
use crate::directory::file_error;
use crate::formats::hugging_face::CONFIG_FILE;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file of search settings, if it is not named after the weights.
const DECODER_FILE: &str = "decoder.yml";

/// The files of a Marian toolkit model, and its recommended search settings.
#[derive(Clone, Debug, PartialEq)]
pub struct MarianFiles {
    /// The weights, an `.npz` file.
    pub weights: PathBuf,
    /// The vocabularies of the source and of the target, each a `.yml` or `.spm` file.
    pub vocabularies: [PathBuf; 2],
    /// Hypotheses kept at every step (`beam-size`).
    pub beam: Option<usize>,
    /// Exponent of the length in the divisor of log-probabilities (`normalize`).
    pub length_penalty: Option<f64>,
}

impl MarianFiles {
    /// Whether a path is an `.npz`, or a folder that has one and no `config.json`.
    pub fn are_at(path: &Path) -> bool {
        !path.join(CONFIG_FILE).exists() && weights_at(path).is_ok_and(|found| !found.is_empty())
    }

    /// Finds the files of a model at a path for which [`are_at`](Self::are_at) holds. The vocabularies are the files
    /// that a `decoder.yml` names, or else files with the usual names. All files must be in one folder, even if they
    /// were elsewhere when they were written.
    ///
    /// # Errors
    /// When a file is missing, damaged or ambiguous.
    pub fn find(path: &Path) -> Result<Self, ModelError> {
        let weights = weights(path)?;
        let directory = weights.parent().unwrap_or(Path::new(""));
        let config = Config::beside(&weights)?;
        let vocabularies = match &config {
            Some(config) if config.values.contains_key("vocabs") => config.vocabularies(directory)?,
            _ => usual_vocabularies(directory)?,
        };
        let number = |key: &str| config.as_ref().and_then(|config| config.one(key));
        Ok(Self {
            vocabularies,
            beam: number("beam-size").and_then(|beam| beam.parse().ok()),
            length_penalty: number("normalize").and_then(|penalty| match penalty {
                // A flag without a number.
                "true" => Some(1.0),
                "false" => Some(0.0),
                penalty => penalty.parse().ok(),
            }),
            weights,
        })
    }
}

/// The file of weights at a path.
///
/// # Errors
/// When the file is ambiguous.
pub(crate) fn weights(path: &Path) -> Result<PathBuf, ModelError> {
    let damaged = |path: PathBuf, reason: String| ModelError::Damaged { path, reason };
    let found = weights_at(path).map_err(file_error(path))?;
    let decoder = path.join(DECODER_FILE);
    if path.is_dir() && decoder.is_file() {
        let config = Config::read(decoder)?;
        let models = config.list("models");
        if models.len() > 1 {
            let reason = format!("models: several at once ({}) are not supported", models.join(", "));
            return Err(damaged(config.path, reason));
        }
        let named = models.first().and_then(|name| file_name(name));
        if let Some(named) = named.map(|name| path.join(name)).filter(|named| found.contains(named)) {
            return Ok(named);
        }
    }
    let usual = path.join(NPZ_FILE);
    match found.as_slice() {
        [only] => Ok(only.clone()),
        several if several.contains(&usual) => Ok(usual),
        [] => Err(damaged(path.to_path_buf(), "it has no .npz".to_owned())),
        several => {
            let names: Vec<_> = several.iter().filter_map(|path| path.file_name()?.to_str()).collect();
            let reason = format!("it has several models; name one of them: {}", names.join(", "));
            Err(damaged(path.to_path_buf(), reason))
        }
    }
}

/// The path itself, if it is an `.npz`, or all `.npz` files in the folder except the state of Marian's optimizer.
fn weights_at(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let is_model = |path: &Path| {
        let name = path.to_string_lossy();
        name.ends_with(".npz") && !name.ends_with(".optimizer.npz") && path.is_file()
    };
    if !path.is_dir() {
        return Ok(Vec::from_iter(is_model(path).then(|| path.to_path_buf())));
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if is_model(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A `decoder.yml`.
struct Config {
    path: PathBuf,
    values: BTreeMap<String, Value>,
}

impl Config {
    /// The `decoder.yml` that belongs to the weights.
    fn beside(weights: &Path) -> Result<Option<Self>, ModelError> {
        let mut own = weights.as_os_str().to_owned();
        own.push(format!(".{DECODER_FILE}"));
        let found = [PathBuf::from(own), weights.with_file_name(DECODER_FILE)]
            .into_iter()
            .find(|path| path.is_file());
        found.map(Self::read).transpose()
    }

    fn read(path: PathBuf) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(&path).map_err(file_error(&path))?;
        match yaml::parse(&text) {
            Ok(values) => Ok(Self { path, values }),
            Err(reason) => Err(ModelError::Damaged { path, reason }),
        }
    }

    fn one(&self, key: &str) -> Option<&str> {
        match self.values.get(key)? {
            Value::One(value) => Some(value),
            Value::List(_) => None,
        }
    }

    fn list(&self, key: &str) -> &[String] {
        match self.values.get(key) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    /// The vocabularies. Marian writes their paths at training time, so only the file names count.
    fn vocabularies(&self, directory: &Path) -> Result<[PathBuf; 2], ModelError> {
        let refused = |reason: String| ModelError::Damaged {
            path: self.path.clone(),
            reason,
        };
        let [source, target] = self.list("vocabs") else {
            return Err(refused("vocabs: these are not two vocabularies".to_owned()));
        };
        let beside = |name: &String| {
            let path = file_name(name).map(|name| directory.join(name));
            let missing = || {
                refused(format!(
                    "vocabs: {name} is not in the folder of the model; copy it there"
                ))
            };
            path.filter(|path| path.is_file()).ok_or_else(missing)
        };
        Ok([beside(source)?, beside(target)?])
    }
}

/// The last part of a path from another machine.
fn file_name(path: &str) -> Option<&str> {
    path.rsplit(['/', '\\'])
        .next()
        .filter(|name| !name.is_empty() && *name != "..")
}

fn usual_vocabularies(directory: &Path) -> Result<[PathBuf; 2], ModelError> {
    // Lists of words or pieces come first: if there are SentencePiece models too, they only split lines.
    const USUAL: [[&str; 2]; 4] = [
        ["source.yml", "target.yml"],
        ["vocab.yml", "vocab.yml"],
        ["source.spm", "target.spm"],
        ["vocab.spm", "vocab.spm"],
    ];
    let paths = USUAL.map(|names| names.map(|name| directory.join(name)));
    if let Some(found) = paths.into_iter().find(|paths| paths.iter().all(|path| path.is_file())) {
        return Ok(found);
    }
    // A vocabulary that is named for its languages, such as `vocab.deen.spm`, serves both sides.
    let mut joint = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(file_error(directory))? {
        let path = entry.map_err(file_error(directory))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_vocabulary = name.starts_with("vocab.") || name.contains(".vocab.");
        if is_vocabulary && (name.ends_with(".spm") || name.ends_with(".yml")) {
            joint.push(path);
        }
    }
    match joint.as_slice() {
        [only] => Ok([only.clone(), only.clone()]),
        _ => Err(ModelError::Damaged {
            path: directory.to_path_buf(),
            reason: format!(
                "it does not show which vocabularies are meant; name them in {DECODER_FILE} (vocabs), or call them source.spm \
                 and target.spm, source.yml and target.yml, vocab.spm or vocab.yml"
            ),
        }),
    }
}
