//! `tallow translate`.

mod drawing;
mod input;
mod output;

use crate::activity::{Activity, summary};
use crate::arguments::{OutputFormat, TranslateArguments};
use crate::lines::{input, warn_of_repairs};
use crate::models::{Models, find_models, open_models, settings_of};
use crate::notices::warn;
use crate::signals::{stop_at_signals, stop_quietly_at_signals};
use crate::usage::wrong_usage;
use crate::{INTERRUPTED, ranks, threads};
use anyhow::{Context, Result};
use input::InputLines;
use output::{OutputLines, pharaoh};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, IsTerminal, Write, stderr, stdin, stdout};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tallow::warnings::TranslationWarnings;
use tallow::{Begin, Job, Member, SavedModel};
use tallow_comm::Group;
use tallow_data::LineReader;
use tallow_decode::{Autoregressive, DecodeConfig, Input, Translation, Translator, TranslatorBuilder};
use tallow_model::InferenceCompute;

/// The number of lines that are translated together: enough to sort them by length, few enough to hold in memory and to
/// wait for.
const BLOCK_LINES: usize = 4096;
/// The largest size of a block in bytes, without its last line.
const BLOCK_BYTES: usize = 16 << 20;
/// The first lines of a job are few, so that they are there at once.
const FIRST_LINES: usize = 64;
/// Later blocks take about this long.
const BLOCK_TIME: Duration = Duration::from_secs(5);
/// The time between two lines about the progress of a job where no line can be redrawn.
const NEWS_TIME: Duration = Duration::from_secs(60);

pub(crate) fn run(arguments: TranslateArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    threads::keep_freed_memory();
    check_usage(&arguments)?;
    let together = ranks::group()?;
    let device = arguments.device.open()?;
    let saved = find_models(&arguments.models, arguments.hub.offline)?;
    let config = settings_of(&saved, &arguments.search)?;
    // The limits of every model hold for all.
    let limit = saved.iter().filter_map(SavedModel::position_limit).min();
    let config = if saved.len() > 1 { config.within(limit) } else { config };
    let (models, tokenizers) = open_models(&arguments.models, &saved, &device, &config)?;
    match models {
        Models::One(model) => {
            let builder = Translator::builder(model, tokenizers);
            translate(&arguments, &saved, builder, config, &device, together)
        }
        Models::Several(models) => {
            let builder = Translator::builder(models, tokenizers);
            translate(&arguments, &saved, builder, config, &device, together)
        }
    }
}

/// Flags that contradict each other.
fn check_usage(arguments: &TranslateArguments) -> Result<()> {
    let is_to_file = arguments.output != Path::new("-");
    let journal = is_to_file.then(|| Job::journal_of(&arguments.output));
    let files = [
        Some(&arguments.input),
        Some(&arguments.output),
        arguments.alignments.as_ref(),
        journal.as_ref(),
    ];
    let files = files.into_iter().flatten().filter(|path| *path != Path::new("-"));
    let files: Vec<(&PathBuf, PathBuf)> = files.map(|path| (path, place_of(path))).collect();
    for (i, (path, place)) in files.iter().enumerate() {
        if files[..i].iter().any(|(_, other)| other == place) {
            let path = path.display();
            return Err(wrong_usage(format!(
                "{path} stands for two of --input, --output, --alignments and the journal of the output"
            )));
        }
    }
    let is_drawn = arguments.attention && arguments.format != OutputFormat::Json;
    if is_drawn && (is_to_file || !stdout().is_terminal()) {
        return Err(wrong_usage(
            "--attention draws pictures on a terminal; in a pipe or a file it needs --format json",
        ));
    }
    if !is_to_file && (arguments.resume || (arguments.overwrite && arguments.alignments.is_none())) {
        return Err(wrong_usage("--resume and --overwrite need --output FILE"));
    }
    if is_to_file && arguments.interactive {
        return Err(wrong_usage(
            "--interactive translates to standard output; leave out --output",
        ));
    }
    if arguments.resume && arguments.input == Path::new("-") && stdin().is_terminal() {
        return Err(wrong_usage(
            "--resume needs --input FILE, or the same input from a pipe",
        ));
    }
    Ok(())
}

/// The place of a file, also of one that does not exist yet.
fn place_of(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize();
    let of_name = |folder: PathBuf| folder.join(path.file_name().unwrap_or_default());
    path.canonicalize()
        .or_else(|_| folder.map(of_name))
        .unwrap_or_else(|_| path.to_path_buf())
}

