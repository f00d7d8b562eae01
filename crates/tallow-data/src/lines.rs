//! Text files, line by line.
//!
//! This module defines lines, for training text and for text to be translated. Lines end only at LF. Other characters,
//! such as U+2028, a form feed or a lone CR, are part of the line. One CR directly before the LF or the end of the file
//! is removed and counted. A byte order mark at the start of the file is removed and counted. NUL is a character. Gzip
//! and zstd are recognised by their magic bytes (RFC 1952, section 2.3.1; RFC 8878, section 3.1.1), not by name.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::ops::AddAssign;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use unicode_general_category::{GeneralCategory, get_general_category};

use crate::count::counted;
use crate::error::DataError;
use crate::file_signature::Format;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The longest line that is read, in bytes. A line is kept in memory, and a compressed file may have far more content
/// than its size shows. No sentence comes near this limit.
const LONGEST_LINE: u64 = 64 << 20;

/// The counts and repairs of reading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadReport {
    /// Lines read; for parallel text, pairs.
    pub lines: u64,
    /// Lines that ended in CR LF; the CR was stripped.
    pub carriage_returns: u64,
    /// Files that began with a byte order mark, which was stripped.
    pub byte_order_marks: u64,
    /// Blank lines ([`is_blank`]); for parallel text, pairs with a blank side. Reading keeps them: the filters of a
    /// corpus drop them.
    pub empty: u64,
    /// Lines that were not UTF-8, whose invalid bytes became U+FFFD. Only [`LineReader::repairing`] accepts such lines.
    pub repaired: u64,
    /// Entries of translation memories and PO files that were left out, because they have no translation.
    #[serde(default)]
    pub untranslated: u64,
}

impl AddAssign for ReadReport {
    fn add_assign(&mut self, other: Self) {
        self.lines += other.lines;
        self.carriage_returns += other.carriage_returns;
        self.byte_order_marks += other.byte_order_marks;
        self.empty += other.empty;
        self.repaired += other.repaired;
        self.untranslated += other.untranslated;
    }
}

impl fmt::Display for ReadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", counted(self.lines, "line"))?;
        if self.empty > 0 {
            write!(f, ", {} empty", self.empty)?;
        }
        if self.carriage_returns > 0 {
            write!(f, ", {} ended in a carriage return (stripped)", self.carriage_returns)?;
        }
        if self.byte_order_marks > 0 {
            write!(f, ", {} (stripped)", counted(self.byte_order_marks, "byte order mark"))?;
        }
        if self.untranslated > 0 {
            write!(
                f,
                ", {} left out for want of a translation",
                counted(self.untranslated, "unit")
            )?;
        }
        if self.repaired > 0 {
            write!(f, ", {} not UTF-8 (bad bytes became U+FFFD)", self.repaired)?;
        }
        Ok(())
    }
}

/// The identity of a file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// The path as the caller gave it.
    pub path: PathBuf,
    /// SHA-256 of the content in lower-case hexadecimal; for a compressed file, of the decompressed content.
    pub sha256: String,
}

/// A file's lines in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFile {
    /// The lines without their ends.
    pub lines: Vec<String>,
    /// The counts and repairs of reading.
    pub report: ReadReport,
    /// The file's path and hash.
    pub record: FileRecord,
}

/// Reads a text file, plain or compressed, into memory. An empty file has no lines, and is not an error here.
///
/// # Errors
/// A file that cannot be opened or read to its end, damaged compressed data, and a line that is not UTF-8.
pub fn read_lines(path: &Path) -> Result<TextFile, DataError> {
    collect(open_lines(path)?)
}

/// Opens a text file, plain or compressed, to read one line after another.
///
/// # Errors
/// A file that cannot be opened.
pub(crate) fn open_lines(path: &Path) -> Result<LineReader<BufReader<File>>, DataError> {
    let file = File::open(path).map_err(|error| DataError::Open {
        path: path.to_owned(),
        error,
    })?;
    LineReader::new(BufReader::with_capacity(1 << 16, file), path)
}

/// Reads text, plain or compressed, from any reader, such as standard input. `name` stands for the path in messages.
///
/// # Errors
/// As for [`read_lines`].
pub fn read_lines_from(reader: impl BufRead, name: &Path) -> Result<TextFile, DataError> {
    collect(LineReader::new(reader, name)?)
}

fn collect<R: BufRead>(mut reader: LineReader<R>) -> Result<TextFile, DataError> {
    let lines = reader.by_ref().collect::<Result<_, _>>()?;
    let (report, record) = reader.finish();
    Ok(TextFile { lines, report, record })
}

/// A reader whose first bytes were read and put back.
type Peeked<R> = Chain<Cursor<Vec<u8>>, R>;

