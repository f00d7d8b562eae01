//! Standard input of `tallow translate`.

use super::plain_lines;
use crate::message;
use crate::specimen::translation_model;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use tallow_data::{Format, LineReader};
use tallow_decode::{DecodeConfig, LongLines, Translator};

/// The largest number of lines to translate, and their largest size in bytes. Translating more would find no more
/// faults.
const TRANSLATED: usize = 6;
const LONGEST: usize = 512;

/// A reader that returns one byte at a time, as a slow pipe may.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(1);
        self.0.read(&mut buffer[..most])
    }
}

/// Standard input. The number of lines does not depend on how the bytes arrive. Each line has one translation of one
/// line, which is the same when the line stands alone.
///
/// # Panics
/// When a promise is broken.
pub fn lines(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else {
        return;
    };
    let compressed = (choice & 1 > 0).then(|| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    });
    let input = compressed.as_deref().unwrap_or(text);
    let read = if choice & 2 > 0 {
        read_all(BufReader::with_capacity(3, Slow(input)), data)
    } else {
        read_all(input, data)
    };
    // There is no second reader for input that the fuzzer itself has compressed.
    let Some(read) = read else {
        let is_compressed = input.starts_with(b"\x1f\x8b") && compressed.is_none();
        assert!(is_compressed || Format::of(text).is_some(), "plain lines were refused");
        return;
    };
    if compressed.is_some() || !input.starts_with(b"\x1f\x8b") {
        let expected: Vec<String> = plain_lines(text)
            .into_iter()
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        // The first byte of the magic number alone is text.
        assert_eq!(read, expected);
    }
    if choice & 4 > 0 {
        translate(&read, choice);
    }
}

/// All lines, or `None` if the input ends with an error.
fn read_all(reader: impl BufRead, data: &[u8]) -> Option<Vec<String>> {
    let name = Path::new("standard input");
    let refused = |error| {
        message::check(&error, &["standard input"], data);
        None
    };
    let mut reader = match LineReader::new(reader, name) {
        Ok(reader) => reader.repairing(),
        Err(error) => return refused(error),
    };
    let mut lines = Vec::new();
    for line in reader.by_ref() {
        match line {
            Ok(line) => lines.push(line),
            Err(error) => return refused(error),
        }
    }
    assert!(reader.next().is_none());
    let report = reader.report();
    assert_eq!(report.lines, lines.len() as u64);
    assert!(report.repaired <= report.lines && report.empty <= report.lines);
    Some(lines)
}

fn translate(lines: &[String], choice: u8) {
    let (model, tokenizers) = translation_model();
    let sample = choice & 8 > 0;
    let beam = usize::from(choice >> 4 & 3) + 1;
    let config = DecodeConfig {
        beam,
        n_best: beam.min(2),
        sample,
        top_k: usize::from(choice >> 6),
        no_repeat_ngram: usize::from(choice >> 6),
        max_length: 5,
        max_source_length: 12,
        batch_tokens: 48,
        long_lines: [LongLines::Split, LongLines::Truncate][lines.len() % 2],
        ..DecodeConfig::default()
    };
    let lines: Vec<&str> = lines
        .iter()
        .map(String::as_str)
        .filter(|line| line.len() <= LONGEST)
        .take(TRANSLATED)
        .collect();
    let translator = Translator::builder(model.clone(), tokenizers.clone())
        .config(config.clone())
        .build()
        .expect("a translator");
    let together = translator.translate(&lines, 0).expect("translations");
    assert_eq!(together.len(), lines.len());
    for translation in &together {
        assert!(!translation.candidates.is_empty());
        for part in &translation.parts {
            assert!((2..=config.max_source_length).contains(&part.tokens.len()), "{part:?}");
        }
        assert!(translation.parts.len() <= 1 || config.long_lines == LongLines::Split);
        for candidate in &translation.candidates {
            assert!(!candidate.text.contains(['\n', '\r']), "{:?}", candidate.text);
            assert!(candidate.hypothesis.score.is_finite());
        }
    }
    for number in [0, lines.len().saturating_sub(1)] {
        let Some(line) = lines.get(number) else { continue };
        let alone = translator.translate(&[line], number as u64).expect("a translation");
        let hypotheses = |translation: &tallow_decode::Translation| -> Vec<(String, f64)> {
            let of = |candidate: &tallow_decode::Candidate| (candidate.text.clone(), candidate.hypothesis.score);
            translation.candidates.iter().map(of).collect()
        };
        assert_eq!(
            hypotheses(&alone[0]),
            hypotheses(&together[number]),
            "{line:?} alone and beside others"
        );
    }
}
