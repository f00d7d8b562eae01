//! The corpora: their text, and their tokens.

use crate::commands::check::{Report, Verdict};
use crate::config::Config;
use crate::ingredients::{Initial, beyond_positions, encode, open_or_learn, position_limit, training_corpus};
use crate::progress::thousands;
use anyhow::Result;
use std::sync::Arc;
use tallow_data::{
    Alignment, Corpus, CorpusFiles, DataError, Filters, HISTOGRAM, Overlap, ParallelText, Sides, Spelling, Survey,
    Tally, TokenSurvey, read_lines,
};
use tallow_decode::LongLines;
use tallow_text::{Tokenizer, Tokenizers};

/// Shares above which something is a fault and not an oddity: of pairs with broken characters, of held-out pairs that are
/// trained on, of tokens that are unknown.
const MOST_BROKEN: f64 = 0.01;
const MOST_OVERLAP: f64 = 0.1;
const MOST_UNKNOWN: f64 = 0.05;
/// Shares above which something is worth a look: of tokens that spell bytes, of pairs that are dropped, of targets that are
/// longer than translations may be.
const MANY_BYTES: f64 = 0.05;
const MANY_DROPPED: f64 = 0.05;
const MANY_LONG: f64 = 0.001;
/// Pairs among which a correlation of lengths below this is no chance.
const TELLING: usize = 400;
const LEAST_CORRELATION: f64 = 0.1;
/// One above this is no chance in any corpus that is looked at.
const GOOD_CORRELATION: f64 = 0.4;
/// Fewer oddities than this are not called a fault, whatever their share: in a small set everything is a large one.
const FEW: u64 = 10;

/// The text of a config's corpora.
pub(super) struct Texts {
    train: Vec<ParallelText>,
    /// With the keys, `data.valid` and `data.test`.
    held_out: Vec<(&'static str, ParallelText)>,
}

/// All that training needs of a config's text.
pub(super) struct Encoded {
    pub(super) tokenizers: Tokenizers,
    pub(super) corpus: Arc<Corpus>,
}

/// Opens and surveys every corpus; nothing if one that is trained on cannot be read.
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
    for (key, files) in [("data.valid", &config.data.valid), ("data.test", &config.data.test)] {
        if let Some(files) = files {
            held_out.extend(open(key, files, Repeated::Natural, &mut surveys, report)?.map(|text| (key, text)));
        }
    }
    report.figure("corpora", &surveys)?;
    if config.data.valid.is_none() {
        report.look(
            "data.valid",
            "there is none: the last weights will be the best model",
            "hold out some hundred pairs and name them in data.valid",
        )?;
    }
    let is_complete = train.len() == config.data.train.len();
    if is_complete {
        for (key, text) in &held_out {
            overlap(key, text, &train, report)?;
        }
    }
    Ok(is_complete.then_some(Texts { train, held_out }))
}

/// What becomes of pairs that occurred before.
#[derive(Clone, Copy, PartialEq)]
enum Repeated {
    /// They are trained on, and could be dropped.
    Kept,
    /// They are dropped.
    Dropped,
    /// The corpus is measured on, as it is.
    Natural,
}

/// Opens one corpus and says what its text is like.
fn open(
    key: &str,
    files: &CorpusFiles,
    repeated: Repeated,
    surveys: &mut Vec<Survey>,
    report: &mut Report,
) -> Result<Option<ParallelText>> {
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
    report.ok(key, format!("{}: {} pairs", survey.corpus, thousands(pairs as f64)))?;
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
        report.look(key, counted(count, one, many), advice)?;
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
    alignment(key, &text, &survey.alignment, report)?;
    surveys.push(survey);
    Ok(Some(text))
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(count as f64), if count == 1 { one } else { many })
}

fn pairs_of(count: u64) -> String {
    counted(count, "pair", "pairs")
}

fn alignment(key: &str, text: &ParallelText, found: &Alignment, report: &mut Report) -> Result<()> {
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
        let count = counted(shift.unsigned_abs(), "line", "lines");
        let where_to = if shift > 0 { "further down" } else { "further up" };
        let advice = "a line is missing or too much at the first of them (told by the lengths of lines, so nearly): compare \
                      both files there";
        report.faulty(
            key,
            format!("{lines}: the translations stand {count} {where_to}"),
            advice,
        )?;
    }
    // The length of a label or of a name says nothing.
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

/// In words, where two files of different lengths cease to belong together.
fn where_lines_part(files: &CorpusFiles) -> Option<String> {
    let lines = |path: &Option<std::path::PathBuf>| Some(read_lines(path.as_deref()?).ok()?.lines);
    let found = Alignment::of(&lines(&files.source)?, &lines(&files.target)?);
    let stretch = found.misaligned.iter().find(|stretch| stretch.shift.is_some())?;
    Some(format!(
        "by the lengths of lines, they cease to belong together at about line {}: compare both files there",
        thousands(stretch.first as f64)
    ))
}

