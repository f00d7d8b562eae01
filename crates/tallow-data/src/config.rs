//! The `[data]` table of a run's configuration.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::filter::Filters;

/// The largest weight of a corpus: more repetitions in one epoch are surely a mistake.
pub(crate) const MAX_WEIGHT: f64 = 1000.0;

/// The text that a run reads, and how it is cut into batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// The training corpora. Default: none; training needs at least one.
    pub train: Vec<CorpusFiles>,
    /// The corpus on which training is validated. Default: none.
    pub valid: Option<CorpusFiles>,
    /// The corpus on which the finished model is scored, once. Default: none.
    pub test: Option<CorpusFiles>,
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
    /// How many pairs are sorted by length together. Larger pools fill the batches better, smaller pools mix lengths
    /// more; 0 sorts a whole epoch. Default: 100,000.
    pub pool_pairs: usize,
    /// How many batches are prepared ahead of the one in training. Default: 4.
    pub prefetch_batches: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            valid: None,
            test: None,
            batch_tokens: 4096,
            max_length: 100,
            max_length_ratio: 0.0,
            drop_duplicates: false,
            pool_pairs: 100_000,
            prefetch_batches: 4,
        }
    }
}

/// The files of one parallel corpus: either `source` and `target`, where line N of both is one pair, or `tsv`, each
/// line of which is a source, one tab and a target. Each file may be gzip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorpusFiles {
    /// The file of source sentences. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
    /// The file of target sentences. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<PathBuf>,
    /// One file with both. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tsv: Option<PathBuf>,
    /// A file of word alignments, one line for each pair: see [`crate::WordAlignments`]. Only for training, with
    /// `train.guided_alignment`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alignments: Option<PathBuf>,
    /// How often a training epoch takes each pair: 1 once, 2 twice; 0.5 takes half of the corpus, drawn anew for every
    /// epoch. Default: 1.
    pub weight: f64,
}

impl Default for CorpusFiles {
    fn default() -> Self {
        Self {
            source: None,
            target: None,
            tsv: None,
            alignments: None,
            weight: 1.0,
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
                    "{key}: give either `source` and `target` or `tsv`; this entry has {found}"
                ));
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
            if !training && corpus.alignments.is_some() {
                faults.push(format!(
                    "{key}.alignments: only the corpora of data.train have alignments; remove it"
                ));
            }
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
            let files = [
                ("source", &corpus.source),
                ("target", &corpus.target),
                ("tsv", &corpus.tsv),
                ("alignments", &corpus.alignments),
            ];
            for (name, path) in files {
                if let Some(path) = path.as_deref().filter(|path| !path.exists()) {
                    faults.push(format!("{key}.{name}: {}: no such file", path.display()));
                }
            }
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
        let valid = self.valid.iter().map(|corpus| ("data.valid".to_owned(), corpus));
        let test = self.test.iter().map(|corpus| ("data.test".to_owned(), corpus));
        train.chain(valid).chain(test)
    }
}

/// The two ways to store a parallel corpus.
pub(crate) enum CorpusForm<'a> {
    TwoFiles { source: &'a Path, target: &'a Path },
    Tsv(&'a Path),
}

impl CorpusFiles {
    /// The corpus of two files, with weight 1.
    pub fn two_files(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self {
            source: Some(source.into()),
            target: Some(target.into()),
            ..Self::default()
        }
    }

    /// The corpus of one TSV file, with weight 1.
    pub fn tsv(path: impl Into<PathBuf>) -> Self {
        Self {
            tsv: Some(path.into()),
            ..Self::default()
        }
    }

    /// The form of this entry; if it has neither form, its keys in words.
    pub(crate) fn form(&self) -> Result<CorpusForm<'_>, String> {
        match (&self.source, &self.target, &self.tsv) {
            (Some(source), Some(target), None) => Ok(CorpusForm::TwoFiles { source, target }),
            (None, None, Some(path)) => Ok(CorpusForm::Tsv(path)),
            (None, None, None) => Err("none of them".into()),
            (source, target, tsv) => {
                let given = [("`source`", source), ("`target`", target), ("`tsv`", tsv)];
                let given: Vec<&str> = given
                    .iter()
                    .filter(|(_, path)| path.is_some())
                    .map(|(name, _)| *name)
                    .collect();
                Err(if given.len() == 1 {
                    format!("only {}", given[0])
                } else {
                    given.join(" and ")
                })
            }
        }
    }
}

/// Whether an epoch can be drawn with this weight.
pub(crate) fn weight_is_valid(weight: f64) -> bool {
    weight > 0.0 && weight <= MAX_WEIGHT
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let either = "give either `source` and `target` or `tsv`; this entry has";
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
            test: Some(CorpusFiles::tsv("no-such.tsv")),
            ..DataConfig::default()
        };
        let expected = [
            "data.train[0].target: no-such.de: no such file",
            "data.test.tsv: no-such.tsv: no such file",
        ];
        assert_eq!(config.missing_files(), expected);
    }
}
