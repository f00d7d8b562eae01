//! `tallow train`.

use crate::arguments::{ConfigArguments, TrainArguments};
use crate::commands::resumable::no_run;
use crate::commands::searching::Shortcomings;
use crate::config::{Config, may_change};
use crate::device::DeviceChoice;
use crate::ingredients::{self, Initial, open_or_learn, position_limit, rewritten_references, validation_set};
use crate::progress::{Progress, thousands};
use crate::{INTERRUPTED, card, record, threads};
use anyhow::{Context, Result, bail};
use candle_core::Device;
use serde_json::{Value, json};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tallow_data::{Corpus, FileRecord, ParallelText};
use tallow_decode::Translator;
use tallow_score::Score;
use tallow_text::Tokenizers;
use tallow_train::{CARD_FILE, Ending, RunDirectory, Trainer, TrainerParts, must_be_finite};

pub(crate) fn run(arguments: TrainArguments) -> Result<ExitCode> {
    let begin = Instant::now();
    let mut composed = Config::compose(&arguments.config.config, &arguments.config.set)?;
    threads::set_operation_threads(composed.config.train.threads_per_worker);
    threads::keep_freed_memory();
    let device = arguments.device.device.open()?;
    ingredients::check_workers(&composed.config, &device)?;
    let missing = composed.config.data.missing_files();
    if !missing.is_empty() {
        bail!(
            "{}: files are missing:\n  {}",
            arguments.config.config.display(),
            missing.join("\n  ")
        );
    }
    let run = RunDirectory::new(composed.config.run_directory());
    let offline = arguments.hub.offline;
    if arguments.resume && !run.record().exists() && !has_results(&run) {
        return Err(no_run(&run, &composed.config, &arguments));
    }
    // Taken before anything is looked at, and held until the process ends.
    std::fs::create_dir_all(run.path()).with_context(|| format!("cannot make {}", run.path().display()))?;
    let _lock = run.lock()?;
    let resume_from = place_to_begin(&run, arguments.resume, arguments.overwrite)?;
    // Nothing of an earlier run is removed, and nothing written, before everything has been opened and fits together.
    if resume_from.is_some() {
        record::take_text_trim(&mut composed, &run.config());
    }
    let init = match &composed.config.init {
        Some(name) if resume_from.is_none() => Some(Initial::open(name, offline, &device)?),
        _ => None,
    };
    let config = match (&init, resume_from) {
        (Some(init), _) => composed.with_model_of(&init.opened.architecture.canonical().model)?,
        // What the model of `init` was, every checkpoint is.
        (None, Some(update)) if composed.config.init.is_some() => {
            let architecture = tallow_model::read_architecture(&run.checkpoint(update))?;
            composed.with_model_of(&architecture.canonical().model)?
        }
        (None, _) => composed.config,
    };

    let texts = config
        .data
        .train
        .iter()
        .map(ParallelText::open)
        .collect::<Result<Vec<_>, _>>()?;
    // Opened before training: a fault in the test set must not show after hours.
    let test_text = config.data.test.as_ref().map(ParallelText::open).transpose()?;
    let valid_text = config.data.valid.as_ref().map(ParallelText::open).transpose()?;
    let tokenizers = match (resume_from, &init) {
        (Some(_), _) => Tokenizers::open(run.path())?,
        (None, Some(init)) => init.tokenizers.clone(),
        (None, None) => open_or_learn(&config, &texts, offline)?,
    };
    for (part, text) in [("data.valid", &valid_text), ("data.test", &test_text)] {
        if let Some(text) = text
            && let Some((found, advice)) = rewritten_references(&config, text, &tokenizers)?
        {
            eprintln!("note: {part}: {found}; {advice}");
        }
    }
    let corpus = Arc::new(ingredients::training_corpus(&config, &texts, &tokenizers)?);
    drop(texts);
    report_corpus(&corpus);
    let valid = valid_text
        .map(|text| {
            validation_set(
                text,
                &tokenizers,
                config.data.batch_tokens,
                position_limit(&config.model),
                &config.score,
            )
        })
        .transpose()?;
    let architecture = ingredients::architecture(&config, &tokenizers)?;
    let begun_with = match (&init, resume_from) {
        (Some(init), _) => init.record.clone(),
        (None, Some(_)) => record::recorded_init(&run.record()),
        (None, None) => Value::Null,
    };
    let (params, logits_bias) = ingredients::weights(&config, init, &architecture, &device)?;
    let workers = ingredients::workers(&config, &device, params.elements());
    let valid_corpus = valid.as_ref().map(|set| &set.corpus);
    let fingerprint = record::fingerprint(&config, &corpus, valid_corpus, &tokenizers, workers)?;
    let mut files: Vec<(&'static str, FileRecord)> = corpus.files().map(|file| ("train", file.clone())).collect();
    files.extend(
        valid_corpus
            .into_iter()
            .flat_map(Corpus::files)
            .map(|file| ("valid", file.clone())),
    );
    files.extend(
        test_text
            .iter()
            .flat_map(|text| &text.files)
            .map(|file| ("test", file.clone())),
    );
    let pairs = json!({
        "train": corpus.len(),
        "valid": valid_corpus.map(Corpus::len),
        "test": test_text.as_ref().map(|text| text.source.len()),
    });
    let mut record = record::of_run(&fingerprint, &files, &pairs, &begun_with);
    if resume_from.is_none() {
        if let Some(reason) = tokenizers.why_not_marian() {
            eprintln!("note: the model will lack the files of Hugging Face's tokenizer: {reason}");
        }
        must_be_finite(&params)?;
        clear(&run)?;
        // The config comes last: with it, this is the directory of a run.
        record::write(&run.record(), &record)?;
        tokenizers.save(run.path())?;
        write_config(&run, &config)?;
    }
    let card = card::of_run(&config, &record, &architecture, &params, &tokenizers)?;
    let parts = TrainerParts {
        card,
        architecture,
        params,
        logits_bias,
        tokenizers: tokenizers.clone(),
        corpus: corpus.clone(),
        valid,
        train: config.train.clone(),
        data: config.data.clone(),
        decode: config.decode.clone(),
        fingerprint: fingerprint.clone(),
        run: run.clone(),
        device: device.clone(),
    };
    let mut trainer = match resume_from {
        Some(update) => {
            let (trainer, changes) = Trainer::resume(parts, update, may_change)?;
            refuse_other_pairs(&run, corpus.len())?;
            eprintln!("resuming {} from update {update}", run.path().display());
            changes.iter().for_each(|change| eprintln!("  changed since: {change}"));
            let is_in_best = |change: &String| {
                ["card.", "decode.", "data.test"]
                    .iter()
                    .any(|key| change.starts_with(key))
            };
            if changes.iter().any(is_in_best) && run.best().exists() {
                eprintln!(
                    "note: {best} says what it was written with until a better model replaces it. What has changed since in [card] and \
                     [data] can be put into {best}/{CARD_FILE} by hand; `tallow export` writes the present [decode]",
                    best = run.best().display()
                );
            }
            write_config(&run, &config)?;
            trainer
        }
        None => Trainer::new(parts)?,
    };
    if arguments.profile {
        trainer.profile();
    }
    let stop = stop_at_signals()?;
    record::began(&run.timing(), trainer.update())?;
    let progress = Progress::new();
    let outcome = trainer.run(&progress, &stop);
    progress.finish();
    let spent = record::spent(&run.timing(), begin.elapsed().as_secs_f64(), record::peak_memory());
    let resume = resume_command(&arguments.config, &arguments);
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            // What is lost, and what is not.
            let error = anyhow::Error::from(error);
            return Err(match run.intact_update() {
                Ok((Some(update), _)) => error.context(format!(
                    "the run is saved up to update {update}; once the fault below is mended, go on with\n  {resume}\nfault"
                )),
                _ => error,
            });
        }
    };
    // Only now: why training failed matters more than that its time cannot be noted, a full disk for one.
    let spent = spent?;
    match outcome.ending {
        Ending::Interrupted => {
            eprintln!(
                "stopped after update {}; everything is saved. Go on with\n  {resume}",
                outcome.update
            );
            return Ok(ExitCode::from(INTERRUPTED));
        }
        Ending::Converged => {
            let patience = config.train.patience;
            eprintln!(
                "no better model in {patience} validations: training ends after update {}",
                outcome.update
            );
        }
        Ending::Finished => eprintln!("training ends after update {}", outcome.update),
    }
    let mut results = json!({ "update": outcome.update, "best": outcome.best.map(|(update, value)| {
        json!({ "update": update, "metric": outcome.metric, "value": value })
    }), "skipped": outcome.skipped, "setbacks": outcome.setbacks });
    if let Some(text) = test_text {
        let (scores, exact) = test(&config, text, &run, &device, workers)?;
        let translations = run.test_translations();
        let translations = translations.file_name().map(|name| name.to_string_lossy());
        results["test"] = json!({
            "scores": tallow_score::to_json(&scores, 4), "exact_match": exact, "translations": translations
        });
        if !card::add_scores(&config, &run.best(), &scores, exact)? {
            eprintln!(
                "note: {} is missing or has no place for these scores; {} has them",
                run.best().join(CARD_FILE).display(),
                run.record().display()
            );
        }
    }
    // Those of a test set that the config does not name any more would be taken for present ones.
    if config.data.test.is_none() && run.test_translations().exists() {
        let path = run.test_translations();
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    record["results"] = results;
    record::write(&run.record(), &record)?;
    eprintln!("{spent}. Translate with\n  tallow translate {}", run.path().display());
    Ok(ExitCode::SUCCESS)
}

