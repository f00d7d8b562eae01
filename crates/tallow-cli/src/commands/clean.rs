//! `tallow clean`.

use crate::arguments::CleanArguments;
use crate::progress::Progress;
use crate::status_line::{fit, terminal_width};
use crate::threads;
use crate::ways_out::with_flags;
use anyhow::Result;
use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;
use tallow::Config;
use tallow::cleaning::{CleanReport, clean};
use tallow::humanize::thousands;
use tallow_data::CorpusFiles;

/// The columns of an example if there is no terminal to take the width from.
const COLUMNS: usize = 160;

pub(crate) fn run(arguments: CleanArguments) -> Result<ExitCode> {
    let config = with_flags(Config::compose(&arguments.config.config, &arguments.config.set))?.config;
    threads::set_operation_threads(1);
    let missing = config.data.missing_files();
    if !missing.is_empty() {
        anyhow::bail!("files are missing:\n  {}", missing.join("\n  "));
    }
    let progress = Progress::new();
    let reports = clean(&config, &arguments.output, &progress)?;
    progress.finish();
    let mut out = stdout().lock();
    for report in &reports {
        print(report, &mut out)?;
    }
    let entries: Vec<String> = reports.iter().map(|report| entry(&report.files)).collect();
    eprintln!(
        "Train on what was kept with\n  [data]\n  train = [{}]",
        entries.join(", ")
    );
    Ok(ExitCode::SUCCESS)
}

fn print(report: &CleanReport, out: &mut impl Write) -> Result<()> {
    let count = |count: u64| thousands(count as f64);
    let share = |part: u64| format!("{:.2} %", 100.0 * part as f64 / report.read.max(1) as f64);
    writeln!(
        out,
        "{}: kept {} of {} pairs ({}); the others are in {}",
        report.corpus,
        count(report.kept),
        count(report.read),
        share(report.kept),
        report.dropped_pairs.display()
    )?;
    if report.empty.count > 0 {
        writeln!(
            out,
            "{:>10}  {:>8}  with an empty side",
            count(report.empty.count),
            share(report.empty.count)
        )?;
    }
    let width = if stdout().is_terminal() {
        terminal_width()
    } else {
        COLUMNS
    };
    for dropped in &report.dropped {
        let rule = dropped.rule;
        let number = dropped.tally.count;
        writeln!(
            out,
            "{:>10}  {:>8}  {rule} (data.clean.{})",
            count(number),
            share(number),
            rule.key()
        )?;
        for (line, [source, target]) in dropped.tally.lines.iter().zip(&dropped.examples) {
            let room = (width.saturating_sub(26) / 2).max(10);
            writeln!(
                out,
                "{:>21} {line}: {} | {}",
                "line",
                fit(source, room),
                fit(target, room)
            )?;
        }
    }
    Ok(())
}

/// A corpus as an entry of a config.
fn entry(files: &CorpusFiles) -> String {
    let quoted = |path: &std::path::PathBuf| format!("{:?}", path.to_string_lossy());
    let name = files.name.iter().map(|name| format!("name = {name:?}"));
    let keys = [
        ("source", &files.source),
        ("target", &files.target),
        ("tsv", &files.tsv),
    ];
    let given = keys
        .iter()
        .filter_map(|(key, path)| Some(format!("{key} = {}", quoted(path.as_ref()?))));
    format!("{{ {} }}", name.chain(given).collect::<Vec<_>>().join(", "))
}
