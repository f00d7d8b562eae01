//! All errors between a file and a batch.

use std::io;
use std::path::PathBuf;

use crate::count::counted;
use crate::file_signature::Format;
use crate::lines::Compression;
use crate::pool::WorkerLost;

/// An error of the caller's encoder, of any type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The errors of this crate. A message names the file and the line (counted from 1) if there is one, and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file cannot be opened.
    #[error("{}: cannot open: {error}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },

    /// A file is not text.
    #[error("{}: {format}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The format that it has instead.
        format: Format,
    },

    /// A file ends too early, or its compressed data is damaged.
    #[error("{}: line {line}: cannot read on: {error}{}", path.display(), hint(*compression, error))]
    Read {
        /// The file.
        path: PathBuf,
        /// The line being read.
        line: u64,
        /// The compression of the file.
        compression: Option<Compression>,
        /// The reason of the system or of the decompressor.
        error: io::Error,
    },

    /// A file or a directory cannot be written.
    #[error("{}: cannot write: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },

    /// A line is not UTF-8.
    #[error("{}: line {line}: not UTF-8 at byte {byte} of the line{hint}", path.display())]
    InvalidUtf8 {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The first bad byte of the line, counted from 1.
        byte: usize,
        /// The encoding that the file seems to have, and how to convert it.
        hint: &'static str,
    },

    /// A line is longer than any text.
    #[error("{}: line {line}: longer than {} MiB; is this a text file with one sentence a line?", path.display(), limit >> 20)]
    LongLine {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The longest line that is read, in bytes.
        limit: u64,
    },

    /// The two sides of a parallel corpus differ in length.
    #[error(
        "{}: line {} is missing: this file has {}, {} has {longer_lines}; \
         line N of both must be translations of each other",
        shorter.display(),
        shorter_lines + 1,
        counted(*shorter_lines, "line"),
        longer.display()
    )]
    LineCounts {
        /// The file with fewer lines.
        shorter: PathBuf,
        /// Its number of lines.
        shorter_lines: u64,
        /// The file with more lines.
        longer: PathBuf,
        /// Its number of lines.
        longer_lines: u64,
    },

    /// A line of a TSV file does not have two columns.
    #[error(
        "{}: line {line}: {} where a source, one tab and a target are expected{}",
        path.display(),
        counted(*columns as u64, "column"),
        if *columns > 2 { "; `cut -f1,2` keeps the first two" } else { "" }
    )]
    Columns {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The number of columns found.
        columns: usize,
    },

    /// A PO file has a line that such files do not have.
    #[error("{}: line {line}: {reason}; `msgfmt -c` checks such files", path.display())]
    Catalog {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The fault.
        reason: String,
    },

    /// A TMX file is no well-formed XML.
    #[error("{}: byte {byte}: {reason}; `xmllint` checks such files", path.display())]
    Xml {
        /// The file.
        path: PathBuf,
        /// The place, counted from 0.
        byte: u64,
        /// The fault.
        reason: String,
    },

    /// A translation memory or a PO file has no pair.
    #[error("{}: no entry has {}", path.display(), match languages {
        Some([source, target]) => format!("both languages, {source} and {target}; `languages` names others"),
        None => "a translation".to_owned(),
    })]
    NoTranslation {
        /// The file.
        path: PathBuf,
        /// The languages of a translation memory.
        languages: Option<[String; 2]>,
    },

    /// A file of word alignments has another number of lines than its corpus has pairs.
    #[error(
        "{}: {} of alignments for {}; line N belongs to the Nth pair of its corpus",
        path.display(),
        counted(*lines, "line"),
        counted(*pairs, "pair")
    )]
    AlignmentCount {
        /// The file.
        path: PathBuf,
        /// Its number of lines.
        lines: u64,
        /// The number of pairs.
        pairs: u64,
    },

    /// A file of word alignments ends before its corpus.
    #[error(
        "{}: line {} is missing: this file has {} of alignments, and its corpus has more pairs; line N belongs to the \
         Nth pair of its corpus",
        path.display(),
        lines + 1,
        counted(*lines, "line")
    )]
    AlignmentEnds {
        /// The file.
        path: PathBuf,
        /// Its number of lines.
        lines: u64,
    },

    /// A pattern that stands for no file.
    #[error("{}: {reason}", pattern.display())]
    Pattern {
        /// The pattern.
        pattern: PathBuf,
        /// The fault.
        reason: String,
    },

    /// Patterns for both sides of a corpus that different numbers of files have.
    #[error(
        "{} is the name of {}, and {} of {}; the Nth of both must be translations of each other",
        source_name.display(),
        counted(*sources as u64, "file"),
        target_name.display(),
        counted(*targets as u64, "file")
    )]
    ShardCounts {
        /// The pattern of the source side.
        source_name: PathBuf,
        /// Its number of files.
        sources: usize,
        /// The pattern of the target side.
        target_name: PathBuf,
        /// Its number of files.
        targets: usize,
    },

    /// A link of a word alignment has another form, or a word that is not there.
    #[error(
        "{}: line {line}: {link:?} links no words of this pair, which has {} and {}; expected is SOURCE-TARGET, such as \
         0-1, with words counted from 0 between white space",
        path.display(),
        counted(u64::from(*source_words), "source word"),
        counted(u64::from(*target_words), "target word")
    )]
    Link {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The link as it is written.
        link: String,
        /// The number of words of the source line.
        source_words: u32,
        /// The number of words of the target line.
        target_words: u32,
    },

    /// A corpus has no line.
    #[error("{}: line 1 is missing: the file is empty", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },

    /// A corpus entry names no files, or too many.
    #[error("a corpus needs `source` and `target`, or one of `tsv`, `tmx` and `po`, and this one has {found}")]
    CorpusForm {
        /// The keys that were given.
        found: String,
    },

    /// A corpus weight is not a positive number.
    #[error(
        "{name}: weight {weight}: a weight must be a number above 0 and at most {}",
        crate::config::MAX_WEIGHT
    )]
    Weight {
        /// The corpus.
        name: String,
        /// The weight.
        weight: f64,
    },

    /// No corpus was given at all.
    #[error("no corpus was given: data.train is empty")]
    NoCorpus,

    /// The filters left no pair of any corpus.
    #[error("no pair is left of {read}: {report}; loosen data.max_length or data.max_length_ratio, or check the files")]
    AllDropped {
        /// The number of pairs before the filters.
        read: u64,
        /// The pairs that were dropped, by reason.
        report: String,
    },

    /// The caller's encoder failed.
    #[error("{file}: lines {first} to {last}: cannot encode: {error}")]
    Encode {
        /// The file that the text came from.
        file: String,
        /// The first line of the group that failed.
        first: u64,
        /// The last line of the group that failed.
        last: u64,
        /// The encoder's reason.
        error: BoxError,
    },

    /// The caller's encoder returned a different number of sequences than it got lines.
    #[error("{file}: lines {first} to {last}: the encoder returned {} for {}", counted(*got as u64, "sequence"), counted(*expected as u64, "line"))]
    EncodedCount {
        /// The file that the text came from.
        file: String,
        /// The first line of the group.
        first: u64,
        /// The last line of the group.
        last: u64,
        /// The number of lines given.
        expected: usize,
        /// The number of sequences returned.
        got: usize,
    },

    /// A cursor is beyond the end of its window.
    #[error(
        "the data position to resume from is batch {batch} of window {window} of epoch {epoch}, which has only {batches}: \
         the corpus, the seed, a key of [data] or the machine has changed since the checkpoint was written"
    )]
    Cursor {
        /// The epoch, counted from 0.
        epoch: u64,
        /// The window asked for, counted from 0.
        window: u64,
        /// The batch asked for, counted from 0.
        batch: u64,
        /// The number of batches of that window.
        batches: usize,
    },

    /// A cursor of a version that gave this corpus another order.
    #[error(
        "this run was begun by a version of Tallow that gave corpora of more than data.pool_pairs or 2^20 pairs another \
         order: \
         finish it with that version, or begin a new run from its best model with `init`"
    )]
    EarlierOrder,

    /// A thread that prepares batches could not be started.
    #[error("cannot start a thread that prepares batches: {0}")]
    Thread(io::Error),

    /// A thread that prepares batches panicked: an error in this crate.
    #[error("the threads that prepare batches broke down: {0}")]
    Broken(String),

    /// A file of a prepared corpus cannot be used.
    #[error("{}: {reason}; remove the file, and the corpus is prepared anew", path.display())]
    Prepared {
        /// The file.
        path: PathBuf,
        /// The fault.
        reason: String,
    },

    /// The text changed while it was prepared.
    #[error("{name}: the text changed while it was read: prepare it again when nothing writes to it any more")]
    Changed {
        /// The corpus.
        name: String,
    },

    /// The options of a toy corpus cannot be met.
    #[error("toy {toy}: {reason}")]
    Toy {
        /// The toy's name.
        toy: &'static str,
        /// The fault, and the values that would be right.
        reason: String,
    },

    /// A toy would replace a file that has other content.
    #[error("{}: exists with other content; remove it or choose another directory", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

