//! Checks of the corpora as tokens.

use crate::commands::check::corpus::{Texts, pairs_of};
use crate::commands::check::{FEW, Report, Verdict};
use crate::notices::PrintNotices;
use anyhow::Result;
use std::sync::Arc;
use tallow::corpora::{beyond_positions, encode, training_corpus};
use tallow::humanize::thousands;
use tallow::initial::Initial;
use tallow::vocabulary::{learn, named, rewritten_references};
use tallow::{Config, Hub};
use tallow_data::{Corpus, Filters, HISTOGRAM, Spelling, TokenSurvey};
use tallow_decode::LongLines;
use tallow_text::{Tokenizer, Tokenizers};

/// The share of unknown tokens above which they count as a fault.
const MOST_UNKNOWN: f64 = 0.05;
/// Shares above which something deserves a look: of tokens that spell bytes, of dropped pairs, of targets longer than
/// translations may be.
const MANY_BYTES: f64 = 0.05;
const MANY_DROPPED: f64 = 0.05;
const MANY_LONG: f64 = 0.001;

/// Everything that training needs of a config's text.
pub(super) struct Encoded {
    pub(super) tokenizers: Tokenizers,
    pub(super) corpus: Arc<Corpus>,
    /// The pairs of all validation sets.
    pub(super) valid_pairs: u64,
}

/// Learns or opens the tokenizer and surveys the tokens. The result is `None` if no pair is left to train on.
pub(super) fn encoded(
    config: &Config,
    texts: Texts,
    init: Option<&Initial>,
    hub: &Hub,
    report: &mut Report,
) -> Result<Option<Encoded>> {
    let tokenizers = match init {
        Some(init) => init.tokenizers.clone(),
        None => {
            // The function prints its own messages about learning or fetching.
            report.activity.tell(match config.text.learns() {
                true => "learning the vocabulary",
                false => "opening the vocabulary",
            });
            match named(config, hub, &PrintNotices)? {
                Some(tokenizers) => tokenizers,
                None => {
                    let pairs = texts.train.iter().map(|text| text.report.lines).sum();
                    learn(config, pairs, &PrintNotices)?
                }
            }
        }
    };
    if let Err(error) = tokenizers.samplers(&config.text) {
        report.add("text", Verdict::Faulty, error.to_string(), None)?;
        return Ok(None);
    }
    report.stage("encoding the training text");
    let corpus = match training_corpus(config, &texts.train, &tokenizers) {
        Ok(corpus) => corpus,
        Err(error) => {
            report.add("data.train", Verdict::Faulty, error.whole(), None)?;
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
    let mut valid_pairs = 0;
    for (key, text) in texts.held_out {
        valid_pairs += if key.starts_with("data.valid") {
            text.source.len() as u64
        } else {
            0
        };
        report.stage(&format!("encoding {key}"));
        if let Some((found, advice)) = rewritten_references(config, &text, &tokenizers)? {
            report.look(&key, found, advice)?;
        }
        let corpus = encode(std::slice::from_ref(&text), &tokenizers, &Filters::NONE)?;
        for survey in survey(&corpus, &tokenizers) {
            tokens(&key, &survey, report)?;
            all.push(survey);
        }
        lengths(&key, &corpus, config, report)?;
    }
    report.plain(&histogram(&all))?;
    report.figure("histogram_ends", &HISTOGRAM)?;
    report.figure("tokens", &all)?;
    Ok(Some(Encoded {
        tokenizers,
        corpus: Arc::new(corpus),
        valid_pairs,
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

/// Whether a piece stands for one byte: `<0x41>`.
fn is_byte(piece: &str) -> bool {
    let digits = piece.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.chars().all(|c| c.is_ascii_hexdigit()))
}

/// Reports how well the vocabulary fits a corpus, and which pairs are unusual.
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

/// Reports whether the search allows lengths like those of the references.
fn lengths(key: &str, corpus: &Corpus, config: &Config, report: &mut Report) -> Result<()> {
    if key.starts_with("data.valid")
        && let Some(fault) = beyond_positions(corpus, config.model.position_limit())
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

/// The lengths of sentences in percent, as text.
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