fn translate<M: Autoregressive>(
    arguments: &TranslateArguments,
    saved: &[SavedModel],
    builder: TranslatorBuilder<M>,
    config: DecodeConfig,
    device: &tallow::Device,
    (group, member): (Group, Member),
) -> Result<ExitCode> {
    let workers = match group.is_alone() {
        true => arguments.search.workers(device),
        false => {
            let cores = ranks::must_agree(&group, &member, &described(arguments, saved, &config)?)?;
            arguments.search.workers.unwrap_or(cores)
        }
    };
    let translator = builder
        .config(config.clone())
        .device(device.clone())
        .seed(arguments.search.seed)
        .workers(workers)
        .attention(arguments.attention || arguments.alignments.is_some())
        .build()?;
    let lines = Lines {
        group,
        input: InputLines::of(arguments),
        output: OutputLines {
            format: arguments.format,
            n_best: config.n_best,
            attention: arguments.attention,
        },
        aligns: arguments.alignments.is_some(),
        translator: &translator,
    };
    if !lines.group.is_root() {
        // The root alone stops when it is asked to, after the lines at hand.
        let _ = stop_quietly_at_signals()?;
        while lines.help()? {}
        lines.group.leave()?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut counts = Counts::default();
    let reader = input(&arguments.input)?;
    let code = if arguments.output == Path::new("-") {
        stream(arguments, &lines, reader, &mut counts)?
    } else {
        let job = described(arguments, saved, translator.config())?;
        work(arguments, &lines, reader, job, &mut counts)?
    };
    lines.end()?;
    lines.group.leave()?;
    let warnings = counts.warnings.lines(&config, translator.tokenizers());
    warnings.iter().for_each(|text| warn(text));
    // Pipelines print no summary.
    let from_terminal = arguments.input == Path::new("-") && stdin().is_terminal();
    if !from_terminal && stderr().is_terminal() {
        let model = &saved[0].directory;
        eprintln!("{}", summary(model, counts.lines, &config, counts.tokens, counts.spent));
    }
    Ok(code)
}

/// From lines of the input to lines of the output.
struct Lines<'a, M> {
    /// The processes that translate together.
    group: Group,
    input: InputLines,
    output: OutputLines,
    aligns: bool,
    translator: &'a Translator<M>,
}

/// What has been translated.
#[derive(Default, Serialize, Deserialize)]
struct Counts {
    warnings: TranslationWarnings,
    lines: u64,
    tokens: usize,
    spent: Duration,
}

impl Counts {
    /// Adds what another process has translated at the same time.
    fn add(&mut self, other: Self) {
        self.warnings.add(other.warnings);
        self.lines += other.lines;
        self.tokens += other.tokens;
    }

    fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.spent.as_secs_f64()
    }
}

impl<M: Autoregressive> Lines<'_, M> {
    /// Translates lines, of which the first has the number `first`, and returns their outputs: translations and
    /// alignments. The processes of the group share the lines; the others [`help`](Self::help).
    fn translate(&self, block: &[String], first: u64, counts: &mut Counts) -> Result<[String; 2]> {
        if self.group.is_alone() {
            return self.translate_own(block, first, counts);
        }
        let order = serde_json::to_vec(&Some((block, first)))?;
        self.group.broadcast(|| order)?;
        let own = self.part_of(block.len());
        let translated = self.translate_own(&block[own.clone()], first + own.start as u64, counts)?;
        let of_ranks = self
            .group
            .gather(serde_json::to_vec(&(translated, Counts::default()))?)?;
        let (mut texts, mut alignments) = (String::new(), String::new());
        for of_rank in of_ranks.iter().flatten() {
            let ([of_texts, of_alignments], of_counts): ([String; 2], Counts) = serde_json::from_slice(of_rank)?;
            texts += &of_texts;
            alignments += &of_alignments;
            counts.add(of_counts);
        }
        Ok([texts, alignments])
    }

    /// Translates this process's part of the root's next lines. Says whether there were any.
    fn help(&self) -> Result<bool> {
        let order: Option<(Vec<String>, u64)> = serde_json::from_slice(&self.group.broadcast(Vec::new)?)?;
        let Some((block, first)) = order else {
            return Ok(false);
        };
        let mut counts = Counts::default();
        let own = self.part_of(block.len());
        let translated = self.translate_own(&block[own.clone()], first + own.start as u64, &mut counts)?;
        self.group.gather(serde_json::to_vec(&(translated, counts))?)?;
        Ok(true)
    }

    /// Tells the other processes that there are no more lines.
    fn end(&self) -> Result<()> {
        let order = serde_json::to_vec(&None::<(Vec<String>, u64)>)?;
        self.group.broadcast(|| order)?;
        Ok(())
    }

    /// This process's part of so many lines.
    fn part_of(&self, lines: usize) -> Range<usize> {
        let (rank, size) = (self.group.rank(), self.group.size());
        lines * rank / size..lines * (rank + 1) / size
    }

    fn translate_own(&self, block: &[String], first: u64, counts: &mut Counts) -> Result<[String; 2]> {
        let begin = Instant::now();
        let read = |(i, line): (usize, &String)| self.input.read(line.clone(), first + i as u64 + 1);
        let inputs: Vec<Input> = block.iter().enumerate().map(read).collect::<Result<_>>()?;
        let translations = self.translator.translate_inputs(&inputs, first)?;
        counts.spent += begin.elapsed();
        let (mut texts, mut alignments) = (String::new(), String::new());
        for (i, (input, translation)) in inputs.iter().zip(&translations).enumerate() {
            counts.warnings.count(translation);
            counts.tokens += target_tokens(translation);
            texts += &self
                .output
                .write(first + i as u64, &input.text, translation, self.translator);
            texts.push('\n');
            if self.aligns {
                alignments += &pharaoh(translation, self.translator)?;
                alignments.push('\n');
            }
        }
        counts.lines += block.len() as u64;
        Ok([texts, alignments])
    }
}

