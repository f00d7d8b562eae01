//! `tallow prepare`.

use crate::arguments::PrepareArguments;
use crate::hub::hub;
use crate::progress::Progress;
use crate::threads;
use crate::ways_out::with_flags;
use anyhow::Result;
use std::io::{Write, stdout};
use std::process::ExitCode;
use tallow::preparation::{summary, verify};
use tallow::{Config, Training};

pub(crate) fn run(arguments: PrepareArguments) -> Result<ExitCode> {
    let composed = with_flags(Config::compose(&arguments.config.config, &arguments.config.set))?;
    threads::set_operation_threads(1);
    let progress = Progress::new();
    let prepared = Training::new(composed)
        .hub(hub(arguments.hub.offline))
        .prepare_text(&progress)?;
    if arguments.verify {
        verify(&prepared.corpora, &progress)?;
    }
    progress.finish();
    let mut out = stdout().lock();
    for line in summary(&prepared.corpora) {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}
