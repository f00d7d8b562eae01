//! Models and tokenizers from the Hugging Face Hub.

use anyhow::{Context, Result, anyhow, bail};
use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo, RepoType};
use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use tallow_model::{CONFIG_FILE, PYTORCH_FILE, WEIGHTS_FILE};
use tallow_text::Tokenizers;
use tallow_train::CARD_FILE;

/// The branch that is meant where no revision is given.
const MAIN: &str = "main";

/// A repository on the Hub: `owner/name`, or `owner/name@revision` for a branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    name: String,
    revision: String,
}

/// Files that lie in the Hub's cache.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// The commit that they are of.
    pub(crate) commit: String,
}

/// What is fetched of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Model,
    Tokenizers,
}

impl Wanted {
    /// Of the files that there are, those that are needed.
    fn among(self, names: &[String]) -> Vec<String> {
        let has = |name: &&str| names.iter().any(|other| other == name);
        let mut wanted: Vec<&str> = Tokenizers::file_names().filter(has).collect();
        if self == Self::Model {
            wanted.extend(
                [CONFIG_FILE, "generation_config.json", CARD_FILE]
                    .iter()
                    .filter(|name| has(name)),
            );
            wanted.extend([WEIGHTS_FILE, PYTORCH_FILE].into_iter().find(|name| has(name)));
        }
        wanted.into_iter().map(str::to_owned).collect()
    }

    /// Whether these files are enough; otherwise what is missing.
    fn check(self, names: &[String]) -> Result<(), String> {
        let has = |name: &str| names.iter().any(|other| other == name);
        if !Tokenizers::are_in(&has) {
            return Err(
                "lacks the files of a tokenizer: tokenizer.json, or source.spm, target.spm and vocab.json".into(),
            );
        }
        if self == Self::Model && !has(CONFIG_FILE) {
            return Err(format!("has no {CONFIG_FILE}"));
        }
        if self == Self::Model && !has(WEIGHTS_FILE) && !has(PYTORCH_FILE) {
            return Err(format!("has neither {WEIGHTS_FILE} nor {PYTORCH_FILE}"));
        }
        Ok(())
    }
}

impl Reference {
    /// The repository that a text names, if it has the form of one that could not be a file's name as well.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::new(text).filter(|reference| reference.name.contains('/'))
    }

    /// The repository that a text names; of the Hub's oldest, some have no owner.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let is_part = |part: &str| {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !part.is_empty() && !part.starts_with('.') && part.chars().all(is_allowed)
        };
        let is_name = name.split('/').count() <= 2 && name.split('/').all(is_part);
        (is_name && revision.split('/').all(is_part)).then(|| Self {
            name: name.to_owned(),
            revision: revision.to_owned(),
        })
    }

    /// Owner and name, without the revision.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.name.clone(), RepoType::Model, revision.to_owned())
    }

    /// Brings files into the Hub's usual cache (below `HF_HOME`). The Hub is asked what the revision is and has now; what
    /// lies in the cache is not fetched again. If the Hub cannot be reached, or `offline`, the cache alone must do.
    pub(crate) fn fetch(&self, wanted: Wanted, offline: bool) -> Result<Fetched> {
        if offline || is_offline_by_environment() {
            return self.cached(wanted).with_context(|| {
                format!(
                    "{} at revision {:?} is not in the cache of the Hugging Face Hub, or not all of it; without \
                     --offline and HF_HUB_OFFLINE it would be fetched",
                    self.name, self.revision
                )
            });
        }
        let api = ApiBuilder::from_env()
            .with_progress(stderr().is_terminal())
            .build()
            .context("the Hub's cache cannot be used")?;
        let info = match api.repo(self.at(&self.revision)).info() {
            Ok(info) => info,
            Err(error) => match self.cached(wanted) {
                Some(fetched) => {
                    eprintln!(
                        "{}: the Hub does not answer ({error}); using what the cache has",
                        self.name
                    );
                    return Ok(fetched);
                }
                None => bail!(
                    "{} is neither a path here nor a model that can be fetched from the Hugging Face Hub: {error}",
                    self.name
                ),
            },
        };
        // By commit, not by branch: a branch could move between two files.
        if info.sha.is_empty() || !info.sha.chars().all(|c| c.is_ascii_alphanumeric()) {
            bail!("{}: the Hub's answer names no commit", self.name);
        }
        let names: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
        let files = wanted.among(&names);
        wanted
            .check(&files)
            .map_err(|lacks| anyhow!("{}: this repository {lacks}", self.name))?;
        let repository = api.repo(self.at(&info.sha));
        let cache = Cache::from_env();
        // What other programs have fetched of this commit lies there without this note, and would be fetched again.
        let noted = cache.repo(self.at(&info.sha)).create_ref(&info.sha);
        noted.context("the Hub's cache cannot be written")?;
        let mut folder = None;
        for file in files {
            let path = repository
                .get(&file)
                .with_context(|| format!("{}: cannot fetch {file}", self.name))?;
            folder = path.parent().map(Path::to_owned);
        }
        let folder = folder.with_context(|| format!("{}: nothing was fetched", self.name))?;
        // What the branch is now, for the time without a network.
        let noted = cache.repo(self.at(&self.revision)).create_ref(&info.sha);
        noted.context("the Hub's cache cannot be written")?;
        Ok(Fetched {
            folder,
            commit: info.sha,
        })
    }

    /// What the cache has, if it has everything that is needed.
    fn cached(&self, wanted: Wanted) -> Option<Fetched> {
        let repository = Cache::from_env().repo(self.at(&self.revision));
        let known = Tokenizers::file_names().chain([CONFIG_FILE]);
        let by_reference = known
            .filter_map(|name| Some(repository.get(name)?.parent()?.to_owned()))
            .next();
        // A commit is the name of its own folder.
        let by_commit = || Some(repository.pointer_path(&self.revision)).filter(|path| path.is_dir());
        let folder = by_reference.or_else(by_commit)?;
        let entries = std::fs::read_dir(&folder).ok()?;
        let names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        wanted.check(&wanted.among(&names)).ok()?;
        let commit = folder.file_name()?.to_str()?.to_owned();
        Some(Fetched { folder, commit })
    }
}

