//! The errors of tokenizers.

use std::io;
use std::path::PathBuf;

/// The errors of this crate. Messages name the file, key or piece, and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The configuration has faults; each names its key.
    #[error("{}", .0.join("\n"))]
    Config(Vec<String>),

    /// A file could not be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },

    /// A file could not be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },

    /// A line of a text file is not UTF-8.
    #[error("{}, line {line}: not valid UTF-8; convert the file to UTF-8 first", .path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
    },

    /// A folder has no tokenizer.
    #[error(
        "{} holds neither tokenizer.json, nor tokenizer.source.json and tokenizer.target.json, nor source.spm, \
         target.spm and vocab.json", .directory.display()
    )]
    NoTokenizer {
        /// The folder.
        directory: PathBuf,
    },

    /// A folder has tokenizers that contradict each other.
    #[error(
        "{} holds files of several tokenizers: tokenizer.json, or tokenizer.source.json and tokenizer.target.json, or \
         source.spm, target.spm and vocab.json alone; keep the ones that are meant", .directory.display()
    )]
    AmbiguousTokenizer {
        /// The folder.
        directory: PathBuf,
    },

    /// A `tokenizer.json` is not valid, or contradicts itself.
    #[error("{origin} is not a usable tokenizer.json: {reason}")]
    Malformed {
        /// The file, or a word for the source of the text.
        origin: String,
        /// The fault.
        reason: String,
    },

    /// A file is not a SentencePiece model, or is one of a kind that is not supported.
    #[error("{} is not a SentencePiece model that can be used: {reason}", .path.display())]
    SentencePiece {
        /// The file.
        path: PathBuf,
        /// The fault.
        reason: String,
    },

    /// A file is not a list of pieces and their ids, or contradicts itself.
    #[error("{} is not a vocabulary that can be used: {reason}", .path.display())]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// The fault.
        reason: String,
    },

    /// A piece cannot be written to a file.
    #[error(
        "cannot write {}: the piece {piece:?} has a line break or begins with \\x, which its readers do not understand",
        .path.display()
    )]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The piece.
        piece: String,
    },

    /// A tokenizer has no `tokenizer.json`.
    #[error(
        "this tokenizer consists of a SentencePiece model and a vocabulary; a folder can hold it, a tokenizer.json cannot"
    )]
    NoJson,

    /// A tokenizer has no piece that ends a sentence.
    #[error("{origin} has no piece for the end of a sentence; looked for {}", .looked_for.join(", "))]
    NoEnd {
        /// The file, or a word for the source of the text.
        origin: String,
        /// The names that were tried.
        looked_for: Vec<&'static str>,
    },

    /// No SentencePiece model gives the same ids as a tokenizer.
    #[error("no SentencePiece model gives the ids of this tokenizer: {reason}")]
    NoSentencePiece {
        /// The reason.
        reason: String,
    },

    /// Sentences cannot be cut at random in the way that the config asks for.
    #[error(
        "{key}: needs a vocabulary of the kind {wanted} whose pieces show where words begin or end, which this tokenizer does not \
         have; remove the key"
    )]
    NoSampling {
        /// The key.
        key: &'static str,
        /// The kind that the key needs.
        wanted: &'static str,
    },

    /// There is no text to learn from.
    #[error("nothing to learn a vocabulary from: the text has no line that is not empty")]
    NoText,

    /// The characters alone need more pieces than the vocabulary may have.
    #[error(
        "text.vocabulary: {vocabulary} pieces are too few: {characters} characters{} and the special pieces need \
         {minimum}; raise it, or lower text.character_coverage",
        of_symbols(*symbols)
    )]
    VocabularyTooSmall {
        /// The size that the config asks for.
        vocabulary: usize,
        /// The smallest size that would suffice.
        minimum: usize,
        /// Number of characters that need a piece, `▁` included.
        characters: usize,
        /// Number of symbols and language tags that need a piece.
        symbols: usize,
    },

    /// Learning failed.
    #[error("cannot learn the vocabulary: {0}")]
    Learn(String),

    /// A line could not be encoded.
    #[error("cannot encode {excerpt:?}: {reason}")]
    Encode {
        /// The start of the line.
        excerpt: String,
        /// The reason.
        reason: String,
    },

    /// Ids could not be decoded.
    #[error("cannot decode: {0}")]
    Decode(String),

    /// An id is outside the vocabulary.
    #[error("cannot decode: there is no piece with the id {id}; the vocabulary has {size} ids")]
    UnknownId {
        /// The id.
        id: u32,
        /// The size of the vocabulary.
        size: usize,
    },

    /// Threads could not be started.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// Number of threads.
        threads: usize,
        /// The reason.
        reason: String,
    },
}

/// The words about symbols and tags in the list of everything that needs a piece.
fn of_symbols(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!(", {count} symbols and language tags (what lines begin with, such as >>deu<<)"),
    }
}
