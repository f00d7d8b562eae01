//! From files to encoded pairs: the input that is read, refused or dropped.
#![allow(clippy::unwrap_used)] // Helpers here fail the test that calls them.

use std::convert::Infallible;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use tallow_data::{
    Batch, Corpus, CorpusFiles, DataConfig, DataError, FilterReport, Filters, ParallelText, ReadReport, Sampler, Side,
    SideReader, Tally, WordAlignments,
};

/// A directory with files of these names and contents.
fn files(contents: &[(&str, &[u8])]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in contents {
        fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn two_files(directory: &Path) -> CorpusFiles {
    CorpusFiles::two_files(directory.join("a.en"), directory.join("a.de"))
}

/// Opens `a.en` and `a.de` of these contents.
fn open(source: &[u8], target: &[u8]) -> Result<ParallelText, DataError> {
    ParallelText::open(&two_files(files(&[("a.en", source), ("a.de", target)]).path()))
}

fn open_tsv(content: &[u8]) -> Result<ParallelText, DataError> {
    ParallelText::open(&CorpusFiles::tsv(files(&[("a.tsv", content)]).path().join("a.tsv")))
}

/// The message without the directory.
fn message(result: Result<impl std::fmt::Debug, DataError>) -> String {
    let message = result.unwrap_err().to_string();
    let words: Vec<&str> = message
        .split(' ')
        .map(|word| word.rsplit('/').next().unwrap_or(word))
        .collect();
    words.join(" ")
}

/// One token for each word: its number of bytes, plus 100.
fn by_word(lines: &[&str]) -> Result<Vec<Vec<u32>>, Infallible> {
    Ok(lines
        .iter()
        .map(|line| line.split_whitespace().map(|word| word.len() as u32 + 100).collect())
        .collect())
}

fn build(texts: &[ParallelText], filters: &Filters) -> Result<Corpus, DataError> {
    Corpus::build(texts, 7, filters, by_word, by_word)
}

fn dropped(lines: &[u64]) -> Tally {
    Tally {
        count: lines.len() as u64,
        lines: lines.to_vec(),
    }
}

fn ids(corpus: &Corpus) -> Vec<u64> {
    corpus.pairs().map(|pair| pair.id).collect()
}

#[test]
fn two_files_gzip_and_tsv_hold_the_same_text() {
    let two = open(b"a man\na dog\n", b"ein Mann\nein Hund").unwrap();
    assert_eq!(two.source, ["a man", "a dog"]);
    assert_eq!(two.target, ["ein Mann", "ein Hund"]);
    assert_eq!(
        two.report,
        ReadReport {
            lines: 2,
            ..ReadReport::default()
        }
    );
    let compressed = open(&gzip(b"a man\na dog\n"), &gzip(b"ein Mann\nein Hund")).unwrap();
    for (plain, compressed) in two.files.iter().zip(&compressed.files) {
        assert_eq!(plain.sha256, compressed.sha256);
    }
    for tsv in [
        b"a man\tein Mann\na dog\tein Hund\n".to_vec(),
        gzip(b"a man\tein Mann\r\na dog\tein Hund\r\n"),
    ] {
        let tsv = open_tsv(&tsv).unwrap();
        assert_eq!((tsv.source, tsv.target), (two.source.clone(), two.target.clone()));
        assert_eq!(tsv.files.len(), 1);
    }
}

#[test]
fn repairs_and_empty_pairs_are_counted() {
    let text = open(
        "\u{feff}a\r\n\r\nc\n \nz\0\n".as_bytes(),
        "\u{feff}A\nB\r\nC\nD\n\n".as_bytes(),
    )
    .unwrap();
    assert_eq!(text.source, ["a", "", "c", " ", "z\0"]);
    assert_eq!(
        text.report,
        ReadReport {
            lines: 5,
            carriage_returns: 3,
            byte_order_marks: 2,
            empty: 3,
            repaired: 0,
            untranslated: 0,
        }
    );
    let shown = "5 lines, 3 empty, 3 ended in a carriage return (stripped), 2 byte order marks (stripped)";
    assert_eq!(text.report.to_string(), shown);
    let tsv = open_tsv(b"a\tA\r\n\nb\t\n\t\n").unwrap();
    assert_eq!(tsv.target, ["A", "", "", ""]);
    assert_eq!(
        tsv.report,
        ReadReport {
            lines: 4,
            carriage_returns: 1,
            byte_order_marks: 0,
            empty: 3,
            repaired: 0,
            untranslated: 0,
        }
    );
}

#[test]
fn bad_files_are_one_error_with_file_and_line() {
    let expected = "a.de: line 2 is missing: this file has 1 line, a.en has 3; \
                    line N of both must be translations of each other";
    assert_eq!(message(open(b"a\nb\nc\n", b"A\n")), expected);
    assert!(message(open(b"a\n", b"A\nB\n")).starts_with("a.en: line 2 is missing: this file has 1 line, a.de has 2"));
    assert!(message(open(b"a\nb\n", b"A\nB\xc3\n")).starts_with("a.de: line 2: not UTF-8 at byte 2 of the line"));
    assert_eq!(message(open(b"", b"A\n")), "a.en: line 1 is missing: the file is empty");
    assert_eq!(
        message(open(b"a\n", &gzip(b""))),
        "a.de: line 1 is missing: the file is empty"
    );
    assert_eq!(message(open_tsv(b"")), "a.tsv: line 1 is missing: the file is empty");
    assert_eq!(
        message(open_tsv(b"a\tA\nb B\n")),
        "a.tsv: line 2: 1 column where a source, one tab and a target are expected"
    );
    assert_eq!(
        message(open_tsv(b"a\tA\tCC-BY\n")),
        "a.tsv: line 1: 3 columns where a source, one tab and a target are expected; `cut -f1,2` keeps the first two"
    );
    assert!(message(open_tsv(b"a\tA\nb\t\xff\n")).starts_with("a.tsv: line 2: not UTF-8 at byte 3 of the line"));
    let cut_off = gzip(&b"a line of text that is long enough\n".repeat(1000));
    let cut_off = message(open(&cut_off[..cut_off.len() / 2], b"A\n"));
    assert!(
        cut_off.starts_with("a.en: line ") && cut_off.ends_with("fetch or compress the file again"),
        "{cut_off}"
    );
    let missing = ParallelText::open(&CorpusFiles::two_files("no-such.en", "no-such.de"));
    assert!(message(missing).starts_with("no-such.en: cannot open: "));
    let neither = message(ParallelText::open(&CorpusFiles::default()));
    assert_eq!(
        neither,
        "a corpus needs `source` and `target`, or one of `tsv`, `tmx` and `po`, and this one has none of them"
    );
}

#[test]
fn pairs_are_stored_with_end_of_sentence_and_stable_ids() {
    let texts = [
        open(b"a\n\nbb cc\n", b"AAA\nB\nC\n").unwrap(),
        open_tsv(b"ddd\tD DD\n").unwrap(),
    ];
    let corpus = build(&texts, &DataConfig::default().filters()).unwrap();
    let pairs: Vec<_> = corpus
        .pairs()
        .map(|pair| (pair.id, pair.source.to_vec(), pair.target.to_vec()))
        .collect();
    // The second line is empty and leaves a gap in the ids.
    let expected = [
        (0, vec![101, 7], vec![103, 7]),
        (2, vec![102, 102, 7], vec![101, 7]),
        (3, vec![103, 7], vec![101, 102, 7]),
    ];
    assert_eq!(pairs, expected);
    assert_eq!(corpus.lengths(2), (2, 3));
    assert_eq!(corpus.files().count(), 3);
    let origin = |id| {
        corpus
            .origin(id)
            .map(|(name, line)| (name.rsplit('/').next().unwrap().to_owned(), line))
    };
    assert_eq!(origin(2), Some(("a.de".into(), 3)));
    assert_eq!(origin(3), Some(("a.tsv".into(), 1)));
    assert_eq!(origin(4), None);
}

#[test]
fn every_filter_counts_what_it_drops() {
    let text = open_tsv(
        b"one two\teins zwei\n\
          \tleer\n\
          one two\teins zwei\n\
          1 2 3 4\t1\n\
          one two\teins drei\n\
          1 2 3 4 5\t1 2 3 4 5\n\
          blank\t \n\
          1 2 3\t1\n\
          one two\teins zwei\n",
    )
    .unwrap();
    let mut filters = Filters {
        drop_empty: true,
        drop_duplicates: true,
        max_length: Some(5),
        max_length_ratio: Some(2.0),
    };
    let corpus = build(std::slice::from_ref(&text), &filters).unwrap();
    let report = corpus.reports().next().unwrap();
    let expected = FilterReport {
        corpus: text.name(),
        read: 9,
        kept: 3,
        empty: dropped(&[2, 7]),
        duplicate: dropped(&[3, 9]),
        // 5 tokens and </s> are 6, which is too long; 4 tokens and </s> are 5, which is not.
        too_long: dropped(&[6]),
        // 5 to 2 is more than twice as long; 4 to 2 is not.
        ratio: dropped(&[4]),
        unclean: Vec::new(),
        unaligned: dropped(&[]),
    };
    assert_eq!(*report, expected);
    assert_eq!(ids(&corpus), [0, 4, 7]);
    assert_eq!(report.kept + report.dropped(), report.read);
    let shown = "kept 3 of 9 pairs; dropped 2 empty (lines 2, 7), 2 duplicate (lines 3, 9), 1 too long (line 6), \
                 1 with too different lengths (line 4)";
    assert!(report.to_string().ends_with(shown), "{report}");

    filters.drop_duplicates = false;
    assert_eq!(
        ids(&build(std::slice::from_ref(&text), &filters).unwrap()),
        [0, 2, 4, 7, 8]
    );
    // Scoring must drop nothing: a blank line is `</s>` alone.
    let all = build(std::slice::from_ref(&text), &Filters::NONE).unwrap();
    assert_eq!(all.len(), 9);
    assert_eq!(all.pair(1).source, [7]);
}

#[test]
fn duplicates_are_found_across_corpora() {
    let texts = [
        open_tsv(b"a\tA\nb\tB\n").unwrap(),
        open_tsv(b"b\tB\na\tB\nab\t\nc\tC\n").unwrap(),
    ];
    let filters = Filters {
        drop_duplicates: true,
        ..Filters::NONE
    };
    let corpus = build(&texts, &filters).unwrap();
    assert_eq!(ids(&corpus), [0, 1, 3, 4, 5]);
    let duplicates: Vec<_> = corpus.reports().map(|report| report.duplicate.clone()).collect();
    assert_eq!(duplicates, [dropped(&[]), dropped(&[1])]);
}

#[test]
fn a_very_long_line_is_dropped_and_counted() {
    let long = "word ".repeat(20_000);
    assert_eq!(long.len(), 100_000);
    let text = open(format!("a\n{long}\nb\n").as_bytes(), b"A\nB\nC\n").unwrap();
    let corpus = build(&[text], &DataConfig::default().filters()).unwrap();
    assert_eq!(ids(&corpus), [0, 2]);
    assert_eq!(corpus.reports().next().unwrap().too_long, dropped(&[2]));
}

#[test]
fn a_corpus_of_which_nothing_is_left_says_why() {
    let text = open_tsv(b"\tA\nb b b\tB\n").unwrap();
    let filters = Filters {
        drop_empty: true,
        max_length: Some(3),
        ..Filters::NONE
    };
    let error = message(build(std::slice::from_ref(&text), &filters));
    let expected = "no pair is left of 2: a.tsv: kept 0 of 2 pairs; dropped 1 empty (line 1), 1 too long (line 2); \
                    loosen data.max_length or data.max_length_ratio, or check the files";
    assert_eq!(error, expected);
    // Beside another corpus, an empty one is reported, but is not an error.
    let other = open_tsv(b"c\tC\n").unwrap();
    let corpus = build(&[text, other], &filters).unwrap();
    assert_eq!(corpus.reports().map(|report| report.kept).collect::<Vec<_>>(), [0, 1]);
    assert!(matches!(build(&[], &filters), Err(DataError::NoCorpus)));
}

#[test]
fn an_encoder_that_fails_is_named_with_its_lines() {
    let text = open(b"a\n\nb\n", b"A\nB\nC\n").unwrap();
    let filters = DataConfig::default().filters();
    let fail = |_: &[&str]| Err::<Vec<Vec<u32>>, _>("no such piece");
    let well = |lines: &[&str]| Ok::<_, &str>(vec![vec![1]; lines.len()]);
    let none = |_: &[&str]| Ok::<_, &str>(Vec::new());
    let texts = [text];
    let error = message(Corpus::build(&texts, 0, &filters, well, fail));
    assert_eq!(error, "a.de: lines 1 to 3: cannot encode: no such piece");
    let error = message(Corpus::build(&texts, 0, &filters, none, well));
    assert_eq!(
        error,
        "a.en: lines 1 to 3: the encoder returned 0 sequences for 2 lines"
    );
    // A line that encodes to nothing counts as empty, like a blank one.
    let nothing = |lines: &[&str]| Ok::<_, &str>(vec![vec![]; lines.len()]);
    assert!(message(Corpus::build(&texts, 0, &filters, well, nothing)).contains("dropped 3 empty (lines 1, 2, 3)"));
}

#[test]
fn a_weight_must_be_positive() {
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let text = ParallelText {
            weight,
            alignments: None,
            ..open_tsv(b"a\tA\n").unwrap()
        };
        assert!(
            matches!(build(&[text], &Filters::NONE), Err(DataError::Weight { .. })),
            "{weight}"
        );
    }
}

#[test]
fn many_chunks_keep_their_order() {
    let lines: String = (0..10_000)
        .map(|number| format!("{}\n", "x".repeat(1 + number % 97)))
        .collect();
    let corpus = build(&[open(lines.as_bytes(), lines.as_bytes()).unwrap()], &Filters::NONE).unwrap();
    assert_eq!(corpus.len(), 10_000);
    for (number, pair) in corpus.pairs().enumerate() {
        assert_eq!(
            (pair.id, pair.source),
            (number as u64, [101 + number as u32 % 97, 7].as_slice())
        );
        assert_eq!(pair.source, pair.target);
    }
}

#[test]
fn paths_are_kept_as_they_were_given() {
    let directory = files(&[("a.en", b"a\n"), ("a.de", b"A\n")]);
    let text = ParallelText::open(&two_files(directory.path())).unwrap();
    let paths: Vec<PathBuf> = text.files.into_iter().map(|file| file.path).collect();
    assert_eq!(paths, [directory.path().join("a.en"), directory.path().join("a.de")]);
}

/// Tokens from 100 on begin words, others go on with them.
fn words_of(tokens: &[u32]) -> Vec<u32> {
    let mut begun = 0;
    let word = |token: &u32| {
        begun += u32::from(*token >= 100);
        begun - 1
    };
    tokens.iter().map(word).collect()
}

#[test]
fn word_alignments_follow_the_pairs_and_their_cuts() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.align");
    std::fs::write(&path, "0-0\n\n1-0 0-1\n0-0\n").unwrap();
    let mut aligned = open(b"a\n\nbb cc\nx y\n", b"AAA\nB\nCC D\nz\n").unwrap();
    aligned.alignments = Some(WordAlignments::open(&path, &aligned.source, &aligned.target).unwrap());
    let plain = open_tsv(b"ddd\tD DD\n").unwrap();
    let texts = [plain, aligned];
    let corpus = build(&texts, &DataConfig::default().filters()).unwrap();
    // The file of the alignments is part of the record, whether it has an effect or not.
    assert_eq!((corpus.files().count(), corpus.len()), (4, 4));
    // The second function finds one word too few in a line that ends in z.
    let corpus = corpus.align_with(
        &texts,
        Box::new(words_of),
        Box::new(|tokens| if tokens == [101] { vec![9] } else { words_of(tokens) }),
    );
    let report = corpus.reports().nth(1).unwrap();
    assert_eq!(
        (&report.unaligned, report.kept, report.empty.count),
        (&dropped(&[4]), 3, 1)
    );
    assert!(
        report
            .to_string()
            .ends_with("; 1 without word alignments, because the tokenizer has other words (line 4)")
    );
    let links = |batch: Batch| -> Vec<Vec<(u32, u32)>> { batch.examples.into_iter().map(|pair| pair.links).collect() };
    let all = [0, 1, 2, 3];
    assert_eq!(
        links(corpus.batch(&all)),
        [vec![], vec![(0, 0)], vec![(0, 1), (1, 0)], vec![]]
    );
    // Every token of the source becomes two.
    let twice = |tokens: &[u32], _: &mut dyn FnMut() -> f64| tokens.iter().flat_map(|token| [*token, 50]).collect();
    let corpus = corpus.recut_with(Box::new(twice), Box::new(|tokens, _| tokens.to_vec()), 20);
    let sampler = Sampler::new(Arc::new(corpus), &DataConfig::default(), 1);
    let cut = links(sampler.batch(0, &all).unwrap());
    assert_eq!(cut[1..3], [vec![(0, 0), (0, 1)], vec![(0, 2), (0, 3), (1, 0), (1, 1)]]);
}

