//! Models on a disk or on the Hub, found by the names that people give.

use crate::Result;
use crate::config::Config;
use crate::error::{WithContext, bail};
use crate::hub::{Hub, Reference, Wanted};
use crate::job::hexadecimal;
use crate::languages::languages_of;
use crate::notice::{Listener, Notice};
use candle_core::Device;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use tallow_decode::{DecodeCompute, DecodeConfig, Translator, open_tokenizers};
use tallow_model::{
    AlignmentHeads, CONFIG_FILE, InferenceCompute, MarianFiles, Opened, PYTORCH_INDEX_FILE, PreparedTransformer,
    WEIGHTS_INDEX_FILE, WEIGHTS_KEY, read_json,
};
use tallow_text::Tokenizers;
use tallow_train::RunDirectory;

/// The search settings that a model directory recommends to every program.
const GENERATION_FILE: &str = "generation_config.json";

/// Its key for the heads that align target tokens with source tokens, as in Hugging Face's models of speech.
const ALIGNMENT_HEADS: &str = "alignment_heads";

/// How many folders upwards a name may tell the languages: in the cache of the Hub, that of the model is the third.
const NAME_DEPTH: usize = 3;

/// A model directory and the run that it belongs to.
#[derive(Debug)]
pub struct SavedModel {
    /// The model directory.
    pub directory: PathBuf,
    /// The config of the run, if the model belongs to one.
    pub config: Option<Config>,
    /// The run, if the model belongs to one.
    pub run: Option<RunDirectory>,
    /// The commit, if the model came from the Hub.
    pub commit: Option<String>,
}

impl SavedModel {
    /// Finds a model: a run directory (its best model), a checkpoint, a model directory, a model of the Marian toolkit,
    /// or a name on the Hub, which is then fetched.
    ///
    /// # Errors
    /// When there is no such model, or it cannot be fetched.
    pub fn find(name: &str, hub: &Hub, listener: &dyn Listener) -> Result<Self> {
        let path = Path::new(name);
        if !path.exists() {
            if let Some(reference) = Reference::parse(name) {
                let fetched = reference.fetch(Wanted::Model, hub, listener)?;
                let saved = Self {
                    directory: fetched.folder,
                    config: None,
                    run: None,
                    commit: Some(fetched.commit),
                };
                saved.tell_damaged_recommendations(listener);
                return Ok(saved);
            }
            bail!("{name}: there is no such run, checkpoint or model directory, and it is no name on the Hub either");
        }
        Self::at(path, listener)
    }

