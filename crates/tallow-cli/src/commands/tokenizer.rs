//! `tallow tokenizer`.

use crate::arguments::{TokenizerCommand, TokenizerTrainArguments, TokenizerUseArguments};
use crate::lines::{input, warn_of_repairs};
use crate::progress::Progress;
use crate::threads;
use crate::ways_out::with_flags;
use anyhow::{Context, Result, bail};
use std::io::{BufWriter, Write, stdout};
use std::path::Path;
use std::process::ExitCode;
use tallow::preparation::with_kept_text;
use tallow::vocabulary::learn;
use tallow::{Config, Listener, Work};
use tallow_data::TextRecord;
use tallow_text::{Tokenizer, Tokenizers};

pub(crate) fn run(command: TokenizerCommand) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    match command {
        TokenizerCommand::Train(arguments) => train(&arguments)?,
        TokenizerCommand::Encode(arguments) => encode(&arguments)?,
        TokenizerCommand::Decode(arguments) => decode(&arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn train(arguments: &TokenizerTrainArguments) -> Result<()> {
    let config = with_flags(Config::compose(&arguments.config.config, &arguments.config.set))?.config;
    if !config.text.learns() {
        bail!("text.path and text.hub name a tokenizer that exists; remove them to learn one");
    }
    let config = with_kept_text(&config)?;
    let progress = Progress::new();
    let mut pairs = 0;
    for files in &config.data.train {
        let before = pairs;
        let record = TextRecord::read(files, |done| {
            progress.working(&Work::new("reading the text", before + done, None));
        })?;
        pairs += record.report.lines;
    }
    let tokenizers = learn(&config, pairs, &progress)?;
    progress.finish();
    let output = &arguments.output;
    std::fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display()))?;
    tokenizers.save(output)?;
    let pieces = tokenizers.source.vocabulary_size();
    eprintln!("{}: {pieces} {} pieces", output.display(), config.text.kind);
    if pieces < config.text.vocabulary {
        eprintln!(
            "the text has no more; text.vocabulary asked for {}",
            config.text.vocabulary
        );
    }
    Ok(())
}

fn open(arguments: &TokenizerUseArguments) -> Result<Tokenizer> {
    let tokenizers = Tokenizers::open(&arguments.tokenizer)?;
    Ok(if arguments.target {
        tokenizers.target
    } else {
        tokenizers.source
    })
}

fn encode(arguments: &TokenizerUseArguments) -> Result<()> {
    let tokenizer = open(arguments)?;
    each_line(|line| {
        Ok(if arguments.ids {
            tokenizer
                .encode(line)?
                .iter()
                .map(u32::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        } else {
            tokenizer.pieces(line)?.join(" ")
        })
    })
}

fn decode(arguments: &TokenizerUseArguments) -> Result<()> {
    let tokenizer = open(arguments)?;
    each_line(|line| {
        let id = |word: &str| {
            word.parse::<u32>()
                .with_context(|| format!("{word:?} is not the id of a piece"))
        };
        let ids = line.split_whitespace().map(id).collect::<Result<Vec<u32>>>()?;
        Ok(tokenizer.decode(&ids)?)
    })
}

fn each_line(answer: impl Fn(&str) -> Result<String>) -> Result<()> {
    let mut reader = input(Path::new("-"))?;
    let mut writer = BufWriter::new(stdout().lock());
    for (i, line) in reader.by_ref().enumerate() {
        let answer = answer(&line?).with_context(|| format!("line {}", i + 1))?;
        writeln!(writer, "{answer}")?;
    }
    writer.flush()?;
    warn_of_repairs(&reader);
    Ok(())
}