/// The next lines of the input.
fn next_block(reader: &mut LineReader<Box<dyn BufRead>>, most: usize) -> Result<Vec<String>> {
    let mut block: Vec<String> = Vec::new();
    let mut bytes = 0;
    while block.len() < most && bytes < BLOCK_BYTES {
        let Some(line) = reader.next() else { break };
        let line = line?;
        bytes += line.len();
        block.push(line);
    }
    Ok(block)
}

/// Translates to standard output.
fn stream<M: Autoregressive>(
    arguments: &TranslateArguments,
    lines: &Lines<M>,
    mut reader: LineReader<Box<dyn BufRead>>,
    counts: &mut Counts,
) -> Result<ExitCode> {
    let from_terminal = arguments.input == Path::new("-") && stdin().is_terminal();
    if from_terminal {
        eprintln!("one line, one translation; Ctrl-D ends");
    }
    let is_one_by_one = from_terminal || arguments.interactive;
    let block_lines = if is_one_by_one { 1 } else { BLOCK_LINES };
    let mut writer = BufWriter::new(stdout().lock());
    let create = |path: &PathBuf| {
        if path.exists() && !arguments.overwrite {
            return Err(tallow::Error::OutputExists { path: path.clone() }.into());
        }
        File::create(path).with_context(|| format!("cannot write {}", path.display()))
    };
    let mut alignments = arguments.alignments.as_ref().map(create).transpose()?;
    let is_to_terminal = stdout().is_terminal();
    // A user who types waits only for one line.
    let mut activity = Activity::beside_output(!from_terminal);
    activity.begin("translating");
    loop {
        let block = next_block(&mut reader, block_lines)?;
        if block.is_empty() {
            break;
        }
        let [texts, pairs] = lines.translate(&block, counts.lines, counts)?;
        let write = || -> Result<()> {
            writer.write_all(texts.as_bytes())?;
            Ok(writer.flush()?)
        };
        // On a terminal, the translations appear in the place of the progress line.
        if is_to_terminal {
            activity.aside(write)?;
        } else {
            let mut write = write;
            write()?;
        }
        if let (Some(file), Some(path)) = (&mut alignments, &arguments.alignments) {
            let written = file.write_all(pairs.as_bytes());
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
        activity.count(counts.lines, None, "lines");
        activity.speed(counts.tokens_per_second());
    }
    activity.end();
    warn_of_repairs(&reader);
    Ok(ExitCode::SUCCESS)
}

/// Translates to a file: a job that can be resumed.
fn work<M: Autoregressive>(
    arguments: &TranslateArguments,
    lines: &Lines<M>,
    mut reader: LineReader<Box<dyn BufRead>>,
    job: Map<String, Value>,
    counts: &mut Counts,
) -> Result<ExitCode> {
    let outputs: Vec<PathBuf> = [Some(&arguments.output), arguments.alignments.as_ref()]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let begin = match (arguments.resume, arguments.overwrite) {
        (true, _) => Begin::Resume,
        (false, true) => Begin::Overwrite,
        (false, false) => Begin::New,
    };
    let mut job = Job::open(&outputs, job, begin)?;
    let before = job.lines();
    if before > 0 {
        eprintln!("going on after line {before}");
    }
    job.skip(&mut reader)?;
    let all = count_lines(&arguments.input);
    let stop = match lines.group.is_alone() {
        true => stop_at_signals("finishing these lines")?,
        false => stop_quietly_at_signals()?,
    };
    let mut activity = Activity::new(true);
    activity.begin("translating");
    activity.count(before, all, "lines");
    let mut most = FIRST_LINES;
    let mut news = Instant::now();
    loop {
        let block = next_block(&mut reader, most)?;
        if block.is_empty() {
            break;
        }
        if stop.load(Ordering::Relaxed) {
            activity.end();
            let done = job.lines();
            eprintln!("stopped after line {done}; everything is saved. --resume goes on, instead of --overwrite");
            return Ok(ExitCode::from(INTERRUPTED));
        }
        let begin = Instant::now();
        let first = job.lines();
        let found = lines.translate(&block, first, counts).with_context(|| {
            format!("the first {first} lines are done; once the fault is mended, --resume goes on behind them")
        })?;
        job.append(&block, &found[..outputs.len()])?;
        let share = BLOCK_TIME.as_secs_f64() / begin.elapsed().as_secs_f64().max(1e-3);
        most = ((block.len() as f64 * share.min(4.0)) as usize).clamp(1, BLOCK_LINES);
        activity.count(job.lines(), all, "lines");
        activity.speed(counts.tokens_per_second());
        if news.elapsed() >= NEWS_TIME {
            activity.tell_progress();
            news = Instant::now();
        }
    }
    job.finish()?;
    activity.end();
    warn_of_repairs(&reader);
    Ok(ExitCode::SUCCESS)
}

/// The number of lines of a plain file; `None` for a pipe, and for a compressed file, which would have to be read
/// twice.
fn count_lines(path: &Path) -> Option<u64> {
    if path == Path::new("-") || !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path).ok()?);
    let (mut lines, mut is_first, mut ends_with_line) = (0, true, true);
    loop {
        let bytes = reader.fill_buf().ok()?;
        if is_first && bytes.starts_with(&[0x1f, 0x8b]) {
            return None;
        }
        let Some(last) = bytes.last() else { break };
        lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        (is_first, ends_with_line) = (false, *last == b'\n');
        let count = bytes.len();
        reader.consume(count);
    }
    Some(lines + u64::from(!ends_with_line))
}

