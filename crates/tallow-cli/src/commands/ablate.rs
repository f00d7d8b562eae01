//! `tallow ablate`.

use crate::INTERRUPTED;
use crate::activity::Activity;
use crate::arguments::AblateArguments;
use crate::notices::PrintNotices;
use crate::signals::{stop_at_signals, stop_quietly_at_signals};
use crate::table::table;
use crate::{ranks, threads};
use anyhow::Result;
use serde_json::Map;
use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;
use tallow::ablation::{Ablation, AblationPlan, parts};
use tallow::{Config, Ending, Event, Listener, Notice, Observer};

pub(crate) fn run(arguments: AblateArguments) -> Result<ExitCode> {
    let (file, set) = (&arguments.config.config, &arguments.config.set);
    let config = Config::compose(file, set)?.config;
    if arguments.list {
        let rows: Vec<Vec<String>> = parts(&config)
            .iter()
            .skip(1)
            .map(|part| vec![part.name.to_owned(), part.about.to_owned(), part.set.join(" ")])
            .collect();
        writeln!(stdout(), "{}", table(&rows, 3))?;
        return Ok(ExitCode::SUCCESS);
    }
    threads::set_operation_threads(config.train.threads_per_worker);
    threads::keep_freed_memory();
    let output = arguments.output.clone();
    let mut ablation = Ablation::new(AblationPlan {
        config: file.clone(),
        set: set.clone(),
        seeds: (config.seed..).take(arguments.seeds).collect(),
        only: arguments.only.clone(),
        output: output.unwrap_or_else(|| Path::new("runs").join(format!("{}.ablation", config.name))),
    })?;
    let device = arguments.device.open()?;
    // The processes share the runs, each of which one process trains alone.
    let (group, member) = ranks::group()?;
    let stop = match group.is_alone() {
        true => stop_at_signals("finishing this update and saving")?,
        false => stop_quietly_at_signals()?,
    };
    let mut missing = ablation.missing();
    if !group.is_alone() {
        let mut job = Map::new();
        job.insert("settings".into(), serde_json::to_value(&ablation.settings)?);
        job.insert("seeds".into(), serde_json::to_value(&ablation.seeds)?);
        job.insert("only".into(), serde_json::to_value(&arguments.only)?);
        ranks::must_agree(&group, &member, &job)?;
        // As the root sees them: others may be done by now.
        let of_root = serde_json::to_vec(&missing)?;
        missing = serde_json::from_slice(&group.broadcast(|| of_root)?)?;
        missing = missing.into_iter().skip(group.rank()).step_by(group.size()).collect();
    }
    let mut activity = Activity::new(group.is_root());
    let mut is_interrupted = false;
    for (number, (row, seed)) in missing.iter().copied().enumerate() {
        let part = &ablation.rows[row].part;
        activity.begin(format!(
            "{} of {}: {}, seed {seed}",
            number + 1,
            missing.len(),
            part.about
        ));
        let watch = Watch {
            activity: &activity,
            max_updates: config.train.max_updates,
        };
        is_interrupted = ablation.train((row, seed), &device, &watch, &stop)? == Ending::Interrupted;
        if is_interrupted {
            break;
        }
        if group.is_root() {
            ablation.read()?;
            ablation.write_tables()?;
        }
    }
    activity.end();
    group.leave()?;
    if !group.is_root() {
        return Ok(ExitCode::SUCCESS);
    }
    ablation.read()?;
    // Also runs of other processes that were stopped.
    if is_interrupted || !ablation.missing().is_empty() {
        eprintln!("everything is saved; the same command goes on");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    ablation.write_tables()?;
    let mut writer = stdout().lock();
    match arguments.json {
        true => writeln!(writer, "{}", serde_json::to_string_pretty(&ablation)?)?,
        false => writeln!(writer, "{}\n\n{}", ablation.about(), table(&ablation.table(), 2))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows how far a run is.
struct Watch<'a> {
    activity: &'a Activity,
    max_updates: u64,
}

impl Observer for Watch<'_> {
    fn observe(&self, event: &Event) {
        if let Event::Updated { update, .. } = event {
            self.activity.count(*update, Some(self.max_updates), "updates");
        }
    }
}

impl Listener for Watch<'_> {
    fn notice(&self, notice: &Notice) {
        if let Notice::Warning(_) = notice {
            self.activity.aside(|| PrintNotices.notice(notice));
        }
    }
}
