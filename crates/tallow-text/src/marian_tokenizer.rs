//! The files of Hugging Face's `MarianTokenizer`, the form of OPUS-MT's models. Each side has a SentencePiece model,
//! which cuts a line into pieces. A vocabulary beside the models gives the pieces their ids.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::error::TextError;
use crate::files;
use crate::imported;
use crate::language_tag;
use crate::pair::Tokenizers;
use crate::sentencepiece::{Learned, Processor};
use crate::special;
use crate::tokenizer::Tokenizer;
use crate::trim;

pub(crate) const SOURCE: &str = "source.spm";
pub(crate) const TARGET: &str = "target.spm";
const VOCABULARY: &str = "vocab.json";
const TARGET_VOCABULARY: &str = "target_vocab.json";
const CONFIG: &str = "tokenizer_config.json";

/// The key of [`CONFIG`] that asks to remove white space of any kind at the ends of a line. SentencePiece itself
/// removes only spaces.
const TRIM: &str = "tallow_trim";

/// The names of all files.
pub(crate) const FILES: [&str; 5] = [SOURCE, TARGET, VOCABULARY, TARGET_VOCABULARY, CONFIG];

/// The files without which there is no tokenizer.
pub(crate) const REQUIRED: [&str; 3] = [SOURCE, TARGET, VOCABULARY];

/// Number of tokens that the tokenizer allows in a sentence, as in OPUS-MT's models.
const MAX_LENGTH: usize = 512;

