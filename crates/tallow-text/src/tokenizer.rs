//! Turns lines into ids and back.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::config::TextConfig;
use crate::error::TextError;
use crate::files;
use crate::hazards;
use crate::imported;
use crate::language_tag;
use crate::line_encoder::LineEncoder;
use crate::lines::Lines;
use crate::marian_tokenizer;
use crate::pair::Tokenizers;
use crate::pipeline::FormSettings;
use crate::special;
use crate::trim;
use crate::vocabulary::Vocabulary;

/// Cuts lines into pieces and joins them again. Cheap to clone; clones share everything.
///
/// Each thread that encodes caches the cuts of up to 10,000 words for as long as the thread lives.
///
/// # A `tokenizer.json` that was not learned here
/// Any file of the `tokenizers` library is used as far as possible, by these rules:
///
/// - The end of a sentence, the unknown piece and the padding are found by name: `</s>`, `<eos>`, `<|endoftext|>`,
///   `[SEP]` and the like. A file without an end of a sentence is refused. If the file has no unknown piece, or no
///   padding as its very last piece, these get ids after the last id of the file, in this order, and decoding leaves
///   them out.
/// - Templates, truncation, padding and BPE dropout in the file are not applied.
/// - Special "added tokens" in a line are encoded as text. If the model itself still gives the end or a padding inside
///   a line, it becomes the unknown piece.
/// - [`save`](Self::save) writes the file as it was read, byte by byte.
#[derive(Clone)]
pub struct Tokenizer {
    shared: Arc<Shared>,
}

struct Shared {
    model: Model,
    /// Pieces by id; a foreign vocabulary may have gaps.
    pieces: Vec<Option<String>>,
    end: u32,
    unknown: u32,
    padding: u32,
    /// The padding of a foreign file, if it is not the last piece.
    file_padding: Option<u32>,
    /// Ids that decoding leaves out.
    silent: HashSet<u32>,
    /// Whether the vocabulary has language tags.
    has_tags: bool,
}

/// Whether any of these pieces is a language tag.
fn has_tags(pieces: &[Option<String>]) -> bool {
    pieces.iter().flatten().any(|piece| language_tag::is_tag(piece))
}

/// The model that cuts lines and joins pieces.
enum Model {
    /// The `tokenizers` library with a `tokenizer.json`.
    Library {
        model: Box<tokenizers::Tokenizer>,
        json: String,
        /// How lines are cut into words, if this is known.
        form: Option<FormSettings>,
    },
    /// A SentencePiece model and a vocabulary.
    MarianTokenizer(Box<marian_tokenizer::Side>),
}

impl Model {
    /// The contents of the model's files.
    fn contents(&self) -> [&[u8]; 3] {
        match self {
            Self::Library { json, .. } => [json.as_bytes(), &[], &[]],
            Self::MarianTokenizer(side) => side.contents(),
        }
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocabulary_size", &self.vocabulary_size())
            .field("eos_id", &self.eos_id())
            .field("unk_id", &self.unk_id())
            .field("pad_id", &self.pad_id())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Tokenizer {
    /// Whether both have the same files.
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || self.shared.model.contents() == other.shared.model.contents()
    }
}

impl Tokenizer {
    /// Learns a vocabulary from lines of text. `config.path` and `config.hub` are not used.
    ///
    /// The result has `config.vocabulary` pieces if the text has that many, otherwise fewer (see
    /// [`vocabulary_size`](Self::vocabulary_size)). It does not depend on `threads` (0 counts as 1).
    ///
    /// # Errors
    /// If the config has faults, the text is empty, or its characters alone need more than
    /// `config.vocabulary` pieces.
    pub fn learn<I, S>(config: &TextConfig, lines: I, threads: usize) -> Result<Self, TextError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        Self::learn_from(config, lines.into_iter().map(Ok), threads)
    }

