//! `tallow eval`.

mod compare;

use crate::activity::{Activity, summary};
use crate::arguments::EvalArguments;
use crate::commands::translate::target_tokens;
use crate::evaluation_text::set_of_run;
use crate::hub::hub;
use crate::notices::{PrintNotices, warn};
use crate::threads;
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Instant;
use tallow::corpora::encode;
use tallow::humanize::{counted, thousands};
use tallow::warnings::TranslationWarnings;
use tallow::{Error, SavedModel};
use tallow_data::{Corpus, CorpusFiles, DataError, Filters, ParallelText, read_lines};
use tallow_decode::Translator;
use tallow_score::{EXACT_MATCH, Score};
use tallow_text::Tokenizers;
use tallow_train::{EVALUATED_LINES, evaluate, perplexity};

/// The number of padded tokens in a batch when perplexity is measured.
const BATCH_TOKENS: usize = 4096;

pub(crate) fn run(arguments: EvalArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    threads::keep_freed_memory();
    let device = arguments.device.open()?;
    let saved = SavedModel::find(&arguments.model, &hub(arguments.hub.offline), &PrintNotices)?;
    let (text, references) = test_set(&arguments, &saved)?;
    let config = arguments.search.decode_config(&saved)?;
    let score = saved
        .config
        .as_ref()
        .map(|config| config.score.clone())
        .unwrap_or_default();
    let score = arguments.metric.score_config(&score)?;
    if arguments.compare_compute {
        return compare::run(
            &arguments,
            &saved,
            (&text.source, &references),
            (config, &score),
            &device,
        );
    }
    let (opened, tokenizers) = saved.open(&device)?;
    let model = opened.for_inference()?;
    let workers = arguments.search.workers(&device);
    let translator = Translator::builder(model.prepare(config.compute.into())?, tokenizers.clone())
        .config(config.clone())
        .device(device.clone())
        .seed(arguments.search.seed)
        .workers(workers)
        .build()?;
    let mut activity = Activity::new(true);
    let begin = Instant::now();
    let all = text.source.len();
    if all > EVALUATED_LINES {
        activity.begin("translating");
        activity.count(0, Some(all as u64), "lines");
    } else {
        activity.begin(format!("translating {} lines", thousands(all as f64)));
    }
    let evaluation = evaluate(
        &translator,
        &text.source,
        &references,
        &arguments.metric.metrics,
        &score,
        |translations| {
            activity.count(translations.len() as u64, Some(all as u64), "lines");
            let tokens: usize = translations.iter().map(target_tokens).sum();
            activity.speed(tokens as f64 / begin.elapsed().as_secs_f64());
        },
    )?;
    let spent = begin.elapsed();
    let (translations, hypotheses) = (&evaluation.translations, evaluation.hypotheses());
    let warnings = TranslationWarnings::of(translations).lines(&config, &tokenizers);
    activity.aside(|| warnings.iter().for_each(|text| warn(text)));
    if let Some(path) = &arguments.output {
        let lines: String = hypotheses.iter().flat_map(|line| [line, "\n"]).collect();
        std::fs::write(path, lines).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let tokens = translations.iter().map(target_tokens).sum();
    activity.begin("measuring the perplexity");
    let (corpus, left_out) = measurable(text, &tokenizers, model.architecture().model.position_limit())?;
    let perplexity = match corpus {
        Some(corpus) => {
            let (nats, target_tokens) = perplexity(&model, &corpus, BATCH_TOKENS, workers, &device)?;
            Some((nats / target_tokens as f64).exp())
        }
        None => None,
    };
    activity.end();
    if let Some(note) = left_out {
        eprintln!("note: {note}");
    }
    let lines = hypotheses.len() as u64;
    eprintln!("{}", summary(&saved.directory, lines, &config, tokens, spent));
    let scores: Vec<Score> = evaluation.scores.iter().map(|(_, score)| score.clone()).collect();
    let exact_match = tallow_score::exact_match(&hypotheses, &references)?;
    let is_told = arguments.metric.metrics.contains(&EXACT_MATCH);
    if arguments.metric.json {
        let mut objects: Vec<Value> = scores
            .iter()
            .map(|score| tallow_score::to_json(std::slice::from_ref(score), arguments.metric.width))
            .collect();
        if !is_told {
            objects.push(json!({ "name": "exact match", "score": exact_match }));
        }
        objects.push(json!({ "name": "perplexity", "score": perplexity }));
        writeln!(stdout(), "{:#}", Value::from(objects))?;
    } else {
        writeln!(stdout(), "{}", arguments.metric.print(&scores))?;
        if !is_told {
            writeln!(stdout(), "exact match = {exact_match:.1} %")?;
        }
        if let Some(perplexity) = perplexity {
            writeln!(stdout(), "perplexity = {perplexity:.3} per target token")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The pairs whose perplexity can be measured, if there are any, and a message about the others: a model with learned
/// positions cannot compute longer pairs.
fn measurable(
    text: ParallelText,
    tokenizers: &Tokenizers,
    position_limit: Option<usize>,
) -> Result<(Option<Corpus>, Option<String>)> {
    let filters = Filters {
        max_length: position_limit,
        ..Filters::NONE
    };
    let pairs = text.source.len() as u64;
    let (corpus, left_out) = match encode(&[text], tokenizers, &filters) {
        Ok(corpus) => {
            let left_out = corpus.reports().map(|report| report.too_long.count).sum();
            (Some(corpus), left_out)
        }
        Err(Error::Data(DataError::AllDropped { .. })) => (None, pairs),
        Err(error) => return Err(error.into()),
    };
    let note = (left_out > 0).then(|| {
        let limit = position_limit.unwrap_or_default();
        format!(
            "the perplexity leaves out {left_out} of {}, longer than the {limit} positions that this model has learned",
            counted(pairs, "pair")
        )
    });
    Ok((corpus, note))
}

/// The lines to translate with their first references, and all references.
fn test_set(arguments: &EvalArguments, saved: &SavedModel) -> Result<(ParallelText, Vec<Vec<String>>)> {
    let files = match (&arguments.source, arguments.target.first(), &saved.config) {
        (Some(source), Some(target), _) => CorpusFiles::two_files(source, target),
        (_, _, Some(config)) => set_of_run(config, arguments.valid, arguments.name.as_deref())
            .map_err(|fault| anyhow!("{fault}; give --source and --target"))?,
        _ => bail!(
            "{}: this model belongs to no run; give --source and --target",
            arguments.model
        ),
    };
    let text = ParallelText::open(&files)?;
    let mut references = vec![text.target.clone()];
    for path in arguments.target.iter().skip(1) {
        let more = read_lines(path)?.lines;
        if more.len() != text.source.len() {
            bail!(
                "{}: {}, but {} to translate",
                path.display(),
                counted(more.len(), "line"),
                text.source.len()
            );
        }
        references.push(more);
    }
    Ok((text, references))
}
