//! Hostile lines survive encoding and decoding.

// Helper functions outside `#[test]` unwrap as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::{Duration, Instant};

use tallow_text::{Kind, Normalization, TextConfig, Tokenizer};

const HOSTILE: &[&str] = &[
    "",
    " ",
    "    ",
    " leading and trailing ",
    "  two  and   three   ",
    "tab\tand\u{a0}no-break\u{3000}ideographic",
    "\t",
    "nul \0 control \u{1}\u{7f} escape \u{1b}[0m",
    "\0",
    "zero\u{200b}width \u{200d}\u{feff}\u{2060}",
    "line\u{2028}paragraph\u{2029}next\u{85}feed\u{c}",
    "e\u{301} is not \u{e9}; \u{301}alone; a\u{300}\u{301}\u{302}\u{303}\u{304}",
    "\u{1F600} \u{1F468}\u{200d}\u{1F469}\u{200d}\u{1F467} \u{1F1E9}\u{1F1EA} \u{1F44D}\u{1F3FD}",
    "漢字かな交じり文、句読点。",
    "مرحبا \u{202e}بالعالم\u{202c} שלום",
    "नमस्ते สวัสดี 한국어 ქართული",
    "\u{10ffff}\u{e000}\u{fffd}\u{fffe}",
    "</s>",
    "<unk>",
    "<pad>",
    "a</s>b <unk><pad> <s>",
    "<0x41>",
    "<0x41><0x42> <0xE2><0x96><0x81> <0xFF>",
    "<extra0> <extra>",
    "<",
    "<<<>>> < <a <",
    "[SEP] [PAD] <|endoftext|>",
    "\\n \\u0041 %20 &lt;",
];

fn text() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text.txt");
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn config(kind: Kind, byte_fallback: bool) -> TextConfig {
    TextConfig {
        kind,
        vocabulary: 700,
        byte_fallback,
        trim: false,
        ..TextConfig::default()
    }
}

#[track_caller]
fn assert_survives(tokenizer: &Tokenizer, line: &str) {
    let ids = tokenizer.encode(line).unwrap();
    assert_eq!(
        tokenizer.decode(&ids).unwrap(),
        line,
        "{:?}",
        tokenizer.pieces(line).unwrap()
    );
    for special in [tokenizer.eos_id(), tokenizer.pad_id(), tokenizer.unk_id()] {
        assert!(!ids.contains(&special), "{line:?} has the special id {special}");
    }
}

/// A generator of pseudo-random numbers, good enough to vary tests.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound as u64) as usize
    }

    fn character(&mut self) -> char {
        const PLANES: [(u32, u32); 6] = [
            (0x20, 0x7f),
            (0, 0x20),
            (0xa0, 0x250),
            (0x300, 0x600),
            (0x4e00, 0x9fff),
            (0x1f300, 0x1f700),
        ];
        let (low, high) = PLANES[self.below(PLANES.len())];
        char::from_u32(low + self.below((high - low) as usize) as u32).unwrap()
    }
}

#[test]
fn any_line_survives_with_byte_fallback() {
    for kind in [Kind::Bpe, Kind::Unigram, Kind::Char] {
        let tokenizer = Tokenizer::learn(&config(kind, true), text(), 1).unwrap();
        for line in HOSTILE {
            assert_survives(&tokenizer, line);
        }
        let mut random = Random(1);
        for _ in 0..500 {
            let length = random.below(60);
            let line: String = (0..length).map(|_| random.character()).collect();
            assert_survives(&tokenizer, &line);
        }
    }
}

