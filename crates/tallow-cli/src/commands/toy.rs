//! `tallow toy`.

use crate::arguments::ToyArguments;
use anyhow::Result;
use std::process::ExitCode;
use tallow::humanize::counted;
use tallow_data::toy::write;

pub(crate) fn run(arguments: ToyArguments) -> Result<ExitCode> {
    let mut options = arguments.toy.options();
    options.seed = arguments.seed.unwrap_or(options.seed);
    options.train = arguments.train.unwrap_or(options.train);
    options.valid = arguments.valid.unwrap_or(options.valid);
    options.test = arguments.test.unwrap_or(options.test);
    options.maximum = arguments.maximum.unwrap_or(options.maximum);
    for (path, lines) in write(arguments.toy, &options, &arguments.output)?.files {
        eprintln!("{}: {}", path.display(), counted(lines, "line"));
    }
    Ok(ExitCode::SUCCESS)
}