/// Everything that the output depends on, besides the input.
fn described(
    arguments: &TranslateArguments,
    saved: &[SavedModel],
    config: &DecodeConfig,
) -> Result<Map<String, Value>> {
    let format = |format: Option<clap::builder::PossibleValue>| format.map(|value| value.get_name().to_owned());
    let mut job = Map::new();
    let mut say = |key: &str, value: Value| drop(job.insert(key.to_owned(), value));
    say("version", env!("CARGO_PKG_VERSION").into());
    let unit = InferenceCompute::from(config.compute).unit_name();
    say("instruction set", json!([tallow::instruction_set(), unit]));
    say("device", arguments.device.device.to_string().into());
    let hashes = saved
        .iter()
        .map(SavedModel::sha256)
        .collect::<Result<Vec<String>, _>>()?;
    say("model", hashes.into());
    let mut search = serde_json::to_value(config)?;
    if let Value::Object(keys) = &mut search {
        // The size of batches changes nothing, and of a shortlist the contents count.
        keys.remove("batch_tokens");
        keys.remove("shortlist");
    }
    say("search", search);
    let shortlist = config.shortlist.as_deref();
    let sha256 = |path: &Path| tallow_train::sha256(path).with_context(|| format!("cannot read {}", path.display()));
    say("shortlist", json!(shortlist.map(sha256).transpose()?));
    say("seed", arguments.search.seed.into());
    say(
        "input format",
        json!(format(clap::ValueEnum::to_possible_value(&arguments.input_format))),
    );
    say("prefix", arguments.prefix.as_str().into());
    say("phrase", json!(arguments.phrase));
    say(
        "format",
        json!(format(clap::ValueEnum::to_possible_value(&arguments.format))),
    );
    say("attention", arguments.attention.into());
    say("alignments", arguments.alignments.is_some().into());
    Ok(job)
}

/// The number of target tokens that the search produced, including `</s>`.
pub(super) fn target_tokens(translation: &Translation) -> usize {
    let best = translation.candidates.first();
    best.map_or(0, |best| best.hypothesis.tokens.len() + 1)
}
