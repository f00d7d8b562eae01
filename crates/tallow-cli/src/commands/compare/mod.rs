//! `tallow compare`.

mod systems;
mod text;

use crate::activity::Activity;
use crate::arguments::{CompareArguments, PairedTestName};
use crate::evaluation_text::set_of_run;
use crate::threads;
use crate::usage::wrong_usage;
use anyhow::{Context, Result, anyhow, bail};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use systems::{Found, find};
use tallow::comparison::{ComparedText, Comparison, ComparisonOptions, System, WordCounts};
use tallow::humanize::counted;
use tallow::preparation::with_kept_text;
use tallow_data::{CorpusFiles, ParallelText, read_lines};
use tallow_score::{PairedTest, Resampling, ScoreConfig};

pub(crate) fn run(arguments: CompareArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    threads::keep_freed_memory();
    let device = arguments.device.open()?;
    let found = find(&arguments)?;
    let mut text = test_set(&arguments, &found)?;
    let of_run = found.iter().find_map(|found| found.config());
    let score = of_run.map(|config| config.score.clone()).unwrap_or_default();
    let score = arguments.metric.score_config(&score)?;
    let mut activity = Activity::new(true);
    let lines = text.references[0].len();
    text.labels = labels(arguments.labels.as_deref(), lines)?;
    let source = text.source.as_deref();
    let systems = systems::translations(&found, source, lines, (&arguments, &device), &mut activity)?;
    if !arguments.no_train {
        activity.begin("counting the words of the training text");
        text.trained = trained(&arguments, &found, (&systems, &text.references), &score)?;
    }
    activity.begin("comparing");
    let comparison = compare(&systems, &text, &arguments, score)?;
    activity.end();
    if let Some(path) = &arguments.html {
        std::fs::write(path, comparison.to_html()?).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("{}: open it in a browser", path.display());
    }
    if arguments.metric.json {
        writeln!(stdout(), "{}", serde_json::to_string_pretty(&comparison)?)?;
    } else {
        write!(
            stdout(),
            "{}",
            text::text(&comparison, usize::from(arguments.metric.width))
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(
    systems: &[System],
    text: &ComparedText,
    arguments: &CompareArguments,
    score: ScoreConfig,
) -> Result<Comparison> {
    let test = match arguments.test {
        PairedTestName::Bootstrap => PairedTest::Bootstrap,
        PairedTestName::Randomization => PairedTest::Randomization,
    };
    let usual = Resampling::new(test);
    let options = ComparisonOptions {
        metrics: arguments.metric.metrics.clone(),
        score,
        resampling: Resampling {
            trials: arguments.trials.unwrap_or(usual.trials),
            interval_samples: arguments.interval_samples,
            seed: arguments.test_seed,
            ..usual
        },
        sentences: arguments.sentences,
    };
    Ok(Comparison::new(systems, text, &options)?)
}

/// The source lines, if there are any, and the references.
fn test_set(arguments: &CompareArguments, found: &[Found]) -> Result<ComparedText> {
    if arguments.reference.is_empty() {
        let config = found.iter().find_map(Found::config);
        let Some(config) = config else {
            return Err(wrong_usage(
                "none of these systems belongs to a run with a test set of its own; give --reference, and --source for \
                 models",
            ));
        };
        let files = set_of_run(config, arguments.valid, arguments.name.as_deref())
            .map_err(|fault| anyhow!("{fault}; give --source and --reference"))?;
        let text = ParallelText::open(&files)?;
        return Ok(ComparedText {
            source: Some(text.source),
            references: vec![text.target],
            ..ComparedText::default()
        });
    }
    let mut references: Vec<Vec<String>> = Vec::new();
    for path in &arguments.reference {
        let lines = read_lines(path)?.lines;
        if let Some(first) = references.first() {
            same_length((path, lines.len()), (&arguments.reference[0], first.len()))?;
        }
        references.push(lines);
    }
    let source = match &arguments.source {
        Some(path) => {
            let lines = read_lines(path)?.lines;
            same_length((path, lines.len()), (&arguments.reference[0], references[0].len()))?;
            Some(lines)
        }
        None => None,
    };
    Ok(ComparedText {
        source,
        references,
        ..ComparedText::default()
    })
}

fn labels(path: Option<&Path>, lines: usize) -> Result<Option<Vec<String>>> {
    let Some(path) = path else { return Ok(None) };
    let labels = read_lines(path)?.lines;
    if labels.len() != lines {
        bail!(
            "{}: {}, but {} to compare; it has the label of each of them",
            path.display(),
            counted(labels.len(), "line"),
            lines
        );
    }
    Ok(Some(labels))
}

/// The counts of words in the target text of the training: the given files, or that of the first run.
fn trained(
    arguments: &CompareArguments,
    found: &[Found],
    (systems, references): (&[System], &[Vec<String>]),
    score: &ScoreConfig,
) -> Result<Option<WordCounts>> {
    let corpora: Vec<CorpusFiles> = match found.iter().find_map(Found::config) {
        _ if !arguments.train.is_empty() => {
            let of_file = |path: &PathBuf| CorpusFiles::two_files(path, path);
            arguments.train.iter().map(of_file).collect()
        }
        Some(config) => with_kept_text(config)?.data.train,
        None => return Ok(None),
    };
    let said = systems.iter().flat_map(|system| system.runs.iter().flatten());
    let count = || -> Result<WordCounts, tallow::Error> {
        let mut counts = WordCounts::for_words_of(said.chain(references.iter().flatten()), score)?;
        counts.count_targets(&corpora)?;
        Ok(counts)
    };
    match count() {
        Ok(counts) => Ok(Some(counts)),
        // The comparison is whole without it, unless it was asked for.
        Err(error) if arguments.train.is_empty() => {
            eprintln!("note: words are not grouped by their occurrences in training: {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn same_length((path, lines): (&PathBuf, usize), (first, expected): (&PathBuf, usize)) -> Result<()> {
    if lines != expected {
        bail!(
            "{}: {}, but {} has {expected}",
            path.display(),
            counted(lines, "line"),
            first.display()
        );
    }
    Ok(())
}
