//! Reading a file at any position, without a cursor that threads would share.

use std::fs::File;
use std::io;

/// Reads exactly as many bytes as `bytes` has, from this offset on.
#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// Reads exactly as many bytes as `bytes` has, from this offset on.
#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                bytes = &mut bytes[read..];
                offset += read as u64;
            }
        }
    }
    Ok(())
}

/// Reads ranges of a file that come in ascending order. Ranges close to each other are read together.
pub(super) struct Ranges<'a> {
    file: &'a File,
    /// The length of the file.
    length: u64,
    /// Bytes that are read at least.
    span: usize,
    buffer: Vec<u8>,
    start: u64,
}

impl<'a> Ranges<'a> {
    pub(super) fn new(file: &'a File, length: u64, span: usize) -> Self {
        Self {
            file,
            length,
            span,
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// The bytes from this offset on.
    pub(super) fn get(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let end = offset.checked_add(length as u64).filter(|end| *end <= self.length);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        if offset < self.start || end > self.start + self.buffer.len() as u64 {
            let rest = usize::try_from(self.length - offset).unwrap_or(usize::MAX);
            self.buffer.clear();
            self.buffer.resize(length.max(self.span).min(rest), 0);
            self.start = offset;
            read_exact_at(self.file, &mut self.buffer, offset).inspect_err(|_| self.buffer.clear())?;
        }
        let begin = (offset - self.start) as usize;
        Ok(&self.buffer[begin..begin + length])
    }
}