/// What a person types to go on with the run of a config: on the device, and with the Hub, that were given.
pub(super) fn resume_command(config: &ConfigArguments, given: &TrainArguments) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+.,:/@%".contains(c);
    let quoted = |text: &str| match text.chars().all(plain) {
        true => text.to_string(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    };
    let mut command = format!("tallow train {}", quoted(&config.config.to_string_lossy()));
    for change in &config.set {
        command += &format!(" --set {}", quoted(change));
    }
    let device = given.device.device;
    if device != DeviceChoice::default() {
        command += &format!(" --device {device}");
    }
    if given.hub.offline {
        command += " --offline";
    }
    command + " --resume"
}

/// The update to resume from, if the run is to be resumed; or why it can be neither resumed nor begun.
fn place_to_begin(run: &RunDirectory, resume: bool, overwrite: bool) -> Result<Option<u64>> {
    let path = run.path().display();
    if resume {
        run.recover()?;
        let (update, damaged) = run.intact_update()?;
        if let Some(update) = update {
            damaged.iter().for_each(|fault| eprintln!("not used: {fault}"));
            return Ok(Some(update));
        }
        if !damaged.is_empty() {
            bail!(
                "{path}: every checkpoint is damaged or led to divergence; begin anew with --overwrite:\n  {}",
                damaged.join("\n  ")
            );
        }
        if has_results(run) {
            bail!(
                "{path}: this run has a best model, but no checkpoint to resume from. Begin another run with this model by \
                 `init`, or replace it with --overwrite"
            );
        }
        eprintln!("{path}: nothing had been saved; beginning anew");
    } else if !overwrite && has_results(run) {
        bail!(
            "{path}: there is a run already. Continue it with --resume, replace it with --overwrite, or give this one \
             another name with --set name=..."
        );
    }
    if run.config().exists() && !run.record().exists() {
        bail!(
            "{path}: there is a config.toml that no run has written (without run.json); give this run another place with \
             --set output=..."
        );
    }
    Ok(None)
}

