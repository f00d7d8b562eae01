//! Preparing text with every reason to drop pairs, whole and in parts.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::duplicates::duplicates;
use crate::filter::Filters;
use crate::pair_source::{Pair, PairSource};
use crate::parallel::ParallelText;
use crate::prepared::PreparedCorpora;
use crate::text_record::{Reading, TextRecord};
use crate::{Corpus, WordAlignments};

const FILTERS: Filters = Filters {
    drop_empty: true,
    drop_duplicates: true,
    max_length: Some(8),
    max_length_ratio: Some(3.0),
};
const END: u32 = 70_000;

fn tokens(line: &str) -> Vec<u32> {
    line.split_whitespace().map(|word| word.len() as u32 * 100).collect()
}

fn encode(pairs: &[PairOfLines]) -> Result<Vec<Encoded>, String> {
    let encoded = |pair: &PairOfLines| Encoded {
        source: tokens(&pair.source),
        target: tokens(&pair.target),
        has_other_words: pair.source.contains('x'),
    };
    Ok(pairs.iter().map(encoded).collect())
}

struct Place {
    folder: tempfile::TempDir,
    files: CorpusFiles,
}

impl Place {
    /// Text with empty, repeated, long and uneven pairs, and links between some words.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let words = |line: u64, count: u64| {
            let end = if line.is_multiple_of(9) { "x" } else { "" };
            let word = |place: u64| "ab".repeat((1 + (line * 7 + place * 3) % 5) as usize) + end;
            let number = (count > 0).then(|| line.to_string());
            (1..count).map(word).chain(number).collect::<Vec<_>>().join(" ")
        };
        let (mut text, mut links) = (String::new(), String::new());
        for line in 0..1000 {
            // Every fiftieth pair is the one before it.
            let line = if line % 50 == 49 { line - 1 } else { line };
            let (source, target) = (words(line, line * 3 % 11), words(line + 1, line * 5 % 7));
            let link = if line * 3 % 11 > 0 && line * 5 % 7 > 0 {
                "0-0"
            } else {
                ""
            };
            text += &format!("{source}\t{target}\n");
            links += &format!("{link}\n");
        }
        std::fs::write(folder.path().join("a.tsv"), text).unwrap();
        std::fs::write(folder.path().join("a.links"), links).unwrap();
        let files = CorpusFiles {
            alignments: Some(folder.path().join("a.links")),
            ..CorpusFiles::tsv(folder.path().join("a.tsv"))
        };
        Self { folder, files }
    }

    fn base(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn recipe(&self, links: bool) -> Recipe {
        let record = TextRecord::read(&self.files, |_| {}).unwrap();
        Recipe {
            text: record.files,
            reading: Reading::default(),
            alignments: record.alignments,
            links,
            tokenizers: ["a".into(), "b".into()],
            filters: FILTERS,
            clean_model: None,
            clean: None,
            after: Vec::new(),
        }
    }

    fn duplicates(&self) -> BitSet {
        let record = TextRecord::read(&self.files, |_| {}).unwrap();
        duplicates(&[(self.files.clone(), record)], self.folder.path(), |_| {})
            .unwrap()
            .remove(0)
    }

    fn preparation<'a>(
        &'a self,
        base: &'a Path,
        links: bool,
        largest_id: u32,
        duplicates: &'a BitSet,
    ) -> Preparation<'a> {
        Preparation {
            files: &self.files,
            base,
            recipe: self.recipe(links),
            end_id: END,
            largest_id,
            duplicates: Some(duplicates),
            cleaning: None,
            workers: 2,
        }
    }
}

fn contents(base: &Path) -> Vec<Vec<u8>> {
    let file = |extension| std::fs::read(with_extension(base, extension)).unwrap();
    [PAIRS, OFFSETS, DESCRIPTION].map(file).into()
}

