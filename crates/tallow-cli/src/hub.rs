//! Models and tokenizers from the Hugging Face Hub.

use anyhow::{Context, Result, bail};
use hf_hub::api::sync::{ApiBuilder, ApiError};
use std::path::PathBuf;

/// Whether a name has the form `owner/name` of the Hub.
pub(crate) fn is_hub_name(name: &str) -> bool {
    let allowed = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    name.split_once('/')
        .is_some_and(|(owner, model)| allowed(owner) && allowed(model))
}

/// Fetches files of a repository into the Hub's usual cache (`HF_HOME`) and returns the folder that they lie in. Files
/// marked as optional may be missing there.
pub(crate) fn fetch(name: &str, files: &[(&str, bool)]) -> Result<PathBuf> {
    let api = ApiBuilder::from_env()
        .with_progress(false)
        .build()
        .context("the Hub's cache cannot be used")?;
    let repository = api.model(name.to_string());
    let mut folder = None;
    for (file, optional) in files {
        match repository.get(file) {
            Ok(path) => folder = path.parent().map(PathBuf::from),
            Err(ApiError::RequestError(_)) if *optional => {}
            Err(error) => {
                bail!(
                    "{name} is neither a path here nor a model that can be fetched from the Hugging Face Hub: {file}: \
                     {error}"
                )
            }
        }
    }
    folder.with_context(|| format!("{name}: the Hub has none of the files that are needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["Helsinki-NLP/opus-mt-en-de", "a/b.c_d"] {
            assert!(is_hub_name(good), "{good}");
        }
        for bad in ["runs", "runs/../x", "a/b/c", "/etc/passwd", "a/", "./x", "a/.."] {
            assert!(!is_hub_name(bad), "{bad}");
        }
    }
}
