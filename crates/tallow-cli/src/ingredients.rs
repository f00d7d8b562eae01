//! What a run is made from: a model to begin with, tokenizers, text as tokens, a shape.

use crate::config::Config;
use crate::hub::{Reference, Wanted};
use crate::located::Located;
use crate::progress::duration;
use crate::{record, threads};
use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use std::iter::repeat_n;
use std::path::PathBuf;
use std::time::Instant;
use tallow_data::{Corpus, Filters, ParallelText, Recut};
use tallow_decode::says_nothing;
use tallow_model::{Architecture, ModelConfig, Opened, Params};
use tallow_score::ScoreConfig;
use tallow_text::{Kind, Normalization, SubwordSampler, Tokenizer, Tokenizers, written_language_tag};
use tallow_train::ValidationSet;

/// The model that a run begins with.
pub(crate) struct Initial {
    pub(crate) opened: Opened,
    pub(crate) tokenizers: Tokenizers,
    /// What the run's record says about it.
    pub(crate) record: Value,
    directory: PathBuf,
}

impl Initial {
    pub(crate) fn open(name: &str, offline: bool, device: &Device) -> Result<Self> {
        let located = Located::find(name, offline).with_context(|| format!("init = {name:?}"))?;
        let (opened, tokenizers) = located.open(device).with_context(|| format!("init = {name:?}"))?;
        eprintln!(
            "beginning with the weights and tokenizers of {}",
            located.directory.display()
        );
        Ok(Self {
            opened,
            tokenizers,
            record: record::init(name, &located)?,
            directory: located.directory,
        })
    }

    /// Whether weights and tokenizers belong together, so that the model which both make is the one that was opened.
    fn check(&self, made: &Architecture) -> Result<()> {
        let told = |of: &Architecture| (of.source_vocabulary, of.target_vocabulary, of.eos_id);
        let (weights, tokenizers) = (told(&self.opened.architecture), told(made));
        if weights != tokenizers {
            bail!(
                "{}: its tokenizers and its weights are not of one model: source pieces, target pieces and the id of \
                 </s> are {tokenizers:?} in the former and {weights:?} in the latter",
                self.directory.display()
            );
        }
        Ok(())
    }
}

pub(crate) fn open_or_learn(config: &Config, texts: &[ParallelText], offline: bool) -> Result<Tokenizers> {
    Ok(match (&config.text.path, &config.text.hub) {
        (Some(path), _) => Tokenizers::open(path)?,
        (None, Some(name)) => {
            let reference =
                Reference::new(name).with_context(|| format!("text.hub: {name:?} is no name on the Hub"))?;
            Tokenizers::open(&reference.fetch(Wanted::Tokenizers, offline)?.folder)?
        }
        (None, None) => {
            let begin = Instant::now();
            let tokenizers = learn(config, texts)?;
            let pieces = tokenizers.source.vocabulary_size();
            let took = duration(begin.elapsed().as_secs_f64());
            let both = if tokenizers.is_shared() {
                "for both sides"
            } else {
                "on each side"
            };
            eprintln!("learned {pieces} {} pieces {both} ({took})", config.text.kind);
            tokenizers
        }
    })
}

/// Language tags that are listed before "and N more".
const LISTED_TAGS: usize = 20;

/// The language tags of the source's vocabulary in words, if it has any.
pub(crate) fn language_tags(tokenizers: &Tokenizers) -> Option<String> {
    let tags: Vec<&str> = tokenizers.source.language_tags().collect();
    let listed = tags.iter().take(LISTED_TAGS).copied().collect::<Vec<_>>().join(", ");
    match tags.len() {
        0 => None,
        count if count > LISTED_TAGS => Some(format!("{listed} and {} more", count - LISTED_TAGS)),
        _ => Some(listed),
    }
}

/// References that a vocabulary can only write in another way, so that no translation equals them, if there are any; and the
/// way out.
pub(crate) fn rewritten_references(
    config: &Config,
    text: &ParallelText,
    tokenizers: &Tokenizers,
) -> Result<Option<(String, &'static str)>> {
    let (mut count, mut first) = (0, None);
    for (line, reference) in (1..).zip(&text.target) {
        if let Some(written) = tokenizers.target.rewritten(reference)? {
            count += 1;
            first.get_or_insert((line, reference, written));
        }
    }
    Ok(first.map(|(line, reference, written): (u64, _, _)| {
        let references = if count == 1 { "1 reference".into() } else { format!("{count} references") };
        let excerpt = |text: &str| text.chars().take(EXCERPT).collect::<String>();
        let found = format!(
            "{references} of {} cannot be written with this vocabulary: line {line}, {:?}, becomes {:?}; no translation will \
             equal them",
            text.target.len(),
            excerpt(reference),
            excerpt(&written)
        );
        let advice = match config.text.learns() && config.text.normalization != Normalization::None {
            true => "with text.normalization = \"none\" a vocabulary leaves text as it is; or normalize the references, too",
            false => "give the references the form that the vocabulary writes",
        };
        (found, advice)
    }))
}

