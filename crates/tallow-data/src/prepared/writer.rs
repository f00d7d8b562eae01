//! Writes the files of a prepared corpus.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::record::{Form, Record};
use super::{OFFSETS, PAIRS, partial, with_extension};
use crate::error::DataError;

/// Appends pairs to the files of an unfinished corpus.
pub(super) struct Writer {
    base: PathBuf,
    form: Form,
    pairs: BufWriter<File>,
    offsets: BufWriter<File>,
    /// The number of pairs.
    count: u64,
    /// The length of the file of pairs.
    bytes: u64,
    record: Vec<u8>,
}

impl Writer {
    /// Opens the unfinished files with their first `count` pairs, which take so many bytes. What is behind them is cut
    /// off. Files that are too short for them are an error.
    pub(super) fn open(base: &Path, form: Form, count: u64, bytes: u64) -> Result<Self, DataError> {
        let file = |extension: &str, length: u64| {
            let path = partial(base, extension);
            let open = || {
                let mut file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&path)?;
                if file.metadata()?.len() < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                file.set_len(length)?;
                file.seek(SeekFrom::End(0))?;
                Ok(BufWriter::with_capacity(1 << 20, file))
            };
            open().map_err(|error: io::Error| DataError::Write {
                path: path.clone(),
                error,
            })
        };
        let offset_bytes = if count > 0 { (count + 1) * 8 } else { 0 };
        let mut writer = Self {
            base: base.to_owned(),
            form,
            pairs: file(PAIRS, bytes)?,
            offsets: file(OFFSETS, offset_bytes)?,
            count,
            bytes,
            record: Vec::new(),
        };
        if count == 0 {
            writer.write_offset()?;
        }
        Ok(writer)
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn push(&mut self, record: &Record) -> Result<(), DataError> {
        self.record.clear();
        self.form.write(self.count, record, &mut self.record);
        self.pairs
            .write_all(&self.record)
            .map_err(|error| self.fault(PAIRS, error))?;
        self.count += 1;
        self.bytes += self.record.len() as u64;
        self.write_offset()
    }

    fn write_offset(&mut self) -> Result<(), DataError> {
        let written = self.offsets.write_all(&self.bytes.to_le_bytes());
        written.map_err(|error| self.fault(OFFSETS, error))
    }

    fn fault(&self, extension: &str, error: io::Error) -> DataError {
        DataError::Write {
            path: partial(&self.base, extension),
            error,
        }
    }

    /// Waits until everything is on the disk.
    pub(super) fn sync(&mut self) -> Result<(), DataError> {
        let sync = |file: &mut BufWriter<File>| {
            file.flush()?;
            file.get_ref().sync_data()
        };
        sync(&mut self.pairs).map_err(|error| self.fault(PAIRS, error))?;
        sync(&mut self.offsets).map_err(|error| self.fault(OFFSETS, error))
    }

    /// Gives the files their final names.
    pub(super) fn finish(mut self) -> Result<(), DataError> {
        self.sync()?;
        for extension in [PAIRS, OFFSETS] {
            let renamed = fs::rename(partial(&self.base, extension), with_extension(&self.base, extension));
            renamed.map_err(|error| self.fault(extension, error))?;
        }
        Ok(())
    }
}
