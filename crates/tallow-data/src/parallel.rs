//! Parallel text: two lists of lines where line N of one translates line N of the other.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use crate::config::{CorpusFiles, CorpusForm};
use crate::error::DataError;
use crate::lines::{FileRecord, LineReader, ReadReport, TextFile, is_blank, read_lines};
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
    /// The files that the text came from, with their hashes: one for a TSV, two otherwise.
    pub files: Vec<FileRecord>,
}

impl ParallelText {
    /// Reads the files of a corpus.
    ///
    /// # Errors
    /// An entry that is neither two files nor one TSV, every error of [`read_lines`], different line counts, a TSV line
    /// without exactly one tab, a corpus without a line, and every error of [`WordAlignments::open`].
    pub fn open(files: &CorpusFiles) -> Result<Self, DataError> {
        let mut text = match files.form().map_err(|found| DataError::CorpusForm { found })? {
            CorpusForm::TwoFiles { source, target } => {
                Self::from_two(read_lines(source)?, read_lines(target)?, files.weight)
            }
            CorpusForm::Tsv(path) => Self::from_tsv(path, files.weight),
        }?;
        if let Some(path) = &files.alignments {
            text.alignments = Some(WordAlignments::open(path, &text.source, &text.target)?);
        }
        Ok(text)
    }

    /// Passes the target lines of a corpus to `visit`, one after another, without keeping them. The source is not read.
    ///
    /// # Errors
    /// As for [`Self::open`], but that line counts are not compared.
    pub fn visit_targets(files: &CorpusFiles, mut visit: impl FnMut(&str)) -> Result<(), DataError> {
        let form = files.form().map_err(|found| DataError::CorpusForm { found })?;
        let (path, is_tsv) = match form {
            CorpusForm::TwoFiles { target, .. } => (target, false),
            CorpusForm::Tsv(path) => (path, true),
        };
        let file = File::open(path).map_err(|error| DataError::Open {
            path: path.to_owned(),
            error,
        })?;
        for line in LineReader::new(BufReader::with_capacity(1 << 16, file), path)? {
            let line = line?;
            visit(match is_tsv {
                true => line.split_once('\t').map_or("", |(_, target)| target),
                false => &line,
            });
        }
        Ok(())
    }

    fn from_two(source: TextFile, target: TextFile, weight: f64) -> Result<Self, DataError> {
        for side in [&source, &target] {
            if side.lines.is_empty() {
                return Err(DataError::EmptyFile {
                    path: side.record.path.clone(),
                });
            }
        }
        if source.report.lines != target.report.lines {
            let (shorter, longer) = if source.report.lines < target.report.lines {
                (source, target)
            } else {
                (target, source)
            };
            return Err(DataError::LineCounts {
                shorter: shorter.record.path,
                shorter_lines: shorter.report.lines,
                longer: longer.record.path,
                longer_lines: longer.report.lines,
            });
        }
        let mut report = source.report;
        report += target.report;
        report.lines = source.report.lines;
        let files = vec![source.record, target.record];
        Ok(Self::new(source.lines, target.lines, weight, report, files))
    }

    fn from_tsv(path: &Path, weight: f64) -> Result<Self, DataError> {
        let file = File::open(path).map_err(|error| DataError::Open {
            path: path.to_owned(),
            error,
        })?;
        let mut reader = LineReader::new(BufReader::with_capacity(1 << 16, file), path)?;
        let (mut source, mut target) = (Vec::new(), Vec::new());
        for line in &mut reader {
            let line = line?;
            let mut columns = line.split('\t');
            match (columns.next(), columns.next(), columns.next()) {
                (Some(left), Some(right), None) => {
                    source.push(left.to_owned());
                    target.push(right.to_owned());
                }
                // An empty line is an empty pair, as it would be in two files.
                (Some(""), None, None) => {
                    source.push(String::new());
                    target.push(String::new());
                }
                _ => {
                    let line_number = source.len() as u64 + 1;
                    let columns = line.split('\t').count();
                    return Err(DataError::Columns {
                        path: path.to_owned(),
                        line: line_number,
                        columns,
                    });
                }
            }
        }
        if source.is_empty() {
            return Err(DataError::EmptyFile { path: path.to_owned() });
        }
        let (report, record) = reader.finish();
        Ok(Self::new(source, target, weight, report, vec![record]))
    }

    fn new(
        source: Vec<String>,
        target: Vec<String>,
        weight: f64,
        mut report: ReadReport,
        files: Vec<FileRecord>,
    ) -> Self {
        let pairs = source.iter().zip(&target);
        report.empty = pairs
            .filter(|(source, target)| is_blank(source) || is_blank(target))
            .count() as u64;
        Self {
            source,
            target,
            weight,
            alignments: None,
            report,
            files,
        }
    }

    /// The corpus's name in messages: its file, or its two files.
    pub fn name(&self) -> String {
        let names: Vec<String> = self.files.iter().map(|file| file.path.display().to_string()).collect();
        names.join(" and ")
    }
}
