//! Event files for TensorBoard: numbers and texts over the updates of a run.
//!
//! An event file is a TFRecord file. Every record has its length, two checksums and one protobuf message `Event`. A
//! reader that finds an incomplete last record waits for the rest. So a file can be read while it grows, and a file cut
//! off by a crash can be read up to that point.
//!
//! A resumed run opens a new file beside the old one. TensorBoard reads all files of a directory as one run, in the
//! order of their names, which contain the time of creation. Updates that a resumed run repeats are drawn twice.

use prost::Message;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Version of the event format, which TensorBoard expects in the first record.
const FILE_VERSION: &str = "brain.Event:2";
/// `DataType.DT_STRING` in `types.proto`.
const DT_STRING: i32 = 7;

/// Writes one event file.
///
/// Times are seconds since the Unix epoch. They are arguments, so the writer needs no clock. Records are buffered. Call
/// [`flush`](Self::flush) when a reader should see them, and before dropping the writer, because a drop cannot report a
/// failed write.
#[derive(Debug)]
pub(crate) struct EventWriter {
    file: BufWriter<File>,
    path: PathBuf,
}

impl EventWriter {
    /// Creates `events.out.tfevents.<seconds>.tallow` in `directory`, and the directory if it is missing.
    ///
    /// An existing file is never changed. If the name is taken (a run resumed within the same second), the next free
    /// second is used in the name.
    ///
    /// # Errors
    /// If the directory or the file cannot be created or written.
    pub(crate) fn create(directory: &Path, wall_time: f64) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        // Ten digits, padded as in TensorBoard's own writer, keep the names in the order of time. A time before the
        // epoch or a time that is not a number becomes zero.
        let mut seconds = wall_time as u64;
        let (file, path) = loop {
            let path = directory.join(format!("events.out.tfevents.{seconds:010}.tallow"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break (file, path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => seconds = seconds.saturating_add(1),
                Err(error) => return Err(error),
            }
        };
        let mut writer = Self {
            file: BufWriter::new(file),
            path,
        };
        let event = message::Event {
            wall_time: Some(wall_time),
            file_version: Some(FILE_VERSION.to_owned()),
            ..message::Event::default()
        };
        writer.record(&event)?;
        writer.flush()?;
        Ok(writer)
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Records `value` under `tag` at `step`. In a tag such as `train/loss`, the part before the slash groups the
    /// charts.
    ///
    /// NaN and infinities are written as they are; TensorBoard marks them in the chart.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn scalar(&mut self, tag: &str, step: i64, value: f32, wall_time: f64) -> io::Result<()> {
        let value = message::Value {
            tag: Some(tag.to_owned()),
            simple_value: Some(value),
            ..message::Value::default()
        };
        self.summary(value, step, wall_time)
    }

    /// Records `text` under `tag` at `step`, for TensorBoard's text panel, which renders it as Markdown.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn text(&mut self, tag: &str, step: i64, text: &str, wall_time: f64) -> io::Result<()> {
        let tensor = message::Tensor {
            dtype: DT_STRING,
            // An empty shape means a single string rather than a list.
            shape: Some(message::Shape {}),
            strings: vec![text.as_bytes().to_owned()],
        };
        let plugin = message::Plugin {
            name: "text".to_owned(),
        };
        let value = message::Value {
            tag: Some(tag.to_owned()),
            tensor: Some(tensor),
            metadata: Some(message::Metadata { plugin: Some(plugin) }),
            ..message::Value::default()
        };
        self.summary(value, step, wall_time)
    }

    /// Passes all records so far to the operating system.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Writes the event with one value.
    fn summary(&mut self, value: message::Value, step: i64, wall_time: f64) -> io::Result<()> {
        self.record(&message::Event {
            wall_time: Some(wall_time),
            step,
            summary: Some(message::Summary { values: vec![value] }),
            ..message::Event::default()
        })
    }

