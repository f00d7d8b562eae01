//! `tallow init`.

use crate::arguments::InitArguments;
use crate::progress::Progress;
use crate::threads;
use anyhow::Result;
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use tallow::humanize::{duration, thousands};
use tallow::project::{ProjectPlan, Split, begin};
use tallow_data::CorpusFiles;

pub(crate) fn run(arguments: InitArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    threads::keep_freed_memory();
    let languages = arguments.languages;
    let corpus = CorpusFiles {
        source: arguments.source,
        target: arguments.target,
        tsv: arguments.tsv,
        languages: languages.clone().filter(|_| arguments.tmx.is_some()),
        tmx: arguments.tmx,
        po: arguments.po,
        ..CorpusFiles::default()
    };
    let progress = Progress::new();
    let plan = ProjectPlan {
        folder: arguments.output.unwrap_or_else(|| PathBuf::from("project")),
        corpus,
        languages,
        budget: arguments.budget,
        seed: arguments.seed,
    };
    let project = begin(&plan, &progress)?;
    progress.finish();
    tell(&project.split);
    eprintln!(
        "training takes about {} on this machine; every value has its reason in the config:",
        duration(project.seconds)
    );
    writeln!(stdout(), "{}", project.config.display())?;
    eprintln!("Go on with\n  tallow train {}", project.config.display());
    Ok(ExitCode::SUCCESS)
}

/// Tells what became of the text.
fn tell(split: &Split) {
    let [train, valid, test] = split.pairs.map(|pairs| thousands(pairs as f64));
    eprintln!("{train} pairs to train on, {valid} to validate, {test} to test");
    let tell = |count: u64, what: &str| {
        if count > 0 {
            eprintln!("{:>10}  {what}", thousands(count as f64));
        }
    };
    tell(split.empty, "pairs left out: a side is empty");
    tell(
        split.overlapping,
        "pairs left out: one of their sides is in the validation or test set",
    );
    tell(split.repeated, "pairs occur again");
    tell(
        split.unclean.values().sum(),
        "pairs are probably no translations; `tallow clean` shows them",
    );
    tell(split.with_placeholders, "sources have placeholders, tags or addresses");
}
