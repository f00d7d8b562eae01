//! Models and tokenizers from the Hugging Face Hub.

mod cache;
mod download;
mod environment;

use crate::error::{WithContext, bail};
use crate::notice::{Listener, Notice};
use crate::{Error, Result};
use cache::{CachedModel, is_commit};
use download::Client;
pub use environment::Hub;
use hf_hub::{Repo, RepoType};
use std::path::{Path, PathBuf};
use tallow_model::{CONFIG_FILE, PYTORCH_FILE, PYTORCH_INDEX_FILE, WEIGHTS_FILE, WEIGHTS_FILES, WEIGHTS_INDEX_FILE};
use tallow_text::Tokenizers;
use tallow_train::CARD_FILE;

/// The branch to use if no revision is given.
const MAIN: &str = "main";

/// A repository on the Hub: `owner/name`, or `owner/name@revision` for a branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    name: String,
    revision: String,
}

/// Files in the Hub's cache.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The folder of the files.
    pub folder: PathBuf,
    /// The commit that the files belong to.
    pub commit: String,
}

/// The files to fetch from a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A model and its tokenizers.
    Model,
    /// Tokenizers alone.
    Tokenizers,
}

impl Wanted {
    /// The needed ones among existing files.
    fn among(self, names: &[String]) -> Vec<String> {
        let has = |name: &&str| names.iter().any(|other| other == name);
        let mut wanted: Vec<&str> = Tokenizers::file_names().filter(has).collect();
        if self == Self::Model {
            wanted.extend(
                [CONFIG_FILE, "generation_config.json", CARD_FILE]
                    .iter()
                    .filter(|name| has(name)),
            );
            wanted.extend(WEIGHTS_FILES.into_iter().find(|name| has(name)));
        }
        wanted.into_iter().map(str::to_owned).collect()
    }

    /// Whether these files are enough; the error names the missing ones.
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
        if self == Self::Model && !WEIGHTS_FILES.into_iter().any(has) {
            return Err(format!("has neither {WEIGHTS_FILE} nor {PYTORCH_FILE}"));
        }
        Ok(())
    }

    /// The files that the weight index in a folder names, if the index exists and is wanted.
    fn shards(self, folder: &Path, files: &[String]) -> Result<Vec<String>> {
        let index = [WEIGHTS_INDEX_FILE, PYTORCH_INDEX_FILE]
            .into_iter()
            .find(|index| files.iter().any(|file| file == index));
        match index {
            Some(index) => Ok(tallow_model::shard_names(&folder.join(index))?),
            None => Ok(Vec::new()),
        }
    }
}

impl Reference {
    /// The repository that a text names, if the text has a form that cannot also be a file name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::new(text).filter(|reference| reference.name.contains('/'))
    }

    /// The repository that a text names. Some of the oldest on the Hub have no owner.
    pub fn new(text: &str) -> Option<Self> {
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
    pub fn name(&self) -> &str {
        &self.name
    }

    fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.name.clone(), RepoType::Model, revision.to_owned())
    }

    /// Fetches files into the Hub's usual cache. The Hub is asked for the present commit and files of the revision.
    /// Files in the cache are not fetched again; if all are there, the cache need not be writable. If the Hub cannot be
    /// reached or sends nothing, or if `offline`, the files in the cache must suffice.
    ///
    /// # Errors
    /// When the model is not available. The message gives the reason and a solution.
    pub fn fetch(&self, wanted: Wanted, hub: &Hub, listener: &dyn Listener) -> Result<Fetched> {
        if hub.is_none() {
            bail!(
                "{}: this model is on the Hugging Face Hub, and no way to the Hub was given",
                self.name
            );
        }
        let cache = CachedModel::new(&hub.cache, self.at(&self.revision));
        if hub.offline {
            return self.cached(wanted, &cache).ok_or_else(|| Error::Offline {
                model: format!("{} at revision {:?}", self.name, self.revision),
                folder: cache.folder().to_path_buf(),
            });
        }
        let mut client = Client::new(hub, listener)?;
        let info = match client.info(&self.at(&self.revision)) {
            Ok(info) => info,
            Err(error) => match self.cached(wanted, &cache) {
                Some(fetched) => {
                    listener.notice(&Notice::FromCache {
                        model: self.name.clone(),
                        reason: error.whole(),
                    });
                    return Ok(fetched);
                }
                None => {
                    return Err(error.context(format!(
                        "{} is neither a path on this machine nor a model that the Hugging Face Hub provides",
                        self.name
                    )));
                }
            },
        };
        // By commit, not by branch: a branch could move between two files.
        if !is_commit(&info.sha) {
            bail!("{}: the Hub's answer names no commit", self.name);
        }
        let (repository, folder) = (self.at(&info.sha), cache.snapshot(&info.sha));
        let names: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
        let files = wanted.among(&names);
        wanted
            .check(&files)
            .map_err(|lacks| Error::Other(format!("{}: this repository {lacks}", self.name)))?;
        let mut fetch = |files: &[String]| -> Result<()> {
            for file in files {
                let fetched = client.fetch(&repository, file, &cache);
                fetched.with_context(|| format!("{}: cannot fetch {file}", self.name))?;
            }
            Ok(())
        };
        fetch(&files)?;
        let shards = wanted.shards(&folder, &files)?;
        if let Some(missing) = shards.iter().find(|shard| !names.contains(shard)) {
            bail!(
                "{}: this repository has no {missing}, which its index of weights names",
                self.name
            );
        }
        fetch(&shards)?;
        // The present commit of the branch, for later use without a network.
        if let Err(error) = cache.note(&info.sha) {
            listener.notice(&Notice::Note(format!(
                "{} cannot be written ({error}); without the network, the present commit of {:?} will not be found there",
                cache.folder().display(),
                self.revision
            )));
        }
        Ok(Fetched {
            folder,
            commit: info.sha,
        })
    }

    /// The files in the cache, if all that are needed are there.
    fn cached(&self, wanted: Wanted, cache: &CachedModel) -> Option<Fetched> {
        let commit = cache.commit()?;
        let folder = cache.snapshot(&commit);
        let entries = std::fs::read_dir(&folder).ok()?;
        let names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            // Links that lead nowhere do not count.
            .filter(|name| folder.join(name).exists())
            .collect();
        let files = wanted.among(&names);
        wanted.check(&files).ok()?;
        let shards = wanted.shards(&folder, &files).ok()?;
        shards
            .iter()
            .all(|shard| names.contains(shard))
            .then_some(Fetched { folder, commit })
    }
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
        let split = all(&[
            "pytorch_model.bin",
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
        ]);
        assert_eq!(Wanted::Model.among(&split), ["model.safetensors.index.json"]);
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
