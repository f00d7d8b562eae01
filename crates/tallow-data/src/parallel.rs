//! Parallel text: two lists of lines where line N of one translates line N of the other.

use crate::corpus_files::CorpusFiles;
use crate::error::DataError;
use crate::lines::{FileRecord, ReadReport};
use crate::pair_reader::PairReader;
use crate::word_alignments::WordAlignments;

/// One parallel corpus as text, in memory. Line numbers stay valid: no line is dropped here.
#[derive(Debug, Clone, PartialEq)]
pub struct ParallelText {
    /// The source sentences.
    pub source: Vec<String>,
    /// The target sentences, equally many.
    pub target: Vec<String>,
    /// How often a training epoch takes each pair; see [`CorpusFiles::weight`].
    pub weight: f64,
    /// The word alignments of the pairs, if there are any.
    pub alignments: Option<WordAlignments>,
    /// The counts of reading: `lines` and `empty` count pairs, the rest is summed over the files.
    pub report: ReadReport,
    /// The files that the text came from, with their hashes: one for a TSV, two otherwise; the same for every shard.
    pub files: Vec<FileRecord>,
}

impl ParallelText {
    /// Reads the files of a corpus.
    ///
    /// # Errors
    /// Every error of [`PairReader`]: among them an entry that is neither two files nor one TSV, different line counts,
    /// a TSV line without exactly one tab, a corpus without a line, and word alignments that do not fit.
    pub fn open(files: &CorpusFiles) -> Result<Self, DataError> {
        let mut reader = PairReader::open(files)?;
        let (mut source, mut target, mut links) = (Vec::new(), Vec::new(), Vec::new());
        for pair in &mut reader {
            let pair = pair?;
            source.push(pair.source);
            target.push(pair.target);
            if files.alignments.is_some() {
                links.push(pair.links);
            }
        }
        let (report, read, alignments) = reader.finish();
        Ok(Self {
            source,
            target,
            weight: files.weight,
            alignments: alignments.map(|file| WordAlignments::of_lines(links.into_iter(), file)),
            report,
            files: read,
        })
    }

    /// The corpus's name in messages: see [`name_of`].
    pub fn name(&self) -> String {
        name_of(&self.files)
    }
}

/// The name of a corpus in messages: its file, or its two files. Of many files, the first and the last are named.
pub fn name_of(files: &[FileRecord]) -> String {
    let name = |file: &FileRecord| file.path.display().to_string();
    match files {
        [first, .., last] if files.len() > 2 => format!("{} to {} ({} files)", name(first), name(last), files.len()),
        _ => files.iter().map(name).collect::<Vec<_>>().join(" and "),
    }
}
