//! The sets of a run's config that commands score models on.

use tallow::Config;
use tallow_data::CorpusFiles;

/// The validation or the test set of a run with this name, or the first one.
pub(crate) fn set_of_run(config: &Config, valid: bool, name: Option<&str>) -> Result<CorpusFiles, String> {
    let (sets, key) = match valid {
        true => (&config.data.valid, "data.valid"),
        false => (&config.data.test, "data.test"),
    };
    let set = sets
        .named(name, key)
        .map_err(|fault| format!("in the run's config, {fault}"))?;
    Ok(set.clone())
}
