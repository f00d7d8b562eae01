//! `tallow alignment-heads`.

use crate::activity::Activity;
use crate::arguments::{AlignmentHeadsArguments, OutputFormat};
use crate::hub::hub;
use crate::notices::{PrintNotices, warn};
use crate::threads;
use crate::training_text::{evenly, training_text};
use crate::usage::wrong_usage;
use anyhow::{Result, bail};
use serde_json::json;
use std::process::ExitCode;
use tallow::humanize::{agreeing, counted};
use tallow::{Device, SavedModel};
use tallow_data::{Lexicon, Link, WordAlignments};
use tallow_decode::{AlignedPair, HeadScore, says_nothing, score_heads};
use tallow_text::{Tokenizers, WordBegins};

/// The number of pairs from which a lexicon is learned.
const LEXICON_PAIRS: usize = 500_000;

/// Longer sentences cost memory with the square of their length.
const MOST_TOKENS: usize = 256;

pub(crate) fn run(arguments: AlignmentHeadsArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    let saved = SavedModel::find(&arguments.text.model, &hub(arguments.hub.offline), &PrintNotices)?;
    if arguments.save && saved.commit.is_some() {
        return Err(wrong_usage(
            "--save would change the Hub's cache; copy the model to a directory of its own and name that",
        ));
    }
    let mut activity = Activity::new(true);
    activity.begin("reading the text");
    let (source, target) = training_text(&arguments.text, &saved)?;
    let alignments = match &arguments.alignments {
        Some(path) => Some(WordAlignments::open(path, &source, &target)?),
        None => None,
    };
    activity.begin("opening the model");
    let (opened, tokenizers) = saved.open(&Device::Cpu)?;
    let text = Text {
        lines: (&source, &target),
        tokenizers: &tokenizers,
    };
    let most = opened
        .architecture
        .model
        .position_limit()
        .unwrap_or(MOST_TOKENS)
        .min(MOST_TOKENS);
    let asked = text.choose(arguments.lines).len();
    let pairs = match &alignments {
        Some(alignments) => text.aligned_words(alignments, (arguments.lines, most))?,
        None => {
            activity.begin("learning a lexicon");
            text.aligned_tokens((arguments.lines, most))?
        }
    };
    if pairs.len() < asked {
        warn(&format!(
            "{} left out: longer than {most} tokens, or the tokenizer divides them into other words than white space",
            agreeing((asked - pairs.len()) as u64, "pair is", "pairs are")
        ));
    }
    if pairs.is_empty() {
        bail!("there is no pair to compare");
    }
    if pairs.iter().all(|pair| pair.links.is_empty()) {
        bail!("no words of this text are linked, so no head can be chosen");
    }
    activity.begin(format!("comparing {}", counted(pairs.len(), "pair")));
    let scores = score_heads(&opened.for_inference()?, &pairs, tallow::cores())?;
    activity.end();
    for score in &scores {
        println!("{}", line(score, arguments.format));
    }
    let Some(best) = scores.first() else {
        bail!("this model's decoder has no layers");
    };
    let heads = json!(best.heads);
    if arguments.save {
        saved.save_alignment_heads(&best.heads)?;
        if saved.decode_config().alignment_heads == best.heads {
            eprintln!("{}: alignments now come from {heads}", saved.directory.display());
        } else {
            warn(&format!(
                "{heads} are saved, but the config of the run has decode.alignment_heads, which count before them; --set \
                 'decode.alignment_heads={heads}' uses them"
            ));
        }
    } else {
        eprintln!(
            "the best alignment is that of {heads}; --save lets `tallow translate` use it, as does \
             --set 'decode.alignment_heads={heads}'"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The line of a score.
fn line(score: &HeadScore, format: OutputFormat) -> String {
    let HeadScore {
        heads,
        precision,
        recall,
        error_rate,
    } = score;
    match format {
        OutputFormat::Json => json!({
            "heads": heads,
            "precision": precision,
            "recall": recall,
            "error_rate": error_rate,
        })
        .to_string(),
        OutputFormat::Text => {
            let (layer, head) = heads.first().copied().unwrap_or_default();
            let head = match heads.len() {
                1 => format!("head {head}"),
                _ => "mean".to_owned(),
            };
            let [precision, recall, error_rate] = [precision, recall, error_rate].map(|share| 100.0 * share);
            format!(
                "layer {layer} {head:<7}  precision {precision:5.1} %  recall {recall:5.1} %  error rate {error_rate:5.1} %"
            )
        }
    }
}

/// Parallel text and the tokenizers of a model.
struct Text<'a> {
    lines: (&'a [String], &'a [String]),
    tokenizers: &'a Tokenizers,
}

impl Text<'_> {
    /// The tokens of some lines, with `</s>`.
    fn encode(&self, chosen: &[usize]) -> Result<Vec<(Vec<u32>, Vec<u32>)>> {
        let workers = tallow::cores();
        let Tokenizers { source, target } = self.tokenizers;
        let of = |lines: &[String]| -> Vec<String> { chosen.iter().map(|line| lines[*line].clone()).collect() };
        let sources = source.encode_batch(&of(self.lines.0), workers)?;
        let targets = target.encode_batch(&of(self.lines.1), workers)?;
        let ended = |(mut left, mut right): (Vec<u32>, Vec<u32>)| {
            left.push(source.eos_id());
            right.push(target.eos_id());
            (left, right)
        };
        Ok(sources.into_iter().zip(targets).map(ended).collect())
    }

    /// The numbers of at most `most` lines that have content on both sides.
    fn choose(&self, most: usize) -> Vec<usize> {
        let Tokenizers { source, target } = self.tokenizers;
        let all = 0..self.lines.0.len();
        let says =
            |line: &usize| !says_nothing(source, &self.lines.0[*line]) && !says_nothing(target, &self.lines.1[*line]);
        let with_content: Vec<usize> = all.filter(says).collect();
        let places = evenly(with_content.len(), most);
        places.into_iter().map(|place| with_content[place]).collect()
    }

    /// Pairs whose words are linked by alignments; without pairs in which tokens have other words.
    fn aligned_words(&self, alignments: &WordAlignments, (lines, most): (usize, usize)) -> Result<Vec<AlignedPair>> {
        let chosen = self.choose(lines);
        let [source_words, target_words] = [&self.tokenizers.source, &self.tokenizers.target].map(WordBegins::new);
        let (source_words, target_words) = (source_words?, target_words?);
        let mut pairs = Vec::new();
        for ((source, target), line) in self.encode(&chosen)?.into_iter().zip(chosen) {
            let words = source_words
                .words_of_line(&source[..source.len() - 1], &self.lines.0[line])
                .zip(target_words.words_of_line(&target[..target.len() - 1], &self.lines.1[line]));
            let is_short = source.len().max(target.len()) <= most;
            pairs.extend(
                words
                    .filter(|_| is_short)
                    .map(|(source_units, target_units)| AlignedPair {
                        links: alignments.line(line).to_vec(),
                        source,
                        target,
                        source_units,
                        target_units,
                    }),
            );
        }
        Ok(pairs)
    }

    /// Pairs whose tokens are linked where the lexicons of both directions agree.
    fn aligned_tokens(&self, (lines, most): (usize, usize)) -> Result<Vec<AlignedPair>> {
        let mut all = self.encode(&self.choose(LEXICON_PAIRS))?;
        all.retain(|(source, target)| source.len().max(target.len()) <= most);
        fn text(tokens: &[u32]) -> &[u32] {
            &tokens[..tokens.len() - 1]
        }
        let forward: Vec<(&[u32], &[u32])> = all.iter().map(|(a, b)| (text(a), text(b))).collect();
        let backward: Vec<(&[u32], &[u32])> = all.iter().map(|(a, b)| (text(b), text(a))).collect();
        let (lexicon, reverse) = (Lexicon::learn(&forward), Lexicon::learn(&backward));
        let pair = |number: usize| {
            let (source, target) = &all[number];
            let links: Vec<Link> = lexicon.links(&reverse, text(source), text(target));
            AlignedPair {
                links,
                source_units: (0..source.len() as u32 - 1).collect(),
                target_units: (0..target.len() as u32 - 1).collect(),
                source: source.clone(),
                target: target.clone(),
            }
        };
        Ok(evenly(all.len(), lines).into_iter().map(pair).collect())
    }
}