    /// Writes one TFRecord: length, checksum of the length, data, checksum of the data; all little-endian.
    fn record(&mut self, event: &message::Event) -> io::Result<()> {
        let data = event.encode_to_vec();
        let length = (data.len() as u64).to_le_bytes();
        self.file.write_all(&length)?;
        self.file.write_all(&masked_crc32c(&length).to_le_bytes())?;
        self.file.write_all(&data)?;
        self.file.write_all(&masked_crc32c(&data).to_le_bytes())
    }
}

/// CRC-32C, rotated and shifted as the TFRecord format requires, so that a checksum inside the data does no harm.
fn masked_crc32c(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The parts of TensorFlow's `event.proto`, `summary.proto`, `tensor.proto` and `tensor_shape.proto` that are written
/// here.
mod message {
    use prost::Message;

    /// `Event`: the content of one record.
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Event {
        // Written even if it is zero, like all optional fields here.
        #[prost(double, optional, tag = "1")]
        pub(super) wall_time: Option<f64>,
        #[prost(int64, tag = "2")]
        pub(super) step: i64,
        #[prost(string, optional, tag = "3")]
        pub(super) file_version: Option<String>,
        #[prost(message, optional, tag = "5")]
        pub(super) summary: Option<Summary>,
    }

    /// `Summary`: values of one step.
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Summary {
        #[prost(message, repeated, tag = "1")]
        pub(super) values: Vec<Value>,
    }

    /// `Summary.Value`: a number or a tensor under a tag.
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Value {
        #[prost(string, optional, tag = "1")]
        pub(super) tag: Option<String>,
        #[prost(float, optional, tag = "2")]
        pub(super) simple_value: Option<f32>,
        #[prost(message, optional, tag = "8")]
        pub(super) tensor: Option<Tensor>,
        #[prost(message, optional, tag = "9")]
        pub(super) metadata: Option<Metadata>,
    }

    /// `TensorProto`.
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Tensor {
        #[prost(int32, tag = "1")]
        pub(super) dtype: i32,
        #[prost(message, optional, tag = "2")]
        pub(super) shape: Option<Shape>,
        #[prost(bytes = "vec", repeated, tag = "8")]
        pub(super) strings: Vec<Vec<u8>>,
    }

    /// `TensorShapeProto`.
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Shape {}

    /// `SummaryMetadata`: the plug-in of TensorBoard that shows a value.
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Metadata {
        #[prost(message, optional, tag = "1")]
        pub(super) plugin: Option<Plugin>,
    }

    /// `SummaryMetadata.PluginData`.
    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Plugin {
        #[prost(string, tag = "1")]
        pub(super) name: String,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time of every expected record below.
    const TIME: f64 = 1_700_000_000.25;

    // The expected records were written by the Python package tensorboard 2.21.0: its generated protobuf classes and
    // its `RecordWriter`.
    const VERSION_RECORD: &[u8] =
        b"\x18\x00\x00\x00\x00\x00\x00\x00\xa3\x7f\x4b\x22\x09\x00\x00\x10\x40\xfc\x54\xd9\x41\x1a\x0dbrain.Event:2\
        \x33\x8d\x2f\xe9";

    /// The bytes that a writer adds to its file after the first record.
    fn written(write: impl FnOnce(&mut EventWriter) -> io::Result<()>) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(directory.path(), TIME).unwrap();
        write(&mut writer).unwrap();
        writer.flush().unwrap();
        let bytes = std::fs::read(writer.path()).unwrap();
        bytes.strip_prefix(VERSION_RECORD).unwrap().to_vec()
    }

    #[test]
    fn a_new_file_holds_the_version_record_already() {
        let directory = tempfile::tempdir().unwrap();
        let nested = directory.path().join("runs/one");
        let writer = EventWriter::create(&nested, TIME).unwrap();
        assert_eq!(writer.path(), nested.join("events.out.tfevents.1700000000.tallow"));
        assert_eq!(std::fs::read(writer.path()).unwrap(), VERSION_RECORD);
    }

    #[test]
    fn scalars_equal_those_of_the_python_package() {
        assert_eq!(
            written(|writer| writer.scalar("train/loss", 300, 2.5, TIME)),
            b"\x21\x00\x00\x00\x00\x00\x00\x00\x01\x7b\xec\xf6\x09\x00\x00\x10\x40\xfc\x54\xd9\x41\x10\xac\x02\x2a\x13\
            \x0a\x11\x0a\x0atrain/loss\x15\x00\x00\x20\x40\x8d\xab\xcc\x7d"
        );
    }

    #[test]
    fn step_zero_is_left_out_and_a_zero_value_is_not() {
        assert_eq!(
            written(|writer| writer.scalar("a", 0, 0.0, TIME)),
            b"\x15\x00\x00\x00\x00\x00\x00\x00\xd6\xab\x6b\x2b\x09\x00\x00\x10\x40\xfc\x54\xd9\x41\x2a\x0a\
            \x0a\x08\x0a\x01a\x15\x00\x00\x00\x00\xf3\xc6\x06\xa7"
        );
    }

    #[test]
    fn negative_steps_take_ten_bytes() {
        assert_eq!(
            written(|writer| writer.scalar("a", -1, 1.0, TIME)),
            b"\x20\x00\x00\x00\x00\x00\x00\x00\x29\xed\xa9\x50\x09\x00\x00\x10\x40\xfc\x54\xd9\x41\
            \x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x2a\x0a\x0a\x08\x0a\x01a\x15\x00\x00\x80\x3f\x8c\xeb\x1d\xae"
        );
    }

    #[test]
    fn texts_equal_those_of_the_python_package() {
        assert_eq!(
            written(|writer| writer.text("valid/sample", 7, "Ein Hund läuft.", TIME)),
            b"\x3f\x00\x00\x00\x00\x00\x00\x00\x51\x65\x76\x61\x09\x00\x00\x10\x40\xfc\x54\xd9\x41\x10\x07\x2a\x32\
            \x0a\x30\x0a\x0cvalid/sample\x42\x16\x08\x07\x12\x00\x42\x10Ein Hund l\xc3\xa4uft.\
            \x4a\x08\x0a\x06\x0a\x04text\x72\x62\x1c\xe5"
        );
    }

    /// Zeros and empty texts stand at the same places as in the hand-written encoding of earlier versions.
    #[test]
    fn a_clock_at_its_beginning_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(directory.path(), 0.0).unwrap();
        writer.scalar("", 0, 1.0, 0.0).unwrap();
        writer.flush().unwrap();
        let bytes = std::fs::read(writer.path()).unwrap();
        let (version, scalar) = (&bytes[12..12 + 24], &bytes[12 + 24 + 4 + 12..]);
        assert_eq!(version, b"\x09\x00\x00\x00\x00\x00\x00\x00\x00\x1a\x0dbrain.Event:2");
        let expected = b"\x09\x00\x00\x00\x00\x00\x00\x00\x00\x2a\x09\x0a\x07\x0a\x00\x15\x00\x00\x80\x3f";
        assert_eq!(&scalar[..expected.len()], expected);
    }

    #[test]
    fn records_follow_one_another() {
        let one = written(|writer| writer.scalar("a", 1, 1.0, TIME));
        let two = written(|writer| writer.scalar("b", 2, 2.0, TIME));
        let both = written(|writer| {
            writer.scalar("a", 1, 1.0, TIME)?;
            writer.scalar("b", 2, 2.0, TIME)
        });
        assert_eq!(both, [one, two].concat());
    }

    #[test]
    fn a_run_resumed_within_the_second_keeps_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = EventWriter::create(directory.path(), TIME).unwrap();
        first.scalar("train/loss", 1, 2.5, TIME).unwrap();
        first.flush().unwrap();
        let before = std::fs::read(first.path()).unwrap();
        let second = EventWriter::create(directory.path(), TIME).unwrap();
        assert_eq!(
            second.path(),
            directory.path().join("events.out.tfevents.1700000001.tallow")
        );
        assert_eq!(std::fs::read(first.path()).unwrap(), before);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(EventWriter::create(&file, TIME).is_err());
    }
}
