//! The files that hold the weights of a directory: one file, or several with an index that names the file of each
//! tensor. Hugging Face splits large models in this way.

use super::{PYTORCH_FILE, WEIGHTS_FILE};
use crate::directory::{file_error, shortened};
use crate::formats::bytes::FileBytes;
use crate::formats::weights::Weights;
use crate::formats::{pytorch, safetensors};
use crate::{ModelError, read_json};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The index of weights that are split into several files.
pub const WEIGHTS_INDEX_FILE: &str = "model.safetensors.index.json";
/// The index of split weights in PyTorch's format, which is older than safetensors.
pub const PYTORCH_INDEX_FILE: &str = "pytorch_model.bin.index.json";
/// Possible files of weights, or their index; the first one that a directory has counts.
pub const WEIGHTS_FILES: [&str; 4] = [WEIGHTS_FILE, WEIGHTS_INDEX_FILE, PYTORCH_FILE, PYTORCH_INDEX_FILE];

/// A function that reads the bytes of a file.
type Read = fn(FileBytes) -> Result<Weights, String>;

/// The weights of a directory, and the name of their file or index.
///
/// # Errors
/// When a file is missing or damaged, or an index contradicts the contents of the files.
pub(crate) fn read_weights(directory: &Path) -> Result<(Weights, &'static str), ModelError> {
    let has = |name: &&&str| directory.join(name).exists();
    let name = WEIGHTS_FILES.iter().find(has).copied().unwrap_or(WEIGHTS_FILE);
    let path = directory.join(name);
    let is_old = name == PYTORCH_FILE || name == PYTORCH_INDEX_FILE;
    let read: Read = if is_old { pytorch::read } else { safetensors::read };
    let weights = if name == WEIGHTS_INDEX_FILE || name == PYTORCH_INDEX_FILE {
        Index::open(&path)?.read(read)?
    } else {
        of_file(&path, read)?
    };
    Ok((weights, name))
}

fn of_file(path: &Path, read: Read) -> Result<Weights, ModelError> {
    let bytes = FileBytes::open(path).map_err(file_error(path))?;
    read(bytes).map_err(|reason| ModelError::Damaged {
        path: path.to_path_buf(),
        reason,
    })
}

/// The names of the files in an index; they are in the same folder as the index.
///
/// # Errors
/// When the index cannot be read, is damaged, or names a file outside its folder.
pub fn shard_names(index: &Path) -> Result<Vec<String>, ModelError> {
    Ok(Index::open(index)?.files().into_iter().map(str::to_owned).collect())
}

/// The file of each tensor.
struct Index {
    path: PathBuf,
    places: BTreeMap<String, String>,
}

impl Index {
    fn open(path: &Path) -> Result<Self, ModelError> {
        let damaged = |reason: String| ModelError::Damaged {
            path: path.to_path_buf(),
            reason,
        };
        let mut index = read_json(path)?;
        let Some(Value::Object(places)) = index.get_mut("weight_map").map(Value::take) else {
            return Err(damaged(
                "it has no weight_map, which says where each tensor lies".into(),
            ));
        };
        let place = |(tensor, file): (String, Value)| match file {
            Value::String(file) if is_beside(&file) => Ok((tensor, file)),
            file => Err(damaged(format!(
                "weight_map: {tensor} is said to lie in {file}, which is no file beside it"
            ))),
        };
        Ok(Self {
            path: path.to_path_buf(),
            places: places.into_iter().map(place).collect::<Result<_, _>>()?,
        })
    }

    fn files(&self) -> BTreeSet<&str> {
        self.places.values().map(String::as_str).collect()
    }

    fn read(&self, read: Read) -> Result<Weights, ModelError> {
        let directory = self.path.parent().unwrap_or(Path::new(""));
        let files = self.files();
        let missing: Vec<&str> = files
            .iter()
            .copied()
            .filter(|file| !directory.join(file).exists())
            .collect();
        if !missing.is_empty() {
            return Err(ModelError::Damaged {
                path: self.path.clone(),
                reason: format!(
                    "of the {} files that it names, {} missing: {}; download what is missing",
                    files.len(),
                    if missing.len() == 1 {
                        "1 is".to_owned()
                    } else {
                        format!("{} are", missing.len())
                    },
                    shortened(missing.into_iter().map(str::to_owned).collect()).join(", ")
                ),
            });
        }
        let parts = files
            .iter()
            .map(|file| Ok((*file, of_file(&directory.join(file), read)?)))
            .collect::<Result<Vec<(&str, Weights)>, ModelError>>()?;
        let faults = self.faults(&parts);
        if !faults.is_empty() {
            return Err(ModelError::Damaged {
                path: self.path.clone(),
                reason: format!(
                    "it does not fit the files that it names; download them all again:\n  {}",
                    shortened(faults).join("\n  ")
                ),
            });
        }
        Ok(Weights::joined(parts.into_iter().map(|(_, weights)| weights)))
    }

    /// Tensors that are missing from their file or are in another one.
    fn faults(&self, parts: &[(&str, Weights)]) -> Vec<String> {
        let found: BTreeSet<(&str, &str)> = parts
            .iter()
            .flat_map(|(file, weights)| weights.names().map(move |name| (name, *file)))
            .collect();
        let said = self.places.iter().map(|(name, file)| (name.as_str(), file.as_str()));
        let absent = said
            .filter(|place| !found.contains(place))
            .map(|(name, file)| format!("{name} is not in {file}"));
        let surplus = found
            .iter()
            .filter(|(name, file)| self.places.get(*name).is_none_or(|said| said != file))
            .map(|(name, file)| match self.places.get(*name) {
                Some(said) => format!("{name} is in {file}, and should be in {said} alone"),
                None => format!("{name} is in {file}, and nowhere in the index"),
            });
        absent.chain(surplus).collect()
    }
}

/// Whether a name is the name of a file in the same folder.
fn is_beside(name: &str) -> bool {
    let is_name = Path::new(name).file_name().is_some_and(|last| last == name);
    is_name && !name.contains(['/', '\\', ':']) && !name.contains(char::is_control)
}
