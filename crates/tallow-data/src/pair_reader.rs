//! Parallel text, pair by pair, for corpora that need not fit into memory.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::vec;

use crate::corpus_files::{CorpusFiles, CorpusForm};
use crate::error::DataError;
use crate::lines::{FileRecord, LineReader, ReadReport, is_blank, open_lines};
use crate::po::PoReader;
use crate::shards::expand;
use crate::tmx::TmxReader;
use crate::word_alignments::Link;

type Lines = LineReader<BufReader<File>>;

/// A pair of lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairOfLines {
    /// The source line.
    pub source: String,
    /// The target line.
    pub target: String,
    /// The links between their words, if the corpus has word alignments.
    pub links: Vec<Link>,
}

/// A side of parallel text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The side to translate from.
    Source,
    /// The side to translate into.
    Target,
}

/// The files of one piece of a corpus.
enum Shard {
    TwoFiles(PathBuf, PathBuf),
    Tsv(PathBuf),
    Tmx(PathBuf, Option<[String; 2]>),
    Po(PathBuf),
}

/// The open files of a piece.
enum Open {
    TwoFiles(Box<[Lines; 2]>),
    Tsv(Box<Lines>),
    Tmx(Box<TmxReader>),
    Po(Box<PoReader>),
}

/// Yields the pairs of a corpus one after another. No line is dropped here, so line numbers stay valid. The iterator
/// ends after the first error.
pub struct PairReader {
    shards: vec::IntoIter<Shard>,
    open: Option<Open>,
    alignments: Option<AlignmentReader>,
    prefixes: [Option<String>; 2],
    /// The number of pairs of the open piece.
    pairs_of_open: u64,
    /// A file without a line.
    empty: Option<PathBuf>,
    report: ReadReport,
    files: Vec<FileRecord>,
    finished: bool,
}

impl PairReader {
    /// Opens the files of a corpus. Names with `*`, `?` or `[...]` stand for several files, in the order of their
    /// names.
    ///
    /// # Errors
    /// An entry that is neither two files nor one TSV, a pattern that no file has, patterns of both sides that
    /// different numbers of files have, and a file that cannot be opened.
    pub fn open(files: &CorpusFiles) -> Result<Self, DataError> {
        let shards = match files.form().map_err(|found| DataError::CorpusForm { found })? {
            CorpusForm::TwoFiles { source, target } => {
                let (sources, targets) = (expand(source)?, expand(target)?);
                if sources.len() != targets.len() {
                    return Err(DataError::ShardCounts {
                        source_name: source.to_owned(),
                        sources: sources.len(),
                        target_name: target.to_owned(),
                        targets: targets.len(),
                    });
                }
                let pairs = sources.into_iter().zip(targets);
                pairs.map(|(source, target)| Shard::TwoFiles(source, target)).collect()
            }
            CorpusForm::Tsv(path) => expand(path)?.into_iter().map(Shard::Tsv).collect::<Vec<_>>(),
            CorpusForm::Tmx(path) => {
                let shard = |path| Shard::Tmx(path, files.languages.clone());
                expand(path)?.into_iter().map(shard).collect()
            }
            CorpusForm::Po(path) => expand(path)?.into_iter().map(Shard::Po).collect(),
        };
        let mut reader = Self {
            shards: shards.into_iter(),
            open: None,
            alignments: files.alignments.as_deref().map(AlignmentReader::open).transpose()?,
            prefixes: [files.source_prefix.clone(), files.target_prefix.clone()],
            pairs_of_open: 0,
            empty: None,
            report: ReadReport::default(),
            files: Vec::new(),
            finished: false,
        };
        reader.open_next()?;
        Ok(reader)
    }

    /// The counts of reading, and the files that were read with their hashes: those of the text, and that of the word
    /// alignments. Both are complete when the iterator has ended.
    pub fn finish(self) -> (ReadReport, Vec<FileRecord>, Option<FileRecord>) {
        let alignments = self.alignments.map(|alignments| alignments.lines.finish().1);
        (self.report, self.files, alignments)
    }

    /// The hashes of everything read so far, file by file, of a translation memory that is open its place alone. The
    /// same number of pairs of the same text gives the same.
    pub(crate) fn hashes_so_far(&self) -> Vec<String> {
        let mut hashes: Vec<String> = self.files.iter().map(|file| file.sha256.clone()).collect();
        match &self.open {
            None => {}
            Some(Open::TwoFiles(sides)) => hashes.extend(sides.iter().map(LineReader::hash_so_far)),
            Some(Open::Tsv(lines)) => hashes.push(lines.hash_so_far()),
            Some(Open::Po(entries)) => hashes.push(entries.hash_so_far()),
            Some(Open::Tmx(units)) => hashes.push(units.position().to_string()),
        }
        hashes.extend(self.alignments.iter().map(|alignments| alignments.lines.hash_so_far()));
        hashes
    }