/// The files of a directory, kept so that they can be written as they were read.
#[derive(Debug)]
struct Files {
    /// Name and contents of each file that was found.
    contents: Vec<(&'static str, Vec<u8>)>,
}

/// The tokenizer of one side.
#[derive(Debug)]
pub(crate) struct Side {
    files: Arc<Files>,
    /// The names of the files of this side.
    names: [&'static str; 2],
    processor: Processor,
    ids: HashMap<String, u32>,
    unknown: u32,
    /// Whether white space of any kind is removed at the ends of a line.
    trim: bool,
}

/// The vocabulary of a side, by pieces and by ids.
pub(crate) struct Vocabulary {
    pub(crate) pieces: Vec<Option<String>>,
    pub(crate) end: u32,
    pub(crate) unknown: u32,
    pub(crate) padding: u32,
    ids: HashMap<String, u32>,
}

/// Whether a folder has these files. Files that occur with every tokenizer do not count.
pub(crate) fn is_in(directory: &Path) -> bool {
    [SOURCE, VOCABULARY].iter().all(|name| directory.join(name).exists())
}

/// Opens the tokenizers of a folder.
///
/// # Errors
/// If a file is missing or not valid.
pub(crate) fn open(directory: &Path) -> Result<Tokenizers, TextError> {
    let mut contents = Vec::new();
    for name in FILES {
        let path = directory.join(name);
        match fs::read(&path) {
            Ok(bytes) => contents.push((name, files::without_mark(bytes))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !REQUIRED.contains(&name) => {}
            Err(source) => return Err(TextError::Read { path, source }),
        }
    }
    Arc::new(Files { contents }).tokenizers(directory)
}

/// The tokenizers of learned vocabularies: one for each side or one for both.
///
/// # Errors
/// [`TextError::NoSentencePiece`] if SentencePiece cannot express a side.
pub(crate) fn of_learned(source: &Learned, target: Option<&Learned>) -> Result<Tokenizers, TextError> {
    let contents = contents_of(source, target)?;
    Arc::new(Files { contents }).tokenizers(Path::new(""))
}

/// The tokenizers of SentencePiece models and lists of piece ids. There is one list for both sides or one for each.
/// Messages say that the files lie in `directory`.
///
/// # Errors
/// If a file is not valid.
pub(crate) fn of_files(
    [source, target]: [Vec<u8>; 2],
    source_ids: Map<String, Value>,
    target_ids: Option<Map<String, Value>>,
    directory: &Path,
) -> Result<Tokenizers, TextError> {
    let mut contents = vec![
        (SOURCE, source),
        (TARGET, target),
        (CONFIG, pretty(&config(target_ids.is_some(), false))),
        (VOCABULARY, pretty(&source_ids.into())),
    ];
    contents.extend(target_ids.map(|ids| (TARGET_VOCABULARY, pretty(&ids.into()))));
    Arc::new(Files { contents }).tokenizers(directory)
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// The contents of `tokenizer_config.json`.
fn config(is_separate: bool, trim: bool) -> Value {
    let mut config = json!({
        "tokenizer_class": "MarianTokenizer",
        "separate_vocabs": is_separate,
        "model_max_length": MAX_LENGTH,
        "eos_token": special::END,
        "unk_token": special::UNKNOWN,
        "pad_token": special::PADDING,
    });
    if trim {
        config[TRIM] = true.into();
    }
    config
}

/// The files of learned vocabularies: one for each side or one for both.
fn contents_of(source: &Learned, target: Option<&Learned>) -> Result<Vec<(&'static str, Vec<u8>)>, TextError> {
    if target.is_some_and(|target| target.trim != source.trim) {
        let reason = "only one of its sides trims white space (text.trim)".to_owned();
        return Err(TextError::NoSentencePiece { reason });
    }
    let model = |learned: &Learned| {
        let bytes = learned.to_bytes();
        bytes.map_err(|reason| TextError::NoSentencePiece { reason })
    };
    let vocabulary = |learned: &Learned| {
        let entries = learned.pieces.iter().cloned().zip((0u32..).map(Value::from));
        pretty(&entries.collect::<Map<_, _>>().into())
    };
    let config = config(target.is_some(), source.trim);
    let source_model = model(source)?;
    let target_model = target.map_or_else(|| Ok(source_model.clone()), model)?;
    let mut contents = vec![
        (SOURCE, source_model),
        (TARGET, target_model),
        (VOCABULARY, vocabulary(source)),
        (CONFIG, pretty(&config)),
    ];
    contents.extend(target.map(|target| (TARGET_VOCABULARY, vocabulary(target))));
    Ok(contents)
}

impl Files {
    /// The tokenizers of both sides. Messages say that the files lie in `directory`.
    fn tokenizers(self: &Arc<Self>, directory: &Path) -> Result<Tokenizers, TextError> {
        let read = |bytes| {
            serde_json::from_slice(bytes).map_err(|error| TextError::Vocabulary {
                path: directory.join(CONFIG),
                reason: files::reason_of_json(bytes, &error),
            })
        };
        let config: Option<Value> = self.get(CONFIG).map(read).transpose()?;
        let is_set = |key: &str| config.as_ref().map(|config| config[key].as_bool().unwrap_or(false));
        let is_separate = is_set("separate_vocabs").unwrap_or_else(|| self.get(TARGET_VOCABULARY).is_some());
        let trim = is_set(TRIM).unwrap_or(false);
        let target_vocabulary = if is_separate { TARGET_VOCABULARY } else { VOCABULARY };
        let one = !is_separate && self.get(SOURCE) == self.get(TARGET);
        let source = self.side(directory, [SOURCE, VOCABULARY], trim)?;
        Ok(if one {
            Tokenizers::shared(source)
        } else {
            Tokenizers::separate(source, self.side(directory, [TARGET, target_vocabulary], trim)?)
        })
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.contents.iter().find(|(other, _)| *other == name);
        found.map(|(_, bytes)| bytes.as_slice())
    }

    fn side(self: &Arc<Self>, directory: &Path, names: [&'static str; 2], trim: bool) -> Result<Tokenizer, TextError> {
        let [model, vocabulary] = names.map(|name| directory.join(name));
        let bytes = |name: &str, path: &PathBuf| {
            self.get(name).ok_or_else(|| TextError::Read {
                path: path.clone(),
                source: std::io::ErrorKind::NotFound.into(),
            })
        };
        let processor = Processor::new(bytes(names[0], &model)?)
            .map_err(|reason| TextError::SentencePiece { path: model, reason })?;
        let mut read = Vocabulary::read(bytes(names[1], &vocabulary)?).map_err(|reason| TextError::Vocabulary {
            path: vocabulary,
            reason,
        })?;
        let side = Side {
            files: self.clone(),
            names,
            processor,
            ids: std::mem::take(&mut read.ids),
            unknown: read.unknown,
            trim,
        };
        Ok(Tokenizer::of_marian_tokenizer(side, read))
    }
}

impl Vocabulary {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let ids: HashMap<String, u32> =
            serde_json::from_slice(bytes).map_err(|error| files::reason_of_json(bytes, &error))?;
        let pieces = imported::by_id(ids.iter().map(|(piece, id)| (piece.clone(), *id)))?;
        let find = |name: &str| ids.get(name).copied().ok_or_else(|| format!("it has no {name:?}"));
        let (end, unknown, padding) = (find(special::END)?, find(special::UNKNOWN)?, find(special::PADDING)?);
        if padding as usize + 1 != pieces.len() {
            return Err(format!(
                "{:?} has the id {padding}, but must have the last, {}",
                special::PADDING,
                pieces.len() - 1
            ));
        }
        Ok(Self {
            pieces,
            end,
            unknown,
            padding,
            ids,
        })
    }
}

impl Side {
    /// The ids that `MarianTokenizer` gives a line. It does not trim the ends of the line.
    pub(crate) fn encode_as_marian_tokenizer(&self, line: &str) -> Vec<u32> {
        let line = self.trimmed(line);
        let mut ids = Vec::new();
        let rest = match language_tag::split(line) {
            Some((tag, rest)) => {
                ids.push(self.ids.get(tag).copied().unwrap_or(self.unknown));
                rest
            }
            None => line,
        };
        self.encode_text(rest, ids)
    }

    /// Appends the ids of a text to `ids`.
    pub(crate) fn encode_text(&self, text: &str, mut ids: Vec<u32>) -> Vec<u32> {
        ids.reserve(text.len() / 3 + 2);
        self.processor.each_piece(self.trimmed(text), |piece| {
            ids.push(self.ids.get(piece).copied().unwrap_or(self.unknown))
        });
        ids
    }

    /// The line without white space at its ends, if this side removes it.
    pub(crate) fn trimmed<'a>(&self, line: &'a str) -> &'a str {
        if self.trim { trim::ends(line) } else { line }
    }

    /// The line that the pieces spell.
    pub(crate) fn join<'a>(&self, pieces: impl IntoIterator<Item = &'a str>) -> String {
        self.processor.join(pieces)
    }

