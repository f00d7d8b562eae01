//! The `[data]` table of a run's configuration.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::augment::AugmentConfig;
use crate::clean::CleanConfig;
use crate::corpus_files::CorpusFiles;
use crate::evaluation_sets::EvaluationSets;
use crate::filter::Filters;
use crate::lines::is_blank;
use crate::stage::{self, Stage};

/// The largest weight of a corpus: more repetitions in one epoch are surely a mistake.
pub(crate) const MAX_WEIGHT: f64 = 1000.0;

/// The smallest weight: no corpus has so many pairs that one of them would remain.
const MIN_WEIGHT: f64 = 1e-12;

/// The text that a run reads, and how it is cut into batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// The training corpora. Default: none; training needs at least one.
    pub train: Vec<CorpusFiles>,
    /// The corpora on which training is validated. Default: none.
    pub valid: EvaluationSets,
    /// The corpora on which the finished model is scored, once. Default: none.
    pub test: EvaluationSets,
    /// The size of one update in padded tokens: the number of sentences times the length, with `</s>`, of the longest
    /// sentence on either side, over all workers and before accumulation. Default: 4096.
    pub batch_tokens: usize,
    /// The longest side that a training pair may have, in tokens with `</s>`. Longer pairs are dropped and counted.
    /// Default: 100.
    pub max_length: usize,
    /// The largest ratio of the longer to the shorter side of a training pair, both in tokens with `</s>`; 0 allows
    /// any. Default: 0.
    pub max_length_ratio: f64,
    /// Whether to drop and count a training pair whose two lines both occurred earlier, in the same corpus or in one
    /// before it. Default: false.
    pub drop_duplicates: bool,
    /// Rules that drop pairs which are probably no translations of each other. Default: none.
    pub clean: Option<CleanConfig>,
    /// How many pairs are in memory and sorted by length together. Larger pools fill the batches better, smaller pools
    /// mix lengths more; 0 takes a whole epoch. Default: 100,000.
    pub pool_pairs: usize,
    /// Raises the share of small corpora: the share of each corpus in an epoch, which is its number of pairs times its
    /// weight, becomes its power of 1 / temperature (Arivazhagan et al. 2019). The largest corpus keeps its weight.
    /// Default: 1, which changes nothing; 5 is usual for many languages.
    pub temperature: f64,
    /// Changes of some training pairs in every epoch: capitals, typing errors, placeholders. Default: none.
    pub augment: Option<AugmentConfig>,
    /// Which corpora are trained on, one after another. Default: none; then all of them, from the beginning to the end.
    pub stage: Vec<Stage>,
    /// How many batches are prepared ahead of the one in training. Default: 4.
    pub prefetch_batches: usize,
    /// The folder for prepared corpora, which runs share. Default: `prepared` beside the run's directory.
    pub prepared: Option<PathBuf>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            valid: EvaluationSets::default(),
            test: EvaluationSets::default(),
            batch_tokens: 4096,
            max_length: 100,
            max_length_ratio: 0.0,
            drop_duplicates: false,
            clean: None,
            pool_pairs: 100_000,
            temperature: 1.0,
            augment: None,
            stage: Vec::new(),
            prefetch_batches: 4,
            prepared: None,
        }
    }
}

impl DataConfig {
    /// The filters that the configuration sets for training text.
    pub fn filters(&self) -> Filters {
        Filters {
            drop_empty: true,
            drop_duplicates: self.drop_duplicates,
            max_length: Some(self.max_length),
            max_length_ratio: (self.max_length_ratio > 0.0).then_some(self.max_length_ratio),
        }
    }