/// What a corpus that is measured on has in common with what is trained on.
fn overlap(key: &str, text: &ParallelText, train: &[ParallelText], report: &mut Report) -> Result<()> {
    let found = Overlap::of(text, train);
    report.figure(&format!("{key}.overlap"), &found)?;
    let share = found.pairs.count as f64 / text.source.len() as f64;
    let advice = "scores would tell how well the model remembers: remove these pairs from the training text";
    if found.pairs.count > 0 {
        let what = format!(
            "{} trained on, too ({})",
            counted(found.pairs.count, "pair is", "pairs are"),
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
            counted(found.sources.count, "source is", "sources are"),
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

/// Learns or opens the tokenizer and surveys tokens; nothing if no pair is left to train on.
pub(super) fn encoded(
    config: &Config,
    texts: Texts,
    init: Option<&Initial>,
    offline: bool,
    report: &mut Report,
) -> Result<Option<Encoded>> {
    let tokenizers = match init {
        Some(init) => init.tokenizers.clone(),
        None => open_or_learn(config, &texts.train, offline)?,
    };
    if let Err(error) = tokenizers.samplers(&config.text) {
        report.add("text", Verdict::Faulty, error.to_string(), None)?;
        return Ok(None);
    }
    let corpus = match training_corpus(config, &texts.train, &tokenizers) {
        Ok(corpus) => corpus,
        Err(error) => {
            report.add("data.train", Verdict::Faulty, format!("{error:#}"), None)?;
            return Ok(None);
        }
    };
    let mut all = Vec::new();
    for (i, filtered) in corpus.reports().enumerate() {
        let key = format!("data.train[{i}]");
        let share = filtered.dropped() as f64 / filtered.read.max(1) as f64;
        if share > MANY_DROPPED {
            let reasons = [
                (filtered.empty.count, "see why so many lines are empty"),
                (filtered.duplicate.count, "they are dropped by data.drop_duplicates"),
                (filtered.too_long.count, "see data.max_length"),
                (filtered.ratio.count, "see data.max_length_ratio"),
            ];
            let most = reasons.into_iter().max_by_key(|(count, _)| *count);
            report.look(&key, filtered.to_string(), most.map_or("", |(_, advice)| advice))?;
        } else if filtered.dropped() > 0 {
            report.ok(&key, filtered.to_string())?;
        } else {
            report.ok(&key, "the filters keep every pair")?;
        }
    }
    let surveys = survey(&corpus, &tokenizers);
    for (i, survey) in surveys.iter().enumerate() {
        tokens(&format!("data.train[{i}]"), survey, report)?;
    }
    all.extend(surveys);
    for (key, text) in texts.held_out {
        let corpus = encode(std::slice::from_ref(&text), &tokenizers, &Filters::NONE)?;
        for survey in survey(&corpus, &tokenizers) {
            tokens(key, &survey, report)?;
            all.push(survey);
        }
        lengths(key, &corpus, config, report)?;
    }
    report.plain(&histogram(&all))?;
    report.figure("histogram_ends", &HISTOGRAM)?;
    report.figure("tokens", &all)?;
    Ok(Some(Encoded {
        tokenizers,
        corpus: Arc::new(corpus),
    }))
}

fn survey(corpus: &Corpus, tokenizers: &Tokenizers) -> Vec<TokenSurvey> {
    let spelling = |tokenizer: &Tokenizer| {
        let of_id = |id| match tokenizer.piece(id) {
            _ if id == tokenizer.unk_id() => Spelling::Unknown,
            Some(piece) if is_byte(piece) => Spelling::Byte,
            _ => Spelling::Piece,
        };
        (0..tokenizer.vocabulary_size() as u32).map(of_id).collect::<Vec<_>>()
    };
    let tables = [spelling(&tokenizers.source), spelling(&tokenizers.target)];
    let of = |side: usize| {
        let table = &tables[side];
        move |id: u32| table.get(id as usize).copied().unwrap_or(Spelling::Unknown)
    };
    TokenSurvey::of(corpus, [&of(0), &of(1)])
}

/// Whether a piece is one byte: `<0x41>`.
fn is_byte(piece: &str) -> bool {
    let digits = piece.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.chars().all(|c| c.is_ascii_hexdigit()))
}

/// How well the vocabulary fits a corpus, and which pairs stand out.
fn tokens(key: &str, survey: &TokenSurvey, report: &mut Report) -> Result<()> {
    for (side, name) in ["source", "target"].into_iter().enumerate() {
        let share = |count: u64| count as f64 / survey.tokens[side].max(1) as f64;
        let percent = |count: u64| format!("{:.2} %", 100.0 * share(count));
        let (unknown, bytes) = (&survey.unknown[side], &survey.bytes[side]);
        let what = format!(
            "{} of {} {name} tokens are unknown pieces",
            percent(unknown.count),
            thousands(survey.tokens[side] as f64)
        );
        let advice = "what is unknown can be neither read nor said: text.byte_fallback = true, a larger text.vocabulary, or a \
                      vocabulary learned from this text";
        if unknown.count == 0 {
            report.ok(
                key,
                format!(
                    "no unknown piece in {} {name} tokens",
                    thousands(survey.tokens[side] as f64)
                ),
            )?;
        } else if share(unknown.count) > MOST_UNKNOWN && unknown.count >= FEW {
            report.faulty(key, format!("{what} ({})", unknown.lines.examples()), advice)?;
        } else {
            report.look(key, format!("{what} ({})", unknown.lines.examples()), advice)?;
        }
        if bytes.count > 0 {
            let what = format!(
                "{} of {name} tokens spell bytes ({})",
                percent(bytes.count),
                bytes.lines.examples()
            );
            if share(bytes.count) > MANY_BYTES {
                let advice =
                    "a script that the vocabulary has no letters of makes long sentences: learn it from text like this";
                report.look(key, what, advice)?;
            } else {
                report.ok(key, what)?;
            }
        }
    }
    if survey.outliers.count > 0 {
        let count = survey.outliers.count;
        let what = format!(
            "{} with very different lengths ({})",
            pairs_of(count),
            survey.outliers.examples()
        );
        report.look(
            key,
            what,
            "see whether they are translations; data.max_length_ratio drops such pairs",
        )?;
    }
    Ok(())
}

/// Whether search can reach as far as the references of a corpus.
fn lengths(key: &str, corpus: &Corpus, config: &Config, report: &mut Report) -> Result<()> {
    if key == "data.valid"
        && let Some(fault) = beyond_positions(corpus, position_limit(&config.model))
    {
        report.add(key, Verdict::Faulty, fault, None)?;
    }
    let long_lines = match config.decode.long_lines {
        LongLines::Split => "they will be translated sentence by sentence (decode.long_lines)",
        LongLines::Truncate => "they will be cut (decode.long_lines)",
        LongLines::Fail => "`tallow translate` and `tallow eval` will refuse them (decode.long_lines)",
    };
    let limits = [
        (
            "source",
            "decode.max_source_length",
            config.decode.max_source_length,
            long_lines,
        ),
        (
            "target",
            "decode.max_length",
            config.decode.max_length,
            "raise it: translations would be cut",
        ),
    ];
    for (side, limit_key, limit, advice) in limits {
        let length = |(source, target): (usize, usize)| if side == "source" { source } else { target };
        let count = (0..corpus.len()).filter(|i| length(corpus.lengths(*i)) > limit).count();
        if count as f64 > MANY_LONG * corpus.len() as f64 {
            let what = format!(
                "{} whose {side} has more than the {limit} tokens of {limit_key}",
                pairs_of(count as u64)
            );
            report.look(key, what, advice)?;
        }
    }
    Ok(())
}

/// The lengths of sentences, in percent, for people.
fn histogram(surveys: &[TokenSurvey]) -> String {
    let mut sums = [[0u64; HISTOGRAM.len() + 1]; 2];
    for survey in surveys {
        for (sum, bars) in sums.iter_mut().zip(&survey.histogram) {
            sum.iter_mut().zip(bars).for_each(|(sum, bar)| *sum += bar);
        }
    }
    let totals = sums.map(|bars| bars.iter().sum::<u64>().max(1) as f64);
    let mut text = "        sentences by their length in tokens:      source    target".to_owned();
    for bar in 0..=HISTOGRAM.len() {
        let first = if bar == 0 { 1 } else { HISTOGRAM[bar - 1] + 1 };
        let name = HISTOGRAM
            .get(bar)
            .map_or(format!("{first} and more"), |last| format!("{first} to {last}"));
        let [source, target] = [0, 1].map(|side| 100.0 * sums[side][bar] as f64 / totals[side]);
        if sums[0][bar] + sums[1][bar] > 0 {
            text += &format!("\n          {name:<36}  {source:>6.2} %  {target:>6.2} %");
        }
    }
    let longest = |side: usize| surveys.iter().map(|survey| survey.longest[side].0).max().unwrap_or(0);
    text + &format!(
        "\n          {:<36}  {:>8}  {:>8}",
        "the longest",
        longest(0),
        longest(1)
    )
}