    /// Learns a vocabulary from text files.
    ///
    /// # Errors
    /// As [`learn`](Self::learn), and if a file cannot be read or is not UTF-8.
    pub fn learn_from_files<P: AsRef<Path>>(
        config: &TextConfig,
        files: &[P],
        threads: usize,
    ) -> Result<Self, TextError> {
        Self::learn_from(config, Lines::new(files.iter().map(AsRef::as_ref)), threads)
    }

    fn learn_from<I, S>(config: &TextConfig, lines: I, threads: usize) -> Result<Self, TextError>
    where
        I: IntoIterator<Item = Result<S, TextError>>,
        S: AsRef<str>,
    {
        let pool = pool(threads)?;
        let counts = Vocabulary::count(config, lines, &pool)?;
        Ok(Tokenizers::of_one(Vocabulary::learn(config, counts, &pool)?)?.source)
    }

    /// The tokenizer of a learned vocabulary, filled up to `size`.
    pub(crate) fn assemble(vocabulary: Vocabulary, size: usize) -> Result<Self, TextError> {
        let json = vocabulary
            .assemble(size)
            .and_then(|model| model.to_string(true))
            .map_err(|error| TextError::Learn(error.to_string()))?;
        // Parse the text, so that a learned tokenizer and its saved copy cannot differ.
        Self::parse(json, "the learned tokenizer")
    }

    /// Opens a `tokenizer.json`.
    ///
    /// # Errors
    /// If the file cannot be read, is not a tokenizer, contradicts itself, or has no piece for the end of a sentence.
    pub fn open(path: &Path) -> Result<Self, TextError> {
        let unreadable = |source| TextError::Read {
            path: path.to_owned(),
            source,
        };
        let contents = files::without_mark(fs::read(path).map_err(unreadable)?);
        let json = String::from_utf8(contents).map_err(|error| TextError::Malformed {
            origin: path.display().to_string(),
            reason: files::reason_of(
                error.as_bytes(),
                "it is not UTF-8; convert it, or download it again".to_owned(),
            ),
        })?;
        Self::parse(json, &path.display().to_string())
    }

