//! Training: a run from its config to its best model.

mod place;
mod ranks;
mod test;

use crate::config::{Composed, Config};
use crate::error::{WithContext, bail};
use crate::hub::Hub;
use crate::initial::Initial;
use crate::notice::{Listener, Notice};
use crate::preparation::{Pipes, Prepared, prepare};
use crate::record::TimeSpent;
use crate::run_record::{BestRecord, PairCounts, Results, RunRecord, TestRecord};
use crate::vocabulary::rewritten_references;
use crate::workers::workers_on;
use crate::{Error, Result, card, check_workers, corpora, initial, record};
use candle_core::Device;
use place::{clear, place_to_begin, refuse_other_pairs, write_config};
pub use place::{has_results, may_change};
pub use ranks::{Member, cores_for_each};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tallow_comm::Group;
use tallow_data::{Corpus, CorpusFiles, EvaluationSets, FileRecord, PairSource, ParallelText, PreparedCorpora};
use tallow_score::Score;
use tallow_text::Tokenizers;
use tallow_train::{
    CARD_FILE, Ending, Outcome, RunDirectory, Silent, Trainer, TrainerParts, ValidationSet, must_be_finite, read_state,
};

/// The treatment of a run that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Begin {
    /// Return an error.
    #[default]
    New,
    /// Resume the run from its newest usable checkpoint.
    Resume,
    /// Replace the run.
    Overwrite,
}

/// A run that is to be trained.
#[derive(Clone, Debug)]
#[must_use = "`run` trains"]
pub struct Training {
    config: Composed,
    device: Device,
    hub: Hub,
    begin: Begin,
    profile: bool,
    group: Group,
    member: Member,
}

impl Training {
    /// The run of a config. By default, it is a new run on the CPU without a network, trained by this process alone.
    pub fn new(config: Composed) -> Self {
        Self {
            config,
            device: Device::Cpu,
            hub: Hub::none(),
            begin: Begin::New,
            profile: false,
            group: Group::alone(),
            member: Member::default(),
        }
    }

    /// Sets the device to train on.
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Sets the connection to the Hugging Face Hub, for models and tokenizers that the config names.
    pub fn hub(mut self, hub: Hub) -> Self {
        self.hub = hub;
        self
    }

    /// Sets the treatment of a run that exists already.
    pub fn begin(mut self, begin: Begin) -> Self {
        self.begin = begin;
        self
    }

    /// Sets whether to measure the time of updates by operation.
    pub fn profile(mut self, profile: bool) -> Self {
        self.profile = profile;
        self
    }

    /// Sets the processes that train the run together, and what this one is called among them. All of them must
    /// prepare and run the same training; the group's root reads and writes the run's directory, and its listener gets
    /// the notices.
    pub fn group(mut self, group: Group, member: Member) -> Self {
        self.group = group;
        self.member = member;
        self
    }

    /// Trains to the end.
    ///
    /// # Errors
    /// Those of [`Self::prepare`] and [`ReadyTraining::run`].
    pub fn run(self, listener: &dyn Listener) -> Result<Trained> {
        self.prepare(listener)?.run(listener, &AtomicBool::new(false))
    }

    /// Prepares the training text, and trains nothing: see [`crate::preparation`].
    ///
    /// # Errors
    /// When the config cannot be used, or the text cannot be prepared.
    pub fn prepare_text(self, listener: &dyn Listener) -> Result<Prepared> {
        let Self {
            config: composed, hub, ..
        } = self;
        composed.check()?;
        refuse_missing_files(&composed)?;
        let (config, tokenizers) = match &composed.config.init {
            Some(name) => {
                let init = Initial::open(name, &hub, &Device::Cpu, listener)?;
                let config = composed.with_model_of(&init.opened.architecture.canonical().model)?;
                (config, Some(init.tokenizers))
            }
            None => (composed.config, None),
        };
        prepare(&config, tokenizers, &hub, Pipes::Read, listener)
    }

