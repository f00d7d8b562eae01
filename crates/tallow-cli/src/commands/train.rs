//! `tallow train`.

use crate::arguments::{ConfigArguments, TrainArguments};
use crate::commands::report::KeepReport;
use crate::commands::resumable::no_run;
use crate::hub::hub;
use crate::progress::Progress;
use crate::signals::{stop_at_signals, stop_quietly_at_signals};
use crate::ways_out::with_flags;
use crate::{INTERRUPTED, ranks, threads};
use anyhow::{Context, Result, anyhow};
use std::cell::Cell;
use std::process::ExitCode;
use tallow::{Begin, Config, DeviceChoice, Ending, Error, Listener, Training};
use tallow_train::Silent;

pub(crate) fn run(arguments: TrainArguments) -> Result<ExitCode> {
    let (file, set) = (&arguments.config.config, &arguments.config.set);
    let composed = with_flags(match arguments.resume {
        true => Config::compose_for_resume(file, set),
        false => Config::compose(file, set),
    })?;
    threads::set_operation_threads(composed.config.train.threads_per_worker);
    threads::keep_freed_memory();
    let given = composed.clone();
    let begin = match (arguments.resume, arguments.overwrite) {
        (true, _) => Begin::Resume,
        (false, true) => Begin::Overwrite,
        (false, false) => Begin::New,
    };
    let (group, member) = ranks::group()?;
    let training = Training::new(composed)
        .group(group.clone(), member)
        .device(arguments.device.open()?)
        .hub(hub(arguments.hub.offline))
        .begin(begin)
        .profile(arguments.profile);
    let progress = Progress::new();
    let listener: &dyn Listener = if group.is_root() { &progress } else { &Silent };
    let ready = match training.prepare(listener) {
        Err(Error::NoRun { path }) => return Err(no_run(&path, &given, &arguments)),
        ready => ready?,
    };
    let stop = match group.is_alone() {
        true => stop_at_signals("finishing this update and saving")?,
        false => stop_quietly_at_signals()?,
    };
    let report = (arguments.report && group.is_root()).then(|| KeepReport {
        listener: &progress,
        run: ready.run_directory().clone(),
        has_failed: Cell::new(false),
    });
    let trained = match &report {
        Some(report) => ready.run(report, &stop),
        None => ready.run(listener, &stop),
    };
    progress.finish();
    // Also what came of a run that failed.
    report.iter().for_each(KeepReport::write);
    let resume = match group.is_alone() {
        true => resume_command(&arguments.config, &arguments),
        // Any launcher may have been used.
        false => format!(
            "{}\n(started as before, with {} processes)",
            resume_command(&arguments.config, &arguments),
            group.size()
        ),
    };
    let trained = match trained {
        Ok(trained) => trained,
        // Names what is lost and what is saved.
        Err(Error::Saved { update, source }) => {
            return Err(anyhow!(source).context(format!(
                "the run is saved up to update {update}; once the fault below is mended, go on with\n  {resume}\nfault"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    group.leave()?;
    if !group.is_root() {
        return Ok(ExitCode::SUCCESS);
    }
    if trained.ending == Ending::Interrupted {
        eprintln!(
            "stopped after update {}; everything is saved. Go on with\n  {resume}",
            trained.update
        );
        return Ok(ExitCode::from(INTERRUPTED));
    }
    eprintln!(
        "{}. Translate with\n  tallow translate {}",
        trained.spent,
        trained.run.path().display()
    );
    match progress.take_output_error() {
        Some(error) => Err(error).context("the scores cannot be printed"),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The command that resumes the run of a config, with the given flags for device and Hub.
pub(super) fn resume_command(config: &ConfigArguments, given: &TrainArguments) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+.,:/@%".contains(c);
    let quoted = |text: &str| match text.chars().all(plain) {
        true => text.to_string(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    };
    let mut command = format!("tallow train {}", quoted(&config.config.to_string_lossy()));
    for change in &config.set {
        command += &format!(" --set {}", quoted(change));
    }
    let device = given.device.device;
    if device != DeviceChoice::default() {
        command += &format!(" --device {device}");
    }
    if let Some(instructions) = &given.device.instructions {
        command += &format!(" --instructions {instructions}");
    }
    if given.hub.offline {
        command += " --offline";
    }
    if given.report {
        command += " --report";
    }
    command + " --resume"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;

    #[test]
    fn the_command_to_go_on() {
        let command = |typed: &[&str]| {
            let arguments = Arguments::try_parse_from([&["tallow", "train"], typed].concat()).unwrap();
            match arguments.command {
                Command::Train(given) => resume_command(&given.config, &given),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(command(&["a.toml"]), "tallow train a.toml --resume");
        let changes = ["--set", "train.max_updates=9", "--set", r#"name="it's""#];
        assert_eq!(
            command(&[&["my runs/a.toml"], &changes[..]].concat()),
            r#"tallow train 'my runs/a.toml' --set train.max_updates=9 --set 'name="it'\''s"' --resume"#
        );
        assert_eq!(
            command(&["a.toml", "--device", "cuda:1", "--offline", "--overwrite"]),
            "tallow train a.toml --device cuda:1 --offline --resume"
        );
    }
}
