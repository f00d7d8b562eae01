//! The tokenizers of both sides.

use serde_json::{Map, Value, json};
use std::path::Path;

use crate::config::TextConfig;
use crate::error::TextError;
use crate::lines::Lines;
use crate::tokenizer::{Tokenizer, pool};
use crate::vocabulary::Vocabulary;

/// File name of a joint tokenizer.
const SHARED: &str = "tokenizer.json";
/// File name of the source side's own tokenizer.
const SOURCE: &str = "tokenizer.source.json";
/// File name of the target side's own tokenizer.
const TARGET: &str = "tokenizer.target.json";

/// The files of Hugging Face's `MarianTokenizer`.
const MARIAN_SOURCE: &str = "source.spm";
const MARIAN_TARGET: &str = "target.spm";
const MARIAN_VOCABULARY: &str = "vocab.json";
const MARIAN_TARGET_VOCABULARY: &str = "target_vocab.json";
const MARIAN_CONFIG: &str = "tokenizer_config.json";
/// Tokens that the tokenizer lets a sentence have, as in OPUS-MT's models.
const MARIAN_LENGTH: usize = 512;

/// One tokenizer per side, or one for both.
#[derive(Clone, Debug)]
pub struct Tokenizers {
    /// For the source side.
    pub source: Tokenizer,
    /// For the target side; with a joint vocabulary the same as `source`.
    pub target: Tokenizer,
}

impl Tokenizers {
    /// One tokenizer for both sides.
    pub fn shared(tokenizer: Tokenizer) -> Self {
        Self {
            source: tokenizer.clone(),
            target: tokenizer,
        }
    }

    /// One tokenizer per side.
    pub fn separate(source: Tokenizer, target: Tokenizer) -> Self {
        Self { source, target }
    }

    /// Learns a joint vocabulary from the lines of both sides, or with `config.shared = false` one from each.
    ///
    /// Two vocabularies get one size: the smaller one, if its text had too few pieces, is filled up with
    /// `<extra0>`, `<extra1>` ... before `<pad>`, so that the special pieces have the same ids on both sides.
    ///
    /// # Errors
    /// As [`Tokenizer::learn`].
    pub fn learn<I, J, S, T>(
        config: &TextConfig,
        source_lines: I,
        target_lines: J,
        threads: usize,
    ) -> Result<Self, TextError>
    where
        I: IntoIterator<Item = S>,
        J: IntoIterator<Item = T>,
        S: AsRef<str>,
        T: AsRef<str>,
    {
        // One type for both sides; a line is copied once more than need be.
        let source_lines = source_lines.into_iter().map(|line| Ok(line.as_ref().to_owned()));
        let target_lines = target_lines.into_iter().map(|line| Ok(line.as_ref().to_owned()));
        Self::learn_from(config, source_lines, target_lines, threads)
    }

    /// [`learn`](Self::learn) from text files.
    ///
    /// # Errors
    /// As [`Tokenizer::learn_from_files`].
    pub fn learn_from_files<P: AsRef<Path>>(
        config: &TextConfig,
        source_files: &[P],
        target_files: &[P],
        threads: usize,
    ) -> Result<Self, TextError> {
        let lines = |files: &[P]| Lines::new(files.iter().map(AsRef::as_ref));
        Self::learn_from(config, lines(source_files), lines(target_files), threads)
    }

    fn learn_from<I, J>(
        config: &TextConfig,
        source_lines: I,
        target_lines: J,
        threads: usize,
    ) -> Result<Self, TextError>
    where
        I: IntoIterator<Item = Result<String, TextError>>,
        J: IntoIterator<Item = Result<String, TextError>>,
    {
        if config.shared {
            let lines = source_lines.into_iter().chain(target_lines);
            return Ok(Self::shared(Tokenizer::learn_from(config, lines, threads)?));
        }
        let pool = pool(threads)?;
        let source = Vocabulary::learn(config, source_lines, &pool)?;
        let target = Vocabulary::learn(config, target_lines, &pool)?;
        let size = source.size().max(target.size());
        Ok(Self::separate(
            Tokenizer::assemble(source, size)?,
            Tokenizer::assemble(target, size)?,
        ))
    }