/// Refuses to go on with a run whose text, tokenizer and filters have not changed, but leave other pairs than they did: its
/// cursor would stand elsewhere.
fn refuse_other_pairs(run: &RunDirectory, found: usize) -> Result<()> {
    match record::read(&run.record())["pairs"]["train"].as_u64() {
        Some(before) if before != found as u64 => bail!(
            "{}: this run has {before} training pairs, and its text makes {found} of them now: it was begun by a version of Tallow \
             that kept other lines, such as those of characters without width, control characters or a language tag alone. \
             Finish it with that version, or begin a new run with another `name` or `output`",
            run.path().display()
        ),
        _ => Ok(()),
    }
}

/// Whether a run has anything to lose.
fn has_results(run: &RunDirectory) -> bool {
    // A link to a disk that is not there counts, too.
    let has = |path: PathBuf| path.symlink_metadata().is_ok();
    let has_checkpoints = match run.saved_updates() {
        Ok(updates) => !updates.is_empty() || (has(run.checkpoints()) && !run.checkpoints().is_dir()),
        Err(_) => true,
    };
    // Whether or not run.json is still there: training would replace a model of this name, and remove old checkpoints.
    has_checkpoints || has(run.best()) || has(run.replaced_best())
}

/// Writes the config that is run.
fn write_config(run: &RunDirectory, config: &Config) -> Result<()> {
    write_text(&run.config(), &config.to_toml()?)
}