    /// Opens everything and checks that it fits together. Only then does it remove an earlier run, if there is one, and
    /// prepares the directory. No other process can train in this directory until the result is dropped.
    ///
    /// # Errors
    /// When something is missing, is damaged or contradicts another part; or when another process trains in the same
    /// directory.
    pub fn prepare(self, listener: &dyn Listener) -> Result<ReadyTraining> {
        let begin = Instant::now();
        if !self.group.is_alone() && !self.device.is_cpu() {
            bail!("several processes can train on CPUs only so far: start one process, or choose the CPU");
        }
        let limit = Duration::from_secs(self.config.config.train.rank_timeout);
        let group = self.group.clone().with_limit(limit);
        let agreement = ranks::agree(&group, &self.member, &self.config)?;
        if !group.is_root() {
            return self.join(group, begin);
        }
        let Self {
            config: mut composed,
            device,
            hub,
            begin: how,
            profile,
            member,
            ..
        } = self;
        // The values that a run keeps are known once its checkpoint is found.
        if how != Begin::Resume {
            composed.check()?;
        }
        check_workers(&composed.config, &device)?;
        refuse_missing_files(&composed)?;
        composed.config.score.open_files()?;
        let run = RunDirectory::new(composed.config.run_directory());
        if how == Begin::Resume && !run.record().exists() && !has_results(&run) {
            return Err(Error::NoRun {
                path: run.path().to_path_buf(),
            });
        }
        // The lock is taken before anything is read.
        std::fs::create_dir_all(run.path()).with_context(|| format!("cannot make {}", run.path().display()))?;
        let lock = run.lock()?;
        let resume_from = place_to_begin(&run, how, listener)?;
        if let Some(update) = resume_from {
            let state = read_state(&run.checkpoint(update))?;
            record::keep_what_a_run_began_with(&mut composed, &state.fingerprint.config)?;
        }
        if how == Begin::Resume {
            composed.check()?;
        }
        let init = match &composed.config.init {
            Some(name) if resume_from.is_none() => Some(Initial::open(name, &hub, &device, listener)?),
            _ => None,
        };
        let config = with_model(composed, init.as_ref(), &run, resume_from)?;
        let texts = Texts::open(&config)?;
        let tokenizers = match (resume_from, &init) {
            (Some(_), _) => Some(Tokenizers::open(run.path())?),
            (None, Some(init)) => Some(init.tokenizers.clone()),
            (None, None) => None,
        };
        let Prepared { tokenizers, corpora } = prepare(&config, tokenizers, &hub, Pipes::Kept, listener)?;
        refuse_empty_stages(&config, &corpora)?;
        // A text that cannot be forbidden would end the run at its first validation.
        config.decode.forbidden_tokens(&tokenizers.target)?;
        texts.note_rewritten(&config, &tokenizers, listener)?;
        tell_corpora(&corpora, listener);
        let valid = validation_sets(texts.valid.clone(), &config, &tokenizers)?;
        let architecture = initial::architecture(&config, &tokenizers)?;
        let begun_with = match (&init, resume_from) {
            (Some(init), _) => Some(init.record.clone()),
            (None, Some(_)) => RunRecord::read(&run.record()).init,
            (None, None) => None,
        };
        let (params, logits_bias) = initial::weights(&config, init, &architecture, &device)?;
        let workers = workers_on(agreement.cores, &config, &device, params.elements());
        let valid_corpora: Vec<&Corpus> = valid.iter().map(|set| &set.corpus).collect();
        let train_files: Vec<&FileRecord> = corpora.files().collect();
        let all_workers = workers * group.size();
        let fingerprint = record::fingerprint(&config, &train_files, &valid_corpora, &tokenizers, all_workers)?;
        let files = files(&train_files, &valid_corpora, &texts.test);
        let pair_count = corpora.pair_count();
        if !group.is_alone() {
            ranks::Brief::new(&config, &fingerprint, &tokenizers, &texts.valid)?.send(&group)?;
            ranks::agree_on_text(&group, &member, &fingerprint.data, pair_count)?;
        }
        let pairs = PairCounts {
            train: Some(pair_count),
            valid: total(valid_corpora.iter().map(|corpus| corpus.len())),
            test: total(texts.test.iter().map(|(_, text)| text.source.len())),
        };
        let record = RunRecord::new(&fingerprint, &files, pairs, begun_with);
        if resume_from.is_none() {
            if let Some(reason) = tokenizers.why_not_marian_tokenizer() {
                listener.notice(&Notice::Note(format!(
                    "the model will lack the files of Hugging Face's tokenizer: {reason}"
                )));
            }
            must_be_finite(&params)?;
            clear(&run)?;
            // The config is written last, because it makes the directory that of a run.
            record.write(&run.record())?;
            tokenizers.save(run.path())?;
            write_config(&run, &config)?;
        }
        let card = card::of_run(&config, &record, &architecture, &params, &tokenizers)?;
        let parts = TrainerParts {
            card,
            architecture,
            params,
            logits_bias,
            tokenizers,
            corpus: Arc::new(corpora),
            valid,
            train: config.train.clone(),
            data: config.data.clone(),
            decode: config.decode.clone(),
            fingerprint,
            run: run.clone(),
            device: device.clone(),
            group,
        };
        let mut trainer = match resume_from {
            Some(update) => {
                let (trainer, changes) = Trainer::resume(parts, update, may_change)?;
                refuse_other_pairs(&run, pair_count)?;
                tell_resuming(&run, update, changes, listener);
                write_config(&run, &config)?;
                trainer
            }
            None => Trainer::new(parts)?,
        };
        if profile {
            trainer.profile();
        }
        Ok(ReadyTraining {
            trainer,
            config,
            run,
            device,
            workers,
            record,
            test: texts.test,
            begin,
            is_root: true,
            _lock: Some(lock),
        })
    }
}

