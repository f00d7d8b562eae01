//! Preparing the training text of a config: a vocabulary and prepared corpora, in a folder that runs share.
//!
//! The folder has four kinds of entries. The names of all of them end in eight digits of the hash of what they depend
//! on, so that runs of different configs do not replace each other's.
//!
//! - `NAME-HASH.text.json`: the hashes and counts of a corpus's text ([`TextRecord`]), so that unchanged text is not
//!   read again;
//! - `vocabulary-HASH/`: a learned vocabulary, and what it was learned from;
//! - `NAME-HASH.json`, `.pairs`, `.offsets`: a corpus as tokens ([`PreparedCorpus`]);
//! - `NAME-HASH.KEY.zst`: text that came through a pipe.
//!
//! An entry is used if it was made of the same things as would be used now; otherwise it is made anew, and a notice
//! says why.

mod names;
mod pipes;
mod vocabulary;

use crate::cleaning::{hash_of_model, rules, survey};
use crate::config::Config;
use crate::corpora::{cuts, encoder};
use crate::error::WithContext;
use crate::hub::Hub;
use crate::humanize::thousands;
use crate::notice::{Listener, Notice, Work};
use crate::{Result, cores};
use names::{base_name, hash_of};
pub use pipes::Pipes;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tallow_data::{
    BitSet, Cleaning, CorpusFiles, DataError, Description, Earlier, FileRecord, Preparation, PreparedCorpora,
    PreparedCorpus, Reading, Recipe, TextRecord, duplicates, remove_leftovers,
};
use tallow_text::Tokenizers;
use tallow_train::Silent;

/// The training text of a run, ready to train on.
#[derive(Debug)]
pub struct Prepared {
    /// The tokenizers.
    pub tokenizers: Tokenizers,
    /// The corpora.
    pub corpora: PreparedCorpora,
}

/// Prepares the training text of a config. What was prepared before and fits is used again; a preparation that was
/// killed goes on. With `tokenizers`, these are used, otherwise those that the config names or asks to learn.
///
/// # Errors
/// When text is missing or faulty, a vocabulary cannot be had, no pair is left, or the folder cannot be written.
pub fn prepare(
    config: &Config,
    tokenizers: Option<Tokenizers>,
    hub: &Hub,
    pipes: Pipes,
    listener: &dyn Listener,
) -> Result<Prepared> {
    let folder = config.prepared_folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let _lock = lock(&folder, listener)?;
    let config = &pipes::without_pipes(config, &folder, pipes, listener)?;
    let texts = text_records(config, &folder, listener)?;
    let tokenizers = match tokenizers {
        Some(given) => given,
        None => match crate::vocabulary::named(config, hub, listener)? {
            Some(named) => named,
            None => vocabulary::learned(config, &folder, &texts, listener)?,
        },
    };
    // Text must not be encoded first if the tokenizer cannot cut it as the config asks.
    tokenizers.samplers(&config.text)?;
    let corpora = Corpora {
        config,
        folder: &folder,
        texts: &texts,
        tokenizers: &tokenizers,
    };
    let prepared = corpora.prepare(listener)?;
    let weights = config.data.train.iter().map(|files| files.weight);
    let corpora = PreparedCorpora::new(prepared.into_iter().zip(weights).collect())?;
    let cuts = cuts(config, &corpora, &tokenizers)?;
    Ok(Prepared {
        corpora: corpora.with_cuts(cuts),
        tokenizers,
    })
}

/// The config with the text that came through pipes before in place of the pipes.
///
/// # Errors
/// When nothing has come through a pipe.
pub fn with_kept_text(config: &Config) -> Result<Config> {
    pipes::without_pipes(config, &config.prepared_folder(), Pipes::Kept, &Silent)
}

/// Locks the folder for this process, as long as the result lives. In a folder that may only be read, what is prepared
/// can be used without a lock.
pub(crate) fn lock(folder: &Path, listener: &dyn Listener) -> Result<Option<File>> {
    let path = folder.join("lock");
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let file = match opened {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            return Ok(None);
        }
        opened => opened.with_context(|| format!("cannot write {}", path.display()))?,
    };
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        listener.notice(&Notice::Note(format!(
            "another process prepares text in {}: waiting for it",
            folder.display()
        )));
        // Some network file systems have no locks; then the preparation goes on without one.
        let _ = file.lock();
    }
    remove_leftovers(folder)?;
    Ok(Some(file))
}