    /// All faults of the values, each beginning with its key; empty if the table can be used for training. Does not
    /// look at the disk: [`DataConfig::missing_files`] does that.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.train.is_empty() {
            faults.push(
                "data.train: give at least one corpus, such as [{ source = \"a.en\", target = \"a.de\" }]".into(),
            );
        }
        for (key, corpus) in self.corpora() {
            if let Err(found) = corpus.form() {
                faults.push(format!(
                    "{key}: give `source` and `target`, or one of `tsv`, `tmx` and `po`; this entry has {found}"
                ));
            }
            if corpus.languages.is_some() && corpus.tmx.is_none() {
                faults.push(format!(
                    "{key}.languages: only a `tmx` has languages to choose from; remove it"
                ));
            }
            for (side, prefix) in [("source", &corpus.source_prefix), ("target", &corpus.target_prefix)] {
                if prefix
                    .as_ref()
                    .is_some_and(|prefix| is_blank(prefix) || prefix.trim() != prefix || prefix.contains(['\n', '\t']))
                {
                    faults.push(format!(
                        "{key}.{side}_prefix: must have text, on one line and without white space around it"
                    ));
                }
            }
            let training = key.starts_with("data.train");
            if training && !weight_is_valid(corpus.weight) {
                let weight = corpus.weight;
                faults.push(format!(
                    "{key}.weight: {weight} must be above 0 and at most {MAX_WEIGHT}"
                ));
            }
            if !training && corpus.weight != 1.0 {
                faults.push(format!(
                    "{key}.weight: only the corpora of data.train have weights; remove it"
                ));
            }
            if !training && corpus.target_prefix.is_some() {
                faults.push(format!(
                    "{key}.target_prefix: references are scored as they are; remove it, and ask for the prefix when you translate"
                ));
            }
            if !training && corpus.alignments.is_some() {
                faults.push(format!(
                    "{key}.alignments: only the corpora of data.train have alignments; remove it"
                ));
            }
        }
        let lists: [(&str, Vec<&CorpusFiles>); 3] = [
            ("data.train", self.train.iter().collect()),
            ("data.valid", self.valid.iter().collect()),
            ("data.test", self.test.iter().collect()),
        ];
        for (key, corpora) in lists {
            faults.extend(name_faults(key, &corpora));
        }
        if self.batch_tokens == 0 {
            faults.push("data.batch_tokens: 0 leaves no room for a sentence; 4096 is usual".into());
        }
        if self.max_length < 2 {
            let found = self.max_length;
            faults.push(format!(
                "data.max_length: {found} must be at least 2: one token and </s>"
            ));
        }
        let ratio = self.max_length_ratio;
        if ratio != 0.0 && !(ratio.is_finite() && ratio >= 1.0) {
            faults.push(format!(
                "data.max_length_ratio: {ratio} must be 0 (any ratio) or at least 1"
            ));
        }
        let rules = self.clean.iter().flat_map(CleanConfig::faults);
        faults.extend(rules.map(|fault| format!("data.clean.{fault}")));
        let temperature = self.temperature;
        if !(temperature >= 1.0 && temperature.is_finite()) {
            faults.push(format!(
                "data.temperature: {temperature} must be at least 1, which takes corpora by their size"
            ));
        }
        let changes = self.augment.iter().flat_map(AugmentConfig::faults);
        faults.extend(changes.map(|fault| format!("data.augment.{fault}")));
        faults.extend(stage::faults(&self.stage, &self.train));
        if self.prefetch_batches > 10_000 {
            let found = self.prefetch_batches;
            faults.push(format!(
                "data.prefetch_batches: {found} batches would be held in memory; at most 10000"
            ));
        }
        faults
    }

    /// One message for each missing file of the table, beginning with its key. Looks at the disk.
    pub fn missing_files(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (key, corpus) in self.corpora() {
            faults.extend(corpus.missing_files().into_iter().map(|fault| format!("{key}.{fault}")));
        }
        faults
    }

    /// Every corpus of the table with its key.
    fn corpora(&self) -> impl Iterator<Item = (String, &CorpusFiles)> {
        let train = self
            .train
            .iter()
            .enumerate()
            .map(|(index, corpus)| (format!("data.train[{index}]"), corpus));
        let evaluated = [("data.valid", &self.valid), ("data.test", &self.test)];
        let evaluated = evaluated.into_iter().flat_map(|(key, sets)| sets.with_keys(key));
        train.chain(evaluated)
    }
}

/// The faults of the names of corpora: sets to score need them if there are several, and all need different ones.
fn name_faults(key: &str, corpora: &[&CorpusFiles]) -> Vec<String> {
    let needs_names = key != "data.train" && corpora.len() > 1;
    let mut known = HashSet::new();
    let mut faults = Vec::new();
    for (number, corpus) in corpora.iter().enumerate() {
        match &corpus.name {
            None if needs_names => faults.push(format!(
                "{key}[{number}].name: of several sets, each needs a name, such as \"news\""
            )),
            None => {}
            Some(name) if name == MEAN || !is_a_name(name) => faults.push(format!(
                "{key}[{number}].name: {name:?} must have letters, digits, `-`, `_` and `.` only, and not be {MEAN:?}"
            )),
            // Names become those of files, for which some systems ignore case.
            Some(name) if !known.insert(name.to_lowercase()) => {
                faults.push(format!("{key}[{number}].name: {name:?} is taken twice"));
            }
            Some(name) if name.len() > LONGEST_NAME => {
                faults.push(format!("{key}[{number}].name: longer than {LONGEST_NAME} bytes"));
            }
            Some(_) => {}
        }
    }
    faults
}

