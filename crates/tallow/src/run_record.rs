//! `run.json`: what a run was made from and what came of it.

use crate::Result;
use crate::error::WithContext;
use crate::saved_model::SavedModel;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tallow_data::FileRecord;
use tallow_model::{CONFIG_FILE, MarianFiles, PYTORCH_INDEX_FILE, WEIGHTS_FILES, WEIGHTS_INDEX_FILE, shard_names};
use tallow_train::{Fingerprint, Measure, sha256};

/// The version of the file's format.
const VERSION: u64 = 1;

/// The contents of `run.json`.
///
/// Files of older and newer versions of Tallow can be read: a key that is missing, or has a value of another type, gets
/// the default value of its field. Unknown keys are ignored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunRecord {
    /// The version of the file's format.
    #[serde(deserialize_with = "lenient")]
    pub version: u64,
    /// The version of Tallow that wrote the file.
    #[serde(deserialize_with = "lenient")]
    pub tallow: String,
    /// The seed of all random numbers.
    #[serde(deserialize_with = "lenient")]
    pub seed: u64,
    /// Threads that shared an update.
    #[serde(deserialize_with = "lenient")]
    pub workers: usize,
    /// The vector instructions that were used.
    #[serde(deserialize_with = "lenient")]
    pub instruction_set: String,
    /// The model that training began with, if it was not a new one.
    #[serde(deserialize_with = "lenient")]
    pub init: Option<InitRecord>,
    /// The files of the training, validation and test text.
    #[serde(deserialize_with = "lenient")]
    pub data: Vec<DataRecord>,
    /// The number of sentence pairs in each part of the data.
    #[serde(deserialize_with = "lenient")]
    pub pairs: PairCounts,
    /// SHA-256 of the source and the target tokenizer.
    #[serde(deserialize_with = "lenient")]
    pub tokenizers_sha256: Vec<String>,
    /// The results, once training has ended by itself.
    #[serde(deserialize_with = "lenient")]
    pub results: Option<Results>,
}

/// The model that a run began with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InitRecord {
    /// The value of `init` in the config.
    pub model: String,
    /// The commit, if the model came from the Hub.
    #[serde(default, deserialize_with = "lenient")]
    pub commit: Option<String>,
    /// SHA-256 of each of its files, by the name of the file.
    #[serde(default, deserialize_with = "lenient")]
    pub sha256: Map<String, Value>,
}

/// A file that a run has read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataRecord {
    /// The part of the data: `train`, `valid` or `test`.
    #[serde(deserialize_with = "lenient")]
    pub part: String,
    /// The path as the config gave it.
    #[serde(deserialize_with = "lenient")]
    pub path: PathBuf,
    /// SHA-256 of the text; for a gzip file, of the decompressed text.
    #[serde(deserialize_with = "lenient")]
    pub sha256: String,
}

/// The number of sentence pairs that a run uses; `None` for parts that it does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PairCounts {
    /// Pairs to train on, after filtering.
    #[serde(deserialize_with = "lenient")]
    pub train: Option<usize>,
    /// Pairs of the validation set.
    #[serde(deserialize_with = "lenient")]
    pub valid: Option<usize>,
    /// Pairs of the test set.
    #[serde(deserialize_with = "lenient")]
    pub test: Option<usize>,
}

/// The results of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Results {
    /// Updates done.
    #[serde(deserialize_with = "lenient")]
    pub update: u64,
    /// The best validation, if there was any.
    #[serde(deserialize_with = "lenient")]
    pub best: Option<BestRecord>,
    /// Updates that were left out because their loss or gradient was not finite.
    #[serde(deserialize_with = "lenient")]
    pub skipped: u64,
    /// How often the run went back from divergence.
    #[serde(deserialize_with = "lenient")]
    pub setbacks: u64,
    /// The scores of the best model on the test set, if the config names one.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub test: Option<TestRecord>,
    /// The scores of the best model on each test set by its name, if the config names several.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "BTreeMap::is_empty")]
    pub tests: BTreeMap<String, TestRecord>,
}

/// The best validation of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestRecord {
    /// The update after which it was done.
    pub update: u64,
    /// The measure that decided.
    pub metric: Measure,
    /// The value of that measure; `None` if it was not finite.
    pub value: Option<f64>,
}

/// The scores of the best model on the test set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TestRecord {
    /// The scores with four decimals, as [`tallow_score::to_json`] writes them.
    pub scores: Value,
    /// Percent of translations that equal their reference.
    #[serde(deserialize_with = "lenient")]
    pub exact_match: f64,
    /// The name of the file of translations in the run directory.
    #[serde(deserialize_with = "lenient")]
    pub translations: Option<String>,
}

/// Reads a value that other versions may write in another form. Such a value counts as absent.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<T, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

