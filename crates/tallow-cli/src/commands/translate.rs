//! `tallow translate`.

use crate::arguments::{OutputFormat, TranslateArguments};
use crate::lines::{input, warn_of_repairs};
use crate::located::Located;
use crate::threads;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufWriter, IsTerminal, Write, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;
use tallow_decode::{Translation, Translator};

/// Lines that are translated together: enough to sort them by length, few enough to hold and to wait for.
const BLOCK_LINES: usize = 4096;

pub(crate) fn run(arguments: TranslateArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    if arguments.attention && arguments.format != OutputFormat::Json {
        bail!("--attention needs --format json");
    }
    let device = arguments.device.device.open()?;
    let located = Located::find(&arguments.model, arguments.hub.offline)?;
    let config = arguments.search.decode_config(&located)?;
    let (opened, tokenizers) = located.open(&device)?;
    let model = opened.for_inference()?;
    let (seed, workers) = (arguments.search.seed, arguments.search.workers(&device));
    let translator = Translator::new(&model, &tokenizers, &config, &device, seed, workers)?;

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
    let (mut cut, mut unfinished, mut first_line) = (0u64, 0u64, 0u64);
    loop {
        let block = reader.by_ref().take(block_lines).collect::<Result<Vec<String>, _>>()?;
        if block.is_empty() {
            break;
        }
        let translations = translator.translate(&block, first_line)?;
        for (i, (line, translation)) in block.iter().zip(&translations).enumerate() {
            cut += u64::from(translation.cut_tokens > 0);
            unfinished += u64::from(
                translation
                    .candidates
                    .first()
                    .is_some_and(|best| !best.hypothesis.finished),
            );
            let output = match arguments.format {
                OutputFormat::Text => as_text(first_line + i as u64, translation, config.n_best),
                OutputFormat::Json => as_json(line, translation, &translator, arguments.attention)?.to_string(),
            };
            writeln!(writer, "{output}")?;
        }
        writer.flush()?;
        first_line += block.len() as u64;
    }
    warn_of_repairs(&reader);
    if cut > 0 {
        let limit = config.max_source_length;
        eprintln!("warning: {cut} lines were longer than {limit} tokens (decode.max_source_length) and cut there");
    }
    if unfinished > 0 {
        let limit = config.max_length;
        eprintln!("warning: {unfinished} translations were cut at {limit} tokens (decode.max_length)");
    }
    Ok(ExitCode::SUCCESS)
}

/// The translation; if several were asked for, Moses' n-best format.
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
        "source_tokens": translation.source.len(),
        "cut_source_tokens": translation.cut_tokens,
        "candidates": candidates,
    });
    if attention && !translation.source.is_empty() {
        let best = translation.candidates.first().context("a line without a translation")?;
        let alignment = translator.align(&translation.source, &best.hypothesis.tokens)?;
        object["attention"] =
            json!({ "source": alignment.source, "target": alignment.target, "weights": alignment.weights });
    }
    Ok(object)
}
