//! What each part of a recipe is good for: the recipe trained with one part switched off at a time.
//!
//! An [`Ablation`] keeps its results in `ablation.json`, in a folder with a run for each part and seed. So it goes on
//! where it was stopped, and runs that are finished are not trained again.

mod page;
mod parts;
mod table;

use crate::comparison::Spread;
use crate::error::{WithContext, bail};
use crate::{Begin, Config, Ending, Error, Listener, Result, Training};
use candle_core::Device;
pub use parts::{Part, WHOLE, parts};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use tallow_model::{Architecture, marian_mt_faults};
use tallow_score::EXACT_MATCH;
use tallow_train::{Measure, MetricsLine, RunDirectory, TrainError, ValidationLine, read_log};

/// The file of results.
const RESULTS: &str = "ablation.json";

/// What to train.
#[derive(Clone, Debug)]
pub struct AblationPlan {
    /// The config.
    pub config: PathBuf,
    /// Settings over it, as `section.key=value`.
    pub set: Vec<String>,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// The names of the parts to switch off; all if there are none.
    pub only: Vec<String>,
    /// The folder of runs and results.
    pub output: PathBuf,
}

/// A recipe without each of its parts.
#[derive(Clone, Debug, Serialize)]
pub struct Ablation {
    /// The name of the config.
    pub name: String,
    /// The settings of the recipe, as `section.key` and value; those that differ by seed or place are left out.
    pub settings: Vec<(String, String)>,
    /// The measure that is compared, and on which set.
    pub measure: String,
    /// Whether more of it is better.
    pub is_more_better: bool,
    /// The digits after the point with which its values are told.
    pub digits: usize,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// The recipe itself, and one row for each part that is switched off.
    pub rows: Vec<AblationRow>,
    #[serde(skip)]
    plan: AblationPlan,
}

/// The runs without one part.
#[derive(Clone, Debug, Serialize)]
pub struct AblationRow {
    /// The part.
    pub part: Part,
    /// What MarianMT cannot express without it.
    pub marian_mt_faults: Vec<String>,
    /// The results so far, one for each seed at most.
    pub runs: Vec<AblationRun>,
}

/// The result of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AblationRun {
    /// The name of the part that was switched off.
    pub part: String,
    /// The seed.
    pub seed: u64,
    /// The value of the measure; `None` if the run failed.
    pub value: Option<f64>,
    /// The validation loss of the best model, in nats per target token.
    pub loss: Option<f64>,
    /// Why the run failed.
    pub failure: Option<String>,
}

/// What is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    settings: Vec<(String, String)>,
    runs: Vec<AblationRun>,
}

impl Ablation {
    /// Plans an ablation, and reads the results that are there already.
    ///
    /// # Errors
    /// When the config is wrong or has no validation set, or a part does not exist; and when the results in the folder
    /// are those of other settings.
    pub fn new(plan: AblationPlan) -> Result<Self> {
        let config = Config::compose(&plan.config, &plan.set)?.config;
        if config.data.valid.is_empty() {
            bail!(
                "{}: an ablation compares by the validation set, and the config names none (data.valid)",
                plan.config.display()
            );
        }
        let all = parts(&config);
        if let Some(other) = plan.only.iter().find(|name| all.iter().all(|part| part.name != **name)) {
            let names: Vec<&str> = all.iter().skip(1).map(|part| part.name).collect();
            return Err(Error::Usage(format!(
                "this config has no part {other:?} that could be switched off; it has {}",
                names.join(", ")
            )));
        }
        let only = plan.only.clone();
        let is_wanted =
            |part: &Part| part.name == WHOLE || only.is_empty() || only.iter().any(|name| name == part.name);
        let measure = config.train.metric;
        let is_tested = !config.data.test.is_empty() && measure.metric().is_some();
        let set = if is_tested { "test" } else { "validation" };
        let mut ablation = Self {
            name: config.name.clone(),
            settings: settings(&config)?,
            measure: format!("{} of the {set} set", measure.name()),
            is_more_better: match measure {
                Measure::Score(metric) => metric.is_more_better(),
                Measure::Command => true,
                Measure::Loss | Measure::Perplexity => false,
            },
            digits: match measure {
                Measure::Score(_) => 1,
                Measure::Perplexity => 2,
                Measure::Loss | Measure::Command => 3,
            },
            seeds: plan.seeds.clone(),
            rows: Vec::new(),
            plan,
        };
        for part in all.into_iter().filter(is_wanted) {
            let first = ablation.seeds.first().copied().unwrap_or(1);
            let without = ablation.config(&part, first);
            let without = without
                .with_context(|| format!("without the part {}", part.name))?
                .config;
            let architecture = Architecture {
                model: without.model,
                source_vocabulary: 2,
                target_vocabulary: 2,
                shared_vocabulary: true,
                eos_id: 0,
                unk_id: 1,
            };
            ablation.rows.push(AblationRow {
                marian_mt_faults: marian_mt_faults(&architecture),
                part,
                runs: Vec::new(),
            });
        }
        ablation.read()?;
        Ok(ablation)
    }