fn validation_sets(texts: Vec<NamedText>, config: &Config, tokenizers: &Tokenizers) -> Result<Vec<ValidationSet>> {
    let set = |(name, text)| {
        corpora::validation_set(
            name,
            text,
            tokenizers,
            config.data.batch_tokens,
            config.model.position_limit(),
            &config.score,
            config.train.metric,
        )
    };
    texts.into_iter().map(set).collect()
}

/// A run that is open and checked, ready to train.
#[must_use = "`run` trains"]
pub struct ReadyTraining {
    trainer: Trainer,
    config: Config,
    run: RunDirectory,
    device: Device,
    workers: usize,
    record: RunRecord,
    test: Vec<NamedText>,
    begin: Instant,
    /// Whether this process is the root of its group, or alone.
    is_root: bool,
    /// Held by the root until training has ended.
    _lock: Option<File>,
}

/// The result of a run.
#[derive(Debug)]
pub struct Trained {
    /// The reason why training has ended.
    pub ending: Ending,
    /// The number of completed updates.
    pub update: u64,
    /// The run's directory.
    pub run: RunDirectory,
    /// The scores of the best model on each set of `data.test`; none if the run was interrupted, or if this process is
    /// not the root of its group.
    pub test: Vec<TestScores>,
    /// Time and memory used by the run; nothing if this process is not the root of its group.
    pub spent: TimeSpent,
}

/// The results of the best model on the test set.
#[derive(Clone, Debug, PartialEq)]
pub struct TestScores {
    /// The name of the test set, if there are several.
    pub name: Option<String>,
    /// The number of lines in the test set.
    pub lines: usize,
    /// The beam size of the search.
    pub beam: usize,
    /// The scores.
    pub scores: Vec<Score>,
    /// The percentage of translations that equal their reference.
    pub exact_match: f64,
}

impl ReadyTraining {
    /// The directory of the run.
    pub fn run_directory(&self) -> &RunDirectory {
        &self.run
    }

