//! `tallow translate`.

use crate::arguments::{OutputFormat, TranslateArguments};
use crate::commands::searching::Shortcomings;
use crate::lines::{input, warn_of_repairs};
use crate::located::Located;
use crate::threads;
use crate::usage::UsageError;
use anyhow::Result;
use serde_json::{Value, json};
use std::io::{BufWriter, IsTerminal, Write, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;
use tallow_decode::{Translation, Translator};

/// Lines that are translated together: enough to sort them by length, few enough to hold and to wait for.
const BLOCK_LINES: usize = 4096;
/// And so many bytes of text, but for the last line.
const BLOCK_BYTES: usize = 16 << 20;

pub(crate) fn run(arguments: TranslateArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    if arguments.attention && arguments.format != OutputFormat::Json {
        return Err(UsageError::of("--attention needs --format json"));
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
    let (mut shortcomings, mut first_line) = (Shortcomings::default(), 0u64);
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
        let translations = translator.translate(&block, first_line)?;
        for (i, (line, translation)) in block.iter().zip(&translations).enumerate() {
            shortcomings.count(translation);
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
    shortcomings.warn(&config);
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
        // A list only where there is more than one.
        object["attention"] = if of_parts.len() > 1 {
            of_parts.into()
        } else {
            of_parts.remove(0)
        };
    }
    Ok(object)
}