    /// The config without a part.
    fn config(&self, part: &Part, seed: u64) -> Result<crate::Composed> {
        let name = format!("{}-{seed}", part.name);
        let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let mut set = self.plan.set.clone();
        set.extend(part.set.iter().cloned());
        set.push(format!("seed={seed}"));
        set.push(format!("name={}", text(&format!("{}.{name}", self.name))));
        set.push(format!(
            "output={}",
            text(&self.plan.output.join(&name).display().to_string())
        ));
        Config::compose(&self.plan.config, &set)
    }

    /// Reads the results so far.
    ///
    /// # Errors
    /// When they cannot be read, or are those of other settings.
    pub fn read(&mut self) -> Result<()> {
        self.rows.iter_mut().for_each(|row| row.runs.clear());
        let path = self.plan.output.join(RESULTS);
        if !path.exists() {
            return Ok(());
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let stored: Stored = serde_json::from_str(&text)
            .map_err(|error| Error::Other(format!("{}: these are no results: {error}", path.display())))?;
        if stored.settings != self.settings {
            let differs = |(key, value): &&(String, String)| {
                self.settings.iter().all(|(other, own)| other != key || own != value)
            };
            let key = stored
                .settings
                .iter()
                .find(differs)
                .map_or("a key", |(key, _)| key.as_str());
            return Err(Error::Usage(format!(
                "{}: these results are of other settings ({key} differs); take another folder, or remove this one",
                path.display()
            )));
        }
        for run in stored.runs {
            if self.seeds.contains(&run.seed)
                && let Some(row) = self.rows.iter_mut().find(|row| row.part.name == run.part)
            {
                row.runs.push(run);
            }
        }
        Ok(())
    }

    /// Writes the results so far, those of other parts and seeds included.
    fn write(&self) -> Result<()> {
        let path = self.plan.output.join(RESULTS);
        // Several processes may add results. Some network file systems have no locks; then one may be lost, and found
        // again from its run.
        let lock = File::create(self.plan.output.join("lock"))
            .with_context(|| format!("cannot write into {}", self.plan.output.display()))?;
        let _ = lock.lock();
        let mut runs: Vec<AblationRun> = self.rows.iter().flat_map(|row| row.runs.clone()).collect();
        if let Ok(text) = std::fs::read_to_string(&path)
            && let Ok(stored) = serde_json::from_str::<Stored>(&text)
        {
            let is_new = |run: &AblationRun| runs.iter().all(|own| (&own.part, own.seed) != (&run.part, run.seed));
            let others: Vec<AblationRun> = stored.runs.into_iter().filter(is_new).collect();
            runs.extend(others);
        }
        let stored = Stored {
            settings: self.settings.clone(),
            runs,
        };
        write_text(&path, &(serde_json::to_string_pretty(&stored)? + "\n"))
    }

    /// The runs that are still to be trained: a row and a seed each, all parts with the first seed first.
    pub fn missing(&self) -> Vec<(usize, u64)> {
        let of_seed = |seed: &u64| {
            let seed = *seed;
            let rows = self.rows.iter().enumerate();
            let missing = rows.filter(move |(_, row)| row.runs.iter().all(|run| run.seed != seed));
            missing.map(move |(number, _)| (number, seed)).collect::<Vec<_>>()
        };
        self.seeds.iter().flat_map(of_seed).collect()
    }

    /// Trains one of the missing runs, and stores its result. A run that diverges or fails for another reason of its
    /// own is a result, too. If `stop` was set, the run can be gone on with by the next call.
    ///
    /// # Errors
    /// When the config cannot be used, or files cannot be read or written.
    pub fn train(
        &mut self,
        (row, seed): (usize, u64),
        device: &Device,
        listener: &dyn Listener,
        stop: &AtomicBool,
    ) -> Result<Ending> {
        let Some(part) = self.rows.get(row).map(|row| row.part.clone()) else {
            bail!("there is no part with the number {row}");
        };
        let composed = self.config(&part, seed)?;
        // The settings are there before the first result, so that runs of others are never mixed with these.
        std::fs::create_dir_all(&self.plan.output)
            .with_context(|| format!("cannot create {}", self.plan.output.display()))?;
        self.write()?;
        let (metric, run) = (
            composed.config.train.metric,
            RunDirectory::new(composed.config.run_directory()),
        );
        if run.is_run() && settings(&Config::of_run(&run.config())?)? != settings(&composed.config)? {
            return Err(Error::Usage(format!(
                "{}: this run is of other settings; take another folder, or remove this run",
                run.path().display()
            )));
        }
        let begin = if run.is_run() { Begin::Resume } else { Begin::New };
        let prepare = |begin| {
            Training::new(composed.clone())
                .device(device.clone())
                .begin(begin)
                .prepare(listener)
        };
        let ready = match prepare(begin) {
            // What a kill has left before the first checkpoint.
            Err(Error::NoCheckpoint { .. } | Error::NoRun { .. }) => prepare(Begin::Overwrite),
            ready => ready,
        };
        let mut result = AblationRun {
            part: part.name.to_owned(),
            seed,
            value: None,
            loss: None,
            failure: None,
        };
        match ready.and_then(|ready| ready.run(listener, stop)) {
            Ok(trained) if trained.ending == Ending::Interrupted => return Ok(Ending::Interrupted),
            Ok(trained) => {
                let line = best_validation(&run)?;
                result.loss = line.as_ref().map(|line| line.loss);
                result.value = match (metric, trained.test.into_iter().next()) {
                    (Measure::Score(metric), Some(test)) if metric == EXACT_MATCH => Some(test.exact_match),
                    (Measure::Score(metric), Some(test)) => {
                        let mut scores = test.scores.iter();
                        let found = scores.find(|score| score.name.starts_with(metric.label()));
                        found.map(|score| score.score)
                    }
                    (Measure::Score(metric), None) => line.and_then(|line| line.score(&metric.key())),
                    (Measure::Command, _) => line.and_then(|line| line.score("command")),
                    (Measure::Perplexity, _) => line.map(|line| line.perplexity),
                    (Measure::Loss, _) => line.map(|line| line.loss),
                };
                if result.value.is_none_or(|value| !value.is_finite()) {
                    (result.value, result.failure) = (None, Some("the best model has no such value".into()));
                }
            }
            Err(error) => match error.root() {
                // What the recipe itself leads to. All else comes from outside, and may be gone the next time.
                Error::Train(cause @ (TrainError::Diverged { .. } | TrainError::Hopeless { .. })) => {
                    result.failure = Some(cause.to_string());
                }
                _ => return Err(error),
            },
        }
        self.rows[row].runs.push(result);
        self.write()?;
        Ok(Ending::Finished)
    }

    /// Writes the table into the folder of the results, as Markdown and as a page.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_tables(&self) -> Result<()> {
        write_text(&self.plan.output.join("ablation.md"), &self.to_markdown())?;
        write_text(&self.plan.output.join("ablation.html"), &self.to_html()?)
    }
}