/// Characters of a line that are shown in a message.
const EXCERPT: usize = 60;

/// What there is to say if lines begin with what looks like a language tag, but the vocabulary has none.
fn cut_tags(config: &Config, texts: &[ParallelText]) -> Option<String> {
    let sources = texts.iter().flat_map(|text| &text.source);
    let mut tags = sources.filter_map(|line| written_language_tag(line.trim_start()));
    let first = tags.next()?;
    let begin = match tags.count() + 1 {
        1 => "1 source line begins".to_owned(),
        count => format!("{count} source lines begin"),
    };
    let why = match (config.text.kind, config.text.normalization) {
        (Kind::Word, _) => "text.kind = \"word\" takes it for a word".to_owned(),
        (_, Normalization::None) => {
            "that is less than one in twenty, so it is text; name the tags in text.symbols to have pieces of them"
                .to_owned()
        }
        (_, normalization) => format!(
            "text.normalization = \"{normalization}\" cuts it like any text; with \"none\" tags are pieces of their own"
        ),
    };
    Some(format!(
        "{begin} with what may be a language tag, such as {first}: {why}"
    ))
}

/// Learns the tokenizers that a config asks for from its training text. A corpus counts as often as training takes it,
/// at least once: words that matter by their weight get pieces by it.
///
/// Says which language tags it has found.
pub(crate) fn learn(config: &Config, texts: &[ParallelText]) -> Result<Tokenizers> {
    let times = |text: &ParallelText| text.weight.ceil().max(1.0) as usize;
    let source = texts
        .iter()
        .flat_map(|text| repeat_n(&text.source, times(text)).flatten());
    let target = texts
        .iter()
        .flat_map(|text| repeat_n(&text.target, times(text)).flatten());
    let tokenizers = Tokenizers::learn(&config.text, source, target, threads::cores())?;
    match language_tags(&tokenizers) {
        Some(tags) => eprintln!("lines begin with language tags, which are pieces of their own: {tags}"),
        None => cut_tags(config, texts)
            .iter()
            .for_each(|note| eprintln!("note: {note}")),
    }
    Ok(tokenizers)
}

/// Parallel text as tokens.
pub(crate) fn encode(texts: &[ParallelText], tokenizers: &Tokenizers, filters: &Filters) -> Result<Corpus> {
    let cores = threads::cores();
    Ok(Corpus::build(
        texts,
        tokenizers.target.eos_id(),
        filters,
        |lines| {
            tokenizers
                .source
                .encode_batch(&without_empty(&tokenizers.source, lines), cores)
        },
        |lines| {
            tokenizers
                .target
                .encode_batch(&without_empty(&tokenizers.target, lines), cores)
        },
    )?)
}

/// The lines; empty ones in place of those that say nothing, such as a language tag alone.
fn without_empty<'a>(tokenizer: &Tokenizer, lines: &[&'a str]) -> Vec<&'a str> {
    let line = |line: &&'a str| if says_nothing(tokenizer, line) { "" } else { *line };
    lines.iter().map(line).collect()
}

/// Pairs whose random cuts are compared with their text before training begins.
const LINES_TO_TRY: usize = 200;