    /// The model at a path: a run directory, a checkpoint or a model directory.
    ///
    /// # Errors
    /// When there is no model.
    pub fn at(path: impl AsRef<Path>, listener: &dyn Listener) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display();
        if !path.exists() {
            bail!("{name}: there is no such run, checkpoint or model directory");
        }
        let run = RunDirectory::new(path);
        if run.is_run() {
            let config = run_config(&run)?;
            if run.best().join(CONFIG_FILE).is_file() {
                return Ok(Self {
                    directory: run.best(),
                    config: Some(config),
                    run: Some(run),
                    commit: None,
                });
            }
            // A run that was interrupted before its first validation has only checkpoints.
            let (update, faults) = run.intact_update()?;
            return match update {
                Some(update) => {
                    faults
                        .into_iter()
                        .for_each(|fault| listener.notice(&Notice::NotUsed(fault)));
                    Ok(Self {
                        directory: run.checkpoint(update),
                        config: Some(config),
                        run: Some(run),
                        commit: None,
                    })
                }
                None if faults.is_empty() => bail!("{name}: this run has neither a best model nor a checkpoint yet"),
                None => bail!(
                    "{name}: this run has no best model yet, and every checkpoint is damaged or led to divergence:\n  {}",
                    faults.join("\n  ")
                ),
            };
        }
        if MarianFiles::are_at(path) {
            return Ok(Self {
                directory: path.to_path_buf(),
                config: None,
                run: None,
                commit: None,
            });
        }
        if !path.join(CONFIG_FILE).is_file() {
            bail!(
                "{name}: neither a run directory (it has no config.toml) nor a model directory (no {CONFIG_FILE}, no .npz)"
            );
        }
        // `<run>/best` and `<run>/checkpoints/<update>` belong to their run.
        let run = path.canonicalize().ok().and_then(|path| {
            let ancestors: Vec<PathBuf> = path.ancestors().skip(1).take(2).map(PathBuf::from).collect();
            ancestors.into_iter().map(RunDirectory::new).find(RunDirectory::is_run)
        });
        let saved = Self {
            directory: path.to_path_buf(),
            config: run.as_ref().map(run_config).transpose()?,
            run,
            commit: None,
        };
        saved.tell_damaged_recommendations(listener);
        Ok(saved)
    }

    /// Tells of recommended search settings that cannot be read. They are no reason not to translate.
    fn tell_damaged_recommendations(&self, listener: &dyn Listener) {
        let path = self.directory.join(GENERATION_FILE);
        // A model of a run searches as the run's config says.
        if self.config.is_some() || !path.exists() {
            return;
        }
        let fault = match read_json(&path) {
            Ok(contents) if contents.is_object() => return,
            Ok(_) => format!("{}: it is no JSON object", path.display()),
            Err(error) => error.to_string(),
        };
        listener.notice(&Notice::Note(format!(
            "{fault}; the search settings that this file recommends are not used"
        )));
    }

    /// A translator on the CPU with as many threads as there are cores. It uses the model's recommended search
    /// settings.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the files do not belong together.
    pub fn translator(&self) -> Result<Translator> {
        let config = self.decode_config();
        let (model, tokenizers) = self.open_prepared(&Device::Cpu, config.compute.into())?;
        let translator = Translator::builder(model, tokenizers)
            .config(config)
            .workers(crate::cores());
        Ok(translator.build()?)
    }

    /// Opens the model and its tokenizers.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn open(&self, device: &Device) -> Result<(Opened, Tokenizers)> {
        let opened = tallow_model::open(&self.directory, device)?;
        let tokenizers = open_tokenizers(&self.directory, &opened.architecture)?;
        Ok((opened, tokenizers))
    }

    /// Opens the model, prepared for search, and its tokenizers.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn open_prepared(
        &self,
        device: &Device,
        compute: InferenceCompute,
    ) -> Result<(PreparedTransformer, Tokenizers)> {
        let model = tallow_model::open_prepared(&self.directory, device, compute)?;
        let tokenizers = open_tokenizers(&self.directory, model.architecture())?;
        Ok((model, tokenizers))
    }

    /// The SHA-256 over the names and contents of the model's files, weights, configs and vocabularies, in hexadecimal.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn sha256(&self) -> Result<String> {
        const WEIGHTS: [&str; 7] = ["safetensors", "bin", "npz", "spm", "vocab", "yml", "yaml"];
        // A model of the Marian toolkit may be named by its file.
        let (folder, named) = match self.directory.is_file() {
            true => (
                self.directory.parent().unwrap_or(Path::new(".")),
                self.directory.file_name(),
            ),
            false => (self.directory.as_path(), None),
        };
        let configs = [CONFIG_FILE, GENERATION_FILE, WEIGHTS_INDEX_FILE, PYTORCH_INDEX_FILE];
        let configs: Vec<&str> = configs.into_iter().chain(Tokenizers::file_names()).collect();
        let unreadable = || format!("cannot read {}", folder.display());
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).with_context(unreadable)? {
            let path = entry.with_context(unreadable)?.path();
            let kind = path.extension().unwrap_or_default().to_string_lossy();
            let Some(name) = path.file_name() else { continue };
            let text = name.to_string_lossy().into_owned();
            let is_other = kind == "npz" && named.is_some_and(|named| named != name);
            if (WEIGHTS.contains(&&*kind) || configs.contains(&&*text)) && !is_other && path.is_file() {
                names.push(text);
            }
        }
        names.sort_unstable();
        let mut hash = Sha256::new();
        for name in names {
            let of_file = tallow_train::sha256(&folder.join(&name)).with_context(unreadable)?;
            hash.update(format!("{name} {of_file}\n"));
        }
        Ok(hexadecimal(&hash))
    }

    /// The largest number of tokens in a sentence, if the model has learned its positions.
    pub fn position_limit(&self) -> Option<usize> {
        // An unreadable config is reported when the model is opened.
        tallow_model::read_architecture(&self.directory)
            .ok()?
            .model
            .position_limit()
    }

    /// The codes of the languages that the model translates between: those of its run, or those at the end of a name
    /// such as `opus-mt-de-en`.
    pub fn languages(&self) -> Option<[String; 2]> {
        if let Some(config) = &self.config
            && let [Some(source), Some(target)] = languages_of(config)
        {
            return Some([source, target]);
        }
        let folders = self.directory.ancestors().take(NAME_DEPTH);
        let names = folders.filter_map(|folder| folder.file_name()?.to_str());
        names.into_iter().find_map(languages_in_name)
    }

    /// The search settings that come with the model: those of its run, or those of `generation_config.json`, which
    /// older models keep in `config.json`. No length exceeds the positions of the model.
    pub fn decode_config(&self) -> DecodeConfig {
        let mut recommended = match &self.config {
            Some(config) => config.decode.clone(),
            None => self.recommended(),
        };
        if recommended.alignment_heads.is_empty() {
            recommended.alignment_heads = self.alignment_heads();
        }
        recommended.within(self.position_limit())
    }

    /// The heads that `generation_config.json` names, if the model has them.
    fn alignment_heads(&self) -> Vec<(usize, usize)> {
        let found = read_json(&self.directory.join(GENERATION_FILE)).ok();
        let heads: Option<Vec<(usize, usize)>> =
            found.and_then(|found| serde_json::from_value(found.get(ALIGNMENT_HEADS)?.clone()).ok());
        let are_there = |heads: &Vec<(usize, usize)>| {
            let architecture = tallow_model::read_architecture(&self.directory);
            architecture.is_ok_and(|architecture| AlignmentHeads::new(heads, &architecture.model).is_ok())
        };
        heads.filter(are_there).unwrap_or_default()
    }

    /// Writes into `generation_config.json` which heads align target tokens with source tokens. The checksums of the
    /// directory stay right.
    ///
    /// # Errors
    /// When the model has no such file, or it cannot be read or written.
    pub fn save_alignment_heads(&self, heads: &[(usize, usize)]) -> Result<()> {
        let path = self.directory.join(GENERATION_FILE);
        let mut generation = read_json(&path)?;
        let Value::Object(keys) = &mut generation else {
            bail!("{}: no JSON object", path.display());
        };
        keys.insert(ALIGNMENT_HEADS.to_owned(), serde_json::json!(heads));
        let contents = format!("{generation:#}\n");
        Ok(tallow_train::replace_file(&self.directory, GENERATION_FILE, &contents)?)
    }

    fn recommended(&self) -> DecodeConfig {
        if MarianFiles::are_at(&self.directory) {
            let files = MarianFiles::find(&self.directory);
            return files.map(|files| DecodeConfig::of_marian(&files)).unwrap_or_default();
        }
        let read = |name: &str| -> Value { read_json(&self.directory.join(name)).unwrap_or_default() };
        let files = [GENERATION_FILE, CONFIG_FILE].map(read);
        let value = |key: &str| files.iter().map(|file| &file[key]).find(|value| !value.is_null());
        let size = |key: &str| value(key)?.as_u64().and_then(|n| usize::try_from(n).ok());
        let number = |key: &str| value(key).and_then(Value::as_f64);
        let mut decode = DecodeConfig::default();
        // A senseless recommendation in a file is no reason not to translate.
        let mut take = |change: &dyn Fn(&mut DecodeConfig) -> Option<()>| {
            let mut changed = decode.clone();
            if change(&mut changed).is_some() && changed.validate().is_empty() {
                decode = changed;
            }
        };
        let is_int8 = files.iter().any(|file| file[WEIGHTS_KEY] == "int8");
        take(&|decode| is_int8.then(|| decode.compute = DecodeCompute::Int8));
        take(&|decode| size("num_beams").map(|beam| decode.beam = beam));
        take(&|decode| size("max_length").map(|length| decode.max_length = length));
        take(&|decode| number("length_penalty").map(|penalty| decode.length_penalty = penalty));
        take(&|decode| size("no_repeat_ngram_size").map(|length| decode.no_repeat_ngram = length));
        decode
    }
}

