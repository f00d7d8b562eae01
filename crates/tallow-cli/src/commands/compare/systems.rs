//! The systems that are compared: models that translate, and files of translations.

use crate::activity::Activity;
use crate::arguments::CompareArguments;
use crate::hub::hub;
use crate::notices::{PrintNotices, warn};
use crate::usage::wrong_usage;
use anyhow::{Context, Result, anyhow, bail};
use std::io::stdin;
use std::path::{Path, PathBuf};
use tallow::comparison::System;
use tallow::humanize::counted;
use tallow::warnings::TranslationWarnings;
use tallow::{Config, Device, SavedModel};
use tallow_data::{read_lines, read_lines_from};
use tallow_decode::{Translation, Translator};
use tallow_model::MarianFiles;
use tallow_train::EVALUATED_LINES;

/// A system as it was named.
pub(super) struct Found {
    name: String,
    runs: Vec<Run>,
}

enum Run {
    /// The translations on standard input.
    Input,
    Lines(PathBuf),
    Model(String, Box<SavedModel>),
}

impl Found {
    /// The config of the first of its runs that has one.
    pub(super) fn config(&self) -> Option<&Config> {
        self.runs.iter().find_map(|run| match run {
            Run::Model(_, saved) => saved.config.as_ref(),
            Run::Lines(_) | Run::Input => None,
        })
    }
}

/// Finds the systems by their names. Several names with commas between them are the runs of one system.
pub(super) fn find(arguments: &CompareArguments) -> Result<Vec<Found>> {
    let hub = hub(arguments.hub.offline);
    let find_run = |name: &str| -> Result<Run> {
        if name == "-" {
            return Ok(Run::Input);
        }
        if name.is_empty() {
            return Err(wrong_usage(
                "there is nothing before or after a comma in the name of a system",
            ));
        }
        let path = Path::new(name);
        if path.is_file() && !MarianFiles::are_at(path) {
            return Ok(Run::Lines(path.to_owned()));
        }
        let saved = SavedModel::find(name, &hub, &PrintNotices);
        let saved = saved.with_context(|| format!("{name}: neither a file of translations nor a model"))?;
        Ok(Run::Model(name.to_owned(), Box::new(saved)))
    };
    let find_system = |name: &String| {
        let names: Vec<&str> = match Path::new(name).exists() {
            true => vec![name],
            false => name.split(',').collect(),
        };
        Ok(Found {
            runs: names.into_iter().map(find_run).collect::<Result<_>>()?,
            name: name.clone(),
        })
    };
    let found: Vec<Found> = arguments.systems.iter().map(find_system).collect::<Result<_>>()?;
    let inputs = found.iter().flat_map(|found| &found.runs);
    if inputs.filter(|run| matches!(run, Run::Input)).count() > 1 {
        return Err(wrong_usage("only one system can come from standard input (-)"));
    }
    Ok(found)
}

/// The translations of all systems.
pub(super) fn translations(
    found: &[Found],
    source: Option<&[String]>,
    lines: usize,
    (arguments, device): (&CompareArguments, &Device),
    activity: &mut Activity,
) -> Result<Vec<System>> {
    let complete = |name: &Path, found: Vec<String>| -> Result<Vec<String>> {
        if found.len() != lines {
            bail!(
                "{}: {}, but the references have {lines}",
                name.display(),
                counted(found.len(), "line")
            );
        }
        Ok(found)
    };
    let mut of_run = |run: &Run| match run {
        Run::Input => {
            let name = Path::new("standard input");
            complete(name, read_lines_from(stdin().lock(), name)?.lines)
        }
        Run::Lines(path) => complete(path, read_lines(path)?.lines),
        Run::Model(name, saved) => {
            let source = source
                .ok_or_else(|| wrong_usage(format!("{name} is a model; give the lines to translate with --source")))?;
            let found = translate(name, saved, source, (arguments, device), activity);
            found.map_err(|error| anyhow!(error).context(name.clone()))
        }
    };
    let mut of_system = |found: &Found| {
        Ok(System {
            name: found.name.clone(),
            runs: found.runs.iter().map(&mut of_run).collect::<Result<_>>()?,
        })
    };
    found.iter().map(&mut of_system).collect()
}

fn translate(
    name: &str,
    saved: &SavedModel,
    source: &[String],
    (arguments, device): (&CompareArguments, &Device),
    activity: &mut Activity,
) -> Result<Vec<String>> {
    let config = arguments.search.decode_config(saved)?;
    let (model, tokenizers) = saved.open_prepared(device, config.compute.into())?;
    let translator = Translator::builder(model, tokenizers.clone())
        .config(config.clone())
        .device(device.clone())
        .seed(arguments.search.seed)
        .workers(arguments.search.workers(device))
        .build()?;
    activity.begin(format!("translating with {name}"));
    let all = source.len() as u64;
    let mut translations: Vec<Translation> = Vec::with_capacity(source.len());
    for block in source.chunks(EVALUATED_LINES) {
        translations.extend(translator.translate(block, translations.len() as u64)?);
        activity.count(translations.len() as u64, Some(all), "lines");
    }
    let warnings = TranslationWarnings::of(&translations).lines(&config, &tokenizers);
    activity.aside(|| warnings.iter().for_each(|text| warn(&format!("{name}: {text}"))));
    Ok(translations
        .iter()
        .map(|translation| translation.text().to_owned())
        .collect())
}
