//! `tallow average`.

use crate::arguments::AverageArguments;
use crate::located::Located;
use crate::{card, record, threads};
use anyhow::{Result, bail};
use candle_core::Device;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tallow_text::Tokenizers;
use tallow_train::{ModelCard, RunDirectory, average};

pub(crate) fn run(arguments: AverageArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    if arguments.output.exists() {
        bail!(
            "{}: exists already; choose another --output",
            arguments.output.display()
        );
    }
    let directories = directories(&arguments)?;
    let located = directories
        .iter()
        .map(|directory| Located::at(directory))
        .collect::<Result<Vec<_>>>()?;
    let tokenizers = Tokenizers::open(&directories[0])?;
    for directory in &directories[1..] {
        let other = Tokenizers::open(directory)?;
        if (other.source.sha256(), other.target.sha256()) != (tokenizers.source.sha256(), tokenizers.target.sha256()) {
            bail!(
                "{} and {} have different tokenizers",
                directories[0].display(),
                directory.display()
            );
        }
    }
    let mean = average(&directories, &Device::Cpu)?;
    tallow_model::save(
        &arguments.output,
        &mean.architecture,
        &mean.params,
        mean.logits_bias.as_ref(),
        located[0].decode_config().search_settings(),
    )?;
    tokenizers.save_all(&arguments.output)?;
    let run = |located: &Located| located.run.as_ref().map(|run| run.path().to_path_buf());
    let is_one_run = run(&located[0]).is_some() && located.iter().all(|other| run(other) == run(&located[0]));
    let card = match (&located[0].config, &located[0].run) {
        (Some(config), Some(run)) if is_one_run => {
            let record = record::read(&run.record());
            card::of_run(config, &record, &mean.architecture, &mean.params, &tokenizers)?
        }
        _ => ModelCard::default(),
    };
    // With the run's name only where there are several runs; where a directory lies otherwise is nobody's business.
    let last = |path: &Path| {
        let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        whole.file_name().unwrap_or_default().to_string_lossy().into_owned()
    };
    let name = |(directory, located): (&PathBuf, &Located)| match &located.run {
        Some(run) if !is_one_run => format!("`{}/{}`", last(run.path()), last(directory)),
        _ => format!("`{}`", last(directory)),
    };
    let averaged: Vec<String> = directories.iter().zip(&located).map(name).collect();
    card.write(
        &arguments.output,
        &format!("Weights: the average of {}, not validated.", averaged.join(", ")),
    )?;
    let names: Vec<String> = directories
        .iter()
        .map(|directory| directory.display().to_string())
        .collect();
    eprintln!(
        "{} is the average of\n  {}",
        arguments.output.display(),
        names.join("\n  ")
    );
    Ok(ExitCode::SUCCESS)
}

fn directories(arguments: &AverageArguments) -> Result<Vec<PathBuf>> {
    let [only] = arguments.models.as_slice() else {
        return Ok(arguments.models.clone());
    };
    let run = RunDirectory::new(only);
    if !run.is_run() {
        bail!("{}: not a run; give a run, or at least two checkpoints", only.display());
    }
    let saved = run.saved_updates()?;
    if saved.len() < 2 {
        bail!(
            "{}: this run keeps {} checkpoints; train.keep_last keeps more",
            only.display(),
            saved.len()
        );
    }
    let recent = saved.len().saturating_sub(arguments.last.max(2));
    Ok(saved[recent..].iter().map(|update| run.checkpoint(*update)).collect())
}
