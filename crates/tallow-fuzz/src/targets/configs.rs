//! Configs.

use crate::message;
use std::fs::write;
use tallow::{Config, may_change};
use tallow_model::ModelConfig;
use tempfile::tempdir;

/// The start of a line that is also given as `--set`.
const SET: &str = "#!";

/// A config file. If it is valid, it means the same after it is written and composed again.
///
/// # Panics
/// When a promise is broken.
pub fn configs(data: &[u8]) {
    let place = tempdir().expect("a place");
    let path = place.path().join("run.toml");
    write(&path, data).expect("an input");
    let set: Vec<String> = String::from_utf8_lossy(data)
        .lines()
        .filter_map(|line| Some(line.strip_prefix(SET)?.trim().to_owned()))
        .collect();
    let composed = match Config::compose(&path, &set) {
        Ok(composed) => composed,
        Err(error) => return message::check(&error, &["run.toml"], data),
    };
    let values = composed.values().expect("the values of a config that composed");
    assert!(values.len() > 50, "only {} keys", values.len());
    let flat = composed.config.flat().expect("the keys of a config that composed");
    assert!(flat.iter().any(|(key, _)| may_change(key)));
    let _ = composed.config.run_directory();
    let text = composed.config.to_toml().expect("a config as TOML");
    let copy = place.path().join("copy.toml");
    write(&copy, &text).expect("a copy");
    let again = Config::open(&copy).unwrap_or_else(|error| panic!("what was written is refused: {error}\n{text}"));
    assert_eq!(again.config, composed.config, "{text}");
    assert_eq!(again.config.to_toml().expect("a config as TOML"), text);
    match composed.with_model_of(&ModelConfig::default()) {
        Ok(config) => assert!(config.to_toml().is_ok()),
        Err(error) => message::check(&error, &["init"], data),
    }
}
