//! `tallow verify`.

use crate::arguments::VerifyArguments;
use crate::colour::{Stream, Tone};
use crate::hub::hub;
use crate::notices::PrintNotices;
use crate::threads;
use anyhow::{Context, Result};
use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;
use tallow::SavedModel;
use tallow_data::read_lines;
use tallow_decode::open_tokenizers;
use tallow_model::{Architecture, Check, MarianFiles, read_architecture};
use tallow_text::{Tokenizer, Tokenizers, written_language_tag};
use tallow_train::{CHECKSUMS_FILE, check_sums};

/// Lines that have caused problems in tokenizers.
const SAMPLE: &str = include_str!("sample.txt");

/// The number of differing lines that a fault shows.
const SHOWN: usize = 3;

pub(crate) fn run(arguments: VerifyArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    let saved = SavedModel::find(&arguments.model, &hub(arguments.hub.offline), &PrintNotices)?;
    let directory = &saved.directory;
    let mut sample: Vec<String> = SAMPLE.lines().map(str::to_owned).collect();
    if let Some(path) = &arguments.sample {
        sample.extend(read_lines(path)?.lines);
    }
    let mut checks = tallow_model::verify(directory);
    if directory.join(CHECKSUMS_FILE).exists() {
        let what = format!("{CHECKSUMS_FILE}: every file is what was written");
        checks.insert(0, Check::new(what, check_sums(directory).err().unwrap_or_default()));
    }
    let architecture = read_architecture(directory).ok();
    checks.extend(of_tokenizers(directory, architecture.as_ref(), &sample));
    let mut out = stdout().lock();
    writeln!(out, "{}", directory.display())?;
    let mut failed = 0;
    for check in &checks {
        let (tone, mark) = match check.faults.is_empty() {
            true => (Tone::Good, "ok    "),
            false => (Tone::Bad, "FAULTY"),
        };
        let mark = Stream::Output.paint(tone, mark);
        writeln!(out, "{mark}  {}", check.what)?;
        for fault in &check.faults {
            writeln!(out, "          {fault}")?;
        }
        failed += usize::from(!check.faults.is_empty());
    }
    out.flush().context("cannot write the result")?;
    if failed > 0 {
        eprintln!("{failed} of {} checks failed", checks.len());
        return Ok(ExitCode::FAILURE);
    }
    eprintln!("all {} checks passed", checks.len());
    Ok(ExitCode::SUCCESS)
}

/// Checks of the tokenizers: they must belong to the model, and Hugging Face's files beside ours must mean the same.
fn of_tokenizers(directory: &Path, architecture: Option<&Architecture>, sample: &[String]) -> Vec<Check> {
    let opened = match architecture {
        Some(architecture) => open_tokenizers(directory, architecture),
        // Only the vocabularies of Marian depend on the architecture.
        None if MarianFiles::are_at(directory) => return Vec::new(),
        None => Tokenizers::open(directory).map_err(Into::into),
    };
    let tokenizers = match opened {
        Ok(tokenizers) => tokenizers,
        Err(error) => return vec![Check::new("tokenizers", vec![error.to_string()])],
    };
    let mut checks = Vec::new();
    if let Some(architecture) = architecture {
        checks.push(Check::new(
            "tokenizers: sizes and special pieces are the model's",
            special_pieces(&tokenizers, architecture),
        ));
    }
    if MarianFiles::are_at(directory) && tokenizers.missing_pieces().is_none() {
        let what = "no SentencePiece model: lines are words between spaces".to_owned();
        checks.push(Check::new(what, Vec::new()));
        return checks;
    }
    if let Some(sides) = tokenizers.missing_pieces() {
        for (side, (pieces, missing)) in ["source", "target"].into_iter().zip(sides) {
            // A few may be missing, because vocabularies are often made from a text and not from the model.
            let fault = format!("{missing} of its {pieces} pieces are not: the files are hardly of one model");
            let what = format!(
                "{side}.spm: {} of {pieces} pieces are in the vocabulary",
                pieces - missing
            );
            checks.push(Check::new(
                what,
                Vec::from_iter((2 * missing > pieces).then_some(fault)),
            ));
        }
        return checks;
    }
    if !directory.join("source.spm").exists() {
        let why = tokenizers.why_not_marian_tokenizer();
        let explanation = why.map_or("this directory was made without them".to_owned(), |error| {
            error.to_string()
        });
        checks.push(Check::new(
            format!("no files for MarianTokenizer: {explanation}"),
            Vec::new(),
        ));
        return checks;
    }
    let what = format!(
        "SentencePiece models: token ids and texts of {} sample lines are those of tokenizer.json",
        sample.len()
    );
    let faults = match Tokenizers::open_marian_tokenizer(directory) {
        Ok(marian) => [
            ("source", &tokenizers.source, &marian.source),
            ("target", &tokenizers.target, &marian.target),
        ]
        .into_iter()
        .flat_map(|(side, ours, theirs)| differences(side, ours, theirs, sample))
        .collect(),
        Err(error) => vec![error.to_string()],
    };
    checks.push(Check::new(what, faults));
    checks
}