    /// Trains until the config's end, or until `stop` is set; then the run can be resumed. At the end it scores the
    /// best model on the test set.
    ///
    /// # Errors
    /// When training diverges, a file cannot be written or a tensor operation fails. If the run has a checkpoint, the
    /// error is [`Error::Saved`].
    pub fn run(mut self, listener: &dyn Listener, stop: &AtomicBool) -> Result<Trained> {
        if !self.is_root {
            let outcome = self.trainer.run(&Silent, stop)?;
            return Ok(Trained {
                ending: outcome.ending,
                update: outcome.update,
                run: self.run,
                test: Vec::new(),
                spent: TimeSpent::default(),
            });
        }
        record::began(&self.run.timing(), self.trainer.update())?;
        let outcome = self.trainer.run(listener, stop);
        let spent = record::spent(
            &self.run.timing(),
            self.begin.elapsed().as_secs_f64(),
            record::peak_memory(),
        );
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                let error = Error::from(error);
                return Err(match self.run.intact_update() {
                    Ok((Some(update), _)) => Error::Saved {
                        update,
                        source: Box::new(error),
                    },
                    _ => error,
                });
            }
        };
        // Checked only now: the reason why training failed matters more than a failure to note its time, for example on
        // a full disk.
        let spent = spent?;
        listener.notice(&Notice::Ended {
            ending: outcome.ending,
            update: outcome.update,
            patience: self.config.train.patience,
        });
        let mut trained = Trained {
            ending: outcome.ending,
            update: outcome.update,
            run: self.run.clone(),
            test: Vec::new(),
            spent,
        };
        if outcome.ending != Ending::Interrupted {
            trained.test = self.finish(&outcome, listener)?;
        }
        Ok(trained)
    }

    /// Scores the test sets and completes the record.
    fn finish(&mut self, outcome: &Outcome, listener: &dyn Listener) -> Result<Vec<TestScores>> {
        let best = outcome.best.map(|(update, value)| BestRecord {
            update,
            metric: outcome.metric,
            value: value.is_finite().then_some(value),
        });
        let mut results = Results {
            update: outcome.update,
            best,
            skipped: outcome.skipped,
            setbacks: outcome.setbacks,
            ..Results::default()
        };
        // Translations of a test set that the config no longer names would be taken for current ones.
        let before = RunRecord::read(&self.run.record()).translations().into_iter();
        let before = before.map(|name| self.run.path().join(name));
        for path in before.chain([self.run.test_translations(None)]) {
            let is_current = |(name, _): &NamedText| self.run.test_translations(name.as_deref()) == path;
            if path.exists() && !self.test.iter().any(is_current) {
                std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        let mut scores = Vec::new();
        for text in std::mem::take(&mut self.test) {
            let found = test::score(&self.config, text, &self.run, &self.device, self.workers, listener)?;
            // Told before anything is written: no full disk can take them away.
            listener.notice(&Notice::Tested(found.clone()));
            let translations = self.run.test_translations(found.name.as_deref());
            let file = translations.file_name().map(|name| name.to_string_lossy().into_owned());
            let record = TestRecord {
                scores: tallow_score::to_json(&found.scores, 4),
                exact_match: found.exact_match,
                translations: file,
            };
            match &found.name {
                Some(name) => {
                    results.tests.insert(name.clone(), record);
                }
                None => results.test = Some(record),
            }
            scores.push(found);
        }
        if !scores.is_empty() && !card::add_scores(&self.config, &self.run.best(), &scores)? {
            listener.notice(&Notice::Note(format!(
                "{} is missing or has no place for these scores; {} has them",
                self.run.best().join(CARD_FILE).display(),
                self.run.record().display()
            )));
        }
        self.record.results = Some(results);
        self.record.write(&self.run.record())?;
        Ok(scores)
    }
}

/// The text of a run that is not trained on. It is opened before training, so that a fault in the test set does not
/// appear only after hours.
struct Texts {
    valid: Vec<NamedText>,
    test: Vec<NamedText>,
}

/// A text to score a model on, and its name if there are several.
type NamedText = (Option<String>, ParallelText);

impl Texts {
    fn open(config: &Config) -> Result<Self> {
        let open = |sets: &EvaluationSets| -> Result<Vec<NamedText>> {
            let name = |set: &CorpusFiles| set.name.clone().filter(|_| sets.len() > 1);
            sets.iter()
                .map(|set| Ok((name(set), ParallelText::open(set)?)))
                .collect()
        };
        Ok(Self {
            test: open(&config.data.test)?,
            valid: open(&config.data.valid)?,
        })
    }

    /// Reports references that the vocabulary cannot write.
    fn note_rewritten(&self, config: &Config, tokenizers: &Tokenizers, listener: &dyn Listener) -> Result<()> {
        for (part, texts) in [("data.valid", &self.valid), ("data.test", &self.test)] {
            for (name, text) in texts {
                if let Some((found, advice)) = rewritten_references(config, text, tokenizers)? {
                    let name = name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
                    listener.notice(&Notice::Note(format!("{part}{name}: {found}; {advice}")));
                }
            }
        }
        Ok(())
    }
}

/// The sum of the sizes of some sets, if there are any.
fn total(sizes: impl ExactSizeIterator<Item = usize>) -> Option<usize> {
    (sizes.len() > 0).then(|| sizes.sum())
}

/// A stage without pairs would end the run when it begins.
fn refuse_empty_stages(config: &Config, corpora: &PreparedCorpora) -> Result<()> {
    let parts = corpora.parts();
    for (number, stage) in config.data.stage.iter().enumerate() {
        let weights = stage.weights_of(&config.data.train);
        let has_pairs = weights
            .iter()
            .zip(&parts)
            .any(|(weight, part)| *weight > 0.0 && !part.pairs.is_empty());
        if !has_pairs {
            bail!("data.stage[{number}].weights: no pair of these corpora is left to train on");
        }
    }
    Ok(())
}

fn refuse_missing_files(composed: &Composed) -> Result<()> {
    let missing = composed.config.data.missing_files();
    if !missing.is_empty() {
        bail!("{}: files are missing:\n  {}", composed.name, missing.join("\n  "));
    }
    Ok(())
}

/// The config with the shape of the model that the run begins with. A model of `init` must be opened to know its shape;
/// for a resumed run, every checkpoint has it.
fn with_model(
    composed: Composed,
    init: Option<&Initial>,
    run: &RunDirectory,
    resume_from: Option<u64>,
) -> Result<Config> {
    match (init, resume_from) {
        (Some(init), _) => composed.with_model_of(&init.opened.architecture.canonical().model),
        (None, Some(update)) if composed.config.init.is_some() => {
            let architecture = tallow_model::read_architecture(&run.checkpoint(update))?;
            composed.with_model_of(&architecture.canonical().model)
        }
        (None, _) => Ok(composed.config),
    }
}

/// The files of a run, each with its purpose.
fn files(train: &[&FileRecord], valid: &[&Corpus], test: &[NamedText]) -> Vec<(&'static str, FileRecord)> {
    let train = train.iter().map(|file| ("train", (*file).clone()));
    let valid = valid.iter().flat_map(|corpus| corpus.files());
    let valid = valid.map(|file| ("valid", file.clone()));
    let test = test.iter().flat_map(|(_, text)| &text.files);
    let test = test.map(|file| ("test", file.clone()));
    train.chain(valid).chain(test).collect()
}

fn tell_corpora(corpora: &PreparedCorpora, listener: &dyn Listener) {
    for report in corpora.reports() {
        listener.notice(&Notice::Corpus(report.to_string()));
    }
    let (source_tokens, target_tokens) = corpora.tokens();
    listener.notice(&Notice::Pairs {
        pairs: corpora.pair_count(),
        source_tokens,
        target_tokens,
    });
}

fn tell_resuming(run: &RunDirectory, update: u64, changes: Vec<String>, listener: &dyn Listener) {
    let is_in_best = |change: &String| {
        ["card.", "decode.", "data.test"]
            .iter()
            .any(|key| change.starts_with(key))
    };
    let concerns_best = changes.iter().any(is_in_best) && run.best().exists();
    listener.notice(&Notice::Resuming {
        path: run.path().to_path_buf(),
        update,
        changes,
    });
    if concerns_best {
        listener.notice(&Notice::Note(format!(
            "{best} keeps the settings that it was written with until a better model replaces it. Later changes of [card] and \
             [data] can be put into {best}/{CARD_FILE} by hand; `tallow export` writes the present [decode]",
            best = run.best().display()
        )));
    }
}