/// The content of a file, decompressed.
pub(crate) enum Content<R: BufRead> {
    Plain(Peeked<R>),
    Gzip(Box<BufReader<MultiGzDecoder<Peeked<R>>>>),
    Zstd(Box<BufReader<zstd::Decoder<'static, Peeked<R>>>>),
}

impl<R: BufRead> Content<R> {
    /// Looks at the first bytes of a reader; `name` stands for the path in messages.
    ///
    /// # Errors
    /// When the first bytes cannot be read.
    pub(crate) fn new(mut reader: R, name: &Path) -> Result<Self, DataError> {
        let mut magic = Vec::with_capacity(ZSTD_MAGIC.len());
        let fault = |error| DataError::Read {
            path: name.to_owned(),
            line: 1,
            compression: None,
            error,
        };
        let may_begin = |magic: &[u8]| {
            let is_longer = |whole: &&[u8]| whole.len() > magic.len() && whole.starts_with(magic);
            [GZIP_MAGIC, ZSTD_MAGIC].iter().any(is_longer)
        };
        // Byte by byte: a pipe may deliver one byte at a time, and a user who typed an empty line waits for the answer.
        while may_begin(&magic) {
            if reader.by_ref().take(1).read_to_end(&mut magic).map_err(fault)? == 0 {
                break;
            }
        }
        let (is_gzip, is_zstd) = (magic == GZIP_MAGIC, magic == ZSTD_MAGIC);
        let peeked = Cursor::new(magic).chain(reader);
        Ok(if is_gzip {
            Content::Gzip(Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(peeked))))
        } else if is_zstd {
            let decoder = zstd::Decoder::with_buffer(peeked).map_err(fault)?;
            Content::Zstd(Box::new(BufReader::with_capacity(1 << 16, decoder)))
        } else {
            Content::Plain(peeked)
        })
    }

    fn compression(&self) -> Option<Compression> {
        match self {
            Self::Plain(_) => None,
            Self::Gzip(_) => Some(Compression::Gzip),
            Self::Zstd(_) => Some(Compression::Zstd),
        }
    }
}

impl<R: BufRead> Read for Content<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
            Self::Zstd(reader) => reader.read(buffer),
        }
    }
}

/// A compression that is undone while a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// Yields the lines of a reader one after another, for text that should not be kept in memory. The iterator ends after
/// the first error.
pub struct LineReader<R: BufRead> {
    content: Content<R>,
    name: PathBuf,
    report: ReadReport,
    digest: Sha256,
    repair: bool,
    finished: bool,
}

impl<R: BufRead> LineReader<R> {
    /// Starts reading; `name` stands for the path in messages.
    ///
    /// # Errors
    /// When the first bytes cannot be read.
    pub fn new(reader: R, name: &Path) -> Result<Self, DataError> {
        let content = Content::new(reader, name)?;
        let (report, digest) = (ReadReport::default(), Sha256::new());
        Ok(Self {
            content,
            name: name.to_owned(),
            report,
            digest,
            repair: false,
            finished: false,
        })
    }

    /// Accepts lines that are not UTF-8: their invalid bytes become U+FFFD, and the report counts the lines. Meant for
    /// a program that must answer every line of its input.
    #[must_use]
    pub fn repairing(mut self) -> Self {
        self.repair = true;
        self
    }

    /// The path, as messages name it.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    /// The report so far; it is complete when the iterator has ended.
    pub fn report(&self) -> ReadReport {
        self.report
    }

    /// The hash of everything read so far.
    pub(crate) fn hash_so_far(&self) -> String {
        hexadecimal(&self.digest.clone().finalize())
    }

    /// The report, and the path and hash of everything read.
    pub fn finish(self) -> (ReadReport, FileRecord) {
        let sha256 = hexadecimal(&self.digest.finalize());
        (
            self.report,
            FileRecord {
                path: self.name,
                sha256,
            },
        )
    }

