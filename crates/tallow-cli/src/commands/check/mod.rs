//! `tallow check`: finds faults of a run before hours are spent on it.

mod corpus;
mod model;
mod resume;
mod tokens;

use crate::activity::Activity;
use crate::arguments::CheckArguments;
use crate::colour::{Stream, Tone};
use crate::hub::hub;
use crate::notices::PrintNotices;
use crate::threads;
use crate::ways_out::with_flags;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use tallow::Config;
use tallow::humanize::counted;
use tallow::initial::Initial;
use tallow::preparation::with_kept_text;
use tallow_score::ScoreError;

pub(crate) fn run(arguments: CheckArguments) -> Result<ExitCode> {
    if arguments.resume {
        return resume::run(arguments);
    }
    let composed = with_flags(Config::compose(&arguments.config.config, &arguments.config.set))?;
    threads::set_operation_threads(composed.config.train.threads_per_worker);
    threads::keep_freed_memory();
    let device = arguments.device.open()?;
    let hub = hub(arguments.hub.offline);
    let init = match &composed.config.init {
        Some(name) => Some(Initial::open(name, &hub, &device, &PrintNotices)?),
        None => None,
    };
    let config = match &init {
        Some(init) => composed.with_model_of(&init.opened.architecture.canonical().model)?,
        None => composed.config,
    };
    let config = with_kept_text(&config)?;
    place_of(&config)?;
    let mut report = Report::new(arguments.json);
    let plan = arguments.ranks.map(|ranks| (ranks, arguments.link));
    let check = || -> Result<()> {
        match config.score.open_files() {
            Err(ScoreError::SentencePiece { reason, way_out }) => {
                report.faulty("score.sentencepiece", reason, &way_out)?;
            }
            opened => opened?,
        }
        if let Some(texts) = corpus::texts(&config, &mut report)?
            && let Some(encoded) = tokens::encoded(&config, texts, init.as_ref(), &hub, &mut report)?
        {
            model::check(&config, encoded, init, &device, plan, &mut report)?;
        }
        Ok(())
    };
    // The findings so far are reported in any case.
    if let Err(error) = check() {
        report.faulty(
            "this check",
            format!("{error:#}"),
            "it could not go on; mend this, and check again",
        )?;
    }
    report.end()
}

/// Fewer oddities than this are never a fault, whatever their share: in a small set every share is large.
const FEW: u64 = 10;

/// The result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// No fault.
    Ok,
    /// It may be intended, or a fault.
    Look,
    /// It would spoil training.
    Faulty,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Finding {
    /// The subject of the check: a key of the config, or a property.
    of: String,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn print(&self) -> std::io::Result<()> {
        let mut out = stdout().lock();
        // Further lines of a message are indented below its first line.
        let (mark, found) = (self.verdict.mark(), self.found.replace('\n', "\n          "));
        writeln!(out, "{mark}  {}: {found}", self.of)?;
        if let Some(advice) = &self.advice {
            writeln!(out, "          {advice}")?;
        }
        out.flush()
    }
}

/// Prints findings at once, or collects them for JSON, and shows the current work on standard error.
struct Report {
    is_json: bool,
    activity: Activity,
    findings: Vec<Finding>,
    figures: Map<String, Value>,
}

impl Verdict {
    /// The coloured mark at the start of a line. All marks have the same width.
    fn mark(self) -> String {
        let (tone, mark) = match self {
            Self::Ok => (Tone::Good, "ok    "),
            Self::Look => (Tone::Doubtful, "look  "),
            Self::Faulty => (Tone::Bad, "FAULTY"),
        };
        Stream::Output.paint(tone, mark)
    }
}

impl Report {
    fn new(is_json: bool) -> Self {
        Self {
            is_json,
            // JSON is written at the end, other findings at once.
            activity: match is_json {
                true => Activity::new(true),
                false => Activity::beside_output(true),
            },
            findings: Vec::new(),
            figures: Map::new(),
        }
    }

    fn add(&mut self, of: &str, verdict: Verdict, found: impl Into<String>, advice: Option<&str>) -> Result<()> {
        let finding = Finding {
            of: of.to_owned(),
            verdict,
            found: found.into(),
            advice: advice.map(str::to_owned),
        };
        if !self.is_json {
            self.activity.aside(|| finding.print())?;
        }
        self.findings.push(finding);
        Ok(())
    }

    /// Shows the current work.
    fn stage(&mut self, what: &str) {
        self.activity.stage(what);
    }

    fn ok(&mut self, of: &str, found: impl Into<String>) -> Result<()> {
        self.add(of, Verdict::Ok, found, None)
    }

    fn look(&mut self, of: &str, found: impl Into<String>, advice: &str) -> Result<()> {
        self.add(of, Verdict::Look, found, Some(advice))
    }

    fn faulty(&mut self, of: &str, found: impl Into<String>, advice: &str) -> Result<()> {
        self.add(of, Verdict::Faulty, found, Some(advice))
    }

    /// Prints text that is only for people.
    fn plain(&self, text: &str) -> Result<()> {
        if !self.is_json {
            self.activity.aside(|| writeln!(stdout().lock(), "{text}"))?;
        }
        Ok(())
    }

    /// Adds numbers that are only for JSON.
    fn figure(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value).context("a figure cannot be written as JSON")?;
        self.figures.insert(name.to_owned(), value);
        Ok(())
    }

    fn end(mut self) -> Result<ExitCode> {
        self.activity.end();
        let count = |verdict| {
            self.findings
                .iter()
                .filter(|finding| finding.verdict == verdict)
                .count()
        };
        let (faulty, look, all) = (count(Verdict::Faulty), count(Verdict::Look), self.findings.len());
        if self.is_json {
            let mut object = json!({ "checks": self.findings, "faulty": faulty, "look": look });
            if let Value::Object(object) = &mut object {
                object.append(&mut self.figures);
            }
            writeln!(stdout().lock(), "{object:#}")?;
        }
        eprintln!("{}: {faulty} faulty, {look} worth a look", counted(all, "check"));
        Ok(if faulty > 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// The place for the runs of a check: beside the run, on the same file system. It must not exist.
fn place_of(config: &Config) -> Result<PathBuf> {
    let run = config.run_directory();
    let Some(name) = run.file_name() else {
        bail!(
            "{}: a check lies beside its run, and this has no name of its own; use --set output=...",
            run.display()
        );
    };
    let mut name = name.to_owned();
    name.push(".check");
    let place = run.with_file_name(name);
    if place.exists() {
        bail!("{}: left by an earlier check; remove it first", place.display());
    }
    Ok(place)
}
