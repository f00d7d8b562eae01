//! `tallow shortlist`.

use crate::activity::Activity;
use crate::arguments::ShortlistArguments;
use crate::hub::hub;
use crate::notices::PrintNotices;
use crate::threads;
use crate::training_text::{evenly, training_text};
use anyhow::{Context, Result, bail};
use std::process::ExitCode;
use tallow::SavedModel;
use tallow::humanize::{counted, thousands};
use tallow_data::Lexicon;
use tallow_decode::{Shortlist, ShortlistSize, open_tokenizers};

/// Longer sentences say little about single pieces, and cost memory with the square of their length.
const MOST_TOKENS: usize = 256;

pub(crate) fn run(arguments: ShortlistArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    let output = &arguments.output;
    if output.exists() {
        bail!("{}: exists already; choose another --output", output.display());
    }
    let saved = SavedModel::find(&arguments.text.model, &hub(arguments.hub.offline), &PrintNotices)?;
    let architecture = tallow_model::read_architecture(&saved.directory)?;
    let tokenizers = open_tokenizers(&saved.directory, &architecture)?;
    let mut activity = Activity::new(true);
    activity.begin("reading the text");
    let (source, target) = training_text(&arguments.text, &saved)?;
    let chosen = evenly(source.len(), arguments.lines);
    let some = |lines: &[String]| -> Vec<String> { chosen.iter().map(|line| lines[*line].clone()).collect() };
    activity.begin(format!("cutting {} into pieces", counted(chosen.len(), "pair")));
    let workers = tallow::cores();
    let source = tokenizers.source.encode_batch(&some(&source), workers)?;
    let target = tokenizers.target.encode_batch(&some(&target), workers)?;
    let mut pairs: Vec<(Vec<u32>, Vec<u32>)> = source.into_iter().zip(target).collect();
    pairs.retain(|(source, target)| source.len().max(target.len()) <= MOST_TOKENS);
    activity.begin("learning translations of pieces");
    let lexicon = Lexicon::learn(&pairs);
    let size = ShortlistSize {
        frequent: arguments.frequent,
        translations: arguments.translations,
        least_probability: arguments.least_probability as f32,
    };
    let shortlist = Shortlist::new(&lexicon, &tokenizers, size);
    shortlist.save(output).context("the shortlist cannot be written")?;
    // What it does to sentences like these.
    let some: Vec<usize> = pairs
        .iter()
        .take(1000)
        .map(|(source, _)| shortlist.of_sentence(source).len())
        .collect();
    activity.end();
    let mean = some.iter().sum::<usize>() as f64 / some.len().max(1) as f64;
    eprintln!(
        "{}: learned from {}; sentences choose among {} of {} pieces on average. Translate with\n  tallow translate {} \
         --shortlist {}",
        output.display(),
        counted(pairs.len(), "pair"),
        thousands(mean),
        thousands(tokenizers.target.vocabulary_size() as f64),
        arguments.text.model,
        output.display()
    );
    Ok(ExitCode::SUCCESS)
}
