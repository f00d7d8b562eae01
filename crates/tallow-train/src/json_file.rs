//! Files with one JSON value.

use crate::TrainError;
use serde_json::Value;
use std::path::Path;

/// Writes a JSON file: first aside, then renamed.
pub(crate) fn write_json(path: &Path, value: &Value) -> Result<(), TrainError> {
    let aside = path.with_extension("partial");
    std::fs::write(&aside, format!("{value:#}\n")).map_err(TrainError::file(&aside))?;
    std::fs::rename(&aside, path).map_err(TrainError::file(path))
}
