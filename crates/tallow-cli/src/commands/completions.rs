//! `tallow completions`.

use crate::arguments::{Arguments, CompletionsArguments};
use anyhow::Result;
use clap::CommandFactory;
use std::process::ExitCode;

pub(crate) fn run(arguments: CompletionsArguments) -> Result<ExitCode> {
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "tallow",
        &mut std::io::stdout(),
    );
    Ok(ExitCode::SUCCESS)
}
