//! The tokenizers of a run: learned, opened or fetched; and checks of the text with them.

use crate::config::Config;
use crate::error::{WithContext, bail};
use crate::hub::{Hub, Reference, Wanted};
use crate::humanize::{agreeing, thousands};
use crate::notice::{Listener, Notice, Work};
use crate::{Result, cores};
use std::cell::{Cell, RefCell};
use std::iter::repeat_n;
use std::time::Instant;
use tallow_data::{CorpusFiles, LineSample, ParallelText, Side, SideReader};
use tallow_text::{Kind, Normalization, TextConfig, Tokenizers, written_language_tag};

/// The tokenizers that a config names; `None` if it names none, so that they must be learned.
///
/// # Errors
/// When they are not available.
pub fn named(config: &Config, hub: &Hub, listener: &dyn Listener) -> Result<Option<Tokenizers>> {
    Ok(match (&config.text.path, &config.text.hub) {
        (Some(path), _) => Some(Tokenizers::open(path)?),
        (None, Some(name)) => {
            let reference =
                Reference::new(name).with_context(|| format!("text.hub: {name:?} is no name on the Hub"))?;
            let folder = reference.fetch(Wanted::Tokenizers, hub, listener)?.folder;
            Some(Tokenizers::open(&folder)?)
        }
        (None, None) => None,
    })
}

/// Learns the tokenizers that a config asks for from its training text, which has so many pairs. Each corpus counts as
/// often as its weight says, at least once, so that words of important corpora get pieces. Of more than
/// `text.sample_lines` lines, about so many of each side are used.
///
/// Reports the language tags that were found.
///
/// # Errors
/// When the text cannot be read, or is too small for the vocabulary.
pub fn learn(config: &Config, pairs: u64, listener: &dyn Listener) -> Result<Tokenizers> {
    let begin = Instant::now();
    let corpora = &config.data.train;
    let sample = LineSample::new(config.seed, config.text.sample_lines as u64, pairs);
    let (fault, tags) = (RefCell::new(None), RefCell::new(Tags::default()));
    let done = Cell::new(0);
    let lines = |side: Side| {
        let (fault, tags, done) = (&fault, &tags, &done);
        let of_corpus = move |(number, files): (u64, &CorpusFiles)| {
            let times = files.weight.ceil().max(1.0) as usize;
            let (lines, error) = match SideReader::open(files, side) {
                Ok(lines) => (Some(lines), None),
                Err(error) => (None, Some(error)),
            };
            let chosen = (0..).zip(lines.into_iter().flatten()).filter(move |(line, _)| {
                done.set(done.get() + 1);
                listener.working(&Work::new(
                    "reading text for the vocabulary",
                    done.get(),
                    Some(2 * pairs),
                ));
                sample.has(number, *line)
            });
            let prefix = match side {
                Side::Source => files.source_prefix.clone(),
                Side::Target => files.target_prefix.clone(),
            };
            let cased = move |(place, line): (u64, Result<String, _>)| {
                let cased = |line: String| match &config.data.augment {
                    Some(changes) => changes.cased(&line, prefix.as_deref(), config.seed, number, place),
                    None => line,
                };
                line.map(cased)
            };
            // Nothing is read any more after an error, which is told at the end.
            let all = error.into_iter().map(Err).chain(chosen.map(cased));
            all.map_while(move |line| match line {
                Ok(line) => {
                    if side == Side::Source {
                        tags.borrow_mut().count(&line);
                    }
                    Some(repeat_n(line, times))
                }
                Err(error) => {
                    fault.borrow_mut().get_or_insert(error);
                    None
                }
            })
            .flatten()
        };
        (0..).zip(corpora).flat_map(of_corpus)
    };
    let text = with_prefixes(config)?;
    let learned = Tokenizers::learn(&text, lines(Side::Source), lines(Side::Target), cores());
    if let Some(error) = fault.take() {
        return Err(error.into());
    }
    let tokenizers = learned?;
    match language_tags(&tokenizers) {
        Some(tags) => listener.notice(&Notice::LanguageTags(tags)),
        None => tags
            .take()
            .note(config)
            .into_iter()
            .for_each(|note| listener.notice(&Notice::Note(note))),
    }
    if !sample.is_all() {
        listener.notice(&Notice::Note(format!(
            "the vocabulary is learned from {} of {} lines of each side (text.sample_lines)",
            thousands(config.text.sample_lines as f64),
            thousands(pairs as f64)
        )));
    }
    listener.notice(&Notice::Learned {
        pieces: tokenizers.source.vocabulary_size(),
        kind: config.text.kind.to_string(),
        is_shared: tokenizers.is_shared(),
        seconds: begin.elapsed().as_secs_f64(),
    });
    Ok(tokenizers)
}

/// The `[text]` table with the prefixes of corpora among the symbols, which are never cut, if a vocabulary may have
/// symbols. A prefix of several words is text.
fn with_prefixes(config: &Config) -> Result<TextConfig> {
    let mut text = config.text.clone();
    if text.kind == Kind::Word || text.normalization != Normalization::None {
        return Ok(text);
    }
    for (number, files) in config.data.train.iter().enumerate() {
        for (side, prefix) in [("source", &files.source_prefix), ("target", &files.target_prefix)] {
            let Some(prefix) = prefix.as_ref().filter(|prefix| !prefix.contains(char::is_whitespace)) else {
                continue;
            };
            if text.symbols.contains(prefix) {
                continue;
            }
            let alone = TextConfig {
                symbols: vec![prefix.clone()],
                ..config.text.clone()
            };
            let faults = alone.validate();
            if let Some(fault) = faults.iter().find_map(|fault| fault.strip_prefix("text.symbols: ")) {
                bail!("data.train[{number}].{side}_prefix: {fault}");
            }
            text.symbols.push(prefix.clone());
        }
    }
    Ok(text)
}

/// Source lines that seem to begin with language tags.
#[derive(Default)]
struct Tags {
    first: Option<String>,
    count: u64,
}

impl Tags {
    fn count(&mut self, line: &str) {
        if let Some(tag) = written_language_tag(line.trim_start()) {
            self.count += 1;
            self.first.get_or_insert_with(|| tag.to_owned());
        }
    }

    /// A remark for text whose lines seem to begin with language tags, if the vocabulary has none.
    fn note(self, config: &Config) -> Option<String> {
        let first = self.first?;
        let begin = agreeing(self.count, "source line begins", "source lines begin");
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
