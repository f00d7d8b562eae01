//! Text as tokens, for training, validation and test.

use crate::cleaning::{rules, survey};
use crate::config::Config;
use crate::error::{WithContext, bail};
use crate::preparation::lock;
use crate::{Result, cores};
use std::sync::{Mutex, PoisonError};
use tallow_data::{
    Augmentation, Cleaning, Corpus, CorpusFiles, Cuts, Encoded, Filters, PairOfLines, PairSource, ParallelText,
    PreparedCorpora, Recut, TextRecord, ToText, ToTokens, WordsOf, has_words_of,
};
use tallow_decode::says_nothing;
use tallow_score::ScoreConfig;
use tallow_text::{LineEncoder, SubwordSampler, TextError, Tokenizer, Tokenizers, WordBegins};
use tallow_train::{Measure, Silent, ValidationSet};

/// Encodes parallel text as tokens.
///
/// # Errors
/// When no pair is left, or the tokenizer fails.
pub fn encode(texts: &[ParallelText], tokenizers: &Tokenizers, filters: &Filters) -> Result<Corpus> {
    encode_cleaned(texts, tokenizers, filters, None)
}

fn encode_cleaned(
    texts: &[ParallelText],
    tokenizers: &Tokenizers,
    filters: &Filters,
    cleaning: Option<&Cleaning>,
) -> Result<Corpus> {
    let cores = cores();
    Ok(Corpus::build_cleaned(
        texts,
        tokenizers.target.eos_id(),
        filters,
        cleaning,
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

/// Text to train on, in memory. If the config asks for it, every epoch cuts it into pieces anew.
///
/// # Errors
/// As for [`encode`], and when the tokenizer cannot cut text at random.
pub fn training_corpus(config: &Config, texts: &[ParallelText], tokenizers: &Tokenizers) -> Result<Corpus> {
    tokenizers.samplers(&config.text)?;
    let cleaning = match rules(config) {
        Some(rules) => {
            let folder = config.prepared_folder();
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            // A process that prepares text removes files that nobody seems to use.
            let _lock = lock(&folder, &Silent)?;
            let record = |files: &CorpusFiles| Ok((files.clone(), TextRecord::read(files, |_| {})?));
            let corpora = config.data.train.iter().map(record).collect::<Result<Vec<_>>>()?;
            Some(survey(&rules, &corpora, &folder, None, &Silent)?)
        }
        None => None,
    };
    let mut corpus = encode_cleaned(texts, tokenizers, &config.data.filters(), cleaning.as_ref())?;
    if config.train.guided_alignment > 0.0 && texts.iter().any(|text| text.alignments.is_some()) {
        let [source, target] = words_of(tokenizers)?;
        corpus = corpus.align_with(texts, source, target);
    }
    if let Some(augmentation) = augmentation(config, &corpus, tokenizers) {
        corpus = corpus.augment_with(augmentation, longest_cut(config));
    }
    Ok(match recuts(config, &corpus, tokenizers)? {
        Some([source, target]) => corpus.recut_with(source, target, longest_cut(config)),
        None => corpus,
    })
}

/// How training cuts prepared pairs into tokens.
///
/// # Errors
/// When the tokenizer cannot cut text at random or does not show where words begin, and the config asks for it.
pub(crate) fn cuts(config: &Config, corpora: &PreparedCorpora, tokenizers: &Tokenizers) -> Result<Cuts> {
    let mut cuts = Cuts::default();
    if corpora.corpora().iter().any(|corpus| corpus.description().recipe.links) {
        let [source, target] = words_of(tokenizers)?;
        cuts = cuts.with_words(source, target);
    }
    if let Some(augmentation) = augmentation(config, corpora, tokenizers) {
        cuts = cuts.augmented(augmentation, longest_cut(config));
    }
    Ok(match recuts(config, corpora, tokenizers)? {
        Some([source, target]) => cuts.anew(source, target, longest_cut(config)),
        None => cuts,
    })
}

/// How epochs change training pairs, if the config asks for it.
fn augmentation(config: &Config, pairs: &dyn PairSource, tokenizers: &Tokenizers) -> Option<Augmentation> {
    let changes = config.data.augment.clone()?;
    let sides = [&tokenizers.source, &tokenizers.target];
    let to_text = |tokenizer: &Tokenizer| -> ToText {
        let tokenizer = tokenizer.clone();
        Box::new(move |tokens| match tokens.contains(&tokenizer.unk_id()) {
            true => None,
            false => tokenizer.decode(tokens).ok(),
        })
    };
    let to_tokens = |tokenizer: &Tokenizer| -> ToTokens {
        let tokenizer = tokenizer.clone();
        Box::new(move |text| {
            let tokens = tokenizer.encode(text).ok()?;
            // A model must not learn to write unknown pieces.
            (!tokens.contains(&tokenizer.unk_id())).then_some(tokens)
        })
    };
    let prefixes = |files: &CorpusFiles| [files.source_prefix.clone(), files.target_prefix.clone()];
    let parts = pairs.parts().into_iter().map(|part| part.pairs);
    Some(Augmentation {
        config: changes,
        to_text: sides.map(to_text),
        to_tokens: sides.map(to_tokens),
        prefixes: parts.zip(config.data.train.iter().map(prefixes)).collect(),
    })
}

/// The functions that find the words of tokens.
fn words_of(tokenizers: &Tokenizers) -> Result<[WordsOf; 2]> {
    let words_of = |tokenizer: &Tokenizer| -> Result<WordsOf> {
        let begins = WordBegins::new(tokenizer)?;
        Ok(Box::new(move |tokens: &[u32]| begins.words_of(tokens)))
    };
    Ok([words_of(&tokenizers.source)?, words_of(&tokenizers.target)?])
}

/// The longest side that a new cut of a training sentence may give.
fn longest_cut(config: &Config) -> usize {
    let longest = config.data.max_length;
    config
        .model
        .position_limit()
        .map_or(longest, |limit| limit.min(longest))
}

/// The functions that cut training sentences at random, if the config asks for them.
fn recuts(config: &Config, pairs: &dyn PairSource, tokenizers: &Tokenizers) -> Result<Option<[Recut; 2]>> {
    let Some([source, target]) = tokenizers.samplers(&config.text)? else {
        return Ok(None);
    };
    let some: Vec<usize> = (0..pairs.pair_count().min(LINES_TO_TRY)).collect();
    let mut outcome = Ok(());
    pairs.read(&some, &mut |pair| {
        for (sampler, tokenizer, tokens) in [
            (&source, &tokenizers.source, pair.source),
            (&target, &tokenizers.target, pair.target),
        ] {
            if outcome.is_ok() {
                outcome = must_say_the_same(sampler, tokenizer, tokens);
            }
        }
    })?;
    outcome?;
    let recut = |sampler: SubwordSampler| -> Recut { Box::new(move |ids, uniform| sampler.sample(ids, uniform)) };
    Ok(Some([recut(source), recut(target)]))
}

/// A random cut of a line, which ends in `</s>`, must decode to the same text.
fn must_say_the_same(sampler: &SubwordSampler, tokenizer: &Tokenizer, tokens: &[u32]) -> Result<()> {
    let Some((_, text)) = tokens.split_last() else {
        return Ok(());
    };
    let mut uniform = (0..).map(|i: u32| f64::from(i * 5 % 8) / 8.0);
    let cut = sampler.sample(text, &mut || uniform.next().unwrap_or(0.5));
    let (before, after) = (tokenizer.decode(tokens)?, tokenizer.decode(&cut)?);
    if before != after {
        bail!(
            "text: with bpe_dropout or unigram_alpha, this tokenizer makes {after:?} of {before:?}; remove these keys"
        );
    }
    Ok(())
}

/// The function that encodes pairs when corpora are prepared, from several threads at the same time. With `has_links`,
/// it tells which pairs have other words than white space separates.
///
/// # Errors
/// When the tokenizer does not show where words begin, and there are links.
pub(crate) fn encoder(
    tokenizers: &Tokenizers,
    has_links: bool,
) -> Result<impl Fn(&[PairOfLines]) -> Result<Vec<Encoded>, TextError> + Sync> {
    let words_of = match has_links {
        true => Some(words_of(tokenizers)?),
        false => None,
    };
    // An encoder remembers words, so each thread keeps one for many chunks.
    let idle = Mutex::new(Vec::new());
    Ok(move |pairs: &[PairOfLines]| {
        let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = lock().pop();
        let (mut source, mut target): (LineEncoder<'_>, LineEncoder<'_>) =
            taken.unwrap_or_else(|| (tokenizers.source.line_encoder(), tokenizers.target.line_encoder()));
        let side = |encoder: &mut LineEncoder<'_>, tokenizer: &Tokenizer, line: &str| {
            encoder.encode(if says_nothing(tokenizer, line) { "" } else { line })
        };
        let mut encode = |pair: &PairOfLines| {
            let encoded = [
                side(&mut source, &tokenizers.source, &pair.source)?,
                side(&mut target, &tokenizers.target, &pair.target)?,
            ];
            let has_other_words = words_of.as_ref().is_some_and(|words_of| {
                let lines = [&pair.source, &pair.target];
                let sides = words_of.iter().zip(&encoded).zip(lines);
                sides
                    .into_iter()
                    .any(|((words_of, tokens), line)| !has_words_of(words_of, tokens, line))
            });
            let [source, target] = encoded;
            Ok(Encoded {
                source,
                target,
                has_other_words,
            })
        };
        let encoded = pairs.iter().map(&mut encode).collect();
        lock().push((source, target));
        encoded
    })
}

/// Text to validate or test on, which has a name if there are several. Every line counts, so no line is filtered out.
///
/// # Errors
/// As for [`encode`], and when a line is longer than the positions of the model.
pub fn validation_set(
    name: Option<String>,
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
        name,
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
