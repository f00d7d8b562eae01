//! `tallow score`.

use crate::arguments::ScoreArguments;
use anyhow::{Result, bail};
use std::io::{Write, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;
use tallow::humanize::counted;
use tallow_data::{read_lines, read_lines_from};
use tallow_score::ScoreConfig;

pub(crate) fn run(arguments: ScoreArguments) -> Result<ExitCode> {
    let hypotheses = hypotheses(&arguments.hypotheses)?;
    let mut references = Vec::new();
    for path in &arguments.reference {
        let lines = read_lines(path)?.lines;
        if lines.len() != hypotheses.len() {
            bail!(
                "{}: {}, but {} has {}",
                path.display(),
                counted(lines.len(), "line"),
                arguments.hypotheses.display(),
                hypotheses.len()
            );
        }
        references.push(lines);
    }
    writeln!(
        stdout(),
        "{}",
        arguments.metric.print(
            &arguments
                .metric
                .scores(&ScoreConfig::default(), &hypotheses, &references)?
        )
    )?;
    Ok(ExitCode::SUCCESS)
}

fn hypotheses(path: &Path) -> Result<Vec<String>> {
    if path != Path::new("-") {
        return Ok(read_lines(path)?.lines);
    }
    Ok(read_lines_from(stdin().lock(), Path::new("standard input"))?.lines)
}