/// The same text in memory and in files: the same pairs, and the same counts.
#[test]
fn files_hold_what_memory_holds() {
    let place = Place::new();
    let text = ParallelText::open(&place.files).unwrap();
    let lines = |lines: &[&str]| Ok::<_, String>(lines.iter().map(|line| tokens(line)).collect());
    let in_memory = Corpus::build(std::slice::from_ref(&text), END, &FILTERS, lines, lines).unwrap();
    let alignments: &WordAlignments = text.alignments.as_ref().unwrap();
    let duplicates = place.duplicates();
    for links in [false, true] {
        let base = place.base("b");
        let preparation = place.preparation(&base, links, END, &duplicates);
        let corpus = preparation.run(&encode, |_| {}).unwrap();
        let description = corpus.description().clone();
        let mut expected = in_memory.reports().next().unwrap().clone();
        expected.unaligned = description.report.unaligned.clone();
        assert_eq!(description.report, expected);
        assert!(expected.empty.count > 0 && expected.duplicate.count > 0);
        assert!(expected.too_long.count > 0 && expected.ratio.count > 0);
        assert_eq!(description.report.unaligned.count > 0, links);
        let (source, target) = in_memory
            .pairs()
            .fold((0, 0), |(s, t), pair| (s + pair.source.len(), t + pair.target.len()));
        assert_eq!(
            (description.source_tokens, description.target_tokens),
            (source as u64, target as u64)
        );
        corpus.verify(|_| {}).unwrap();
        let corpora = PreparedCorpora::new(vec![(corpus, 1.0)]).unwrap();
        assert_eq!(corpora.pair_count(), in_memory.len());
        // In any order, and some of them twice.
        let far: Vec<usize> = (0..corpora.pair_count()).rev().chain([5, 5, 100]).collect();
        let mut read = far.iter();
        corpora
            .read(&far, &mut |pair| {
                let expected = in_memory.pair(*read.next().unwrap());
                let line = text.source[pair.id as usize].contains('x');
                let links: &[_] = if links && !line {
                    alignments.line(pair.id as usize)
                } else {
                    &[]
                };
                assert_eq!(pair, Pair { links, ..expected });
            })
            .unwrap();
        assert!(read.next().is_none());
    }
}

#[test]
fn a_preparation_that_ends_anywhere_goes_on_to_the_same_files() {
    let place = Place::new();
    let duplicates = place.duplicates();
    let whole = place.base("whole");
    place
        .preparation(&whole, true, END, &duplicates)
        .run(&encode, |_| {})
        .unwrap();
    let base = place.base("parts");
    let pace = Pace {
        block: 37,
        bytes: usize::MAX,
        first_save: Duration::ZERO,
        save_every: Duration::ZERO,
    };
    for chunks in [0, 1, 3, 7, 20, 26] {
        let preparation = place.preparation(&base, true, END, &duplicates);
        let (left, begun) = (AtomicUsize::new(chunks), AtomicUsize::new(usize::MAX));
        let fails = |pairs: &[PairOfLines]| match left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
        {
            Ok(_) => encode(pairs),
            Err(_) => Err("killed".to_owned()),
        };
        let first = |lines: u64| {
            begun.fetch_min(lines as usize, Ordering::SeqCst);
        };
        let error = preparation.run_at(pace, &fails, first).unwrap_err();
        assert!(error.to_string().contains("killed"), "{error}");
        // What was written after the state was saved is cut off.
        for extension in [PAIRS, OFFSETS] {
            let mut file = std::fs::File::options()
                .append(true)
                .open(partial(&base, extension))
                .unwrap();
            std::io::Write::write_all(&mut file, b"more").unwrap();
        }
        let begun_again = AtomicUsize::new(usize::MAX);
        let corpus = preparation.run_at(pace, &encode, |lines| {
            begun_again.fetch_min(lines as usize, Ordering::SeqCst);
        });
        let expected = std::fs::read(with_extension(&whole, PAIRS)).unwrap();
        assert_eq!(corpus.unwrap().description().bytes, expected.len() as u64);
        assert_eq!(contents(&base), contents(&whole), "{chunks}");
        // One block is one chunk here.
        assert_eq!(begun_again.into_inner(), (37 * chunks).min(1000));
        assert!(!with_extension(&base, STATE).exists());
    }
}