    fn read_line(&mut self) -> Result<Option<String>, DataError> {
        let number = self.report.lines + 1;
        let mut bytes = Vec::new();
        let compression = self.content.compression();
        let read = match &mut self.content {
            Content::Plain(reader) => reader.take(LONGEST_LINE).read_until(b'\n', &mut bytes),
            Content::Gzip(reader) => reader.take(LONGEST_LINE).read_until(b'\n', &mut bytes),
            Content::Zstd(reader) => reader.take(LONGEST_LINE).read_until(b'\n', &mut bytes),
        };
        let read = read.map_err(|error: io::Error| DataError::Read {
            path: self.name.clone(),
            line: number,
            compression,
            error,
        })?;
        if read == 0 {
            return Ok(None);
        }
        self.digest.update(&bytes);
        // No signature extends beyond the first line feed.
        if number == 1
            && let Some(format) = Format::of(&bytes)
        {
            return Err(DataError::Foreign {
                path: self.name.clone(),
                format,
            });
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        } else if read as u64 == LONGEST_LINE {
            return Err(DataError::LongLine {
                path: self.name.clone(),
                line: number,
                limit: LONGEST_LINE,
            });
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
            self.report.carriage_returns += 1;
        }
        if number == 1 && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
            self.report.byte_order_marks += 1;
        }
        let line = match String::from_utf8(bytes) {
            Ok(line) => line,
            Err(error) if self.repair => {
                self.report.repaired += 1;
                String::from_utf8_lossy(error.as_bytes()).into_owned()
            }
            Err(error) => {
                return Err(DataError::InvalidUtf8 {
                    path: self.name.clone(),
                    line: number,
                    byte: error.utf8_error().valid_up_to() + 1,
                    hint: if number == 1 {
                        "; convert the file, for example with `iconv -f LATIN1 -t UTF-8`"
                    } else {
                        ""
                    },
                });
            }
        };
        self.report.lines += 1;
        if is_blank(&line) {
            self.report.empty += 1;
        }
        Ok(Some(line))
    }
}

impl<R: BufRead> Iterator for LineReader<R> {
    type Item = Result<String, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let line = self.read_line().transpose();
        self.finished = !matches!(line, Some(Ok(_)));
        line
    }
}

