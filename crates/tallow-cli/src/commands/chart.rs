//! `tallow chart`.

use crate::arguments::ChartArguments;
use anyhow::{Context, Result, bail};
use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;
use tallow::RunDirectory;
use tallow::chart::{Course, score_of, svg};

pub(crate) fn run(arguments: ChartArguments) -> Result<ExitCode> {
    let runs: Vec<RunDirectory> = arguments.runs.iter().map(RunDirectory::new).collect();
    if let Some(other) = runs.iter().find(|run| !run.metrics().is_file()) {
        bail!("{}: no run has logged anything here", other.path().display());
    }
    let is_asked_for = arguments.metric.is_some();
    let score = match arguments.metric {
        Some(metric) => metric,
        None => score_of(&runs[0])?,
    };
    let courses = runs
        .iter()
        .map(|run| Course::of_run(run, score))
        .collect::<Result<Vec<_>, _>>()?;
    if courses.iter().all(|course| course.score.is_empty()) && is_asked_for {
        bail!("no validation of these runs has measured {}", score.name());
    }
    let picture = svg(&courses, score);
    if arguments.output == Path::new("-") {
        write!(stdout(), "{picture}")?;
    } else {
        let path = &arguments.output;
        std::fs::write(path, picture).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
