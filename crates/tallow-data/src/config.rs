//! The `[data]` table of a run's configuration.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clean::CleanConfig;
use crate::filter::Filters;
use crate::lines::is_blank;
use crate::shards::expand;

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
    /// Rules that drop pairs which are probably no translations of each other. Default: none.
    pub clean: Option<CleanConfig>,
    /// How many pairs are in memory and sorted by length together. Larger pools fill the batches better, smaller pools
    /// mix lengths more; 0 takes a whole epoch. Default: 100,000.
    pub pool_pairs: usize,
    /// Raises the share of small corpora: the share of each corpus in an epoch, which is its number of pairs times its
    /// weight, becomes its power of 1 / temperature (Arivazhagan et al. 2019). The largest corpus keeps its weight.
    /// Default: 1, which changes nothing; 5 is usual for many languages.
    pub temperature: f64,
    /// How many batches are prepared ahead of the one in training. Default: 4.
    pub prefetch_batches: usize,
    /// The folder for prepared corpora, which runs share. Default: `prepared` beside the run's directory.
    pub prepared: Option<PathBuf>,
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
            clean: None,
            pool_pairs: 100_000,
            temperature: 1.0,
            prefetch_batches: 4,
            prepared: None,
        }
    }
}

/// The files of one parallel corpus: `source` and `target`, where line N of both is one pair; or `tsv`, each line of
/// which is a source, one tab and a target; or `tmx` or `po`, the forms of translators. Each file may be compressed by
/// gzip or zstd. A name with `*`, `?` or `[...]` stands for several files, in the order of their names.
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
    /// A translation memory in the form TMX. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmx: Option<PathBuf>,
    /// A PO file of GNU gettext: translations of software. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub po: Option<PathBuf>,
    /// The codes of source and target language in `tmx`. Default: that of the file's header, and another one of its
    /// first unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub languages: Option<[String; 2]>,
    /// Put before every source line, with a space between, such as `>>de<<`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_prefix: Option<String>,
    /// Put before every target line, with a space between. Only for training. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_prefix: Option<String>,
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
            tmx: None,
            po: None,
            languages: None,
            source_prefix: None,
            target_prefix: None,
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
                ("tmx", &corpus.tmx),
                ("po", &corpus.po),
                ("alignments", &corpus.alignments),
            ];
            for (name, path) in files {
                if let Some(path) = path
                    && let Some(fault) = missing(path)
                {
                    faults.push(format!("{key}.{name}: {fault}"));
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

/// Why there is no file of this name or pattern, if there is none. `-` is a pipe.
fn missing(path: &Path) -> Option<String> {
    match expand(path) {
        _ if path.as_os_str() == "-" => None,
        Err(fault) => Some(fault.to_string()),
        Ok(files) => files
            .iter()
            .find(|file| !file.exists())
            .map(|file| format!("{}: no such file", file.display())),
    }
}

/// The ways to store a parallel corpus.
pub(crate) enum CorpusForm<'a> {
    TwoFiles { source: &'a Path, target: &'a Path },
    Tsv(&'a Path),
    Tmx(&'a Path),
    Po(&'a Path),
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
        let given = [
            ("`source`", &self.source),
            ("`target`", &self.target),
            ("`tsv`", &self.tsv),
            ("`tmx`", &self.tmx),
            ("`po`", &self.po),
        ];
        let paths = given.map(|(_, path)| path.as_deref());
        match paths {
            [Some(source), Some(target), None, None, None] => Ok(CorpusForm::TwoFiles { source, target }),
            [None, None, Some(path), None, None] => Ok(CorpusForm::Tsv(path)),
            [None, None, None, Some(path), None] => Ok(CorpusForm::Tmx(path)),
            [None, None, None, None, Some(path)] => Ok(CorpusForm::Po(path)),
            _ => {
                let given = given.iter().filter(|(_, path)| path.is_some());
                let given: Vec<&str> = given.map(|(name, _)| *name).collect();
                Err(match given.as_slice() {
                    [] => "none of them".into(),
                    [one] => format!("only {one}"),
                    several => several.join(" and "),
                })
            }
        }
    }
}

/// Whether an epoch can be drawn with this weight.
pub(crate) fn weight_is_valid(weight: f64) -> bool {
    (MIN_WEIGHT..=MAX_WEIGHT).contains(&weight)
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