/// The records of the text of all training corpora. Text that has not changed since it was read last is not read again.
fn text_records(config: &Config, folder: &Path, listener: &dyn Listener) -> Result<Vec<TextRecord>> {
    let record = |files: &CorpusFiles| {
        let path = folder.join(format!("{}-{}.text.json", base_name(files), hash_of(&keys(files))));
        if let Some(record) = TextRecord::open(&path, files) {
            return Ok(record);
        }
        let record = TextRecord::read(files, |pairs| {
            listener.working(&Work::new("reading the text", pairs, None))
        })?;
        record.save(&path)?;
        Ok(record)
    };
    config.data.train.iter().map(record).collect()
}

/// The keys of a corpus that its text depends on, as they were given.
fn keys(files: &CorpusFiles) -> Vec<String> {
    let CorpusFiles {
        source,
        target,
        tsv,
        tmx,
        po,
        alignments,
        languages: _,
        source_prefix: _,
        target_prefix: _,
        name: _,
        weight: _,
    } = files;
    let path = |path: &Option<PathBuf>| {
        // Folders for prepared corpora are shared by projects whose files have the same names.
        let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        path.as_ref()
            .map_or(String::new(), |path| whole(path).to_string_lossy().into_owned())
    };
    let mut keys: Vec<String> = [source, target, tsv, tmx, po, alignments].map(path).into();
    keys.push(format!("{:?}", Reading::of(files)));
    keys
}

/// The corpora that are to be prepared.
struct Corpora<'a> {
    config: &'a Config,
    folder: &'a Path,
    texts: &'a [TextRecord],
    tokenizers: &'a Tokenizers,
}