/// The forms of translators give the same pairs as plain text.
#[test]
fn translation_memories_and_po_files_are_corpora() {
    let tmx = "<tmx><header srclang=\"en\"/><body><tu><tuv xml:lang=\"en\"><seg>a b</seg></tuv>\
               <tuv xml:lang=\"de\"><seg>A B</seg></tuv></tu><tu><tuv xml:lang=\"en\"><seg>c</seg></tuv></tu></body></tmx>";
    let po = "msgid \"a b\"\nmsgstr \"A B\"\n\nmsgid \"c\"\nmsgstr \"\"\n";
    let directory = files(&[
        ("x.tmx", tmx.as_bytes()),
        ("x.po", po.as_bytes()),
        ("e.po", b"msgid \"c\"\nmsgstr \"\"\n"),
    ]);
    let at = |name: &str| directory.path().join(name);
    let forms = [
        CorpusFiles {
            tmx: Some(at("x.tmx")),
            ..CorpusFiles::default()
        },
        CorpusFiles {
            po: Some(at("x.po")),
            ..CorpusFiles::default()
        },
    ];
    for form in &forms {
        let text = ParallelText::open(form).unwrap();
        assert_eq!(
            (text.source, text.target),
            (vec!["a b".to_owned()], vec!["A B".to_owned()])
        );
        assert_eq!(
            (text.report.lines, text.report.untranslated, text.files.len()),
            (1, 1, 1)
        );
        let targets: Vec<String> = SideReader::open(form, Side::Target)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(targets, ["A B"]);
    }
    let other = CorpusFiles {
        languages: Some(["fr".into(), "de".into()]),
        ..forms[0].clone()
    };
    let error = message(ParallelText::open(&other));
    assert!(
        error.ends_with("x.tmx: no entry has both languages, fr and de; `languages` names others"),
        "{error}"
    );
    let empty = CorpusFiles {
        po: Some(at("e.po")),
        ..CorpusFiles::default()
    };
    let error = message(ParallelText::open(&empty));
    assert!(error.ends_with("e.po: no entry has a translation"), "{error}");
}