/// The longest name in bytes: it becomes part of that of a file.
const LONGEST_NAME: usize = 100;

/// The name that stands for all sets together.
pub const MEAN: &str = "mean";

/// Whether a name can be part of a file's name and of a key.
fn is_a_name(name: &str) -> bool {
    let is_usual = |character: char| character.is_alphanumeric() || "-_.".contains(character);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(is_usual)
}

/// Whether an epoch can be drawn with this weight.
pub(crate) fn weight_is_valid(weight: f64) -> bool {
    (MIN_WEIGHT..=MAX_WEIGHT).contains(&weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parse(json: &str) -> Result<DataConfig, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn the_shape_of_the_table() {
        let config = parse(
            r#"{"train": [{"source": "a.en", "target": "a.de"}, {"tsv": "b.tsv.gz", "weight": 2}],
                "valid": {"source": "v.en", "target": "v.de"}, "batch_tokens": 512}"#,
        )
        .unwrap();
        assert_eq!(config.validate(), Vec::<String>::new());
        assert_eq!(config.train[0], CorpusFiles::two_files("a.en", "a.de"));
        assert_eq!(config.train[1].weight, 2.0);
        assert_eq!((config.batch_tokens, config.max_length), (512, 100));
        assert_eq!(parse(&serde_json::to_string(&config).unwrap()).unwrap(), config);
        assert!(
            parse(r#"{"batch_token": 1}"#)
                .unwrap_err()
                .to_string()
                .contains("batch_tokens")
        );
        assert!(parse(r#"{"train": [{"sources": "a"}]}"#).is_err());
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let config = parse(
            r#"{"train": [{"source": "a"}, {"source": "a", "target": "b", "tsv": "c", "weight": -1}],
                "valid": {"weight": 2, "alignments": "d"}, "test": {"source": "a", "tsv": "c"},
                "batch_tokens": 0, "max_length": 1, "max_length_ratio": 0.5, "prefetch_batches": 100000}"#,
        )
        .unwrap();
        let either = "give `source` and `target`, or one of `tsv`, `tmx` and `po`; this entry has";
        let expected = [
            format!("data.train[0]: {either} only `source`"),
            format!("data.train[1]: {either} `source` and `target` and `tsv`"),
            "data.train[1].weight: -1 must be above 0 and at most 1000".into(),
            format!("data.valid: {either} none of them"),
            "data.valid.weight: only the corpora of data.train have weights; remove it".into(),
            "data.valid.alignments: only the corpora of data.train have alignments; remove it".into(),
            format!("data.test: {either} `source` and `tsv`"),
            "data.batch_tokens: 0 leaves no room for a sentence; 4096 is usual".into(),
            "data.max_length: 1 must be at least 2: one token and </s>".into(),
            "data.max_length_ratio: 0.5 must be 0 (any ratio) or at least 1".into(),
            "data.prefetch_batches: 100000 batches would be held in memory; at most 10000".into(),
        ];
        assert_eq!(config.validate(), expected);
        assert!(DataConfig::default().validate()[0].starts_with("data.train: give at least one corpus"));
    }

    #[test]
    fn odd_numbers_are_faults() {
        for weight in [0.0, -0.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(!weight_is_valid(weight), "{weight}");
        }
        let train = vec![CorpusFiles::tsv("a")];
        for max_length_ratio in [f64::NAN, f64::INFINITY, -2.0, 0.99] {
            let config = DataConfig {
                train: train.clone(),
                max_length_ratio,
                ..DataConfig::default()
            };
            assert_eq!(config.validate().len(), 1, "{max_length_ratio}");
        }
    }

    #[test]
    fn missing_files_are_named_with_their_keys() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let config = DataConfig {
            train: vec![CorpusFiles::two_files(&here, "no-such.de")],
            test: CorpusFiles::tsv("no-such.tsv").into(),
            ..DataConfig::default()
        };
        let expected = [
            "data.train[0].target: no-such.de: no such file",
            "data.test.tsv: no-such.tsv: no such file",
        ];
        assert_eq!(config.missing_files(), expected);
    }
}
