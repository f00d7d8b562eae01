//! A learned vocabulary: the ids of its pieces and the model around it. The model is one of the `tokenizers` library,
//! or of SentencePiece if there are pieces that are never cut.

use rayon::ThreadPool;
use tokenizers::ModelWrapper;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordlevel::WordLevel;

use crate::alphabet::Alphabet;
use crate::config::TextConfig;
use crate::error::TextError;
use crate::kind::{Kind, Normalization};
use crate::pipeline::{BRACKET, Form};
use crate::sentencepiece::{Learned, ModelType};
use crate::symbols::{NUL, Symbols};
use crate::words::{CharacterCounts, Counter, Counts, MOST_WORDS, WordCounts, to_learn_from};
use crate::{bpe, special, unigram};

/// Number of pieces that are not learned: `</s>`, `<unk>`, `<pad>`, and the bytes.
pub(crate) fn fixed_pieces(has_bytes: bool) -> usize {
    3 + if has_bytes { 256 } else { 0 }
}

/// The result of learning from a text.
#[derive(Debug, PartialEq)]
pub(crate) struct Vocabulary {
    kind: Kind,
    normalization: Normalization,
    trim: bool,
    has_bytes: bool,
    /// Pieces that are never cut, in the order of their ids: first those that the config names, then the language tags
    /// found in the text.
    symbols: Vec<String>,
    /// The learned pieces in the order of their ids, with log-probabilities (zero unless `unigram`).
    pieces: Vec<(String, f64)>,
}

impl Vocabulary {
    /// Counts the words and tags in the lines of a text.
    ///
    /// # Errors
    /// If the config has faults, or a line could not be read.
    pub(crate) fn count<I, S>(config: &TextConfig, lines: I, pool: &ThreadPool) -> Result<Counts, TextError>
    where
        I: IntoIterator<Item = Result<S, TextError>>,
        S: AsRef<str>,
    {
        let faults = config.learning_faults();
        if !faults.is_empty() {
            return Err(TextError::Config(faults));
        }
        // Without this, the library would ask the environment whether to use threads. The pool in which it is called
        // decides which threads it uses.
        tokenizers::utils::parallelism::set_parallelism(true);

        let form = Form::new(config.kind, config.normalization, config.trim);
        let counter = Counter {
            form: &form.map_err(|error| TextError::Learn(error.to_string()))?,
            symbols: &Symbols::new(&config.symbols),
            finds_tags: config.can_have_symbols(),
            // A vocabulary of whole words needs all of its words.
            most_words: MOST_WORDS.max(4 * config.vocabulary),
        };
        counter.count(lines, pool)
    }

    /// Learns a vocabulary from the result of [`count`](Self::count).
    ///
    /// # Errors
    /// If there is no word, or the characters, symbols and tags alone need more pieces than `config.vocabulary`.
    pub(crate) fn learn(config: &TextConfig, counts: Counts, pool: &ThreadPool) -> Result<Self, TextError> {
        if counts.words.is_empty() {
            return Err(TextError::NoText);
        }
        let mut symbols = config.symbols.clone();
        symbols.extend(counts.tags.into_iter().filter(|tag| !config.symbols.contains(tag)));
        let pieces = match config.kind {
            Kind::Word => most_frequent(counts.words, config.vocabulary - fixed_pieces(config.has_bytes())),
            Kind::Bpe | Kind::Unigram | Kind::Char => {
                let mut forgotten = counts.forgotten;
                let words = to_learn_from(counts.words, &mut forgotten);
                learn_from_characters(config, &words, &forgotten, symbols.len(), pool)?
            }
        };
        Ok(Self {
            kind: config.kind,
            normalization: config.normalization,
            trim: config.trim,
            symbols,
            has_bytes: config.has_bytes(),
            pieces,
        })
    }

    /// Number of ids.
    pub(crate) fn size(&self) -> usize {
        self.pieces.len() + self.symbols.len() + fixed_pieces(self.has_bytes)
    }

    /// Whether the vocabulary has pieces that are never cut. Only SentencePiece supports such pieces.
    pub(crate) fn has_symbols(&self) -> bool {
        !self.symbols.is_empty()
    }

    /// The parts of a SentencePiece model of `size` ids, filled up as by [`assemble`](Self::assemble).
    pub(crate) fn for_sentencepiece(self, size: usize) -> Learned {
        let is_unigram = self.kind == Kind::Unigram;
        let (trim, has_bytes, symbols) = (self.trim, self.has_bytes, self.symbols.clone());
        let listed = self.listed(size);
        let scores = listed.iter().zip(0u32..).map(|((_, score), id)| match is_unigram {
            true => *score as f32,
            // The piece that was found first is merged first, so it has the higher score.
            false => -(id as f32),
        });
        Learned {
            model_type: if is_unigram { ModelType::Unigram } else { ModelType::Bpe },
            scores: scores.collect(),
            pieces: listed.into_iter().map(|(piece, _)| piece).collect(),
            symbols: symbols.into_iter().collect(),
            has_bytes,
            trim,
        }
    }

