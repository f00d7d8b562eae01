//! Cleaning corpora: which pairs are kept, which are dropped, and why.

use crate::Result;
use crate::config::Config;
use crate::error::{WithContext, bail};
use crate::languages::{languages_of, rules_with_languages};
use crate::notice::{Listener, Work};
use crate::preparation::with_kept_text;
use crate::run_record::InitRecord;
use crate::saved_model::SavedModel;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use tallow_data::{CleanConfig, Cleaning, CorpusFiles, PairReader, Rule, Tally, TextRecord, is_blank, name_of};
use tallow_decode::{Hypothesis, Unscored};

/// The number of dropped pairs that a report shows for each rule.
const EXAMPLES: usize = 3;

/// The rules of a config, with the languages that follow from it if it names none. `None` if the config does not clean.
pub fn rules(config: &Config) -> Option<CleanConfig> {
    config
        .data
        .clean
        .as_ref()
        .map(|rules| rules_with_languages(rules.clone(), languages_of(config)))
}

/// Prepares rules for corpora, which are read for this. If a model is to score pairs, it does. `folder` is for
/// temporary files, and `pairs` is the number of all pairs, if it is known.
///
/// # Errors
/// When text cannot be read or has changed, the folder cannot be written, or the model cannot be opened.
pub(crate) fn survey(
    rules: &CleanConfig,
    corpora: &[(CorpusFiles, TextRecord)],
    folder: &Path,
    pairs: Option<u64>,
    listener: &dyn Listener,
) -> Result<Cleaning> {
    let mut cleaning = Cleaning::survey(rules, corpora, folder, |done| {
        listener.working(&Work::new("looking at pairs for cleaning", done, pairs));
    })?;
    if let (Some(model), Some(least)) = (&rules.model, rules.least_score) {
        let translator = scoring_model(model, listener)?.translator()?;
        let score = |sources: &[String], targets: &[String]| -> Result<Vec<Option<f64>>> {
            let scored = translator.score_pairs(sources, targets)?;
            let mean = |found: Result<Hypothesis, Unscored>| {
                let found = found.ok()?;
                Some(found.log_probability / found.token_log_probabilities.len().max(1) as f64)
            };
            Ok(scored.into_iter().map(mean).collect())
        };
        cleaning.drop_improbable(corpora, least, score, |done| {
            listener.working(&Work::new("scoring pairs", done, pairs));
        })?;
    }
    Ok(cleaning)
}

fn scoring_model(model: &Path, listener: &dyn Listener) -> Result<SavedModel> {
    SavedModel::at(model, listener).with_context(|| "data.clean.model".to_owned())
}

/// SHA-256 of the weights of the model that scores pairs, if one does.
///
/// # Errors
/// When there is no such model.
pub(crate) fn hash_of_model(rules: Option<&CleanConfig>, listener: &dyn Listener) -> Result<Option<String>> {
    let Some(model) = rules.and_then(|rules| rules.model.as_ref()) else {
        return Ok(None);
    };
    let record = InitRecord::of(&model.to_string_lossy(), &scoring_model(model, listener)?)?;
    let weights = record.sha256.iter().filter(|(name, _)| !name.ends_with(".json"));
    Ok(Some(
        weights
            .map(|(_, hash)| hash.as_str().unwrap_or_default())
            .collect::<Vec<_>>()
            .join(" "),
    ))
}

/// What became of a corpus.
#[derive(Clone, Debug, PartialEq)]
pub struct CleanReport {
    /// The corpus, as messages name it.
    pub corpus: String,
    /// The number of its pairs.
    pub read: u64,
    /// The number of pairs that were kept.
    pub kept: u64,
    /// Pairs with a blank side.
    pub empty: Tally,
    /// The pairs that a rule has dropped, for each that has dropped some.
    pub dropped: Vec<Dropped>,
    /// The files with the kept pairs.
    pub files: CorpusFiles,
    /// The file with the dropped pairs: the rule, the line, source and target, with tabs between them.
    pub dropped_pairs: PathBuf,
}

/// The pairs that a rule has dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropped {
    /// The rule.
    pub rule: Rule,
    /// Their number, and the lines of the first ones.
    pub tally: Tally,
    /// The first ones.
    pub examples: Vec<[String; 2]>,
}

