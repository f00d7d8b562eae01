//! The tokenizers of a run: learned, opened or fetched; and checks of the text with them.

use crate::config::Config;
use crate::error::WithContext;
use crate::hub::{Hub, Reference, Wanted};
use crate::notice::{Listener, Notice};
use crate::{Result, cores};
use std::iter::repeat_n;
use std::time::Instant;
use tallow_data::ParallelText;
use tallow_text::{Kind, Normalization, Tokenizers, written_language_tag};

/// The tokenizers that a config names. If it names none, they are learned from its training text.
///
/// # Errors
/// When they are not available, or the text is too small for the vocabulary.
pub fn open_or_learn(
    config: &Config,
    texts: &[ParallelText],
    hub: &Hub,
    listener: &dyn Listener,
) -> Result<Tokenizers> {
    Ok(match (&config.text.path, &config.text.hub) {
        (Some(path), _) => Tokenizers::open(path)?,
        (None, Some(name)) => {
            let reference =
                Reference::new(name).with_context(|| format!("text.hub: {name:?} is no name on the Hub"))?;
            Tokenizers::open(&reference.fetch(Wanted::Tokenizers, hub, listener)?.folder)?
        }
        (None, None) => {
            let begin = Instant::now();
            let tokenizers = learn(config, texts, listener)?;
            listener.notice(&Notice::Learned {
                pieces: tokenizers.source.vocabulary_size(),
                kind: config.text.kind.to_string(),
                is_shared: tokenizers.is_shared(),
                seconds: begin.elapsed().as_secs_f64(),
            });
            tokenizers
        }
    })
}

/// Learns the tokenizers that a config asks for from its training text. Each corpus counts as often as its weight says,
/// at least once, so that words of important corpora get pieces.
///
/// Reports the language tags that were found.
///
/// # Errors
/// When the text is too small for the vocabulary.
pub fn learn(config: &Config, texts: &[ParallelText], listener: &dyn Listener) -> Result<Tokenizers> {
    let times = |text: &ParallelText| text.weight.ceil().max(1.0) as usize;
    let source = texts
        .iter()
        .flat_map(|text| repeat_n(&text.source, times(text)).flatten());
    let target = texts
        .iter()
        .flat_map(|text| repeat_n(&text.target, times(text)).flatten());
    let tokenizers = Tokenizers::learn(&config.text, source, target, cores())?;
    match language_tags(&tokenizers) {
        Some(tags) => listener.notice(&Notice::LanguageTags(tags)),
        None => cut_tags(config, texts)
            .into_iter()
            .for_each(|note| listener.notice(&Notice::Note(note))),
    }
    Ok(tokenizers)
}

/// A remark for text whose lines seem to begin with language tags, if the vocabulary has none.
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

/// The number of language tags that are listed before "and N more".
const LISTED_TAGS: usize = 20;

/// The language tags of the source vocabulary as a list in words, if it has any.
pub fn language_tags(tokenizers: &Tokenizers) -> Option<String> {
    let tags: Vec<&str> = tokenizers.source.language_tags().collect();
    let listed = tags.iter().take(LISTED_TAGS).copied().collect::<Vec<_>>().join(", ");
    match tags.len() {
        0 => None,
        count if count > LISTED_TAGS => Some(format!("{listed} and {} more", count - LISTED_TAGS)),
        _ => Some(listed),
    }
}

/// A message about references that the vocabulary can only write differently, so that no translation can equal them,
/// and advice. `None` if there are no such references.
///
/// # Errors
/// When the tokenizer fails.
pub fn rewritten_references(
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

/// The number of characters of a line that a message shows.
const EXCERPT: usize = 60;
