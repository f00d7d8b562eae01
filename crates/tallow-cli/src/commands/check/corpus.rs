//! Checks of the corpora as text.

use crate::commands::check::{FEW, Report};
use anyhow::Result;
use tallow::Config;
use tallow::humanize::{agreeing, counted, thousands};
use tallow_data::{CorpusFiles, DataError, LineAlignment, Overlap, ParallelText, Sides, Survey, Tally, read_lines};

/// Shares above which an oddity counts as a fault: of pairs with broken characters, and of held-out pairs that are also
/// in the training text.
const MOST_BROKEN: f64 = 0.01;
const MOST_OVERLAP: f64 = 0.1;
/// With this many pairs, a correlation of lengths below the next constant is no accident.
const TELLING: usize = 400;
const LEAST_CORRELATION: f64 = 0.1;
/// A correlation above this is no accident in any corpus that is checked.
const GOOD_CORRELATION: f64 = 0.4;
/// Changed pairs that are shown.
const CHANGED_SHOWN: usize = 6;

/// The text of a config's corpora.
pub(super) struct Texts {
    pub(super) train: Vec<ParallelText>,
    /// With their keys: `data.valid` and `data.test`, or `data.test[0]` if there are several.
    pub(super) held_out: Vec<(String, ParallelText)>,
}

/// Opens and surveys every corpus. The result is `None` if a training corpus cannot be read.
pub(super) fn texts(config: &Config, report: &mut Report) -> Result<Option<Texts>> {
    let (mut train, mut held_out, mut surveys) = (Vec::new(), Vec::new(), Vec::new());
    for (i, files) in config.data.train.iter().enumerate() {
        let repeated = if config.data.drop_duplicates {
            Repeated::Dropped
        } else {
            Repeated::Kept
        };
        train.extend(open(
            &format!("data.train[{i}]"),
            files,
            repeated,
            &mut surveys,
            report,
        )?);
    }
    let sets = config.data.valid.with_keys("data.valid");
    for (key, files) in sets.chain(config.data.test.with_keys("data.test")) {
        held_out.extend(open(&key, files, Repeated::Natural, &mut surveys, report)?.map(|text| (key, text)));
    }
    report.figure("corpora", &surveys)?;
    if config.data.valid.is_empty() {
        report.look(
            "data.valid",
            "there is none: the last weights will be the best model",
            "hold out some hundred pairs and name them in data.valid",
        )?;
    }
    let is_complete = train.len() == config.data.train.len();
    if is_complete {
        for (key, text) in &held_out {
            report.stage(&format!("looking for {key} in the training text"));
            overlap(key, text, &train, report)?;
        }
    }
    if is_complete {
        changed_pairs(config, &train, report)?;
    }
    Ok(is_complete.then_some(Texts { train, held_out }))
}

/// Shows some pairs as the first epoch changes them.
fn changed_pairs(config: &Config, train: &[ParallelText], report: &mut Report) -> Result<()> {
    let Some(changes) = &config.data.augment else {
        return Ok(());
    };
    let mut first_id = 0;
    let mut shown = Vec::new();
    for (text, files) in train.iter().zip(&config.data.train) {
        let pairs = (first_id..).zip(text.source.iter().zip(&text.target));
        first_id += text.source.len() as u64;
        // Prefixes are not changed, and would be here.
        if files.source_prefix.is_some() || files.target_prefix.is_some() {
            continue;
        }
        let changed = pairs.filter_map(|(id, (source, target))| changes.changed(source, target, config.seed, 0, id));
        shown.extend(changed.take(CHANGED_SHOWN - shown.len()).map(|sides| sides.join(" | ")));
    }
    match shown.is_empty() {
        true => Ok(()),
        false => report.ok(
            "data.augment",
            format!("examples of changed pairs:\n{}", shown.join("\n")),
        ),
    }
}