/// What an encoder gave for so many items, if it gave something for each. `place` is the text's file, and the first and
/// the last line of the items.
pub(crate) fn must_be_encoded<T, E: Into<BoxError>>(
    encoded: Result<Vec<T>, E>,
    expected: usize,
    place: impl Fn() -> (String, u64, u64),
) -> Result<Vec<T>, DataError> {
    let (file, first, last) = match &encoded {
        Ok(items) if items.len() == expected => Default::default(),
        _ => place(),
    };
    match encoded {
        Err(error) => Err(DataError::Encode {
            file,
            first,
            last,
            error: error.into(),
        }),
        Ok(items) if items.len() != expected => Err(DataError::EncodedCount {
            file,
            first,
            last,
            expected,
            got: items.len(),
        }),
        Ok(items) => Ok(items),
    }
}

impl From<WorkerLost> for DataError {
    fn from(_: WorkerLost) -> Self {
        Self::Broken("a worker stopped".into())
    }
}

/// The advice for a file that ends too early.
fn hint(compression: Option<Compression>, error: &io::Error) -> String {
    if let Some(compression) = compression {
        format!("; the {compression} data is damaged or incomplete: fetch or compress the file again")
    } else if error.kind() == io::ErrorKind::IsADirectory {
        "; name a file in it".into()
    } else {
        String::new()
    }
}
