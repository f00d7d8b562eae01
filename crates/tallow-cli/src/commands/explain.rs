//! `tallow explain`.

use crate::arguments::ExplainArguments;
use crate::ways_out::with_flags;
use anyhow::Result;
use std::io::{Write, stdout};
use std::process::ExitCode;
use tallow::config::{Config, Origin};

pub(crate) fn run(arguments: ExplainArguments) -> Result<ExitCode> {
    let composed = with_flags(Config::compose(&arguments.config.config, &arguments.config.set))?;
    let mut out = stdout().lock();
    let mut section = None;
    for (of, key, value) in composed.values()? {
        if of != section {
            section = of;
            writeln!(out, "\n[{}]", of.unwrap_or_default())?;
        }
        let origin = match composed.origin(of, key) {
            Origin::Default => match composed.about_default(of, key) {
                Some(about) => format!("default ({about})"),
                None => "default".to_string(),
            },
            Origin::File => arguments.config.config.display().to_string(),
            Origin::CommandLine => "--set".to_string(),
        };
        if of == Some("model") && composed.config.init.is_some() && composed.origin(of, key) == Origin::Default {
            writeln!(out, "{:<50} # `init`", format!("# {key} is that of the model"))?;
            continue;
        }
        match value {
            Some(value) => writeln!(out, "{:<50} # {origin}", format!("{key} = {value}"))?,
            None => writeln!(out, "{:<50} # {origin}", format!("# {key} is not set"))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
