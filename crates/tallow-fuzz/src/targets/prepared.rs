//! Prepared corpora.

use crate::message;
use std::fs::{read, write};
use std::path::Path;
use std::sync::OnceLock;
use tallow_data::{
    CorpusFiles, DataConfig, DataError, Encoded, Filters, Pair, PairOfLines, PairSource, Preparation, PreparedCorpora,
    PreparedCorpus, Reading, Recipe, Sampler, TextRecord,
};
use tempfile::tempdir;

/// The extensions of the files.
pub(crate) const FILES: [&str; 3] = ["json", "pairs", "offsets"];

const TEXT: &str = "one two\teins zwei\nthree\tdrei\n\t\nfour five six\tvier\nthree\tdrei\n";
const LINKS: &str = "0-0 1-1\n0-0\n\n0-0 2p0\n0-0\n";

/// A prepared corpus in which one file is replaced. It is opened, or its error names the file. Every pair that can be
/// read is the pair that was written. It can be prepared anew, whatever the files are.
///
/// # Panics
/// When a promise is broken.
pub fn prepared(data: &[u8]) {
    let Some((&choice, contents)) = data.split_first() else {
        return;
    };
    let has_links = choice & 4 > 0;
    let extension = FILES[usize::from(choice & 3) % FILES.len()];
    let place = tempdir().expect("a place");
    let base = place.path().join("corpus");
    for (extension, valid) in FILES.iter().zip(files(has_links)) {
        write(base.with_extension(extension), valid).expect("a file");
    }
    write(base.with_extension(extension), contents).expect("an input");
    match PreparedCorpus::open(&base) {
        Ok(None) => panic!("a corpus that is there was not found"),
        Ok(Some(corpus)) => check_pairs(corpus, has_links, data),
        Err(error) => message::check(&error, &["corpus."], data),
    }
    // A preparation does not trust what is there.
    let again = prepare(place.path(), has_links);
    assert_eq!(
        pairs(again).expect("a corpus that was prepared a moment ago"),
        expected(has_links)
    );
    for (extension, valid) in FILES.iter().zip(files(has_links)) {
        // The description names paths.
        assert!(*extension == "json" || read(base.with_extension(extension)).expect("a file") == *valid);
    }
}

/// What a pair says.
type Said = (u64, Vec<u32>, Vec<u32>, usize);

fn check_pairs(corpus: PreparedCorpus, has_links: bool, data: &[u8]) {
    let names = ["corpus."];
    let corpora = match PreparedCorpora::new(vec![(corpus, 1.0)]) {
        Ok(corpora) => corpora,
        // A description may say that no pair is left.
        Err(error @ DataError::AllDropped { .. }) => return message::check(&error, &[], data),
        Err(error) => return message::check(&error, &names, data),
    };
    let expected = expected(has_links);
    for (index, expected) in expected.iter().enumerate().take(corpora.pair_count()) {
        let mut found = None;
        match corpora.read(&[index], &mut |pair| found = Some(said(pair))) {
            Ok(()) => assert_eq!(found.as_ref(), Some(expected), "pair {index}"),
            Err(error) => message::check(&error, &names, data),
        }
    }
    let sampler = Sampler::new(std::sync::Arc::new(corpora), &DataConfig::default(), 1);
    match sampler.epoch(0) {
        Ok(batches) => assert_eq!(batches.concat().len(), expected.len()),
        Err(error) => message::check(&error, &names, data),
    }
}

fn said(pair: Pair<'_>) -> Said {
    (pair.id, pair.source.to_vec(), pair.target.to_vec(), pair.links.len())
}

fn pairs(corpus: PreparedCorpus) -> Result<Vec<Said>, DataError> {
    let corpora = PreparedCorpora::new(vec![(corpus, 1.0)])?;
    let all: Vec<usize> = (0..corpora.pair_count()).collect();
    let mut pairs = Vec::new();
    corpora.read(&all, &mut |pair| pairs.push(said(pair)))?;
    Ok(pairs)
}

/// The pairs of the text, by another way than preparing it.
fn expected(has_links: bool) -> Vec<Said> {
    let numbered = (0..).zip(TEXT.lines().zip(LINKS.lines()));
    let pair = |(line, (text, links)): (u64, (&str, &str))| {
        let (source, target) = text.split_once('\t')?;
        let tokens = |side: &str| side.bytes().map(u32::from).chain([256]).collect();
        let count = if has_links { links.split_whitespace().count() } else { 0 };
        (!source.is_empty()).then(|| (line, tokens(source), tokens(target), count))
    };
    numbered.filter_map(pair).collect()
}

/// Prepares the text in a folder, as bytes.
fn prepare(folder: &Path, has_links: bool) -> PreparedCorpus {
    let path = |name: &str| folder.join(name);
    write(path("text.tsv"), TEXT).expect("a text");
    write(path("text.links"), LINKS).expect("links");
    let files = CorpusFiles {
        alignments: has_links.then(|| path("text.links")),
        ..CorpusFiles::tsv(path("text.tsv"))
    };
    let text = TextRecord::read(&files, |_| {}).expect("a text");
    let preparation = Preparation {
        files: &files,
        base: &path("corpus"),
        recipe: Recipe {
            text: text.files,
            reading: Reading::default(),
            alignments: text.alignments,
            links: has_links,
            tokenizers: ["bytes".into(), "bytes".into()],
            filters: Filters {
                drop_empty: true,
                ..Filters::NONE
            },
            clean_model: None,
            clean: None,
            after: Vec::new(),
        },
        end_id: 256,
        largest_id: 256,
        duplicates: None,
        cleaning: None,
        workers: 1,
    };
    let encode = |pairs: &[PairOfLines]| -> Result<Vec<Encoded>, DataError> {
        let bytes = |line: &str| line.bytes().map(u32::from).collect();
        let encoded = |pair: &PairOfLines| Encoded {
            source: bytes(&pair.source),
            target: bytes(&pair.target),
            has_other_words: false,
        };
        Ok(pairs.iter().map(encoded).collect())
    };
    preparation.run(&encode, |_| {}).expect("a prepared corpus")
}

/// The files of the prepared text, in the order of [`FILES`].
pub(crate) fn files(has_links: bool) -> &'static [Vec<u8>; 3] {
    static MADE: [OnceLock<[Vec<u8>; 3]>; 2] = [OnceLock::new(), OnceLock::new()];
    MADE[usize::from(has_links)].get_or_init(|| {
        let place = tempdir().expect("a place");
        let corpus = prepare(place.path(), has_links);
        FILES.map(|extension| {
            let contents = read(corpus.base().with_extension(extension)).expect("a file");
            // The folder is another one each time.
            match String::from_utf8(contents) {
                Ok(text) => text.replace(&place.path().display().to_string(), "place").into_bytes(),
                Err(error) => error.into_bytes(),
            }
        })
    })
}