impl AblationRow {
    /// The values of the runs that did not fail, and their spread; `others` are those of the recipe itself. The spread
    /// of a single value is not known.
    pub fn summary(&self, others: Option<&Self>) -> (Option<f64>, Option<Spread>) {
        let values = |row: &Self| -> Vec<f64> { row.runs.iter().filter_map(|run| run.value).collect() };
        let own = values(self);
        let mean = (!own.is_empty()).then(|| own.iter().sum::<f64>() / own.len() as f64);
        (mean, Spread::new(own, others.map(values).as_deref()))
    }
}

/// The settings that make results comparable.
fn settings(config: &Config) -> Result<Vec<(String, String)>> {
    let mut settings = config.flat()?;
    settings.retain(|(key, _)| !matches!(key.as_str(), "name" | "output" | "seed"));
    Ok(settings)
}

/// The last validation of a run that was the best.
fn best_validation(run: &RunDirectory) -> Result<Option<ValidationLine>> {
    let mut best = None;
    for line in read_log::<MetricsLine>(&run.metrics())? {
        if let MetricsLine::Validation {
            valid, is_best: true, ..
        } = line?
        {
            best = Some(valid);
        }
    }
    Ok(best)
}

/// Writes a file in one step.
fn write_text(path: &Path, text: &str) -> Result<()> {
    let aside = path.with_extension("partial");
    std::fs::write(&aside, text).with_context(|| format!("cannot write {}", aside.display()))?;
    std::fs::rename(&aside, path).with_context(|| format!("cannot write {}", path.display()))
}