impl RunRecord {
    /// The record of a run that has no results yet. `files` are the files that it read, each with its part of the data.
    pub(crate) fn new(
        fingerprint: &Fingerprint,
        files: &[(&'static str, FileRecord)],
        pairs: PairCounts,
        init: Option<InitRecord>,
    ) -> Self {
        let data = files.iter().map(|(part, file)| DataRecord {
            part: (*part).to_owned(),
            path: file.path.clone(),
            sha256: file.sha256.clone(),
        });
        Self {
            version: VERSION,
            tallow: env!("CARGO_PKG_VERSION").to_owned(),
            seed: fingerprint.seed,
            workers: fingerprint.workers,
            instruction_set: fingerprint.instruction_set.clone(),
            init,
            data: data.collect(),
            pairs,
            tokenizers_sha256: fingerprint.tokenizers.clone(),
            results: None,
        }
    }

    /// The names of the files of test translations that the run has written.
    pub(crate) fn translations(&self) -> Vec<String> {
        let results = self.results.iter();
        let tests = results.flat_map(|results| results.test.iter().chain(results.tests.values()));
        tests.filter_map(|test| test.translations.clone()).collect()
    }

    /// Reads the record of a run. If there is none, or it is damaged, the result is the default record, which says
    /// nothing.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Writes the record of a run.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let aside = path.with_extension("json.partial");
        serde_json::to_string_pretty(self)
            .map_err(std::io::Error::from)
            .and_then(|text| std::fs::write(&aside, text + "\n"))
            .with_context(|| format!("cannot write {}", aside.display()))?;
        std::fs::rename(&aside, path).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl InitRecord {
    /// The record of the model that `init = name` found.
    pub(crate) fn of(name: &str, saved: &SavedModel) -> Result<Self> {
        let mut hashes = Map::new();
        let mut files: Vec<String> = [CONFIG_FILE]
            .into_iter()
            .chain(WEIGHTS_FILES)
            .map(str::to_owned)
            .collect();
        for index in [WEIGHTS_INDEX_FILE, PYTORCH_INDEX_FILE] {
            // What is not used need not be sound.
            files.extend(shard_names(&saved.directory.join(index)).unwrap_or_default());
        }
        let mut paths: Vec<PathBuf> = files.into_iter().map(|file| saved.directory.join(file)).collect();
        if MarianFiles::are_at(&saved.directory) {
            let found = MarianFiles::find(&saved.directory)?;
            // These cut lines where the vocabularies are lists of pieces.
            let cutters = ["source.spm", "target.spm"].map(|name| found.weights.with_file_name(name));
            paths = [vec![found.weights], found.vocabularies.into(), cutters.into()].concat();
        }
        for path in paths.into_iter().filter(|path| path.exists()) {
            let digest = sha256(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            hashes.insert(name, digest.into());
        }
        Ok(Self {
            model: name.to_owned(),
            commit: saved.commit.clone(),
            sha256: hashes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{
  "version": 1,
  "tallow": "0.1.0",
  "seed": 18446744073709551615,
  "workers": 2,
  "instruction_set": "avx2",
  "init": {
    "model": "owner/name",
    "commit": null,
    "sha256": {
      "model.safetensors": "4d7a",
      "config.json": "9f86"
    }
  },
  "data": [
    {
      "part": "train",
      "path": "a.en",
      "sha256": "d404"
    }
  ],
  "pairs": {
    "train": 60,
    "valid": null,
    "test": 3
  },
  "tokenizers_sha256": [
    "aa",
    "bb"
  ],
  "results": {
    "update": 6,
    "best": {
      "update": 4,
      "metric": "bleu",
      "value": 0.30000000000000004
    },
    "skipped": 0,
    "setbacks": 1,
    "test": {
      "scores": {
        "name": "BLEU",
        "score": 12.3457
      },
      "exact_match": 50.0,
      "translations": "test.translations.txt"
    }
  }
}
"#;

    #[test]
    fn a_file_is_read_and_written_to_the_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        std::fs::write(&path, WHOLE).unwrap();
        let record = RunRecord::read(&path);
        assert_eq!(
            record.results.as_ref().unwrap().best.unwrap().metric,
            Measure::default()
        );
        record.write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), WHOLE);
    }

    #[test]
    fn absent_results_are_null_and_an_absent_test_has_no_key() {
        let mut record = RunRecord::default();
        let text = |record: &RunRecord| serde_json::to_string(record).unwrap();
        assert!(text(&record).contains(r#""init":null,"data":[]"#), "{}", text(&record));
        assert!(text(&record).ends_with(r#""results":null}"#), "{}", text(&record));
        record.results = Some(Results {
            best: Some(BestRecord {
                update: 1,
                metric: Measure::Loss,
                value: None,
            }),
            ..Results::default()
        });
        let end = r#"{"update":0,"best":{"update":1,"metric":"loss","value":null},"skipped":0,"setbacks":0}}"#;
        assert!(text(&record).ends_with(end), "{}", text(&record));
    }

    /// Whatever cannot be understood is absent; everything else is read.
    #[test]
    fn files_of_other_versions_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            RunRecord::read(&path)
        };
        for nothing in ["", "{", "{}", "[]", "null"] {
            assert_eq!(read(nothing), RunRecord::default(), "{nothing}");
        }
        let record = read(
            r#"{"version": 2, "seed": "many", "new": {}, "pairs": {"train": 5, "valid": [1]}, "init": {"model": "a"},
                "data": [{"part": "train", "sha256": 1}], "results": {"update": 7, "best": {"metric": "comet"}}}"#,
        );
        assert_eq!((record.version, record.seed, record.pairs.train), (2, 0, Some(5)));
        assert_eq!((record.pairs.valid, record.init.unwrap().model.as_str()), (None, "a"));
        assert_eq!(
            (record.data[0].part.as_str(), record.data[0].sha256.as_str()),
            ("train", "")
        );
        let results = record.results.unwrap();
        assert_eq!((results.update, results.best), (7, None));
        assert_eq!(read(r#"{"init": {"commit": "c0ffee"}, "seed": 3}"#).init, None);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(RunRecord::read(&path), RunRecord::default());
    }
}
