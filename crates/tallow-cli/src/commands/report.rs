//! `tallow report`, and the report that `tallow train` keeps.

use crate::arguments::{LookFormat, ReportArguments};
use crate::commands::page_output::write_page;
use crate::notices::warn;
use anyhow::{Context, Result, bail};
use std::cell::Cell;
use std::process::ExitCode;
use tallow::humanize::counted;
use tallow::report::Report;
use tallow::{Event, Listener, Notice, Observer, RunDirectory, Work};

pub(crate) fn run(arguments: ReportArguments) -> Result<ExitCode> {
    let runs: Vec<RunDirectory> = arguments.runs.iter().map(RunDirectory::new).collect();
    if let Some(other) = runs.iter().find(|run| !run.metrics().is_file()) {
        bail!("{}: no run has logged anything here", other.path().display());
    }
    let report = Report::of_runs(&runs)?;
    if let Some(folder) = &arguments.export {
        let plots = report.export(folder)?;
        eprintln!("{}: {} as SVG and CSV", folder.display(), counted(plots as u64, "plot"));
    }
    let text = match arguments.format {
        LookFormat::Html => report.to_html()?,
        LookFormat::Json => serde_json::to_string(&report)? + "\n",
    };
    write_page(arguments.output.as_deref(), arguments.format, "report.html", &text)?;
    Ok(ExitCode::SUCCESS)
}

/// Passes everything on to another listener, and writes the report of a run anew after every validation.
pub(crate) struct KeepReport<'a> {
    pub(crate) listener: &'a dyn Listener,
    pub(crate) run: RunDirectory,
    /// Whether a failure has been told. A run does not end because its report cannot be written.
    pub(crate) has_failed: Cell<bool>,
}

impl KeepReport<'_> {
    pub(crate) fn write(&self) {
        if let Err(error) = write(&self.run)
            && !self.has_failed.replace(true)
        {
            warn(&format!("the report is not kept: {error:#}"));
        }
    }
}

/// Writes the report of a run, which another program may be reading.
fn write(run: &RunDirectory) -> Result<()> {
    let path = run.report();
    let aside = path.with_extension("html.partial");
    let page = Report::of_runs(std::slice::from_ref(run))?.to_html()?;
    std::fs::write(&aside, page).with_context(|| format!("cannot write {}", aside.display()))?;
    std::fs::rename(&aside, &path).with_context(|| format!("cannot write {}", path.display()))
}

impl Observer for KeepReport<'_> {
    fn observe(&self, event: &Event) {
        self.listener.observe(event);
        if matches!(event, Event::Validated { .. }) {
            self.write();
        }
    }
}

impl Listener for KeepReport<'_> {
    fn working(&self, work: &Work) {
        self.listener.working(work);
    }

    fn notice(&self, notice: &Notice) {
        self.listener.notice(notice);
    }
}