/// The languages at the end of a name such as `opus-mt-de-en`.
fn languages_in_name(name: &str) -> Option<[String; 2]> {
    let is_code = |code: &&str| matches!(code.len(), 2 | 3) && code.chars().all(|c| c.is_ascii_lowercase());
    let mut parts = name.rsplit('-');
    let (target, source) = (parts.next().filter(is_code)?, parts.next().filter(is_code)?);
    Some([source.to_owned(), target.to_owned()])
}

fn run_config(run: &RunDirectory) -> Result<Config> {
    Config::of_run(&run.config()).with_context(|| format!("{}: the run's config", run.path().display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use tallow_train::{Event, Observer};

    /// Remembers what it is told.
    #[derive(Default)]
    struct Memory(RefCell<Vec<String>>);

    impl Observer for Memory {
        fn observe(&self, _: &Event) {}
    }

    impl Listener for Memory {
        fn notice(&self, notice: &Notice) {
            self.0.borrow_mut().push(notice.to_string());
        }
    }

    #[test]
    fn names_tell_languages() {
        for (name, languages) in [
            ("opus-mt-de-en", Some(["de", "en"])),
            ("numbers-eng-deu", Some(["eng", "deu"])),
            ("best", None),
            ("a-de-EN", None),
            ("-de", None),
        ] {
            let languages = languages.map(|codes| codes.map(str::to_owned));
            assert_eq!(languages_in_name(name), languages, "{name}");
        }
    }

    #[test]
    fn damaged_recommendations_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(GENERATION_FILE);
        std::fs::write(folder.path().join(CONFIG_FILE), r#"{"num_beams": 3}"#).unwrap();
        let found = |contents: Option<&str>| {
            match contents {
                Some(contents) => std::fs::write(&path, contents).unwrap(),
                None => std::fs::remove_file(&path).unwrap_or_default(),
            }
            let memory = Memory::default();
            let saved = SavedModel::at(folder.path(), &memory).unwrap();
            (saved.decode_config().beam, memory.0.into_inner())
        };
        assert_eq!(found(None), (3, Vec::new()));
        assert_eq!(found(Some(r#"{"num_beams": 5}"#)), (5, Vec::new()));
        for (damaged, reason) in [
            ("", "it is empty"),
            ("{\"num_beams\": 5", "cut off"),
            ("[5]", "no JSON object"),
        ] {
            let (beam, told) = found(Some(damaged));
            assert_eq!((beam, told.len()), (3, 1), "{damaged}: {told:?}");
            let begins = format!("note: {}: ", path.display());
            assert!(told[0].starts_with(&begins) && told[0].contains(reason), "{told:?}");
        }
        // The config of its run counts, whatever the file says.
        let saved = SavedModel {
            directory: folder.path().to_path_buf(),
            config: Some(Config::default()),
            run: None,
            commit: None,
        };
        let memory = Memory::default();
        saved.tell_damaged_recommendations(&memory);
        assert!(memory.0.into_inner().is_empty());
    }
}