    fn open_next(&mut self) -> Result<(), DataError> {
        self.pairs_of_open = 0;
        self.open = match self.shards.next() {
            None => None,
            Some(Shard::TwoFiles(source, target)) => {
                Some(Open::TwoFiles(Box::new([open_lines(&source)?, open_lines(&target)?])))
            }
            Some(Shard::Tsv(path)) => Some(Open::Tsv(Box::new(open_lines(&path)?))),
            Some(Shard::Tmx(path, languages)) => Some(Open::Tmx(Box::new(TmxReader::open(&path, languages)?))),
            Some(Shard::Po(path)) => Some(Open::Po(Box::new(PoReader::new(open_lines(&path)?)))),
        };
        Ok(())
    }

    fn next_pair(&mut self) -> Result<Option<PairOfLines>, DataError> {
        while let Some(open) = &mut self.open {
            let pair = match open {
                Open::TwoFiles(sides) => next_of_both(sides)?,
                Open::Tsv(lines) => next_of_columns(lines)?,
                Open::Tmx(units) => units.next_pair()?,
                Open::Po(entries) => entries.next_pair()?,
            };
            let Some((mut source, mut target)) = pair else {
                self.close()?;
                continue;
            };
            self.pairs_of_open += 1;
            self.report.lines += 1;
            self.report.empty += u64::from(is_blank(&source) || is_blank(&target));
            let mut links = match &mut self.alignments {
                Some(alignments) => alignments.next(&source, &target, self.report.lines)?,
                None => Vec::new(),
            };
            let words = [&mut source, &mut target]
                .into_iter()
                .zip(&self.prefixes)
                .map(|(line, prefix)| put_before(prefix.as_deref(), line));
            if let [source, target] = words.collect::<Vec<u32>>()[..] {
                for link in &mut links {
                    link.source += source;
                    link.target += target;
                }
            }
            return Ok(Some(PairOfLines { source, target, links }));
        }
        if let Some(path) = self.empty.take().filter(|_| self.report.lines == 0) {
            return Err(DataError::EmptyFile { path });
        }
        if let Some(alignments) = &mut self.alignments {
            alignments.must_have_ended(self.report.lines)?;
        }
        Ok(None)
    }

    /// Ends the open piece and opens the next one.
    fn close(&mut self) -> Result<(), DataError> {
        let lines = match self.open.take() {
            Some(Open::TwoFiles(sides)) => Vec::from(*sides),
            Some(Open::Tsv(lines)) => vec![*lines],
            Some(Open::Po(entries)) => {
                let (untranslated, lines) = entries.finish();
                self.must_have_pairs(lines.name(), None)?;
                self.report.untranslated += untranslated;
                vec![lines]
            }
            Some(Open::Tmx(units)) => {
                let languages = units.languages();
                let (untranslated, record) = units.finish();
                self.must_have_pairs(&record.path, languages)?;
                self.report.untranslated += untranslated;
                self.files.push(record);
                Vec::new()
            }
            None => Vec::new(),
        };
        for lines in lines {
            let (report, record) = lines.finish();
            if self.pairs_of_open == 0 {
                self.empty.get_or_insert(record.path.clone());
            }
            self.report.carriage_returns += report.carriage_returns;
            self.report.byte_order_marks += report.byte_order_marks;
            self.files.push(record);
        }
        self.open_next()
    }

    /// A file of translators without any pair is an error.
    fn must_have_pairs(&self, path: &Path, languages: Option<[String; 2]>) -> Result<(), DataError> {
        match self.pairs_of_open {
            0 => Err(DataError::NoTranslation {
                path: path.to_owned(),
                languages,
            }),
            _ => Ok(()),
        }
    }
}

impl Iterator for PairReader {
    type Item = Result<PairOfLines, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let pair = self.next_pair().transpose();
        self.finished = !matches!(pair, Some(Ok(_)));
        pair
    }
}

/// Puts a prefix before a line that is not blank, and returns the number of its words.
fn put_before(prefix: Option<&str>, line: &mut String) -> u32 {
    match prefix {
        Some(prefix) if !is_blank(line) => {
            line.insert(0, ' ');
            line.insert_str(0, prefix);
            prefix.split_whitespace().count() as u32
        }
        _ => 0,
    }
}

fn next_of_both(sides: &mut [Lines; 2]) -> Result<Option<(String, String)>, DataError> {
    let [source, target] = sides;
    match (source.next().transpose()?, target.next().transpose()?) {
        (Some(source), Some(target)) => Ok(Some((source, target))),
        (None, None) => Ok(None),
        (one, _) => {
            // The message tells how many lines both files have.
            let (shorter, longer) = if one.is_none() {
                (source, target)
            } else {
                (target, source)
            };
            let (shorter_lines, mut longer_lines) = (shorter.report().lines, longer.report().lines);
            for line in longer.by_ref() {
                line?;
                longer_lines += 1;
            }
            if shorter_lines == 0 {
                return Err(DataError::EmptyFile {
                    path: shorter.name().to_owned(),
                });
            }
            Err(DataError::LineCounts {
                shorter: shorter.name().to_owned(),
                shorter_lines,
                longer: longer.name().to_owned(),
                longer_lines,
            })
        }
    }
}