fn special_pieces(tokenizers: &Tokenizers, architecture: &Architecture) -> Vec<String> {
    let sides = [
        ("source", &tokenizers.source, architecture.source_vocabulary),
        ("target", &tokenizers.target, architecture.target_vocabulary),
    ];
    let mut faults = Vec::new();
    for (side, tokenizer, size) in sides {
        let size = size as u32;
        let values = [
            ("pieces", tokenizer.vocabulary_size() as u32, size),
            ("the id of </s>", tokenizer.eos_id(), architecture.eos_id),
            ("the id of <pad>", tokenizer.pad_id(), size.saturating_sub(1)),
        ];
        let wrong = values.into_iter().filter(|(_, found, expected)| found != expected);
        faults.extend(wrong.map(|(what, found, expected)| format!("{side}: {what}: {found} instead of {expected}")));
    }
    faults
}

/// Lines with language tags that the vocabulary has learned but cuts, so that it has pieces such as `▁>>deu<`. Newer
/// versions of Tallow detect tags and make them pieces of their own. In older vocabularies they are text, which other
/// programs cut in another way.
fn cut_tags(tokenizer: &Tokenizer) -> Vec<String> {
    let pieces = (0..tokenizer.vocabulary_size() as u32).filter_map(|id| tokenizer.piece(id));
    let line = |piece: &str| {
        let code = piece.strip_prefix("\u{2581}>>")?.strip_suffix('<')?;
        let line = format!(">>{code}<< a");
        written_language_tag(&line).is_some().then_some(line)
    };
    pieces.filter_map(line).take(SHOWN).collect()
}

/// Ids with different pieces in two tokenizers, and lines for which the two give different ids or decode to different
/// texts.
fn differences(side: &str, ours: &Tokenizer, theirs: &Tokenizer, sample: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    for id in 0..ours.vocabulary_size().max(theirs.vocabulary_size()) as u32 {
        if ours.piece(id) != theirs.piece(id) {
            let (a, b) = (ours.piece(id), theirs.piece(id));
            faults.push(format!(
                "{side}: id {id} is {a:?} in tokenizer.json and {b:?} in vocab.json"
            ));
        }
    }
    let tagged = cut_tags(ours);
    for line in sample.iter().chain(&tagged) {
        match (ours.encode(line), theirs.encode_as_marian_tokenizer(line)) {
            (Ok(a), Ok(b)) if a == b => {
                let (ours, theirs) = (ours.decode(&a).ok(), theirs.decode(&a).ok());
                if ours != theirs {
                    faults.push(format!(
                        "{side}: {a:?} is {ours:?} by tokenizer.json and {theirs:?} by SentencePiece"
                    ));
                }
            }
            (Ok(a), Ok(b)) => {
                let why = match theirs.encode(line) {
                    Ok(ids) if ids == a => {
                        " by MarianTokenizer, which takes what stands between >> and << at the beginning of a line for a language \
                         tag; a vocabulary learned anew from lines with such tags has them as pieces"
                    }
                    _ => " by SentencePiece",
                };
                faults.push(format!("{side}: {line:?} is {a:?} by tokenizer.json and {b:?}{why}"));
            }
            (Err(error), _) | (_, Err(error)) => faults.push(format!("{side}: {error}")),
        }
    }
    if faults.len() > SHOWN {
        let more = faults.len() - SHOWN;
        faults.truncate(SHOWN);
        faults.push(format!("and {more} more"));
    }
    faults
}
