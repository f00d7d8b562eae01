//! `tallow completions`.

use crate::arguments::{Arguments, CompletionsArguments};
use anyhow::Result;
use clap::CommandFactory;
use std::io::{Write, stdout};
use std::process::ExitCode;

pub(crate) fn run(arguments: CompletionsArguments) -> Result<ExitCode> {
    // Into memory first: the generator panics when a pipe is closed.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "tallow", &mut script);
    stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