/// Applies the rules of a config, or the default ones, to its training corpora. What is kept and what is dropped is
/// written into a folder, which must not exist or be empty.
///
/// # Errors
/// When text cannot be read, or the folder cannot be written.
pub fn clean(config: &Config, folder: &Path, listener: &dyn Listener) -> Result<Vec<CleanReport>> {
    let rules = rules_with_languages(config.data.clean.clone().unwrap_or_default(), languages_of(config));
    let is_used = folder.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if is_used || folder.is_file() {
        bail!(
            "{}: exists already and is not empty; choose another folder",
            folder.display()
        );
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let corpora = &with_kept_text(config)?.data.train;
    let record = |files: &CorpusFiles| {
        let record = TextRecord::read(files, |pairs| {
            listener.working(&Work::new("reading the text", pairs, None))
        })?;
        Ok((files.clone(), record))
    };
    let recorded = corpora.iter().map(record).collect::<Result<Vec<_>>>()?;
    let cleaning = survey(&rules, &recorded, folder, None, listener)?;
    let mut names = HashSet::new();
    let clean =
        |(number, files): (usize, &CorpusFiles)| clean_one(&cleaning, number, files, folder, &mut names, listener);
    corpora.iter().enumerate().map(clean).collect()
}

fn clean_one(
    cleaning: &Cleaning,
    number: usize,
    files: &CorpusFiles,
    folder: &Path,
    names: &mut HashSet<PathBuf>,
    listener: &dyn Listener,
) -> Result<CleanReport> {
    // Prefixes are put before the lines when the cleaned text is read. Word alignments would belong to other lines.
    let plain = CorpusFiles {
        source_prefix: None,
        target_prefix: None,
        alignments: None,
        ..files.clone()
    };
    let mut reader = PairReader::open(&plain)?;
    let mut output = Output::new(files, number, folder, names)?;
    let mut report = CleanReport {
        corpus: String::new(),
        read: 0,
        kept: 0,
        empty: Tally::default(),
        dropped: Vec::new(),
        files: output.files.clone(),
        dropped_pairs: output.dropped.0.clone(),
    };
    for pair in &mut reader {
        let pair = pair?;
        let line = report.read;
        report.read += 1;
        listener.working(&Work::new("cleaning", report.read, None));
        if is_blank(&pair.source) || is_blank(&pair.target) {
            report.empty.add(line + 1);
            output.drop("empty", line + 1, &pair.source, &pair.target)?;
        } else if let Some(rule) = cleaning.verdict(number, line, &pair.source, &pair.target) {
            output.drop(rule.key(), line + 1, &pair.source, &pair.target)?;
            let place = report.dropped.iter().position(|dropped| dropped.rule == rule);
            let place = place.unwrap_or_else(|| {
                report.dropped.push(Dropped {
                    rule,
                    tally: Tally::default(),
                    examples: Vec::new(),
                });
                report.dropped.len() - 1
            });
            let dropped = &mut report.dropped[place];
            dropped.tally.add(line + 1);
            if dropped.examples.len() < EXAMPLES {
                dropped.examples.push([pair.source, pair.target]);
            }
        } else {
            report.kept += 1;
            output.keep(&pair.source, &pair.target)?;
        }
    }
    report.dropped.sort_by_key(|dropped| dropped.rule);
    report.corpus = name_of(&reader.finish().1);
    output.finish()?;
    Ok(report)
}

type Written = (PathBuf, BufWriter<File>);

/// The files of a cleaned corpus.
struct Output {
    /// Source and target, or one TSV.
    kept: Vec<Written>,
    dropped: Written,
    files: CorpusFiles,
}

impl Output {
    fn new(files: &CorpusFiles, number: usize, folder: &Path, names: &mut HashSet<PathBuf>) -> Result<Self> {
        let name = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let plain = [".gz", ".zst"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(&name);
            plain.replace(['*', '?', '[', ']'], "_")
        };
        let mut open = |name: String| {
            let mut path = folder.join(&name);
            if !names.insert(path.clone()) {
                path = folder.join(format!("{number}-{name}"));
                names.insert(path.clone());
            }
            let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
            Ok::<Written, crate::Error>((path, BufWriter::new(file)))
        };
        let mut cleaned = CorpusFiles {
            name: files.name.clone(),
            source_prefix: files.source_prefix.clone(),
            target_prefix: files.target_prefix.clone(),
            weight: files.weight,
            ..CorpusFiles::default()
        };
        let (kept, first) = match (&files.source, &files.target) {
            (Some(source), Some(target)) => {
                let kept = vec![open(name(source))?, open(name(target))?];
                cleaned.source = Some(kept[0].0.clone());
                cleaned.target = Some(kept[1].0.clone());
                (kept, name(source))
            }
            _ => {
                let given = [&files.tsv, &files.tmx, &files.po];
                let path = given
                    .into_iter()
                    .find_map(Option::as_deref)
                    .unwrap_or(Path::new("corpus"));
                let name = name(path);
                let end = if name.ends_with(".tsv") { "" } else { ".tsv" };
                let kept = vec![open(format!("{name}{end}"))?];
                cleaned.tsv = Some(kept[0].0.clone());
                (kept, name)
            }
        };
        Ok(Self {
            kept,
            dropped: open(format!("{first}.dropped"))?,
            files: cleaned,
        })
    }

    fn keep(&mut self, source: &str, target: &str) -> Result<()> {
        match self.kept.as_mut_slice() {
            [both] => write(both, &[source, target]),
            [sources, targets] => {
                write(sources, &[source])?;
                write(targets, &[target])
            }
            _ => Ok(()),
        }
    }

    fn drop(&mut self, rule: &str, line: u64, source: &str, target: &str) -> Result<()> {
        let without_tabs = |text: &str| text.replace('\t', " ");
        let line = line.to_string();
        write(
            &mut self.dropped,
            &[rule, &line, &without_tabs(source), &without_tabs(target)],
        )
    }

    fn finish(self) -> Result<()> {
        for (path, mut file) in self.kept.into_iter().chain([self.dropped]) {
            file.flush()
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

fn write((path, file): &mut Written, columns: &[&str]) -> Result<()> {
    let written = writeln!(file, "{}", columns.join("\t"));
    written.with_context(|| format!("cannot write {}", path.display()))
}