fn next_of_columns(lines: &mut Lines) -> Result<Option<(String, String)>, DataError> {
    let Some(line) = lines.next().transpose()? else {
        return Ok(None);
    };
    let mut columns = line.split('\t');
    match (columns.next(), columns.next(), columns.next()) {
        (Some(source), Some(target), None) => Ok(Some((source.to_owned(), target.to_owned()))),
        // An empty line is an empty pair, as it would be in two files.
        (Some(""), None, None) => Ok(Some((String::new(), String::new()))),
        _ => Err(DataError::Columns {
            path: lines.name().to_owned(),
            line: lines.report().lines,
            columns: line.split('\t').count(),
        }),
    }
}

/// The lines of a file of word alignments.
struct AlignmentReader {
    lines: Lines,
}

impl AlignmentReader {
    fn open(path: &Path) -> Result<Self, DataError> {
        let lines = open_lines(path)?;
        Ok(Self { lines })
    }

    /// The links of the next pair, which is pair number `pairs`, from 1.
    fn next(&mut self, source: &str, target: &str, pairs: u64) -> Result<Vec<Link>, DataError> {
        match self.lines.next().transpose()? {
            Some(line) => Link::parse_line(&line, source, target, (self.lines.name(), pairs)),
            None => Err(DataError::AlignmentEnds {
                path: self.lines.name().to_owned(),
                lines: pairs - 1,
            }),
        }
    }

    fn must_have_ended(&mut self, pairs: u64) -> Result<(), DataError> {
        let mut lines = pairs;
        for line in self.lines.by_ref() {
            line?;
            lines += 1;
        }
        match lines == pairs {
            true => Ok(()),
            false => Err(DataError::AlignmentCount {
                path: self.lines.name().to_owned(),
                lines,
                pairs,
            }),
        }
    }
}

/// Yields the lines of one side of a corpus. The other side is not read, if it is a file of its own.
pub struct SideReader {
    reader: Reader,
    side: Side,
    prefix: Option<String>,
}

enum Reader {
    /// One file after another.
    Lines {
        files: vec::IntoIter<PathBuf>,
        open: Option<Box<Lines>>,
    },
    /// Both sides are in the same files.
    Pairs(Box<PairReader>),
}

impl SideReader {
    /// Opens one side of a corpus.
    ///
    /// # Errors
    /// As for [`PairReader::open`], as far as files of this side are concerned.
    pub fn open(files: &CorpusFiles, side: Side) -> Result<Self, DataError> {
        let reader = match files.form().map_err(|found| DataError::CorpusForm { found })? {
            CorpusForm::TwoFiles { source, target } => {
                let path = if side == Side::Source { source } else { target };
                Reader::Lines {
                    files: expand(path)?.into_iter(),
                    open: None,
                }
            }
            CorpusForm::Tsv(_) | CorpusForm::Tmx(_) | CorpusForm::Po(_) => {
                let without = CorpusFiles {
                    alignments: None,
                    source_prefix: None,
                    target_prefix: None,
                    ..files.clone()
                };
                Reader::Pairs(Box::new(PairReader::open(&without)?))
            }
        };
        let prefix = if side == Side::Source {
            &files.source_prefix
        } else {
            &files.target_prefix
        };
        Ok(Self {
            reader,
            side,
            prefix: prefix.clone(),
        })
    }

    fn next_line(&mut self) -> Result<Option<String>, DataError> {
        match &mut self.reader {
            Reader::Pairs(pairs) => {
                let pair = pairs.next().transpose()?;
                Ok(pair.map(|pair| {
                    if self.side == Side::Source {
                        pair.source
                    } else {
                        pair.target
                    }
                }))
            }
            Reader::Lines { files, open } => loop {
                if open.is_none() {
                    let Some(path) = files.next() else {
                        return Ok(None);
                    };
                    *open = Some(Box::new(open_lines(&path)?));
                }
                match open.as_mut().and_then(Iterator::next).transpose()? {
                    Some(line) => return Ok(Some(line)),
                    None => *open = None,
                }
            },
        }
    }
}

impl Iterator for SideReader {
    type Item = Result<String, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.next_line().transpose();
        if matches!(line, Some(Err(_))) {
            // Nothing comes after an error.
            self.reader = Reader::Lines {
                files: Vec::new().into_iter(),
                open: None,
            };
        }
        let mut line = line?;
        if let Ok(line) = &mut line {
            put_before(self.prefix.as_deref(), line);
        }
        Some(line)
    }
}