    /// The pieces in the order of their ids, with log-probabilities, filled up to `size`.
    fn listed(self, size: usize) -> Vec<(String, f64)> {
        let extras = size.saturating_sub(self.size());
        let mut listed: Vec<(String, f64)> = Vec::with_capacity(size);
        listed.push((special::END.to_owned(), 0.0));
        listed.push((special::UNKNOWN.to_owned(), 0.0));
        if self.has_bytes {
            listed.extend((0..=u8::MAX).map(|byte| (special::byte(byte), 0.0)));
        }
        listed.extend(self.symbols.into_iter().map(|symbol| (symbol, 0.0)));
        listed.extend(self.pieces);
        listed.extend((0..extras).map(|index| (special::extra(index), 0.0)));
        listed.push((special::PADDING.to_owned(), 0.0));
        listed
    }

    /// A tokenizer of `size` ids. If the vocabulary is smaller, `<extra...>` pieces are added before `<pad>`. The
    /// vocabulary must have no symbols.
    ///
    /// # Errors
    /// If the `tokenizers` library refuses the model.
    pub(crate) fn assemble(self, size: usize) -> tokenizers::Result<tokenizers::Tokenizer> {
        let form = Form::new(self.kind, self.normalization, self.trim)?;
        let learned: Vec<String> = self.pieces.iter().map(|(piece, _)| piece.clone()).collect();
        let (kind, has_bytes) = (self.kind, self.has_bytes);
        let listed = self.listed(size);
        let model: ModelWrapper = match kind {
            Kind::Unigram => Unigram::from(listed, Some(1), has_bytes)?.into(),
            Kind::Bpe | Kind::Char => {
                let merges = if kind == Kind::Bpe {
                    bpe::merges(&learned)
                } else {
                    Vec::new()
                };
                BPE::builder()
                    .vocab_and_merges(numbered(listed), merges)
                    .unk_token(special::UNKNOWN.to_owned())
                    .fuse_unk(true)
                    .byte_fallback(has_bytes)
                    .build()?
                    .into()
            }
            Kind::Word => WordLevel::builder()
                .vocab(numbered(listed))
                .unk_token(special::UNKNOWN.to_owned())
                .build()?
                .into(),
        };
        form.around(model)
    }
}

/// Numbers pieces in the order of the list.
fn numbered(pieces: Vec<(String, f64)>) -> Vocab {
    (0u32..).zip(pieces).map(|(id, (piece, _))| (piece, id)).collect()
}

fn learn_from_characters(
    config: &TextConfig,
    words: &WordCounts,
    forgotten: &CharacterCounts,
    symbols: usize,
    pool: &ThreadPool,
) -> Result<Vec<(String, f64)>, TextError> {
    // Every line is cut after `<`. If `<` could be unknown, a run of unknown characters would be one `<unk>` in
    // SentencePiece, which does not cut lines, but two here. As bytes, both give the same ids.
    let required: &[char] = if config.has_bytes() { &[] } else { &[BRACKET] };
    let alphabet = Alphabet::choose(words, forgotten, config.character_coverage, required);
    let fixed = fixed_pieces(config.has_bytes()) + symbols;
    let minimum = alphabet.len() + fixed;
    if minimum > config.vocabulary {
        return Err(TextError::VocabularyTooSmall {
            vocabulary: config.vocabulary,
            minimum,
            characters: alphabet.len(),
            symbols,
        });
    }
    let room = config.vocabulary - fixed;
    let unscored = |pieces: Vec<String>| pieces.into_iter().map(|piece| (piece, 0.0)).collect();
    Ok(match config.kind {
        Kind::Unigram => unigram::learn(&alphabet.stretches(words), &alphabet, room)?,
        Kind::Bpe => unscored(bpe::learn(&alphabet.stretches(words), &alphabet, room, pool)?),
        Kind::Char | Kind::Word => unscored(alphabet.characters().map(String::from).collect()),
    })
}

/// The `room` most frequent words, the most frequent first, equally frequent ones in code point order. Words with a NUL
/// are left out, because only a `tokenizer.json` can hold them.
fn most_frequent(words: WordCounts, room: usize) -> Vec<(String, f64)> {
    let writable = words.into_iter().filter(|(word, _)| !word.contains(NUL));
    let mut ranked: Vec<(String, u64)> = writable.collect();
    ranked.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.cmp(b)));
    ranked.truncate(room);
    ranked.into_iter().map(|(word, _)| (word, 0.0)).collect()
}
