//! `tallow score`.

use crate::arguments::ScoreArguments;
use crate::lines::{input, next_line};
use anyhow::{Result, bail};
use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;
use tallow_data::read_lines;

pub(crate) fn run(arguments: ScoreArguments) -> Result<ExitCode> {
    let hypotheses = hypotheses(&arguments.hypotheses)?;
    let mut references = Vec::new();
    for path in &arguments.reference {
        let lines = read_lines(path)?.lines;
        if lines.len() != hypotheses.len() {
            bail!(
                "{}: {} lines, but {} has {}",
                path.display(),
                lines.len(),
                arguments.hypotheses.display(),
                hypotheses.len()
            );
        }
        references.push(lines);
    }
    writeln!(
        stdout(),
        "{}",
        arguments
            .metric
            .print(&arguments.metric.scores(&hypotheses, &references)?)
    )?;
    Ok(ExitCode::SUCCESS)
}

fn hypotheses(path: &Path) -> Result<Vec<String>> {
    if path != Path::new("-") {
        return Ok(read_lines(path)?.lines);
    }
    let mut reader = input(path)?;
    let (mut lines, mut repaired) = (Vec::new(), 0);
    while let Some(line) = next_line(&mut *reader, &mut repaired)? {
        lines.push(line);
    }
    if repaired > 0 {
        bail!("standard input: {repaired} lines are not valid UTF-8");
    }
    Ok(lines)
}