#[test]
fn another_recipe_begins_anew() {
    let place = Place::new();
    let duplicates = place.duplicates();
    let base = place.base("b");
    let pace = Pace {
        block: 100,
        bytes: 4000,
        first_save: Duration::ZERO,
        save_every: Duration::ZERO,
    };
    let calls = AtomicUsize::new(0);
    let fails = |pairs: &[PairOfLines]| match calls.fetch_add(1, Ordering::SeqCst) {
        0..3 => encode(pairs),
        _ => Err("killed".to_owned()),
    };
    place
        .preparation(&base, true, END, &duplicates)
        .run_at(pace, &fails, |_| {})
        .unwrap_err();
    let mut other = place.preparation(&base, true, END, &duplicates);
    other.recipe.tokenizers[1] = "c".into();
    let mut first = None;
    other
        .run_at(pace, &encode, |lines| _ = first.get_or_insert(lines))
        .unwrap();
    assert_eq!(first, Some(0));
    // The text is not the one of the recipe.
    std::fs::write(place.base("a.links"), "\n".repeat(1000)).unwrap();
    let error = other.run(&encode, |_| {}).unwrap_err();
    assert!(matches!(error, DataError::Changed { .. }), "{error}");
    // Nothing is left that could be used.
    assert!(PreparedCorpus::open(&base).unwrap().is_none() && !with_extension(&base, STATE).exists());
    // The text changes between two parts, and is what it was again at the end: the first part is not used.
    let (text, recipe) = (
        std::fs::read_to_string(place.base("a.tsv")).unwrap(),
        place.recipe(true),
    );
    std::fs::write(place.base("a.tsv"), text.replacen("ab", "ba", 1)).unwrap();
    let changed = place.preparation(&base, true, END, &duplicates);
    let calls = AtomicUsize::new(0);
    let fails = |pairs: &[PairOfLines]| match calls.fetch_add(1, Ordering::SeqCst) {
        0..3 => encode(pairs),
        _ => Err("killed".to_owned()),
    };
    let mut first_part = changed;
    first_part.recipe = recipe.clone();
    first_part.run_at(pace, &fails, |_| {}).unwrap_err();
    assert!(with_extension(&base, STATE).exists());
    std::fs::write(place.base("a.tsv"), text).unwrap();
    let mut second_part = place.preparation(&base, true, END, &duplicates);
    second_part.recipe = recipe;
    let error = second_part.run(&encode, |_| {}).unwrap_err();
    assert!(matches!(error, DataError::Changed { .. }), "{error}");
    let mut first = None;
    second_part
        .run(&encode, |lines| _ = first.get_or_insert(lines))
        .unwrap();
    assert_eq!(first, Some(0));
}

#[test]
fn tokens_take_two_bytes_where_they_can() {
    let place = Place::new();
    let duplicates = place.duplicates();
    let (narrow, wide) = (place.base("narrow"), place.base("wide"));
    let mut preparation = place.preparation(&narrow, false, 65_535, &duplicates);
    preparation.end_id = 65_535;
    let narrow = preparation.run(&encode, |_| {}).unwrap();
    let wide = place
        .preparation(&wide, false, 65_536, &duplicates)
        .run(&encode, |_| {})
        .unwrap();
    let (narrow, wide) = (narrow.description(), wide.description());
    assert_eq!((narrow.token_bytes, wide.token_bytes), (2, 4));
    let tokens = wide.source_tokens + wide.target_tokens;
    assert_eq!(wide.bytes - narrow.bytes, 2 * tokens);
}