/// Bytes in lower-case hexadecimal.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a line has no visible content: it is empty, or has only white space, control characters and invisible
/// characters (Unicode's general category `Cf`: characters without width, a byte order mark, marks of direction).
pub fn is_blank(line: &str) -> bool {
    use GeneralCategory::{Control, Format};
    let is_invisible = |c: char| c.is_whitespace() || matches!(get_general_category(c), Control | Format);
    line.chars().all(is_invisible)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::*;

    fn read(bytes: &[u8]) -> Result<TextFile, DataError> {
        read_lines_from(bytes, Path::new("x.txt"))
    }

    fn message(bytes: &[u8]) -> String {
        read(bytes).unwrap_err().to_string()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn lines_end_at_line_feeds_alone() {
        let text = read("a\u{2028}b\u{85}c\u{b}d\u{c}e\rf\n\nlast".as_bytes()).unwrap();
        assert_eq!(text.lines, ["a\u{2028}b\u{85}c\u{b}d\u{c}e\rf", "", "last"]);
        assert_eq!(
            text.report,
            ReadReport {
                lines: 3,
                carriage_returns: 0,
                byte_order_marks: 0,
                empty: 1,
                ..ReadReport::default()
            }
        );
        assert!(read(b"").unwrap().lines.is_empty());
        assert_eq!(read(b"\n").unwrap().lines, [""]);
    }

    #[test]
    fn one_carriage_return_is_stripped_and_counted() {
        let text = read(b"a\r\nb\r\r\nc\n\r\nd\r").unwrap();
        assert_eq!(text.lines, ["a", "b\r", "c", "", "d"]);
        assert_eq!(text.report.carriage_returns, 4);
        assert_eq!(text.report.empty, 1);
    }

    #[test]
    fn a_byte_order_mark_is_stripped_at_the_start_only() {
        let text = read("\u{feff}a\n\u{feff}b\n".as_bytes()).unwrap();
        assert_eq!(text.lines, ["a", "\u{feff}b"]);
        assert_eq!(text.report.byte_order_marks, 1);
    }

    #[test]
    fn nul_is_a_character() {
        assert_eq!(read(b"a\0b\n\0\n").unwrap().lines, ["a\0b", "\0"]);
    }

    #[test]
    fn a_line_that_is_not_utf8_is_named() {
        let expected = "x.txt: line 2: not UTF-8 at byte 3 of the line";
        assert_eq!(message(b"good\nab\xff\n"), expected);
        assert_eq!(message(&gzip(b"good\nab\xff\n")), expected);
        // The end of the line cuts a character in two.
        assert_eq!(message(b"good\nab\xc3\n"), expected);
        assert!(
            message(
                "\u{feff}gr\u{fc}n"
                    .encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .collect::<Vec<_>>()
                    .as_slice()
            )
            .ends_with("UTF-16: convert it with `iconv -f UTF-16 -t UTF-8`")
        );
        assert!(message(b"gr\xfcn\n").contains("iconv -f LATIN1"));
    }

    #[test]
    fn a_repairing_reader_passes_every_line() {
        let bytes = b"one\r\n\n\xff\xfe x\na\0b\nlast\r";
        for input in [bytes.to_vec(), gzip(bytes)] {
            let mut reader = LineReader::new(&input[..], Path::new("x.txt")).unwrap().repairing();
            let lines: Vec<String> = reader.by_ref().map(Result::unwrap).collect();
            assert_eq!(lines, ["one", "", "\u{fffd}\u{fffd} x", "a\0b", "last"]);
            assert_eq!((reader.report().repaired, reader.report().lines), (1, 5));
        }
    }

    /// This also holds for a reader that accepts every line, and inside gzip: nobody wants translations of compressed
    /// bytes.
    #[test]
    fn what_is_no_text_is_refused_by_name() {
        for (bytes, way_out) in [
            (&b"\xfd7zXZ\0\0\x04"[..], "xz -dc"),
            (b"BZh91AY&SY\x0a", "bzip2 -dc"),
            (b"PK\x03\x04\x14", "unzip -p"),
            (b"\xff\xfeh\0i\0\x0a\0", "iconv -f UTF-16"),
            (b"\xfe\xff\0h\0i\0\x0a", "iconv -f UTF-16"),
        ] {
            for input in [bytes.to_vec(), gzip(bytes)] {
                assert!(message(&input).starts_with("x.txt: this is "), "{}", message(&input));
                assert!(message(&input).contains(way_out), "{}", message(&input));
                let mut reader = LineReader::new(&input[..], Path::new("x.txt")).unwrap().repairing();
                assert_eq!(reader.next().unwrap().unwrap_err().to_string(), message(&input));
                assert!(reader.next().is_none());
            }
        }
        let twice = gzip(&gzip(b"text\n"));
        assert!(message(&twice).contains("twice"), "{}", message(&twice));
        // These beginnings are no signatures, and only the first line is checked for one.
        for text in [&b"BZh\n"[..], b"PK\n", b"(\n", b"\xef\xbb\xbfBZh9\n"] {
            assert_eq!(read(text).unwrap().lines.len(), 1);
        }
        let later = [b"one\n", &b"\xff\xfe\n"[..]].concat();
        assert!(message(&later).contains("line 2: not UTF-8"), "{}", message(&later));
    }

    #[test]
    fn a_line_without_end_is_an_error_and_not_all_memory() {
        let endless = std::io::repeat(b'a');
        let mut reader = LineReader::new(BufReader::new((&b"good\n"[..]).chain(endless)), Path::new("x.txt")).unwrap();
        assert_eq!(reader.next().unwrap().unwrap(), "good");
        let error = reader.next().unwrap().unwrap_err().to_string();
        assert!(error.starts_with("x.txt: line 2: longer than 64 MiB"), "{error}");
    }

    #[test]
    fn gzip_is_recognised_by_content() {
        let plain = read(b"eins\nzwei\n").unwrap();
        assert_eq!(read(&gzip(b"eins\nzwei\n")).unwrap(), plain);
        // Two members, one after the other, are one text (RFC 1952, section 2.2).
        assert_eq!(read(&[gzip(b"eins\n"), gzip(b"zwei\n")].concat()).unwrap(), plain);
        // `printf 'eins\nzwei\n' | sha256sum`
        let sum = "cea7589481795a99cc8b7989cc24706fd26d46cde9fc381d07db562de08b2e18";
        assert_eq!(
            plain.record,
            FileRecord {
                path: "x.txt".into(),
                sha256: sum.into()
            }
        );
    }

    #[test]
    fn damaged_gzip_is_one_error_with_its_line() {
        let whole = gzip(b"eins\nzwei\ndrei\n");
        let error = message(&whole[..whole.len() - 9]);
        assert!(error.starts_with("x.txt: line "), "{error}");
        assert!(
            error.ends_with("the gzip data is damaged or incomplete: fetch or compress the file again"),
            "{error}"
        );
        assert!(message(&[whole, b"rest".to_vec()].concat()).contains("damaged"));
        assert!(message(b"\x1f\x8b").contains("damaged"));
        assert_eq!(read(b"\x1f").unwrap().lines, ["\x1f"]);
        assert_eq!(read(b"\x1fx\n").unwrap().lines, ["\x1fx"]);
    }

    #[test]
    fn the_iterator_ends_at_its_first_error() {
        let mut reader = LineReader::new(&b"a\n\xff\nb\n"[..], Path::new("x.txt")).unwrap();
        assert_eq!(reader.next().unwrap().unwrap(), "a");
        assert!(reader.next().unwrap().is_err());
        assert!(reader.next().is_none());
    }

    #[test]
    fn a_missing_file_and_a_directory_are_named() {
        let error = read_lines(Path::new("no/such/file")).unwrap_err().to_string();
        assert!(error.starts_with("no/such/file: cannot open: "), "{error}");
        let error = read_lines(&std::env::temp_dir()).unwrap_err().to_string();
        assert!(
            error.starts_with(&std::env::temp_dir().display().to_string()),
            "{error}"
        );
    }
}