    /// The id of a piece.
    pub(crate) fn id(&self, piece: &str) -> Option<u32> {
        self.ids.get(piece).copied()
    }

    /// The number of pieces in the model, and how many of them the vocabulary lacks.
    pub(crate) fn missing_pieces(&self) -> (usize, usize) {
        let missing = self.processor.pieces().filter(|piece| !self.ids.contains_key(*piece));
        (self.processor.pieces().count(), missing.count())
    }

    /// Everything that decides about the ids: the contents of the model and of the vocabulary, and whether white space
    /// other than spaces is trimmed.
    pub(crate) fn contents(&self) -> [&[u8]; 3] {
        let [model, vocabulary] = self.names.map(|name| self.files.get(name).unwrap_or_default());
        [model, vocabulary, if self.trim { TRIM.as_bytes() } else { &[] }]
    }

    /// Writes the files of both sides into a folder, as they were read.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(crate) fn save(&self, directory: &Path) -> Result<(), TextError> {
        for (name, contents) in &self.files.contents {
            files::write(&directory.join(name), contents)?;
        }
        Ok(())
    }
}

/// Writes the files of learned tokenizers.
///
/// # Errors
/// [`TextError::NoSentencePiece`], before anything is written, if SentencePiece cannot express a side; and if a file
/// cannot be written.
pub(crate) fn export(tokenizers: &Tokenizers, directory: &Path) -> Result<(), TextError> {
    let source = tokenizers.source.to_learned()?;
    let target = match tokenizers.is_shared() {
        true => None,
        false => Some(tokenizers.target.to_learned()?),
    };
    for (name, contents) in contents_of(&source, target.as_ref())? {
        files::write(&directory.join(name), &contents)?;
    }
    Ok(())
}

/// Writes the vocabularies as Marian itself has them.
///
/// # Errors
/// If a piece contains a line break or a file cannot be written.
pub(crate) fn save_yaml(tokenizers: &Tokenizers, directory: &Path) -> Result<(), TextError> {
    for (name, tokenizer) in [("source.yml", &tokenizers.source), ("target.yml", &tokenizers.target)] {
        let path = directory.join(name);
        let mut text = String::new();
        for id in 0..tokenizer.pad_id() {
            // An id without a piece has a row in the model, so it needs a line here.
            let piece = tokenizer
                .piece(id)
                .map_or_else(|| format!("<nothing{id}>"), str::to_owned);
            // CTranslate2 reads the file line by line, and reads a piece that begins with \x as the number of a
            // character.
            if piece.contains(['\n', '\r']) || piece.starts_with("\\x") {
                return Err(TextError::Unwritable { path, piece });
            }
            let escaped = piece.replace('\\', "\\\\").replace('"', "\\\"");
            text += &format!("\"{escaped}\": {id}\n");
        }
        files::write(&path, text.as_bytes())?;
    }
    Ok(())
}
