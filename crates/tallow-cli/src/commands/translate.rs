//! `tallow translate`.

use crate::activity::{Activity, summary};
use crate::arguments::{OutputFormat, TranslateArguments};
use crate::hub::hub;
use crate::lines::{input, warn_of_repairs};
use crate::notices::{PrintNotices, warn};
use crate::threads;
use crate::usage::wrong_usage;
use anyhow::Result;
use serde_json::{Value, json};
use std::io::{BufWriter, IsTerminal, Write, stderr, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tallow::SavedModel;
use tallow::warnings::TranslationWarnings;
use tallow_decode::{Translation, Translator};

/// The number of lines that are translated together: enough to sort them by length, few enough to hold in memory and to
/// wait for.
pub(super) const BLOCK_LINES: usize = 4096;
/// The largest size of a block in bytes, without its last line.
const BLOCK_BYTES: usize = 16 << 20;

pub(crate) fn run(arguments: TranslateArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    threads::keep_freed_memory();
    if arguments.attention && arguments.format != OutputFormat::Json {
        return Err(wrong_usage("--attention needs --format json"));
    }
    let device = arguments.device.device.open()?;
    let saved = SavedModel::find(&arguments.model, &hub(arguments.hub.offline), &PrintNotices)?;
    let config = arguments.search.decode_config(&saved)?;
    let (model, tokenizers) = saved.open_prepared(&device, config.compute.into())?;
    let (seed, workers) = (arguments.search.seed, arguments.search.workers(&device));
    let translator = Translator::builder(model.clone(), tokenizers.clone())
        .config(config.clone())
        .device(device.clone())
        .seed(seed)
        .workers(workers)
        .build()?;

    let from_terminal = arguments.input == Path::new("-") && stdin().is_terminal();
    if from_terminal {
        eprintln!("one line, one translation; Ctrl-D ends");
    }
    let block_lines = if from_terminal || arguments.interactive {
        1
    } else {
        BLOCK_LINES
    };
    let mut reader = input(&arguments.input)?;
    let mut writer = BufWriter::new(stdout().lock());
    let (mut warnings, mut first_line) = (TranslationWarnings::default(), 0u64);
    let (mut tokens, mut spent) = (0, Duration::ZERO);
    let is_to_terminal = stdout().is_terminal();
    // A user who types waits only for one line.
    let mut activity = Activity::beside_output(!from_terminal);
    activity.begin("translating");
    loop {
        let mut block: Vec<String> = Vec::new();
        let mut bytes = 0;
        while block.len() < block_lines && bytes < BLOCK_BYTES {
            let Some(line) = reader.next() else { break };
            let line = line?;
            bytes += line.len();
            block.push(line);
        }
        if block.is_empty() {
            break;
        }
        let begin = Instant::now();
        let translations = translator.translate(&block, first_line)?;
        spent += begin.elapsed();
        for translation in &translations {
            warnings.count(translation);
            tokens += target_tokens(translation);
        }
        let mut write = || -> Result<()> {
            for (i, (line, translation)) in block.iter().zip(&translations).enumerate() {
                let output = match arguments.format {
                    OutputFormat::Text => as_text(first_line + i as u64, translation, config.n_best),
                    OutputFormat::Json => as_json(line, translation, &translator, arguments.attention)?.to_string(),
                };
                writeln!(writer, "{output}")?;
            }
            Ok(writer.flush()?)
        };
        // On a terminal, the translations appear in the place of the progress line.
        if is_to_terminal {
            activity.aside(write)?;
        } else {
            write()?;
        }
        first_line += block.len() as u64;
        activity.count(first_line, None, "lines");
        activity.speed(tokens as f64 / spent.as_secs_f64());
    }
    activity.end();
    warn_of_repairs(&reader);
    warnings.lines(&config, &tokenizers).iter().for_each(|text| warn(text));
    // Pipelines print no summary.
    if !from_terminal && stderr().is_terminal() {
        eprintln!("{}", summary(&saved.directory, first_line, config.beam, tokens, spent));
    }
    Ok(ExitCode::SUCCESS)
}

/// The number of target tokens that the search produced, including `</s>`.
pub(super) fn target_tokens(translation: &Translation) -> usize {
    let best = translation.candidates.first();
    best.map_or(0, |best| best.hypothesis.tokens.len() + 1)
}

/// The translation, or Moses' n-best format if several were requested.
fn as_text(line: u64, translation: &Translation, n_best: usize) -> String {
    if n_best == 1 {
        return translation.text().to_string();
    }
    let candidate = |c: &tallow_decode::Candidate| format!("{line} ||| {} ||| {:.4}", c.text, c.hypothesis.score);
    translation
        .candidates
        .iter()
        .map(candidate)
        .collect::<Vec<_>>()
        .join("\n")
}

fn as_json(line: &str, translation: &Translation, translator: &Translator, attention: bool) -> Result<Value> {
    let candidates: Vec<Value> = translation
        .candidates
        .iter()
        .map(|candidate| {
            json!({
                "text": candidate.text,
                "score": candidate.hypothesis.score,
                "log_probability": candidate.hypothesis.log_probability,
                "tokens": translator.target_pieces(&candidate.hypothesis.tokens),
                "token_log_probabilities": candidate.hypothesis.token_log_probabilities,
                "finished": candidate.hypothesis.finished,
            })
        })
        .collect();
    let mut object = json!({
        "source": line,
        "translation": translation.text(),
        "source_tokens": translation.source_tokens(),
        "parts": translation.parts.len(),
        "cut_source_tokens": translation.cut_tokens,
        "candidates": candidates,
    });
    if attention && !translation.parts.is_empty() {
        let mut of_parts = Vec::new();
        for (part, target) in translation.parts.iter().zip(&translation.targets) {
            let found = translator.align(&part.tokens, target)?;
            of_parts.push(json!({ "source": found.source, "target": found.target, "weights": found.weights }));
        }
        // A list only if there are several parts.
        object["attention"] = if of_parts.len() > 1 {
            of_parts.into()
        } else {
            of_parts.remove(0)
        };
    }
    Ok(object)
}