    /// A tokenizer from the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_json(json: &str) -> Result<Self, TextError> {
        Self::parse(json.to_owned(), "the given text")
    }

    /// The text of the `tokenizer.json`; a SentencePiece model has none.
    pub fn to_json(&self) -> Option<&str> {
        match &self.shared.model {
            Model::Library { json, .. } => Some(json),
            Model::MarianTokenizer(_) => None,
        }
    }

    /// Writes the `tokenizer.json`. The contents go to a file beside it first, which is then renamed, so a half-written
    /// file never has this name.
    ///
    /// # Errors
    /// If the file cannot be written, or the tokenizer is a SentencePiece model.
    pub fn save(&self, path: &Path) -> Result<(), TextError> {
        let json = self.to_json().ok_or(TextError::NoJson)?;
        files::write(path, json.as_bytes())
    }

    /// The tokenizer of a SentencePiece model and its vocabulary.
    pub(crate) fn of_marian_tokenizer(side: marian_tokenizer::Side, vocabulary: marian_tokenizer::Vocabulary) -> Self {
        let marian_tokenizer::Vocabulary {
            pieces,
            end,
            unknown,
            padding,
            ..
        } = vocabulary;
        Self {
            shared: Arc::new(Shared {
                model: Model::MarianTokenizer(Box::new(side)),
                has_tags: has_tags(&pieces),
                pieces,
                end,
                unknown,
                padding,
                file_padding: None,
                silent: HashSet::from([end, padding]),
            }),
        }
    }

    /// The SentencePiece model and its vocabulary, if the tokenizer consists of these.
    pub(crate) fn marian_tokenizer(&self) -> Option<&marian_tokenizer::Side> {
        match &self.shared.model {
            Model::Library { .. } => None,
            Model::MarianTokenizer(side) => Some(side),
        }
    }

    pub(crate) fn parse(json: String, origin: &str) -> Result<Self, TextError> {
        let malformed = |reason: String| TextError::Malformed {
            origin: origin.to_owned(),
            reason,
        };
        let value: Value =
            serde_json::from_str(&json).map_err(|error| malformed(files::reason_of_json(json.as_bytes(), &error)))?;
        hazards::check(&value).map_err(malformed)?;
        imported::check_merges(&value).map_err(malformed)?;
        let mut model: tokenizers::Tokenizer = json
            .parse()
            .map_err(|error: tokenizers::Error| malformed(error.to_string()))?;
        imported::check_added_tokens(&value, &model).map_err(malformed)?;
        let form = FormSettings::of(&value);
        drop(value);
        imported::remove_extras(&mut model).map_err(|error| malformed(error.to_string()))?;

        let mut pieces = imported::pieces_by_id(&model).map_err(malformed)?;
        let find = |names: &[&str]| names.iter().find_map(|name| model.token_to_id(name));
        let end = find(special::END_NAMES).ok_or_else(|| TextError::NoEnd {
            origin: origin.to_owned(),
            looked_for: special::END_NAMES.to_vec(),
        })?;
        let append = |pieces: &mut Vec<Option<String>>, name: &str| {
            pieces.push(Some(name.to_owned()));
            pieces.len() as u32 - 1
        };
        let unknown = find(special::UNKNOWN_NAMES).unwrap_or_else(|| append(&mut pieces, special::UNKNOWN));
        // Models need the padding as the last piece. A padding elsewhere stays what it is, a piece that no line has.
        let file_padding = find(special::PADDING_NAMES);
        let padding = match file_padding {
            Some(id) if id as usize + 1 == pieces.len() => id,
            _ => append(&mut pieces, special::PADDING),
        };

        let added = model.get_added_tokens_decoder();
        let is_extra = |piece: &Option<String>| piece.as_deref().is_some_and(special::is_extra);
        let extras = (0u32..).zip(&pieces).filter(|(_, piece)| is_extra(piece));
        let mut silent: HashSet<u32> = extras.map(|(id, _)| id).chain([end, padding]).collect();
        silent.extend(added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id));
        silent.extend(file_padding);
        // Text that the model could not express must be visible.
        if unknown != end && unknown != padding {
            silent.remove(&unknown);
        }

        Ok(Self {
            shared: Arc::new(Shared {
                model: Model::Library {
                    model: Box::new(model),
                    json,
                    form,
                },
                has_tags: has_tags(&pieces),
                pieces,
                end,
                unknown,
                padding,
                file_padding,
                silent,
            }),
        })
    }

    /// The ids of a line, without the end of the sentence. An empty line has none.
    ///
    /// # Errors
    /// If the model cannot express the line. This happens only with foreign models.
    pub fn encode(&self, line: &str) -> Result<Vec<u32>, TextError> {
        let shared = &*self.shared;
        let ids = match &shared.model {
            // `MarianTokenizer` takes a `>>code<<` at the beginning of a line for the language to translate into, and a
            // tag that the vocabulary lacks for the unknown piece. So does this branch. To a model of one language,
            // such a line is text.
            Model::MarianTokenizer(side) if shared.has_tags => side.encode_as_marian_tokenizer(line),
            Model::MarianTokenizer(side) => side.encode_text(line, Vec::new()),
            Model::Library { model, .. } => {
                let encoding = model.encode_fast(line, false).map_err(|error| TextError::Encode {
                    excerpt: line.chars().take(40).collect(),
                    reason: error.to_string(),
                })?;
                encoding.get_ids().to_vec()
            }
        };
        Ok(self.without_reserved(ids))
    }

    /// Encodes many lines one after another.
    pub fn line_encoder(&self) -> LineEncoder<'_> {
        LineEncoder::new(self)
    }

    /// How lines are cut into words, and the tokenizer of the library, if the vocabulary has the form of learned ones.
    pub(crate) fn form_and_library(&self) -> Option<(FormSettings, &tokenizers::Tokenizer)> {
        match &self.shared.model {
            Model::Library {
                model,
                form: Some(form),
                ..
            } => Some((*form, model)),
            _ => None,
        }
    }

    /// The ids of a line. The end and the padding, which no line has, become the unknown piece.
    pub(crate) fn without_reserved(&self, mut ids: Vec<u32>) -> Vec<u32> {
        let shared = &*self.shared;
        for id in &mut ids {
            if *id == shared.end || *id == shared.padding || Some(*id) == shared.file_padding {
                *id = shared.unknown;
            }
        }
        ids
    }

    /// Encodes many lines as [`encode`](Self::encode) does, on this number of threads (0 counts as 1), and keeps their
    /// order.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and if the threads cannot be started.
    pub fn encode_batch<S>(&self, lines: &[S], threads: usize) -> Result<Vec<Vec<u32>>, TextError>
    where
        S: AsRef<str> + Sync,
    {
        if threads <= 1 {
            return lines.iter().map(|line| self.encode(line.as_ref())).collect();
        }
        pool(threads)?.install(|| lines.par_iter().map(|line| self.encode(line.as_ref())).collect())
    }

    /// The pieces of a line as the vocabulary spells them: `▁` is a space.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn pieces(&self, line: &str) -> Result<Vec<String>, TextError> {
        let ids = self.encode(line)?;
        Ok(ids
            .into_iter()
            .map(|id| self.piece(id).unwrap_or(special::UNKNOWN).to_owned())
            .collect())
    }

    /// The ids that transformers' `MarianTokenizer` gives a line with the same files, without the end of the sentence.
    /// They equal those of [`encode`](Self::encode) if this tokenizer consists of such files, with one exception: a
    /// line that begins with a `>>code<<` when the vocabulary has no language tags.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_as_marian_tokenizer(&self, line: &str) -> Result<Vec<u32>, TextError> {
        match &self.shared.model {
            Model::MarianTokenizer(side) => Ok(self.without_reserved(side.encode_as_marian_tokenizer(line))),
            Model::Library { .. } => self.encode(line),
        }
    }

    /// The language tags of the vocabulary, such as `>>deu<<`, in the order of their ids.
    pub fn language_tags(&self) -> impl Iterator<Item = &str> {
        let pieces = self.shared.pieces.iter().flatten();
        pieces.map(String::as_str).filter(|piece| language_tag::is_tag(piece))
    }

    /// Splits a line into the language tag at its beginning and the text after it, if the vocabulary has language tags.
    /// The vocabulary need not have this tag.
    pub fn split_language_tag<'a>(&self, line: &'a str) -> Option<(&'a str, &'a str)> {
        if !self.shared.has_tags {
            return None;
        }
        let line = match &self.shared.model {
            Model::MarianTokenizer(side) => side.trimmed(line),
            Model::Library { .. } => line,
        };
        language_tag::split(line)
    }

    /// The ids of a text after a language tag or in the middle of a line. If the beginning of the text looks like a
    /// tag, it is still encoded as text.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, TextError> {
        match &self.shared.model {
            Model::MarianTokenizer(side) => Ok(self.without_reserved(side.encode_text(text, Vec::new()))),
            Model::Library { .. } => self.encode(text),
        }
    }

    /// The language tag at the beginning of a line, if the vocabulary does not have it. If the vocabulary has no tags
    /// at all, only a tag that looks like a language code counts.
    pub fn unknown_language_tag<'a>(&self, line: &'a str) -> Option<&'a str> {
        let tag = match self.split_language_tag(line) {
            Some((tag, _)) => tag,
            None => language_tag::written(line)?,
        };
        self.id(tag).is_none().then_some(tag)
    }

    /// The line after encoding and decoding, if it differs although the vocabulary knows all its pieces. This happens,
    /// for example, when the vocabulary normalizes text. Differences in white space do not count.
    ///
    /// A translation can never equal such a line, and a score that compares the two finds a difference.
    ///
    /// # Errors
    /// As [`encode`](Self::encode) and [`decode`](Self::decode).
    pub fn rewritten(&self, line: &str) -> Result<Option<String>, TextError> {
        let ids = self.encode(line)?;
        if ids.contains(&self.unk_id()) {
            return Ok(None);
        }
        let text = self.decode(&ids)?;
        let is_same = trim::ends(line)
            .split_whitespace()
            .eq(trim::ends(&text).split_whitespace());
        Ok((!is_same).then_some(text))
    }

    /// The line of these ids. The end of the sentence, the padding and other control pieces leave no trace. The unknown
    /// piece appears by its name, `<unk>`. A run of byte pieces that is not UTF-8 becomes one replacement character
    /// (U+FFFD) per byte.
    ///
    /// # Errors
    /// [`TextError::UnknownId`] if an id has no piece.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        let shared = &*self.shared;
        if let Some(&id) = ids.iter().find(|&&id| self.piece(id).is_none()) {
            return Err(TextError::UnknownId {
                id,
                size: shared.pieces.len(),
            });
        }
        let audible = ids.iter().copied().filter(|id| !shared.silent.contains(id));
        match &shared.model {
            Model::MarianTokenizer(side) => Ok(side.join(audible.filter_map(|id| self.piece(id)))),
            Model::Library { model, .. } => model
                .decode(&audible.collect::<Vec<_>>(), false)
                .map_err(|error| TextError::Decode(error.to_string())),
        }
    }

    /// Number of ids: one more than the highest id. In a foreign vocabulary, some lower ids may have no piece.
    pub fn vocabulary_size(&self) -> usize {
        self.shared.pieces.len()
    }

    /// The piece with this id, if it exists.
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.shared.pieces.get(id as usize)?.as_deref()
    }

    /// The id of this piece, if it exists.
    pub fn id(&self, piece: &str) -> Option<u32> {
        let found = match &self.shared.model {
            Model::Library { model, .. } => model.token_to_id(piece),
            Model::MarianTokenizer(side) => side.id(piece),
        };
        found.or_else(|| {
            // Pieces that were appended to a foreign vocabulary.
            let appended = [self.unk_id(), self.pad_id()];
            appended.into_iter().find(|&id| self.piece(id) == Some(piece))
        })
    }

    /// Whether a piece is text: not the end, the padding or another control piece, not the unknown piece, and not a
    /// byte.
    pub(crate) fn is_text(&self, id: u32) -> bool {
        let is_control = id == self.unk_id() || self.shared.silent.contains(&id);
        !is_control && self.piece(id).is_some_and(|piece| !special::is_byte(piece))
    }

    /// The piece that ends a sentence.
    pub fn eos_id(&self) -> u32 {
        self.shared.end
    }

    /// The piece for text that the vocabulary cannot express.
    pub fn unk_id(&self) -> u32 {
        self.shared.unknown
    }

    /// The piece that fills batches.
    pub fn pad_id(&self) -> u32 {
        self.shared.padding
    }

    /// The SHA-256, in hexadecimal, of the `tokenizer.json`, which is also that of the saved file. For a SentencePiece
    /// model, it is that of the model followed by the vocabulary.
    pub fn sha256(&self) -> String {
        let mut digest = Sha256::new();
        self.shared
            .model
            .contents()
            .iter()
            .for_each(|contents| digest.update(contents));
        let digest = digest.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether both are the same tokenizer, so that ids of one are ids of the other.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Whether both have the same pieces under the same ids.
    pub(crate) fn has_pieces_of(&self, other: &Self) -> bool {
        self.shared.pieces == other.shared.pieces
    }
}

/// A thread pool of its own: neither the global pool nor the environment decides about threads.
pub(crate) fn pool(threads: usize) -> Result<ThreadPool, TextError> {
    ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .build()
        .map_err(|error| TextError::Threads {
            threads,
            reason: error.to_string(),
        })
}