/// Whether `HF_HUB_OFFLINE` is set, as Hugging Face's own programs understand it.
#[allow(clippy::disallowed_methods)] // The command line may read the environment; FORMAT.md says what.
fn is_offline_by_environment() -> bool {
    let value = std::env::var("HF_HUB_OFFLINE").unwrap_or_default();
    ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, revision) in [
            ("Helsinki-NLP/opus-mt-en-de", "main"),
            ("a/b.c_d@v1.0", "v1.0"),
            ("a/b@refs/pr/3", "refs/pr/3"),
        ] {
            assert_eq!(Reference::parse(text).unwrap().revision, revision);
        }
        for bad in [
            "runs",
            "runs/../x",
            "a/b/c",
            "/etc/passwd",
            "a/",
            "./x",
            "a/..",
            "a/b@",
            "a/b@../x",
            "a/b@x//y",
        ] {
            assert!(Reference::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_is_wanted() {
        let all = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let names = all(&[
            "README.md",
            "config.json",
            "vocab.json",
            "pytorch_model.bin",
            "tf_model.h5",
            "source.spm",
        ]);
        let found = Wanted::Model.among(&names);
        let model = [
            "source.spm",
            "vocab.json",
            "config.json",
            "README.md",
            "pytorch_model.bin",
        ];
        assert_eq!(found, model);
        let both = all(&["pytorch_model.bin", "model.safetensors"]);
        assert_eq!(Wanted::Model.among(&both), ["model.safetensors"]);
        assert_eq!(Wanted::Tokenizers.among(&names), ["source.spm", "vocab.json"]);
        let lacks = |wanted: Wanted, names: &[&str]| wanted.check(&all(names)).err().unwrap_or_default();
        assert!(lacks(Wanted::Tokenizers, &["source.spm", "vocab.json"]).contains("target.spm"));
        assert!(lacks(Wanted::Model, &["tokenizer.json", "config.json"]).contains("pytorch_model.bin"));
        assert!(lacks(Wanted::Model, &["tokenizer.json", "model.safetensors"]).contains("config.json"));
        assert_eq!(
            lacks(Wanted::Model, &["tokenizer.json", "model.safetensors", "config.json"]),
            ""
        );
    }
}
