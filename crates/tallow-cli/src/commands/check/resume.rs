//! `tallow check --resume`: proves that a run that is killed again and again gives the same result as an undisturbed
//! one.

use crate::activity::Activity;
use crate::arguments::CheckArguments;
use crate::commands::check::{Verdict, place_of};
use crate::usage::wrong_usage;
use crate::ways_out::with_flags;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tallow::humanize::counted;
use tallow::{Config, DeviceChoice};
use tallow_ops::{Key, Purpose};
use tallow_train::RunDirectory;
use tallow_train::proof::different_files;

/// One of this many starts of a run is killed before it can do anything.
const EARLY: u64 = 5;

/// The interval between looks at a run's log.
const POLL: Duration = Duration::from_millis(1);

pub(super) fn run(arguments: CheckArguments) -> Result<ExitCode> {
    if arguments.updates <= arguments.kills {
        return Err(wrong_usage(format!(
            "--updates {} must be more than --kills {}: the run is killed after different updates",
            arguments.updates, arguments.kills
        )));
    }
    let config = with_flags(Config::compose(&arguments.config.config, &arguments.config.set))?.config;
    if matches!(arguments.device.device, DeviceChoice::Cuda(_)) {
        eprintln!("note: exact resumption is promised on the CPU; a GPU adds up in no fixed order");
    }
    let place = place_of(&config)?;
    std::fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    let probe = Probe {
        arguments: &arguments,
        place: &place,
    };
    let mut activity = Activity::new(true);
    let differences = probe.compare(&mut activity)?;
    drop(activity);
    let mut out = stdout().lock();
    if differences.is_empty() {
        std::fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
        writeln!(
            out,
            "{}  resume: weights, optimizer state, metrics.jsonl and the best model are those of the uninterrupted run",
            Verdict::Ok.mark()
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "{}  resume: these files are not those of the uninterrupted run",
        Verdict::Faulty.mark()
    )?;
    for name in differences {
        writeln!(out, "          {name}")?;
    }
    eprintln!("both runs and their output lie in {}", place.display());
    Ok(ExitCode::FAILURE)
}

/// The moment of a kill, as far as the files show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// During the start.
    Beginning,
    Update,
    Validation,
    Writing,
}

struct Probe<'a> {
    arguments: &'a CheckArguments,
    place: &'a Path,
}

