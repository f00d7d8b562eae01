//! `tallow score-pairs`.

use crate::activity::Activity;
use crate::arguments::{OutputFormat, ScorePairsArguments, SearchArguments};
use crate::lines::{input, warn_of_repairs};
use crate::models::{Models, find_models, open_models, settings_of};
use crate::notices::warn;
use crate::threads;
use anyhow::{Result, bail};
use serde_json::json;
use std::io::{BufRead, BufWriter, Write, stdout};
use std::path::Path;
use std::process::ExitCode;
use tallow::SavedModel;
use tallow::humanize::agreeing;
use tallow_data::LineReader;
use tallow_decode::{Autoregressive, Hypothesis, Translator, TranslatorBuilder, Unscored};

/// The number of pairs that are scored together.
const BLOCK_PAIRS: usize = 4096;

/// The largest size of a block in bytes, without its last pair.
const BLOCK_BYTES: usize = 16 << 20;

type Lines = LineReader<Box<dyn BufRead>>;

pub(crate) fn run(arguments: ScorePairsArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    threads::keep_freed_memory();
    let device = arguments.device.open()?;
    let saved = find_models(&arguments.models, arguments.hub.offline)?;
    let settings = SearchArguments {
        length_penalty: arguments.length_penalty,
        compute: arguments.compute,
        set: arguments.set.clone(),
        workers: arguments.workers,
        ..SearchArguments::default()
    };
    let config = settings_of(&saved, &settings)?;
    let config = config.within(saved.iter().filter_map(SavedModel::position_limit).min());
    let (limit, workers) = (config.max_source_length, settings.workers(&device));
    let (models, tokenizers) = open_models(&arguments.models, &saved, &device, &config)?;
    match models {
        Models::One(model) => {
            let builder = Translator::builder(model, tokenizers).config(config).device(device);
            score(&arguments, builder.workers(workers), limit)
        }
        Models::Several(models) => {
            let builder = Translator::builder(models, tokenizers).config(config).device(device);
            score(&arguments, builder.workers(workers), limit)
        }
    }
}

fn score<M: Autoregressive>(
    arguments: &ScorePairsArguments,
    builder: TranslatorBuilder<M>,
    limit: usize,
) -> Result<ExitCode> {
    let translator = builder.build()?;
    let mut pairs = Pairs::open(arguments)?;
    let mut writer = BufWriter::new(stdout().lock());
    let (mut blank, mut long, mut done) = (0u64, 0u64, 0u64);
    let mut activity = Activity::beside_output(true);
    activity.begin("scoring");
    loop {
        let (sources, targets, fault) = pairs.next_block();
        if sources.is_empty() && fault.is_none() {
            break;
        }
        for found in translator.score_pairs(&sources, &targets)? {
            match found {
                Err(Unscored::BlankSource) => blank += 1,
                Err(Unscored::LongSource | Unscored::LongTarget) => long += 1,
                Ok(_) => {}
            }
            writeln!(writer, "{}", line(found.ok().as_ref(), arguments.format, &translator))?;
        }
        writer.flush()?;
        // What comes before a fault is scored.
        if let Some(fault) = fault {
            return Err(fault);
        }
        done += sources.len() as u64;
        activity.count(done, None, "pairs");
    }
    activity.end();
    pairs.warn_of_repairs();
    if blank > 0 {
        let pairs = agreeing(blank, "pair has", "pairs have");
        warn(&format!("{pairs} a blank source and no score (nan)"));
    }
    if long > 0 {
        let pairs = agreeing(long, "pair is", "pairs are");
        warn(&format!(
            "{pairs} too long and without a score (nan); raise decode.max_source_length (now {limit}) if the model can \
             read longer lines"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The line of a pair.
fn line<M: Autoregressive>(found: Option<&Hypothesis>, format: OutputFormat, translator: &Translator<M>) -> String {
    match (format, found) {
        (OutputFormat::Text, Some(found)) => {
            let tokens = found.token_log_probabilities.len();
            format!("{:.6}\t{:.6}\t{tokens}", found.score, found.log_probability)
        }
        (OutputFormat::Text, None) => "nan\tnan\t0".to_owned(),
        (OutputFormat::Json, found) => json!({
            "score": found.map(|found| found.score),
            "log_probability": found.map(|found| found.log_probability),
            "tokens": found.map(|found| translator.target_pieces(&found.tokens)),
            "token_log_probabilities": found.map(|found| &found.token_log_probabilities),
        })
        .to_string(),
    }
}

/// The pairs of the input.
enum Pairs {
    Files(Box<[Lines; 2]>),
    /// A source, a tab and a target on each line.
    Columns(Box<Lines>),
}

impl Pairs {
    fn open(arguments: &ScorePairsArguments) -> Result<Self> {
        Ok(match (&arguments.source, &arguments.target) {
            (Some(source), Some(target)) => Self::Files(Box::new([input(source)?, input(target)?])),
            _ => Self::Columns(Box::new(input(arguments.pairs.as_deref().unwrap_or(Path::new("-")))?)),
        })
    }

    /// The next sources and their targets, none at the end, and the fault behind them.
    fn next_block(&mut self) -> (Vec<String>, Vec<String>, Option<anyhow::Error>) {
        let (mut sources, mut targets, mut bytes) = (Vec::new(), Vec::new(), 0);
        while sources.len() < BLOCK_PAIRS && bytes < BLOCK_BYTES {
            match self.next_pair() {
                Ok(Some((source, target))) => {
                    bytes += source.len() + target.len();
                    sources.push(source);
                    targets.push(target);
                }
                Ok(None) => break,
                Err(fault) => return (sources, targets, Some(fault)),
            }
        }
        (sources, targets, None)
    }

    fn next_pair(&mut self) -> Result<Option<(String, String)>> {
        match self {
            Self::Files(files) => {
                let [source, target] = &mut **files;
                match (source.next().transpose()?, target.next().transpose()?) {
                    (Some(source), Some(target)) => Ok(Some((source, target))),
                    (None, None) => Ok(None),
                    (Some(_), None) => bail!(
                        "the source has more lines than its {} translations: are these files of one text?",
                        target.report().lines
                    ),
                    (None, Some(_)) => bail!(
                        "the source has {} lines and its translations have more: are these files of one text?",
                        source.report().lines
                    ),
                }
            }
            Self::Columns(lines) => {
                let Some(line) = lines.next().transpose()? else {
                    return Ok(None);
                };
                match line.split('\t').collect::<Vec<_>>().as_slice() {
                    [source, target] => Ok(Some(((*source).to_owned(), (*target).to_owned()))),
                    columns => bail!(
                        "line {} has {} columns; a pair is a source, a tab and its translation",
                        lines.report().lines,
                        columns.len()
                    ),
                }
            }
        }
    }

    fn warn_of_repairs(&self) {
        match self {
            Self::Files(files) => files.iter().for_each(warn_of_repairs),
            Self::Columns(lines) => warn_of_repairs(lines),
        }
    }
}
