//! Recognizes files that are not text by their first bytes.

use std::fmt;

/// A format that text may have been converted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    magic: &'static [u8],
    name: &'static str,
    /// The command that converts it to text.
    command: &'static str,
}

const fn format(magic: &'static [u8], name: &'static str, command: &'static str) -> Format {
    Format { magic, name, command }
}

const FORMATS: [Format; 9] = [
    // Inside of a compressed file: otherwise it would be decompressed.
    format(
        b"\x28\xb5\x2f\xfd",
        "compressed by zstd, after something else",
        "zstd -dc",
    ),
    format(b"\xfd7zXZ\0", "compressed by xz", "xz -dc"),
    // The level, a digit, comes before the first block.
    format(b"BZh", "compressed by bzip2", "bzip2 -dc"),
    format(b"\x04\x22\x4d\x18", "compressed by lz4", "lz4 -dc"),
    format(b"PK\x03\x04", "a zip archive", "unzip -p"),
    format(b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x -so"),
    format(b"\x1f\x8b", "compressed by gzip twice", "gzip -dc"),
    format(b"\xff\xfe", "UTF-16", ""),
    format(b"\xfe\xff", "UTF-16", ""),
];

const BZIP2_BLOCK: &[u8] = b"1AY&SY";

impl Format {
    /// The format of a file with this beginning; nothing if it is text. For a gzip file, pass the beginning of its
    /// decompressed content.
    pub fn of(beginning: &[u8]) -> Option<Self> {
        let found = FORMATS.into_iter().find(|format| beginning.starts_with(format.magic))?;
        let is_text = found.magic == b"BZh" && !beginning.get(4..).is_some_and(|rest| rest.starts_with(BZIP2_BLOCK));
        (!is_text).then_some(found)
    }
}

impl fmt::Display for Format {
    /// Writes the name of the format, and how to convert it to text.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { name, command, .. } = self;
        if command.is_empty() {
            return write!(f, "this is {name}: convert it with `iconv -f UTF-16 -t UTF-8`");
        }
        write!(
            f,
            "this is {name}, and only gzip and zstd are decompressed here: pipe in, or keep in a file, what `{command}` makes of it"
        )
    }
}