impl Probe<'_> {
    /// The numbers of updates between two checkpoints and between two validations.
    fn intervals(&self) -> (u64, u64) {
        (2, (self.arguments.updates / 5).max(1))
    }

    /// The run in progress. Both runs use the same place in turn, because a checkpoint holds its name. The first one is
    /// then moved away.
    fn run(&self) -> RunDirectory {
        RunDirectory::new(self.place.join("run"))
    }

    /// Begins or resumes one of the runs in a separate process.
    fn start(&self, name: &str, resume: bool) -> Result<Child> {
        let log = self.place.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&log);
        let log = log.with_context(|| format!("cannot write in {}", self.place.display()))?;
        let output = toml::Value::from(self.run().path().display().to_string());
        let (checkpoints, validations) = self.intervals();
        let mut command = Command::new(std::env::current_exe().context("this program cannot be found again")?);
        command.arg("train").arg(&self.arguments.config.config);
        for set in &self.arguments.config.set {
            command.args(["--set", set]);
        }
        let probe = [
            format!("output={output}"),
            format!("train.max_updates={}", self.arguments.updates),
            "train.max_epochs=0".to_owned(),
            "train.patience=0".to_owned(),
            "train.log_every=1".to_owned(),
            format!("train.checkpoint_every={checkpoints}"),
            format!("train.validate_every={validations}"),
        ];
        for set in &probe {
            command.args(["--set", set]);
        }
        command.args(["--device", &self.arguments.device.device.to_string()]);
        if let Some(instructions) = &self.arguments.device.instructions {
            command.args(["--instructions", instructions]);
        }
        command.args(self.arguments.hub.offline.then_some("--offline"));
        command.args(resume.then_some("--resume"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().context("this program cannot be started again")
    }

    /// Waits until a run ends by itself.
    fn finish(&self, name: &str, mut child: Child) -> Result<()> {
        let status = child.wait().context("a run cannot be waited for")?;
        if status.success() {
            return Ok(());
        }
        let path = self.place.join(format!("{name}.log"));
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!(
            "the run {name} failed ({status}), see {}:\n  {}",
            path.display(),
            last.join("\n  ")
        )
    }

    /// Does both runs and returns the names of the files that differ.
    fn compare(&self, activity: &mut Activity) -> Result<Vec<String>> {
        let updates = self.arguments.updates;
        activity.stage(&format!("training for {updates} updates at a stretch"));
        let mut child = self.start("whole", false)?;
        let begin = Instant::now();
        while self.logged() == 0 && child.try_wait()?.is_none() {
            sleep(POLL);
        }
        let beginning = begin.elapsed();
        self.finish("whole", child)?;
        let (seconds, an_update) = (begin.elapsed(), (begin.elapsed() - beginning).div_f64(updates as f64));
        activity.aside(|| {
            eprintln!(
                "uninterrupted: {} in {:.1} s",
                counted(updates, "update"),
                seconds.as_secs_f64()
            );
        });
        activity.stage("killing and resuming");
        let whole = self.place.join("whole");
        std::fs::rename(self.run().path(), &whole).with_context(|| format!("cannot make {}", whole.display()))?;

        let mut moments: BTreeMap<Moment, u64> = BTreeMap::new();
        let key = Key::new(self.arguments.seed, Purpose::Kills);
        let (mut kills, mut attempts, mut starting) = (0, 0, beginning);
        while kills < self.arguments.kills {
            activity.count(kills, Some(self.arguments.kills), "kills");
            let before = self.logged();
            let mut child = self.start("killed", attempts > 0)?;
            attempts += 1;
            let is_early = attempts % EARLY == 0;
            let chance = key.fold(attempts).uniform(1)[0];
            if is_early {
                // While it reads its text and its checkpoint.
                let end = Instant::now() + starting.mul_f64(chance);
                while Instant::now() < end && self.logged() == before && child.try_wait()?.is_none() {
                    sleep(POLL);
                }
            } else {
                // The goals are spread over the rest of the run. Within an update, a validation or a checkpoint the
                // moment is random.
                let goal = before + ((updates - before) / (self.arguments.kills - kills + 1)).max(1);
                let (begin, mut silent) = (Instant::now(), POLL);
                while self.logged() < goal && child.try_wait()?.is_none() {
                    if self.logged() == before {
                        silent = begin.elapsed();
                    }
                    sleep(POLL);
                }
                // A resumed run starts faster than a new one, which learns a tokenizer.
                starting = starting.min(silent);
                sleep(an_update.mul_f64(chance));
                kills += 1;
            }
            if child.try_wait()?.is_some() {
                // It ended with its own error, or because it was finished.
                self.finish("killed", child)?;
                bail!(
                    "the run ended before it had been killed {} times; give it more --updates",
                    self.arguments.kills
                );
            }
            child.kill().context("a run cannot be killed")?;
            child.wait()?;
            let is_starting = is_early && self.logged() == before;
            let moment = if is_starting { Moment::Beginning } else { self.moment() };
            *moments.entry(moment).or_default() += 1;
        }
        self.finish("killed", self.start("killed", true)?)?;
        activity.end();
        let of = |moment| moments.get(&moment).copied().unwrap_or_default();
        eprintln!(
            "killed {} times and resumed: {} in an update, {} in a validation, {} while files were being replaced, {} while \
             it was starting",
            attempts,
            of(Moment::Update),
            of(Moment::Validation),
            of(Moment::Writing),
            of(Moment::Beginning)
        );
        let whole = RunDirectory::new(whole);
        let mut found = different_files(&whole, &self.run(), updates)?;
        found.extend(self.not_resumed(attempts)?);
        Ok(found)
    }

    /// Signs in the log that runs were not resumed. Equal files would prove little if each run had begun anew.
    fn not_resumed(&self, attempts: u64) -> Result<Vec<String>> {
        let path = self.place.join("killed.log");
        let log = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let count = |start: &str| log.lines().filter(|line| line.starts_with(start)).count() as u64;
        let (resumed, damaged) = (count("resuming "), count("not used: "));
        let mut found = Vec::new();
        // Some were killed before they printed it, some before there was a checkpoint.
        if 2 * resumed <= attempts {
            found.push(format!(
                "killed.log: of {attempts} resumptions only {resumed} went on from a checkpoint"
            ));
        }
        if damaged > 0 {
            found.push(format!(
                "killed.log: {damaged} times a checkpoint was damaged by a kill"
            ));
        }
        Ok(found)
    }

    /// The last update in the log of the killed run.
    fn logged(&self) -> u64 {
        let text = std::fs::read_to_string(self.run().metrics()).unwrap_or_default();
        text.lines().rev().find_map(update_of).unwrap_or_default()
    }

    fn moment(&self) -> Moment {
        let run = self.run();
        let aside = |directory: PathBuf| -> bool {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let mut extensions = entries.filter_map(|entry| Some(entry.path().extension()?.to_owned()));
            extensions.any(|extension| RunDirectory::TRANSIENT.iter().any(|known| extension == *known))
        };
        let text = std::fs::read_to_string(run.metrics()).unwrap_or_default();
        let Some(line) = text.lines().last().filter(|line| update_of(line).is_some()) else {
            return Moment::Update;
        };
        let is_validated = line.contains("\"valid\"");
        let update = update_of(line).unwrap_or_default();
        if aside(run.path().to_owned()) || aside(run.checkpoints()) {
            Moment::Writing
        } else if update.is_multiple_of(self.intervals().1) && !is_validated {
            Moment::Validation
        } else {
            Moment::Update
        }
    }
}

/// The update of a line of `metrics.jsonl`.
fn update_of(line: &str) -> Option<u64> {
    let object: serde_json::Value = serde_json::from_str(line).ok()?;
    object["update"].as_u64()
}