/// The treatment of repeated pairs.
#[derive(Clone, Copy, PartialEq)]
enum Repeated {
    /// They are trained on, but could be dropped.
    Kept,
    /// They are dropped.
    Dropped,
    /// The corpus is used for measurement, so it stays as it is.
    Natural,
}

/// Opens one corpus and reports the properties of its text.
fn open(
    key: &str,
    files: &CorpusFiles,
    repeated: Repeated,
    surveys: &mut Vec<Survey>,
    report: &mut Report,
) -> Result<Option<ParallelText>> {
    report.stage(&format!("reading {key}"));
    let text = match ParallelText::open(files) {
        Ok(text) => text,
        Err(error) => {
            let advice = match &error {
                DataError::LineCounts { .. } => where_lines_part(files),
                _ => None,
            };
            let advice = advice.unwrap_or_else(|| "nothing can be trained before this is mended".to_owned());
            report.faulty(key, error.to_string(), &advice)?;
            return Ok(None);
        }
    };
    let survey = Survey::of(&text);
    let pairs = text.source.len();
    report.ok(key, format!("{}: {}", survey.corpus, pairs_of(pairs as u64)))?;
    let (carriage_returns, marks) = (survey.reading.carriage_returns, survey.reading.byte_order_marks);
    let repaired = [
        (carriage_returns, "line ends in CR LF", "lines end in CR LF"),
        (
            marks,
            "file begins with a byte order mark",
            "files begin with a byte order mark",
        ),
    ];
    for (count, one, many) in repaired.into_iter().filter(|(count, _, _)| *count > 0) {
        let advice = "they are stripped here; other programs may take them for text";
        report.look(key, agreeing(count, one, many), advice)?;
    }
    let mut tally = |tally: &Tally, what: &str, most: f64, advice: &str| {
        if tally.count == 0 {
            return Ok(());
        }
        let found = format!("{} {what} ({})", pairs_of(tally.count), tally.examples());
        if tally.count >= FEW && tally.count as f64 > most * pairs as f64 {
            report.faulty(key, found, advice)
        } else {
            report.look(key, found, advice)
        }
    };
    let dropped = match repeated {
        Repeated::Natural => "they are scored as they are",
        Repeated::Kept | Repeated::Dropped => "they are not trained on",
    };
    tally(&survey.empty, "with an empty side", 0.5, dropped)?;
    if repeated == Repeated::Kept {
        let advice = "data.drop_duplicates = true drops all but the first";
        tally(&survey.duplicate, "occurred before", 1.0, advice)?;
    }
    let advice = "text that was not translated teaches a model to copy";
    tally(&survey.copied, "with the same text on both sides", 0.5, advice)?;
    let advice = "characters were lost before: make the file anew from its source, in UTF-8";
    tally(
        &survey.replaced,
        "with the replacement character U+FFFD",
        MOST_BROKEN,
        advice,
    )?;
    let advice = "UTF-8 was read as Latin-1 or Windows-1252 and written as UTF-8 again: undo it, for example with ftfy";
    tally(
        &survey.misread,
        "with garbled letters, such as \u{c3}\u{bc} for \u{fc}",
        MOST_BROKEN,
        advice,
    )?;
    let advice = "most likely remains of another format: remove them";
    tally(&survey.control, "with control characters", MOST_BROKEN, advice)?;
    let advice = "a model reads them as if they were letters: remove them";
    tally(
        &survey.invisible,
        "with invisible characters: byte order marks, spaces without width or soft hyphens",
        MOST_BROKEN,
        advice,
    )?;
    alignment(key, &text, &survey.alignment, report)?;
    surveys.push(survey);
    Ok(Some(text))
}

pub(super) fn pairs_of(count: u64) -> String {
    counted(count, "pair")
}

