//! An entry of `data.train`, `data.valid` or `data.test`: the files of one corpus.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::shards::expand;

/// The files of one parallel corpus: `source` and `target`, where line N of both is one pair; or `tsv`, each line of
/// which is a source, one tab and a target; or `tmx` or `po`, the forms of translators. Each file may be compressed by
/// gzip or zstd. A name with `*`, `?` or `[...]` stands for several files, in the order of their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorpusFiles {
    /// The name by which [`crate::Stage`]s, logs and results call the corpus. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
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
            name: None,
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

    /// One message for each missing file, beginning with its key. Looks at the disk.
    pub(crate) fn missing_files(&self) -> Vec<String> {
        let files = [
            ("source", &self.source),
            ("target", &self.target),
            ("tsv", &self.tsv),
            ("tmx", &self.tmx),
            ("po", &self.po),
            ("alignments", &self.alignments),
        ];
        let fault = |(key, path): (&str, &Option<PathBuf>)| Some(format!("{key}: {}", missing(path.as_deref()?)?));
        files.into_iter().filter_map(fault).collect()
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