/// Writes a file, aside first: the one before is not lost if there is no room.
fn write_text(path: &Path, text: &str) -> Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".partial");
    let written = std::fs::write(&aside, text).and_then(|()| std::fs::rename(&aside, path));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Removes what an earlier run has left. `run.json`, by which a directory is known to be a run's, goes last; without it,
/// files are somebody else's and stay.
fn clear(run: &RunDirectory) -> Result<()> {
    if !run.record().exists() {
        return Ok(());
    }
    for directory in [run.checkpoints(), run.best(), run.events()] {
        RunDirectory::remove(&directory)?;
    }
    let tokenizers = Tokenizers::file_names().map(|name| run.path().join(name));
    let others = [
        run.config(),
        run.metrics(),
        run.timing(),
        run.path().join("average.json"),
        run.test_translations(),
        run.record(),
    ];
    for file in tokenizers.chain(others).filter(|file| file.exists()) {
        std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(())
}

fn report_corpus(corpus: &Corpus) {
    for report in corpus.reports() {
        eprintln!("{report}");
    }
    let (source, target) = corpus
        .pairs()
        .fold((0, 0), |(s, t), pair| (s + pair.source.len(), t + pair.target.len()));
    let [pairs, source, target] = [corpus.len(), source, target].map(|count| thousands(count as f64));
    eprintln!("{pairs} training pairs, {source} source and {target} target tokens");
}

/// Translates the test set with the best model, keeps the translations, prints the scores and returns them.
fn test(
    config: &Config,
    text: ParallelText,
    run: &RunDirectory,
    device: &Device,
    workers: usize,
) -> Result<([Score; 2], f64)> {
    let opened = tallow_model::open(&run.best(), device)?;
    let model = opened.for_inference()?;
    let tokenizers = Tokenizers::open(&run.best())?;
    let decode = config.decode.without_failing();
    let translator = Translator::builder(model.clone(), tokenizers.clone())
        .config(decode.clone())
        .device(device.clone())
        .seed(config.seed)
        .workers(workers)
        .build()?;
    let translations = translator.translate(&text.source, 0)?;
    let hypotheses: Vec<&str> = translations.iter().map(|translation| translation.text()).collect();
    write_text(
        &run.test_translations(),
        &hypotheses.iter().flat_map(|line| [*line, "\n"]).collect::<String>(),
    )?;
    let mut shortcomings = Shortcomings::default();
    translations
        .iter()
        .for_each(|translation| shortcomings.count(translation));
    shortcomings.warn(&config.decode, &tokenizers);
    let references = [text.target.clone()];
    eprintln!("test set, {} lines, beam {}:", hypotheses.len(), config.decode.beam);
    let scores = config.score.scores(&hypotheses, &references)?;
    let exact = tallow_score::exact_match(&hypotheses, &references)?;

    writeln!(stdout(), "{}", tallow_score::to_text(&scores, 1))?;
    writeln!(stdout(), "exact match = {exact:.1} %")?;
    Ok((scores, exact))
}

/// A flag that the first SIGINT, SIGTERM or SIGHUP sets; the second ends the process.
fn stop_at_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            // The person has asked twice: whatever is being written has its old version beside it.
            #[allow(clippy::exit)]
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("\nfinishing this update and saving; Ctrl-C again stops at once");
    };
    ctrlc::set_handler(handler).context("Ctrl-C cannot be caught")?;
    threads::stop_at_time_limit();
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;

    #[test]
    fn the_command_to_go_on() {
        let command = |typed: &[&str]| {
            let arguments = Arguments::try_parse_from([&["tallow", "train"], typed].concat()).unwrap();
            match arguments.command {
                Command::Train(given) => resume_command(&given.config, &given),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(command(&["a.toml"]), "tallow train a.toml --resume");
        let changes = ["--set", "train.max_updates=9", "--set", r#"name="it's""#];
        assert_eq!(
            command(&[&["my runs/a.toml"], &changes[..]].concat()),
            r#"tallow train 'my runs/a.toml' --set train.max_updates=9 --set 'name="it'\''s"' --resume"#
        );
        assert_eq!(
            command(&["a.toml", "--device", "cuda:1", "--offline", "--overwrite"]),
            "tallow train a.toml --device cuda:1 --offline --resume"
        );
    }
}