    /// Opens a `tokenizer.json`, or a folder that holds `tokenizer.json`, or one that holds
    /// `tokenizer.source.json` and `tokenizer.target.json`.
    ///
    /// # Errors
    /// As [`Tokenizer::open`]; and if the folder has none of these, or a joint tokenizer beside separate ones.
    pub fn open(path: &Path) -> Result<Self, TextError> {
        if !path.is_dir() {
            return Ok(Self::shared(Tokenizer::open(path)?));
        }
        let has = |name: &str| path.join(name).exists();
        match (has(SHARED), has(SOURCE), has(TARGET)) {
            (true, false, false) => Ok(Self::shared(Tokenizer::open(&path.join(SHARED))?)),
            (false, true, true) => Ok(Self::separate(
                Tokenizer::open(&path.join(SOURCE))?,
                Tokenizer::open(&path.join(TARGET))?,
            )),
            (true, _, _) => Err(TextError::AmbiguousTokenizer {
                directory: path.to_owned(),
            }),
            (false, _, _) => Err(TextError::NoTokenizer {
                directory: path.to_owned(),
            }),
        }
    }

    /// Writes `tokenizer.json`, or `tokenizer.source.json` and `tokenizer.target.json`, into a folder that
    /// exists.
    ///
    /// # Errors
    /// If a file cannot be written, or the folder holds files of the other sort, which would contradict these.
    pub fn save(&self, directory: &Path) -> Result<(), TextError> {
        let (ours, others): (&[(&str, &Tokenizer)], &[&str]) = if self.is_shared() {
            (&[(SHARED, &self.source)], &[SOURCE, TARGET])
        } else {
            (&[(SOURCE, &self.source), (TARGET, &self.target)], &[SHARED])
        };
        if others.iter().any(|name| directory.join(name).exists()) {
            return Err(TextError::AmbiguousTokenizer {
                directory: directory.to_owned(),
            });
        }
        for (name, tokenizer) in ours {
            tokenizer.save(&directory.join(name))?;
        }
        Ok(())
    }

    /// Writes what Hugging Face's `MarianTokenizer` opens: `source.spm`, `target.spm`, `vocab.json`, with separate
    /// vocabularies `target_vocab.json`, and `tokenizer_config.json`.
    ///
    /// # Errors
    /// [`TextError::NoSentencePiece`], before anything is written, if SentencePiece cannot express a side; and if a file
    /// cannot be written.
    pub fn save_marian(&self, directory: &Path) -> Result<(), TextError> {
        let vocabulary = |tokenizer: &Tokenizer| -> Value {
            let entry = |id: u32| Some((tokenizer.piece(id)?.to_owned(), Value::from(id)));
            (0..=tokenizer.pad_id()).filter_map(entry).collect::<Map<_, _>>().into()
        };
        let pretty = |value: &Value| format!("{value:#}\n").into_bytes();
        let separate = !self.is_shared();
        let piece = |id: u32| self.source.piece(id).map_or(Value::Null, Value::from);
        let config = json!({
            "tokenizer_class": "MarianTokenizer",
            "separate_vocabs": separate,
            "model_max_length": MARIAN_LENGTH,
            "eos_token": piece(self.source.eos_id()),
            "unk_token": piece(self.source.unk_id()),
            "pad_token": piece(self.source.pad_id()),
        });
        let mut files = vec![
            (MARIAN_SOURCE, self.source.to_sentencepiece()?),
            (MARIAN_TARGET, self.target.to_sentencepiece()?),
            (MARIAN_VOCABULARY, pretty(&vocabulary(&self.source))),
            (MARIAN_CONFIG, pretty(&config)),
        ];
        if separate {
            files.push((MARIAN_TARGET_VOCABULARY, pretty(&vocabulary(&self.target))));
        }
        for (name, contents) in files {
            let path = directory.join(name);
            std::fs::write(&path, contents).map_err(|source| TextError::Write { path, source })?;
        }
        Ok(())
    }

    /// Whether both sides use one tokenizer.
    pub fn is_shared(&self) -> bool {
        self.source.is_same(&self.target)
    }
}