/// A prefix stands before every line that is not blank, and word alignments follow.
#[test]
fn prefixes_stand_before_the_lines() {
    let directory = files(&[("a.tsv", b"a b\tA\n\tB\nc\tC D\n"), ("a.links", b"1-0\n\n0-1\n")]);
    let form = CorpusFiles {
        source_prefix: Some(">>de<<".into()),
        target_prefix: Some("say it:".into()),
        alignments: Some(directory.path().join("a.links")),
        ..CorpusFiles::tsv(directory.path().join("a.tsv"))
    };
    let text = ParallelText::open(&form).unwrap();
    assert_eq!(text.source, [">>de<< a b", "", ">>de<< c"]);
    assert_eq!(text.target, ["say it: A", "say it: B", "say it: C D"]);
    let links = text.alignments.unwrap();
    let places = |line| {
        links
            .line(line)
            .iter()
            .map(|link| (link.source, link.target))
            .collect::<Vec<_>>()
    };
    assert_eq!([places(0), places(1), places(2)], [vec![(2, 2)], vec![], vec![(1, 3)]]);
    for (side, expected) in [(Side::Source, &text.source), (Side::Target, &text.target)] {
        let lines: Vec<String> = SideReader::open(&form, side).unwrap().map(Result::unwrap).collect();
        assert_eq!(lines, *expected);
    }
    assert_eq!(text.report.empty, 1);
}
