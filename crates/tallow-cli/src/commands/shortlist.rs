//! `tallow shortlist`.

use crate::activity::Activity;
use crate::arguments::ShortlistArguments;
use crate::hub::hub;
use crate::notices::PrintNotices;
use crate::threads;
use anyhow::{Context, Result, bail};
use std::process::ExitCode;
use tallow::SavedModel;
use tallow::humanize::{counted, thousands};
use tallow_data::{CorpusFiles, Lexicon, ParallelText};
use tallow_decode::{Shortlist, ShortlistSize, open_tokenizers};

/// Longer sentences say little about single pieces, and cost memory with the square of their length.
const MOST_TOKENS: usize = 256;

pub(crate) fn run(arguments: ShortlistArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    let output = &arguments.output;
    if output.exists() {
        bail!("{}: exists already; choose another --output", output.display());
    }
    let saved = SavedModel::find(&arguments.model, &hub(arguments.hub.offline), &PrintNotices)?;
    let architecture = tallow_model::read_architecture(&saved.directory)?;
    let tokenizers = open_tokenizers(&saved.directory, &architecture)?;
    let corpora: Vec<CorpusFiles> = match (&arguments.source, &arguments.target, &saved.config) {
        (Some(source), Some(target), _) => vec![CorpusFiles::two_files(source, target)],
        (_, _, Some(config)) => config.data.train.clone(),
        _ => bail!(
            "{}: this model belongs to no run; give text like that of its training with --source and --target",
            arguments.model
        ),
    };
    let mut activity = Activity::new(true);
    activity.begin("reading the text");
    let (mut source, mut target) = (Vec::new(), Vec::new());
    for files in &corpora {
        let text = ParallelText::open(files)?;
        source.extend(text.source);
        target.extend(text.target);
    }
    let all = source.len();
    if all > arguments.lines {
        // Evenly from all of the text.
        let is_kept = |line: usize| line * arguments.lines / all != (line + 1) * arguments.lines / all;
        for side in [&mut source, &mut target] {
            let mut line = 0..;
            side.retain(|_| line.next().is_some_and(is_kept));
        }
    }
    activity.begin(format!("cutting {} into pieces", counted(source.len(), "pair")));
    let workers = tallow::cores();
    let source = tokenizers.source.encode_batch(&source, workers)?;
    let target = tokenizers.target.encode_batch(&target, workers)?;
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
        arguments.model,
        output.display()
    );
    Ok(ExitCode::SUCCESS)
}