fn alignment(key: &str, text: &ParallelText, found: &LineAlignment, report: &mut Report) -> Result<()> {
    for stretch in &found.misaligned {
        let lines = format!(
            "lines {} to {}",
            thousands(stretch.first as f64),
            thousands(stretch.last as f64)
        );
        let Some(shift) = stretch.shift else {
            let advice = "their lengths have nothing to do with each other, as those of other lines have: see whether they are \
                          translations";
            report.look(
                key,
                format!("{lines}: the two sides may be no translations of each other"),
                advice,
            )?;
            continue;
        };
        let count = counted(shift.unsigned_abs(), "line");
        let where_to = if shift > 0 { "further down" } else { "further up" };
        let advice = "a line is missing or too much at the first of them (told by the lengths of lines, so nearly): compare \
                      both files there";
        report.faulty(
            key,
            format!("{lines}: the translations stand {count} {where_to}"),
            advice,
        )?;
    }
    // For labels or names, the length has no meaning.
    let is_of_sentences = |side: &[String]| {
        let long = side
            .iter()
            .filter(|line| line.split_whitespace().nth(2).is_some())
            .count();
        2 * long > side.len()
    };
    let is_telling = text.source.len() >= TELLING && is_of_sentences(&text.source) && is_of_sentences(&text.target);
    match found.correlation {
        _ if !found.misaligned.is_empty() => Ok(()),
        Some(correlation) if correlation < LEAST_CORRELATION && is_telling => report.faulty(
            key,
            format!("the lengths of the two sides have nothing to do with each other (correlation {correlation:.2})"),
            "line N of one file must translate line N of the other: was one of them sorted or shuffled?",
        ),
        Some(correlation) if correlation > GOOD_CORRELATION => report.ok(
            key,
            format!("both sides run in step (correlation of lengths {correlation:.2})"),
        ),
        Some(correlation) => report.ok(
            key,
            format!("whether both sides run in step cannot be told (correlation of lengths {correlation:.2})"),
        ),
        None => Ok(()),
    }
}

/// A description of the place where two files of different lengths cease to match.
fn where_lines_part(files: &CorpusFiles) -> Option<String> {
    let lines = |path: &Option<std::path::PathBuf>| Some(read_lines(path.as_deref()?).ok()?.lines);
    let found = LineAlignment::of(&lines(&files.source)?, &lines(&files.target)?);
    let stretch = found.misaligned.iter().find(|stretch| stretch.shift.is_some())?;
    Some(format!(
        "by the lengths of lines, they cease to belong together at about line {}: compare both files there",
        thousands(stretch.first as f64)
    ))
}

/// Reports the overlap of a held-out corpus with the training text.
fn overlap(key: &str, text: &ParallelText, train: &[ParallelText], report: &mut Report) -> Result<()> {
    let found = Overlap::of(text, train);
    report.figure(&format!("{key}.overlap"), &found)?;
    let share = found.pairs.count as f64 / text.source.len() as f64;
    let advice = "scores would tell how well the model remembers: remove these pairs from the training text";
    if found.pairs.count > 0 {
        let what = format!(
            "{} trained on, too ({})",
            agreeing(found.pairs.count, "pair is", "pairs are"),
            found.pairs.examples()
        );
        if share > MOST_OVERLAP && found.pairs.count >= FEW {
            report.faulty(key, what, advice)?;
        } else {
            report.look(key, what, advice)?;
        }
    } else if found.sources.count > 0 {
        let what = format!(
            "{} trained on, with other targets ({})",
            agreeing(found.sources.count, "source is", "sources are"),
            found.sources.examples()
        );
        report.look(key, what, "scores are a little too high for new text")?;
    } else {
        report.ok(key, "none of its sources is trained on")?;
    }
    let sides = Sides::of(text, train);
    if !train.is_empty() && sides.are_swapped() {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        report.faulty(
            key,
            format!(
                "source and target are swapped: training's source has {} of its source's words, and training's target {}",
                percent(sides.own[0]),
                percent(sides.other[0])
            ),
            "exchange `source` and `target` here, or in data.train",
        )?;
    }
    Ok(())
}
