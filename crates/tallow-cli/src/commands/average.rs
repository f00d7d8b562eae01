//! `tallow average`.

use crate::arguments::AverageArguments;
use crate::notices::PrintNotices;
use crate::progress::describe;
use crate::threads;
use crate::usage::wrong_usage;
use anyhow::{Context, Result, bail};
use candle_core::Device;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tallow::corpora::validation_set;
use tallow::humanize::counted;
use tallow::{Config, RunRecord, SavedModel, card};
use tallow_data::ParallelText;
use tallow_decode::open_tokenizers;
use tallow_model::Opened;
use tallow_text::Tokenizers;
use tallow_train::{ModelCard, RunDirectory, Validation, ValidationOptions, average};

pub(crate) fn run(arguments: AverageArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    if arguments.last < 2 {
        return Err(wrong_usage(format!(
            "--last {}: an average is of at least 2 checkpoints",
            arguments.last
        )));
    }
    if arguments.output.exists() {
        bail!(
            "{}: exists already; choose another --output",
            arguments.output.display()
        );
    }
    let saved = chosen(&arguments)?
        .iter()
        .map(|directory| SavedModel::at(directory, &PrintNotices))
        .collect::<Result<Vec<_>, _>>()?;
    // A run among several models stands for its best model.
    let directories: Vec<&PathBuf> = saved.iter().map(|saved| &saved.directory).collect();
    let open = |directory: &Path| -> Result<Tokenizers> {
        Ok(open_tokenizers(
            directory,
            &tallow_model::read_architecture(directory)?,
        )?)
    };
    let tokenizers = open(directories[0])?;
    for directory in &directories[1..] {
        let other = open(directory)?;
        if (other.source.sha256(), other.target.sha256()) != (tokenizers.source.sha256(), tokenizers.target.sha256()) {
            bail!(
                "{} and {} have different tokenizers",
                directories[0].display(),
                directory.display()
            );
        }
    }
    let mean = average(&directories, &Device::Cpu)?;
    let run = |saved: &SavedModel| saved.run.as_ref().map(|run| run.path().canonicalize().ok());
    let is_one_run = run(&saved[0]).is_some() && saved.iter().all(|other| run(other) == run(&saved[0]));
    let validated = match (&saved[0].config, &saved[0].run) {
        (Some(config), Some(run)) if is_one_run => validated(config, run, &mean, &tokenizers),
        _ => Err(anyhow::anyhow!("these are not models of one run")),
    };
    tallow_model::save(
        &arguments.output,
        &mean.architecture,
        &mean.params,
        mean.logits_bias.as_ref(),
        saved[0].decode_config().search_settings(),
    )?;
    tokenizers.save_all(&arguments.output)?;
    let card = match (&saved[0].config, &saved[0].run) {
        (Some(config), Some(run)) if is_one_run => {
            let record = RunRecord::read(&run.record());
            card::of_run(config, &record, &mean.architecture, &mean.params, &tokenizers)?
        }
        _ => ModelCard::default(),
    };
    // The run's name is needed only if there are several runs. The place of a directory on this machine should not
    // appear in a card.
    let last = |path: &Path| {
        let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        whole.file_name().unwrap_or_default().to_string_lossy().into_owned()
    };
    let name = |saved: &SavedModel| match &saved.run {
        Some(run) if !is_one_run => format!("`{}/{}`", last(run.path()), last(&saved.directory)),
        _ => format!("`{}`", last(&saved.directory)),
    };
    let averaged = saved.iter().map(name).collect::<Vec<String>>().join(", ");
    let told = match &validated {
        Ok((validation, config)) => {
            let search = config.train.valid_search(&config.decode);
            format!("{averaged}; {}", validation.summary(&search))
        }
        // The reason is left out, because it would show where files lie.
        Err(_) => format!("{averaged}, not validated."),
    };
    card.write(&arguments.output, &format!("Weights: the average of {told}"))?;
    let names: Vec<String> = directories
        .iter()
        .map(|directory| directory.display().to_string())
        .collect();
    eprintln!(
        "{} is the average of\n  {}",
        arguments.output.display(),
        names.join("\n  ")
    );
    match validated {
        Ok((validation, config)) => {
            let decided_by = config
                .train
                .metric
                .of_standing(config.train.metric.standing(&validation))
                .0;
            writeln!(stdout(), "valid {}", describe(&validation, decided_by))?;
        }
        Err(reason) => eprintln!("not validated: {reason:#}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Validates the average on the validation set of its run, with the search and scores of the run. An error here is
/// reported, but does not prevent the average.
fn validated<'a>(
    config: &'a Config,
    run: &RunDirectory,
    mean: &Opened,
    tokenizers: &Tokenizers,
) -> Result<(Validation, &'a Config)> {
    let sets = &config.data.valid;
    if sets.is_empty() {
        bail!("the run has no data.valid");
    }
    let open = |set| ParallelText::open(set).context("data.valid of the run cannot be read");
    let texts = sets.iter().map(open).collect::<Result<Vec<_>>>()?;
    let record = RunRecord::read(&run.record());
    let recorded: Vec<&String> = record
        .data
        .iter()
        .filter(|file| file.part == "valid")
        .map(|file| &file.sha256)
        .collect();
    let files = texts.iter().flat_map(|text| &text.files);
    let is_same = files.map(|file| &file.sha256).eq(recorded.iter().copied());
    if !recorded.is_empty() && !is_same {
        eprintln!("note: data.valid is not the text that the run began with; its scores are others");
    }
    let search = config.train.valid_search(&config.decode);
    let model = mean.for_inference()?;
    let options = ValidationOptions {
        samples: 0,
        workers: tallow::cores(),
        command: None,
        on_fault: &|_| {},
    };
    let mut results = Vec::new();
    for (text, files) in texts.into_iter().zip(sets.iter()) {
        let name = files.name.clone().unwrap_or_default();
        let set = validation_set(
            Some(name.clone()),
            text,
            tokenizers,
            config.data.batch_tokens,
            mean.architecture.model.position_limit(),
            &config.score,
            config.train.metric,
        )?;
        results.push((name, set.validate(&model, tokenizers, &search, options, &Device::Cpu)?));
    }
    let validation = match results.len() {
        1 => results.remove(0).1,
        _ => Validation::of_sets(results, config.train.chosen_valid_set()),
    };
    if !validation.loss.is_finite() {
        bail!("its scores are not finite numbers");
    }
    Ok((validation, config))
}

/// The models to average: the named ones, or the last checkpoints of a run.
fn chosen(arguments: &AverageArguments) -> Result<Vec<PathBuf>> {
    let [only] = arguments.models.as_slice() else {
        return Ok(arguments.models.clone());
    };
    let run = RunDirectory::new(only);
    if !run.is_run() {
        bail!("{}: not a run; give a run, or at least two checkpoints", only.display());
    }
    let (mut recent, mut unusable) = (Vec::new(), 0);
    for update in run.saved_updates()?.into_iter().rev() {
        if recent.len() == arguments.last {
            break;
        }
        match run.fault(update) {
            Some(fault) => {
                eprintln!("not used: {}: {fault}", run.checkpoint(update).display());
                unusable += 1;
            }
            None => recent.push(run.checkpoint(update)),
        }
    }
    let kept = counted((recent.len() + unusable) as u64, "checkpoint");
    let kept = match unusable {
        0 => kept,
        _ => format!("{kept}, of which {} can be used", recent.len()),
    };
    if recent.len() < 2 {
        bail!(
            "{}: this run keeps {kept}; an average is of at least 2. With a greater train.keep_last, a run keeps more",
            only.display()
        );
    }
    if recent.len() < arguments.last {
        eprintln!(
            "note: {} keeps {kept}, not {} (--last); these are averaged",
            only.display(),
            arguments.last
        );
    }
    recent.reverse();
    Ok(recent)
}
