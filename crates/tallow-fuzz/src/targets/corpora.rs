//! Corpora.

use super::{parts, plain_lines};
use crate::message;
use std::fs::write;
use std::sync::Arc;
use tallow_data::{
    AugmentConfig, BatchStream, Corpus, CorpusFiles, Cursor, DataConfig, DataError, ParallelText, Sampler,
    fixed_batches,
};
use tallow_text::{Kind, TextConfig, TextError, Tokenizers};
use tempfile::tempdir;

/// The most bytes of text to learn from: learning from more takes time and finds no more faults in reading.
const MOST_TO_LEARN_FROM: usize = 2048;

/// A parallel corpus: two files, or one TSV. An opened corpus has as many source lines as target lines, and they are
/// the lines of the files. The pairs that the filters leave can be put into batches, and a tokenizer can be learned
/// from them.
///
/// # Panics
/// When a promise is broken.
pub fn corpora(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else {
        return;
    };
    let place = tempdir().expect("a place");
    let [source, target] = ["text.en", "text.de"].map(|name| place.path().join(name));
    let is_tsv = choice & 1 > 0;
    let files = if is_tsv {
        write(&source, rest).expect("an input");
        CorpusFiles {
            tsv: Some(source),
            ..CorpusFiles::default()
        }
    } else {
        let (left, right) = parts(rest).unwrap_or((rest, rest));
        write(&source, left).expect("an input");
        write(&target, right).expect("an input");
        CorpusFiles::two_files(source, target)
    };
    let text = match ParallelText::open(&files) {
        Ok(text) => text,
        Err(error) => return message::check(&error, &["text.en", "text.de"], data),
    };
    assert_eq!(text.source.len(), text.target.len());
    assert_eq!(text.source.len() as u64, text.report.lines);
    assert_eq!(text.files.len(), if is_tsv { 1 } else { 2 });
    check_lines(&text, rest, is_tsv);
    let corpus = encode(&text, choice, data);
    change(&text);
    learn(&text, choice, data);
    if let Some(corpus) = corpus {
        check_batches(corpus, choice);
    }
}

/// Checks that the lines are those of the files, if the files are not compressed.
fn check_lines(text: &ParallelText, rest: &[u8], is_tsv: bool) {
    const GZIP: &[u8] = b"\x1f\x8b";
    let is_same = |read: &[String], file: &[u8]| {
        file.starts_with(GZIP) || read.iter().map(String::as_bytes).eq(plain_lines(file).iter().copied())
    };
    if is_tsv {
        let joined: Vec<String> = text
            .source
            .iter()
            .zip(&text.target)
            .map(|(source, target)| format!("{source}\t{target}"))
            .collect();
        // An empty line is an empty pair.
        let expected = plain_lines(rest)
            .into_iter()
            .map(|line| if line.is_empty() { b"\t" } else { line });
        assert!(rest.starts_with(GZIP) || joined.iter().map(String::as_bytes).eq(expected));
    } else {
        let (left, right) = parts(rest).unwrap_or((rest, rest));
        assert!(is_same(&text.source, left) && is_same(&text.target, right));
    }
}

/// Encodes the corpus as bytes and filters it.
fn encode(text: &ParallelText, choice: u8, data: &[u8]) -> Option<Arc<Corpus>> {
    let config = config(choice);
    let bytes = |lines: &[&str]| -> Result<Vec<Vec<u32>>, DataError> {
        Ok(lines.iter().map(|line| line.bytes().map(u32::from).collect()).collect())
    };
    match Corpus::build(std::slice::from_ref(text), 256, &config.filters(), bytes, bytes) {
        Ok(corpus) => {
            let report = corpus.reports().next().expect("a report of the only corpus");
            assert_eq!(report.read, text.source.len() as u64);
            assert_eq!(report.read, report.kept + report.dropped());
            assert_eq!(report.kept, corpus.len() as u64);
            for pair in corpus.pairs() {
                let line = text.source.get(pair.id as usize).expect("the line of a pair");
                assert_eq!(pair.source.len(), line.len() + 1);
                assert!(pair.source.len().max(pair.target.len()) <= config.max_length);
                assert_eq!(corpus.origin(pair.id).map(|(_, line)| line), Some(pair.id + 1));
            }
            Some(Arc::new(corpus))
        }
        Err(error) => {
            message::check(&error, &["text.en", "text.de"], data);
            None
        }
    }
}

fn config(choice: u8) -> DataConfig {
    DataConfig {
        batch_tokens: [1, 7, 64, 4096][usize::from(choice >> 1 & 3)],
        max_length: if choice & 8 > 0 { 12 } else { 200 },
        max_length_ratio: if choice & 16 > 0 { 2.0 } else { 0.0 },
        drop_duplicates: choice & 32 > 0,
        pool_pairs: 3,
        prefetch_batches: 1,
        ..DataConfig::default()
    }
}

/// Checks that every pair is in exactly one batch, in an epoch and in validation.
fn check_batches(corpus: Arc<Corpus>, choice: u8) {
    let config = config(choice);
    let everything: Vec<usize> = (0..corpus.len()).collect();
    let sampler = Sampler::new(corpus.clone(), &config, 1);
    let epoch = sampler.epoch(0).expect("an epoch");
    for batches in [&epoch, &fixed_batches(&corpus, config.batch_tokens)] {
        let mut pairs = batches.concat();
        pairs.sort_unstable();
        assert_eq!(pairs, everything);
        assert!(batches.iter().all(|batch| !batch.is_empty()));
    }
    let mut stream = BatchStream::start(sampler, Cursor::default(), 1).expect("the beginning of an epoch");
    let (batch, _) = stream.next().expect("a batch").expect("a batch that is whole");
    let flat = batch.flatten(257);
    assert_eq!(batch.examples.len(), epoch[0].len());
    drop(flat);
}

/// Changes every pair in every way.
fn change(text: &ParallelText) {
    let all = AugmentConfig {
        upper_case: 0.5,
        title_case: 0.5,
        typos: 1.0,
        punctuation: 1.0,
        placeholders: 1.0,
        merge: 0.0,
    };
    for (id, (source, target)) in (0..).zip(text.source.iter().zip(&text.target)) {
        let changed = all.changed(source, target, 1, 0, id);
        assert_eq!(changed, all.changed(source, target, 1, 0, id));
        assert_eq!(all.cased(source, None, 1, 0, id).is_empty(), source.is_empty());
    }
}

/// Learns a tokenizer, as training does.
fn learn(text: &ParallelText, choice: u8, data: &[u8]) {
    if text.source.iter().chain(&text.target).map(String::len).sum::<usize>() > MOST_TO_LEARN_FROM {
        return;
    }
    let config = TextConfig {
        kind: [Kind::Bpe, Kind::Unigram, Kind::Char, Kind::Word][usize::from(choice >> 1 & 3)],
        vocabulary: 300,
        shared: choice & 64 > 0,
        byte_fallback: choice & 128 > 0,
        ..TextConfig::default()
    };
    match Tokenizers::learn(&config, &text.source, &text.target, 1) {
        Ok(tokenizers) => {
            assert!(tokenizers.source.vocabulary_size() <= 300);
            for line in text.source.iter().take(8) {
                super::tokenizers::check_line(&tokenizers.source, line);
            }
        }
        // There may be too many characters, or nothing to learn from; that is not a fault of the file.
        Err(error @ (TextError::VocabularyTooSmall { .. } | TextError::NoText | TextError::Learn(_))) => {
            message::check(&error, &[], data);
        }
        Err(error) => panic!("learning from text that could be read: {error}"),
    }
}
