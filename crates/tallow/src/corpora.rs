//! Text as tokens, for training, validation and test.

use crate::config::Config;
use crate::error::bail;
use crate::{Result, cores};
use tallow_data::{Corpus, Filters, ParallelText, Recut, WordsOf};
use tallow_decode::says_nothing;
use tallow_score::ScoreConfig;
use tallow_text::{SubwordSampler, Tokenizer, Tokenizers, WordBegins};
use tallow_train::{Measure, ValidationSet};

/// Encodes parallel text as tokens.
///
/// # Errors
/// When no pair is left, or the tokenizer fails.
pub fn encode(texts: &[ParallelText], tokenizers: &Tokenizers, filters: &Filters) -> Result<Corpus> {
    let cores = cores();
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

/// The lines, with an empty line in place of each one without content, such as a language tag alone.
fn without_empty<'a>(tokenizer: &Tokenizer, lines: &[&'a str]) -> Vec<&'a str> {
    let line = |line: &&'a str| if says_nothing(tokenizer, line) { "" } else { *line };
    lines.iter().map(line).collect()
}

/// The number of pairs to check before training: random cuts of their text must decode to the same text.
const LINES_TO_TRY: usize = 200;

/// Text to train on. If the config asks for it, every epoch cuts it into pieces anew.
///
/// # Errors
/// As for [`encode`], and when the tokenizer cannot cut text at random.
pub fn training_corpus(config: &Config, texts: &[ParallelText], tokenizers: &Tokenizers) -> Result<Corpus> {
    let samplers = tokenizers.samplers(&config.text)?;
    let mut corpus = encode(texts, tokenizers, &config.data.filters())?;
    if config.train.guided_alignment > 0.0 && texts.iter().any(|text| text.alignments.is_some()) {
        let words_of = |tokenizer: &Tokenizer| -> Result<WordsOf> {
            let begins = WordBegins::new(tokenizer)?;
            Ok(Box::new(move |tokens: &[u32]| begins.words_of(tokens)))
        };
        let [source, target] = [&tokenizers.source, &tokenizers.target].map(words_of);
        corpus = corpus.align_with(texts, source?, target?);
    }
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
    let longest = config
        .model
        .position_limit()
        .map_or(config.data.max_length, |limit| limit.min(config.data.max_length));
    Ok(corpus.recut_with(recut(source), recut(target), longest))
}

/// Text to validate or test on. Every line counts, so no line is filtered out.
///
/// # Errors
/// As for [`encode`], and when a line is longer than the positions of the model.
pub fn validation_set(
    text: ParallelText,
    tokenizers: &Tokenizers,
    batch_tokens: usize,
    position_limit: Option<usize>,
    score: &ScoreConfig,
    decides: Measure,
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
        metrics: score.metrics(decides.metric()),
        score: score.clone(),
    })
}

/// A message about the first pair with more tokens than the model has positions. Nothing can be computed for such a
/// pair, not even the loss.
pub fn beyond_positions(corpus: &Corpus, limit: Option<usize>) -> Option<String> {
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