#[test]
fn known_characters_survive_without_bytes() {
    for kind in [Kind::Bpe, Kind::Unigram, Kind::Char] {
        let mut text = text();
        text.extend(HOSTILE.iter().map(|&line| line.replace('\0', "")));
        let tokenizer = Tokenizer::learn(&config(kind, false), &text, 1).unwrap();
        let alphabet: Vec<char> = text.concat().chars().collect();
        let mut random = Random(2);
        for line in &text {
            assert_survives(&tokenizer, line);
        }
        for _ in 0..500 {
            let line: String = (0..random.below(60))
                .map(|_| alphabet[random.below(alphabet.len())])
                .collect();
            assert_survives(&tokenizer, &line);
        }
    }
}

/// SentencePiece has no piece for NUL, so no vocabulary has one: NUL is a byte or unknown.
#[test]
fn nul_is_no_piece() {
    for kind in [Kind::Bpe, Kind::Unigram, Kind::Char, Kind::Word] {
        for byte_fallback in [false, true] {
            let mut text = text();
            text.extend(["a b \0 c", "\0\0\0(\0a", "\0"].map(str::to_owned));
            let tokenizer = Tokenizer::learn(&config(kind, byte_fallback), &text, 1).unwrap();
            let size = tokenizer.vocabulary_size() as u32;
            assert!(
                (0..size).all(|id| !tokenizer.piece(id).unwrap().contains('\0')),
                "{kind}"
            );
            let nul = tokenizer.encode("\0").unwrap();
            let expected = tokenizer.id("<0x00>").unwrap_or(tokenizer.unk_id());
            assert_eq!(nul.last(), Some(&expected), "{kind}");
            assert_eq!(tokenizer.to_sentencepiece().is_ok(), kind != Kind::Word, "{kind}");
        }
    }
}

/// By default, white space around a line changes nothing, and neither do several spaces in a row.
#[test]
fn white_space_around_a_line_changes_nothing() {
    for kind in [Kind::Bpe, Kind::Unigram, Kind::Char, Kind::Word] {
        let config = TextConfig {
            trim: true,
            ..config(kind, true)
        };
        let tokenizer = Tokenizer::learn(&config, text(), 1).unwrap();
        let ids = tokenizer.encode("The cat\tis").unwrap();
        for line in [
            " The cat\tis",
            "The cat\tis ",
            "\u{feff}\t The   cat\tis\u{a0}\u{3000}\u{200b}\r",
        ] {
            assert_eq!(tokenizer.encode(line).unwrap(), ids, "{kind}: {line:?}");
        }
        for line in ["", "  ", " \t\u{a0}\u{3000}\u{200b}\u{2060}\u{feff}"] {
            assert!(tokenizer.encode(line).unwrap().is_empty(), "{kind}: {line:?}");
        }
        // Learning ignores this white space too.
        let spaced: Vec<String> = text().iter().map(|line| format!(" \u{feff}{line}\t ")).collect();
        assert_eq!(Tokenizer::learn(&config, spaced, 1).unwrap(), tokenizer, "{kind}");
    }
}

#[test]
fn the_space_mark_is_the_one_loss() {
    let tokenizer = Tokenizer::learn(&config(Kind::Bpe, true), text(), 1).unwrap();
    let ids = tokenizer.encode("a\u{2581}b").unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), "a b");
}

#[test]
fn unknown_characters_are_one_unknown_piece() {
    for kind in [Kind::Bpe, Kind::Unigram, Kind::Char] {
        let tokenizer = Tokenizer::learn(&config(kind, false), text(), 1).unwrap();
        let ids = tokenizer.encode("cat ௵௵ dog").unwrap();
        assert_eq!(ids.iter().filter(|&&id| id == tokenizer.unk_id()).count(), 1, "{kind}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), "cat <unk> dog", "{kind}");
    }
}

#[test]
fn unknown_words_keep_their_space() {
    let tokenizer = Tokenizer::learn(&config(Kind::Word, true), ["the cat  sat", "the </s> mat"], 1).unwrap();
    let ids = tokenizer.encode("the dog sat  the </s>").unwrap();
    assert_eq!(ids.iter().filter(|&&id| id == tokenizer.unk_id()).count(), 1);
    assert!(!ids.contains(&tokenizer.eos_id()));
    assert_eq!(tokenizer.decode(&ids).unwrap(), "the <unk> sat  the </s>");
}

#[test]
fn normalization_is_applied_once_and_for_all() {
    let nfkc = TextConfig {
        normalization: Normalization::Nfkc,
        ..config(Kind::Bpe, true)
    };
    let tokenizer = Tokenizer::learn(&nfkc, text(), 1).unwrap();
    let ids = tokenizer.encode("ﬁne e\u{301}").unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), "fine é");
}