impl Corpora<'_> {
    fn prepare(&self, listener: &dyn Listener) -> Result<Vec<PreparedCorpus>> {
        let model = hash_of_model(rules(self.config).as_ref(), listener)?;
        let recipes = (0..self.texts.len()).map(|number| self.recipe(number, &model));
        let recipes: Vec<(PathBuf, Recipe)> = recipes.collect();
        let mut ready: Vec<Option<PreparedCorpus>> = recipes
            .iter()
            .map(|(base, recipe)| existing(base, recipe, listener))
            .collect();
        let is_complete = ready.iter().all(Option::is_some);
        let repeated = match self.config.data.drop_duplicates && !is_complete {
            true => duplicates(&self.with_records(), self.folder, |pairs| {
                listener.working(&Work::new("looking for repeated pairs", pairs, Some(self.lines())));
            })?,
            false => Vec::new(),
        };
        let cleaning = match rules(self.config) {
            Some(rules) if !is_complete => {
                let lines = Some(self.lines());
                Some(survey(&rules, &self.with_records(), self.folder, lines, listener)?)
            }
            _ => None,
        };
        for (number, (base, recipe)) in recipes.iter().enumerate() {
            if ready[number].is_none() {
                let dropping = (repeated.get(number), cleaning.as_ref());
                let corpus = self.prepare_one(number, base, recipe, dropping, listener)?;
                ready[number] = Some(corpus);
            }
        }
        Ok(ready.into_iter().flatten().collect())
    }

    /// The corpora with the records of their text.
    fn with_records(&self) -> Vec<(CorpusFiles, TextRecord)> {
        let corpora = self.config.data.train.iter().cloned();
        corpora.zip(self.texts.iter().cloned()).collect()
    }

    fn lines(&self) -> u64 {
        self.texts.iter().map(|text| text.report.lines).sum()
    }

    /// The path and the recipe of a corpus.
    fn recipe(&self, number: usize, model: &Option<String>) -> (PathBuf, Recipe) {
        let (files, text) = (&self.config.data.train[number], &self.texts[number]);
        let clean = rules(self.config);
        let looks_back = self.config.data.drop_duplicates || clean.is_some();
        let before = if looks_back { number } else { 0 };
        let earlier = |number: usize| Earlier {
            text: self.texts[number].files.clone(),
            reading: Reading::of(&self.config.data.train[number]),
        };
        let recipe = Recipe {
            text: text.files.clone(),
            reading: Reading::of(files),
            alignments: text.alignments.clone(),
            links: text.alignments.is_some() && self.config.train.guided_alignment > 0.0,
            tokenizers: [self.tokenizers.source.sha256(), self.tokenizers.target.sha256()],
            filters: self.config.data.filters(),
            clean,
            clean_model: model.clone(),
            after: (0..before).map(earlier).collect(),
        };
        let mut parts = keys(files);
        parts.extend(recipe.tokenizers.clone());
        // Rules that a later version knows must not change the names of what was prepared without them.
        let clean = match &recipe.clean {
            Some(rules) => serde_json::to_string(rules).unwrap_or_default(),
            None => "None".to_owned(),
        };
        parts.push(format!("{:?} {} {clean}", recipe.filters, recipe.links));
        parts.extend((0..before).flat_map(|number| keys(&self.config.data.train[number])));
        let name = format!("{}-{}", base_name(files), hash_of(&parts));
        (self.folder.join(name), recipe)
    }

    fn prepare_one(
        &self,
        number: usize,
        base: &Path,
        recipe: &Recipe,
        (repeated, cleaning): (Option<&BitSet>, Option<&Cleaning>),
        listener: &dyn Listener,
    ) -> Result<PreparedCorpus> {
        let begin = Instant::now();
        let lines = self.texts[number].report.lines;
        let (source, target) = (&self.tokenizers.source, &self.tokenizers.target);
        let preparation = Preparation {
            files: &self.config.data.train[number],
            base,
            recipe: recipe.clone(),
            end_id: target.eos_id(),
            largest_id: source.vocabulary_size().max(target.vocabulary_size()).saturating_sub(1) as u32,
            duplicates: repeated,
            cleaning: cleaning.map(|cleaning| (cleaning, number)),
            workers: cores(),
        };
        let encode = encoder(self.tokenizers, recipe.links)?;
        let corpus = preparation.run(&encode, |done| {
            listener.working(&Work::new("encoding pairs", done, Some(lines)));
        })?;
        let Description { pairs, bytes, .. } = *corpus.description();
        listener.notice(&Notice::Prepared {
            pairs,
            path: base.to_owned(),
            bytes: bytes + 8 * (pairs + 1),
            seconds: begin.elapsed().as_secs_f64(),
        });
        Ok(corpus)
    }
}

/// The corpus that was prepared here before, if it can be used.
fn existing(base: &Path, recipe: &Recipe, listener: &dyn Listener) -> Option<PreparedCorpus> {
    let reason = match PreparedCorpus::open(base) {
        Ok(None) => return None,
        Ok(Some(corpus)) => match corpus.description().recipe.difference(recipe) {
            None => return Some(corpus),
            Some(difference) => format!("{}: {difference}", base.display()),
        },
        Err(DataError::Prepared { path, reason }) => format!("{}: {reason}", path.display()),
        Err(error) => error.to_string(),
    };
    listener.notice(&Notice::Note(format!("preparing the corpus anew: {reason}")));
    None
}

/// A summary of the prepared corpora of a config, one line for each.
pub fn summary(corpora: &PreparedCorpora) -> Vec<String> {
    let line = |corpus: &PreparedCorpus| {
        let of = corpus.description();
        format!(
            "{}.pairs\t{} pairs\t{} source tokens\t{} target tokens",
            corpus.base().display(),
            thousands(of.pairs as f64),
            thousands(of.source_tokens as f64),
            thousands(of.target_tokens as f64)
        )
    };
    corpora.corpora().iter().map(line).collect()
}

/// The hashes of files, in order.
fn hashes(files: &[&FileRecord]) -> Vec<String> {
    files.iter().map(|file| file.sha256.clone()).collect()
}

/// Reads every pair of a config's prepared corpora, and checks it.
///
/// # Errors
/// When a pair is damaged.
pub fn verify(corpora: &PreparedCorpora, listener: &dyn Listener) -> Result<()> {
    for corpus in corpora.corpora() {
        let all = corpus.description().pairs;
        corpus.verify(|done| listener.working(&Work::new("checking pairs", done, Some(all))))?;
    }
    Ok(())
}
