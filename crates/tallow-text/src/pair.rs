//! The tokenizers of both sides.

use std::path::Path;

use crate::config::TextConfig;
use crate::error::TextError;
use crate::lines::Lines;
use crate::marian;
use crate::marian_tokenizer;
use crate::tokenizer::{Tokenizer, pool};
use crate::vocabulary::Vocabulary;

/// File name of a joint tokenizer.
const SHARED: &str = "tokenizer.json";
/// File name of the source side's own tokenizer.
const SOURCE: &str = "tokenizer.source.json";
/// File name of the target side's own tokenizer.
const TARGET: &str = "tokenizer.target.json";

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

    /// Learns a joint vocabulary from the lines of both sides, or, with `config.shared = false`, one from each side.
    ///
    /// Two vocabularies get the same size. If the text of one has too few pieces, `<extra0>`, `<extra1>` ... are added
    /// before its `<pad>`, so the special pieces have the same ids on both sides.
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
        // Both sides must have one type. This costs one extra copy of each line.
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
        let pool = pool(threads)?;
        let mut source = Vocabulary::count(config, source_lines, &pool)?;
        let target = Vocabulary::count(config, target_lines, &pool)?;
        if config.shared {
            source.add(target);
            return Self::of_one(Vocabulary::learn(config, source, &pool)?);
        }
        let source = Vocabulary::learn(config, source, &pool)?;
        let target = Vocabulary::learn(config, target, &pool)?;
        let size = source.size().max(target.size());
        if source.has_symbols() || target.has_symbols() {
            let [source, target] = [source, target].map(|side| side.for_sentencepiece(size));
            return marian_tokenizer::of_learned(&source, Some(&target));
        }
        Ok(Self::separate(
            Tokenizer::assemble(source, size)?,
            Tokenizer::assemble(target, size)?,
        ))
    }

    /// One tokenizer of a learned vocabulary, for both sides.
    pub(crate) fn of_one(vocabulary: Vocabulary) -> Result<Self, TextError> {
        let size = vocabulary.size();
        Ok(match vocabulary.has_symbols() {
            true => marian_tokenizer::of_learned(&vocabulary.for_sentencepiece(size), None)?,
            false => Self::shared(Tokenizer::assemble(vocabulary, size)?),
        })
    }

    /// The names of all files that a folder with tokenizers may have.
    pub fn file_names() -> impl Iterator<Item = &'static str> {
        [SHARED, SOURCE, TARGET].into_iter().chain(marian_tokenizer::FILES)
    }

    /// Whether files of these names suffice to [`open`](Self::open) a folder.
    pub fn are_in(has: &dyn Fn(&str) -> bool) -> bool {
        has(SHARED) || (has(SOURCE) && has(TARGET)) || marian_tokenizer::REQUIRED.iter().all(|name| has(name))
    }

    /// Opens a `tokenizer.json`, or a folder that has one of the following:
    ///
    /// - `tokenizer.json`;
    /// - `tokenizer.source.json` and `tokenizer.target.json`;
    /// - the files of Hugging Face's `MarianTokenizer`: `source.spm`, `target.spm`, `vocab.json`, and
    ///   `target_vocab.json` if the vocabularies are separate.
    ///
    /// # Errors
    /// As [`Tokenizer::open`]; if the folder has none of these, or a joint tokenizer beside separate ones; and if
    /// a SentencePiece model or a vocabulary is damaged or not supported.
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
            (false, false, false) if marian_tokenizer::is_in(path) => marian_tokenizer::open(path),
            (false, _, _) => Err(TextError::NoTokenizer {
                directory: path.to_owned(),
            }),
        }
    }

    /// Opens the vocabularies of the Marian toolkit. Each side has a `.spm`, or a `.yml` with SentencePiece models
    /// beside it (`source.spm` and `target.spm`), or a `.yml` alone, whose words stand between spaces. `rows` are the
    /// numbers of rows that the model has for the two vocabularies. `<pad>` is added after them.
    ///
    /// # Errors
    /// If a file is missing, damaged or not supported, or does not belong to such a model.
    pub fn open_marian(vocabularies: [&Path; 2], rows: [usize; 2]) -> Result<Self, TextError> {
        marian::open(vocabularies, rows)
    }

    /// Opens the files of Hugging Face's `MarianTokenizer`, whatever else the folder has.
    ///
    /// # Errors
    /// If a file is missing, damaged or not supported.
    pub fn open_marian_tokenizer(directory: &Path) -> Result<Self, TextError> {
        marian_tokenizer::open(directory)
    }

    /// Writes the tokenizers into an existing folder: `tokenizer.json`, or `tokenizer.source.json` and
    /// `tokenizer.target.json`, or the files of `MarianTokenizer` as they were read.
    ///
    /// # Errors
    /// If a file cannot be written, or the folder has tokenizer files of another form, which would contradict these.
    pub fn save(&self, directory: &Path) -> Result<(), TextError> {
        let side = self.source.marian_tokenizer();
        let (ours, others): (&[(&str, &Tokenizer)], &[&str]) = if side.is_some() {
            (&[], &[SHARED, SOURCE, TARGET])
        } else if self.is_shared() {
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
        side.map_or(Ok(()), |side| side.save(directory))
    }

    /// Writes the files that Hugging Face's `MarianTokenizer` opens: `source.spm`, `target.spm`, `vocab.json`, for
    /// separate vocabularies also `target_vocab.json`, and `tokenizer_config.json`.
    ///
    /// # Errors
    /// [`TextError::NoSentencePiece`], before anything is written, if SentencePiece cannot express a side; and if a
    /// file cannot be written.
    pub fn save_marian_tokenizer(&self, directory: &Path) -> Result<(), TextError> {
        match self.source.marian_tokenizer() {
            Some(side) => side.save(directory),
            None => marian_tokenizer::export(self, directory),
        }
    }

    /// Writes the vocabularies in Marian's form, `source.yml` and `target.yml`: each piece except `<pad>`, with its id.
    ///
    /// # Errors
    /// [`TextError::Unwritable`] if a piece contains a line break, and if a file cannot be written.
    pub fn save_yaml(&self, directory: &Path) -> Result<(), TextError> {
        marian_tokenizer::save_yaml(self, directory)
    }

    /// Whether both sides use one tokenizer.
    pub fn is_shared(&self) -> bool {
        self.source.is_same(&self.target)
    }

    /// Does the same as [`save`](Self::save), and also writes the files of `MarianTokenizer` if SentencePiece can
    /// express both sides.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_all(&self, directory: &Path) -> Result<(), TextError> {
        self.save(directory)?;
        if self.source.marian_tokenizer().is_some() {
            return Ok(());
        }
        match marian_tokenizer::export(self, directory) {
            // A tokenizer that SentencePiece cannot express still works in this program.
            Err(TextError::NoSentencePiece { .. }) => Ok(()),
            written => written,
        }
    }

    /// The reason why [`save_marian_tokenizer`](Self::save_marian_tokenizer) cannot write these tokenizers, if there is
    /// one.
    pub fn why_not_marian_tokenizer(&self) -> Option<TextError> {
        if self.source.marian_tokenizer().is_some() {
            return None;
        }
        let sides = [&self.source, &self.target];
        sides.into_iter().find_map(|side| side.to_sentencepiece().err())
    }

    /// The number of pieces in each side's SentencePiece model, and how many of them the side's vocabulary lacks. Only
    /// for the files of `MarianTokenizer`.
    pub fn missing_pieces(&self) -> Option<[(usize, usize); 2]> {
        let (source, target) = (self.source.marian_tokenizer()?, self.target.marian_tokenizer()?);
        Some([source.missing_pieces(), target.missing_pieces()])
    }

    /// Whether each id means the same piece on both sides, even if the two sides cut lines differently.
    pub fn is_shared_vocabulary(&self) -> bool {
        self.is_shared() || self.source.has_pieces_of(&self.target)
    }
}