#[test]
fn lines_that_cannot_be_written_are_told() {
    let nfkc = TextConfig {
        normalization: Normalization::Nfkc,
        ..config(Kind::Bpe, true)
    };
    let tokenizer = Tokenizer::learn(&nfkc, text(), 1).unwrap();
    assert_eq!(
        tokenizer.rewritten("sag … nein").unwrap().as_deref(),
        Some("sag ... nein")
    );
    // A no-break space becomes a space, which is white space as before.
    assert_eq!(tokenizer.rewritten(" sag\u{a0}nein ").unwrap(), None);
    let tokenizer = Tokenizer::learn(&config(Kind::Bpe, false), text(), 1).unwrap();
    // Unknown characters do not count as a rewritten line.
    for line in ["sag … nein", "灯灯", "௵", ""] {
        assert_eq!(tokenizer.rewritten(line).unwrap(), None, "{line}");
    }
}

#[test]
fn decoding_leaves_out_control_pieces_and_mends_bytes() {
    let tokenizer = Tokenizer::learn(&config(Kind::Bpe, true), text(), 1).unwrap();
    let mut ids = tokenizer.encode("The cat").unwrap();
    ids.insert(0, tokenizer.pad_id());
    ids.extend([tokenizer.eos_id(), tokenizer.pad_id()]);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "The cat");

    let byte = |name: &str| tokenizer.id(name).unwrap();
    let cut = [byte("▁"), byte("<0xE2>"), byte("<0x82>"), byte("a")];
    assert_eq!(tokenizer.decode(&cut).unwrap(), "\u{fffd}\u{fffd}a");
    assert_eq!(tokenizer.decode(&[]).unwrap(), "");

    let outside = tokenizer.vocabulary_size() as u32;
    let message = tokenizer.decode(&[outside]).unwrap_err().to_string();
    assert!(message.contains(&format!("the id {outside}")), "{message}");
}

#[test]
fn long_lines_take_no_quadratic_time() {
    // One word of 100,000 characters without spaces, of which none, some or all are known.
    let long = [
        "a".repeat(100_000),
        "walkingthedogs".repeat(7_200),
        "\u{1F600}".repeat(25_000),
        "<".repeat(100_000),
        "the cat ".repeat(12_500),
    ];
    for kind in [Kind::Bpe, Kind::Unigram, Kind::Char, Kind::Word] {
        let tokenizer = Tokenizer::learn(&config(kind, true), text(), 1).unwrap();
        for line in &long {
            let start = Instant::now();
            let ids = tokenizer.encode(line).unwrap();
            if kind != Kind::Word {
                assert_eq!(&tokenizer.decode(&ids).unwrap(), line);
            }
            // Linear time takes well under a second; quadratic time would take minutes.
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{kind}: {:?}",
                start.elapsed()
            );
        }
    }
}

#[test]
fn long_lines_can_be_learned_from() {
    let lines = ["abcab".repeat(20_000), "x".repeat(100_000), "漢字".repeat(10_000)];
    for kind in [Kind::Bpe, Kind::Unigram, Kind::Char, Kind::Word] {
        let tokenizer = Tokenizer::learn(&config(kind, true), &lines, 1).unwrap();
        assert!(tokenizer.encode(&lines[0]).unwrap().len() <= 100_001, "{kind}");
    }
}