/// Text to train on. If the config asks for it, every epoch cuts it anew.
pub(crate) fn training_corpus(config: &Config, texts: &[ParallelText], tokenizers: &Tokenizers) -> Result<Corpus> {
    let samplers = tokenizers.samplers(&config.text)?;
    let corpus = encode(texts, tokenizers, &config.data.filters())?;
    let Some([source, target]) = samplers else {
        return Ok(corpus);
    };
    for pair in corpus.pairs().take(LINES_TO_TRY) {
        for (sampler, tokenizer, tokens) in [
            (&source, &tokenizers.source, pair.source),
            (&target, &tokenizers.target, pair.target),
        ] {
            let mut uniform = (0..).map(|i: u32| f64::from(i * 5 % 8) / 8.0);
            let cut = sampler.sample(&tokens[..tokens.len() - 1], &mut || uniform.next().unwrap_or(0.5));
            let (before, after) = (tokenizer.decode(tokens)?, tokenizer.decode(&cut)?);
            if before != after {
                bail!(
                    "text: with bpe_dropout or unigram_alpha, this tokenizer makes {after:?} of {before:?}; remove these keys"
                );
            }
        }
    }
    let recut = |sampler: SubwordSampler| -> Recut { Box::new(move |ids, uniform| sampler.sample(ids, uniform)) };
    let longest =
        position_limit(&config.model).map_or(config.data.max_length, |limit| limit.min(config.data.max_length));
    Ok(corpus.recut_with(recut(source), recut(target), longest))
}

/// Text to validate or test on: every line counts, so nothing is filtered.
pub(crate) fn validation_set(
    text: ParallelText,
    tokenizers: &Tokenizers,
    batch_tokens: usize,
    position_limit: Option<usize>,
    score: &ScoreConfig,
) -> Result<ValidationSet> {
    let corpus = encode(std::slice::from_ref(&text), tokenizers, &Filters::NONE)?;
    if let Some(fault) = beyond_positions(&corpus, position_limit) {
        bail!("{}: {fault}", text.name());
    }
    Ok(ValidationSet {
        source: text.source,
        target: text.target,
        corpus,
        batch_tokens,
        score: score.clone(),
    })
}

/// The longest sentence of a model that has learned its positions.
pub(crate) fn position_limit(model: &ModelConfig) -> Option<usize> {
    model.position_limit()
}

/// The first pair that a model has no positions for. Nothing can be known of it, not even the loss.
pub(crate) fn beyond_positions(corpus: &Corpus, limit: Option<usize>) -> Option<String> {
    let limit = limit?;
    let is_beyond = |index: &usize| {
        let (source, target) = corpus.lengths(*index);
        source.max(target) > limit
    };
    let index = (0..corpus.len()).find(is_beyond)?;
    let (source, target) = corpus.lengths(index);
    let line = corpus.origin(corpus.pair(index).id).map_or(0, |(_, line)| line);
    let most = source.max(target);
    Some(format!(
        "line {line} has {most} tokens, more than the {limit} learned positions (model.max_positions); raise that, or remove it"
    ))
}

/// What the model of a config is, with these tokenizers.
pub(crate) fn architecture(config: &Config, tokenizers: &Tokenizers) -> Result<Architecture> {
    if tokenizers.source.eos_id() != tokenizers.target.eos_id() {
        bail!(
            "</s> must have the same id in the tokenizers of both sides, not {} and {}",
            tokenizers.source.eos_id(),
            tokenizers.target.eos_id()
        );
    }
    Ok(Architecture {
        model: config.model.clone(),
        source_vocabulary: tokenizers.source.vocabulary_size(),
        target_vocabulary: tokenizers.target.vocabulary_size(),
        shared_vocabulary: tokenizers.is_shared_vocabulary(),
        eos_id: tokenizers.target.eos_id(),
        unk_id: tokenizers.target.unk_id(),
    })
}

/// The weights that a run begins with, and the constant that is added to its logits: those of the model of `init`, or new ones.
pub(crate) fn weights(
    config: &Config,
    init: Option<Initial>,
    architecture: &Architecture,
    device: &Device,
) -> Result<(Params, Option<Tensor>)> {
    Ok(match init {
        Some(init) => {
            init.check(architecture)?;
            (init.opened.params, init.opened.logits_bias)
        }
        None => (
            Params::initialise(
                architecture,
                config.train.initialisation,
                config.seed,
                DType::F32,
                device,
            )?,
            None,
        ),
    })
}

/// Refuses a number of workers that cannot share an update on this device.
pub(crate) fn check_workers(config: &Config, device: &Device) -> Result<()> {
    match config.train.workers.fault_on_gpu() {
        Some(fault) if !device.is_cpu() => bail!("{fault}"),
        _ => Ok(()),
    }
}

/// How many workers share an update of a model with this many numbers.
pub(crate) fn workers(config: &Config, device: &Device, elements: usize) -> usize {
    let cores = if device.is_cpu() {
        threads::cores() / config.train.threads_per_worker
    } else {
        1
    };
    config.train.workers.resolve(cores, elements)
}
