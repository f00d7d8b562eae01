//! Compares every number and every printed text with sacreBLEU's results from `scripts/fixtures/sacrebleu_scores.py`.

// A broken fixture must fail the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

use flate2::read::GzDecoder;
use serde::Deserialize;
use tallow_score::{
    Bleu, BleuTokenizer, Chrf, Score, ScoreError, SentencePieceFile, Smoothing, Statistics, Ter, Tokenization, to_json,
    to_json_text, to_text,
};

/// The largest relative difference between a score and sacreBLEU's; printed texts must be equal.
const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct Fixture {
    sacrebleu: String,
    systems: Vec<Vec<String>>,
    references: Vec<Vec<String>>,
    corpus: Vec<CorpusCase>,
    small: Vec<SmallCorpus>,
    sentences: Vec<SentenceCase>,
    tokens: Vec<TokenCase>,
    edits: Vec<EditCase>,
    command: CommandCase,
}

#[derive(Deserialize)]
struct CorpusCase {
    system: usize,
    reference_count: usize,
    #[serde(flatten)]
    expected: Expected,
}

#[derive(Deserialize)]
struct SmallCorpus {
    hypotheses: Vec<String>,
    references: Vec<Vec<String>>,
    results: Vec<Expected>,
}

/// A metric, its options under sacreBLEU's names, and sacreBLEU's results.
#[derive(Deserialize)]
struct Expected {
    #[serde(flatten)]
    metric: Metric,
    score: f64,
    line: String,
    short_signature: String,
    json: String,
    statistics: Vec<f64>,
}

#[derive(Deserialize)]
struct SentenceCase {
    #[serde(flatten)]
    metric: Metric,
    scores: Vec<f64>,
}

#[derive(Deserialize)]
struct TokenCase {
    line: String,
    #[serde(rename = "13a")]
    v13a: String,
    intl: String,
    char: String,
    none: String,
}

/// The same for tokenizations of Asian languages.
#[derive(Deserialize)]
struct TokenizationFixture {
    sacrebleu: String,
    systems: Vec<Vec<String>>,
    references: Vec<Vec<String>>,
    corpus: Vec<AsianCase>,
    tokens: Vec<AsianTokens>,
    /// Ranges, with their first and last character.
    chinese_characters: Vec<[u32; 2]>,
    signature_of_spm: String,
}

#[derive(Deserialize)]
struct AsianCase {
    #[serde(flatten)]
    case: CorpusCase,
    /// The scores of the sentences.
    sentences: Vec<f64>,
}

#[derive(Deserialize)]
struct AsianTokens {
    line: String,
    /// The tokens by tokenization.
    #[serde(flatten)]
    tokens: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct EditCase {
    hypothesis: String,
    reference: String,
    edits: u64,
}

#[derive(Deserialize)]
struct CommandCase {
    hypotheses: Vec<String>,
    references: Vec<Vec<String>>,
    outputs: Vec<CommandOutput>,
}

#[derive(Deserialize)]
struct CommandOutput {
    metrics: Vec<String>,
    format: String,
    width: u8,
    output: String,
}

#[derive(Deserialize)]
#[serde(tag = "metric", content = "options", rename_all = "lowercase")]
enum Metric {
    Bleu {
        tokenize: String,
        lowercase: bool,
        smooth_method: String,
        smooth_value: Option<f64>,
        effective_order: bool,
        max_ngram_order: usize,
    },
    Chrf(Chrf),
    Ter(Ter),
}

impl Metric {
    fn bleu(&self) -> Option<Bleu> {
        let Self::Bleu {
            tokenize,
            lowercase,
            smooth_method,
            smooth_value,
            effective_order,
            max_ngram_order,
        } = self
        else {
            return None;
        };
        Some(Bleu {
            tokenization: tokenize.parse().unwrap(),
            sentencepiece: learned_model(tokenize),
            lowercase: *lowercase,
            smoothing: Smoothing::new(smooth_method, *smooth_value).unwrap(),
            effective_order: *effective_order,
            max_order: *max_ngram_order,
        })
    }

    fn corpus(&self, hypotheses: &[String], references: &[Vec<String>]) -> Score {
        let score = match self {
            Self::Bleu { .. } => self.bleu().unwrap().corpus(hypotheses, references),
            Self::Chrf(chrf) => chrf.corpus(hypotheses, references),
            Self::Ter(ter) => ter.corpus(hypotheses, references),
        };
        score.unwrap()
    }

    fn sentence(&self, hypothesis: &str, references: &[&str]) -> Score {
        let score = match self {
            Self::Bleu { .. } => self.bleu().unwrap().sentence(hypothesis, references),
            Self::Chrf(chrf) => chrf.sentence(hypothesis, references),
            Self::Ter(ter) => ter.sentence(hypothesis, references),
        };
        score.unwrap()
    }
}

fn decompressed(name: &str) -> GzDecoder<File> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    GzDecoder::new(File::open(folder.join(name)).unwrap())
}

fn fixture() -> Fixture {
    serde_json::from_reader(decompressed("sacrebleu_scores.json.gz")).unwrap()
}

fn tokenizations() -> TokenizationFixture {
    serde_json::from_reader(decompressed("tokenizations.json.gz")).unwrap()
}

/// The SentencePiece model that the fixture has for a tokenization, if it needs one.
fn learned_model(tokenization: &str) -> Option<SentencePieceFile> {
    static MODELS: OnceLock<BTreeMap<&str, SentencePieceFile>> = OnceLock::new();
    let models = MODELS.get_or_init(|| {
        // The models are read here, so the files may go.
        let folder = tempfile::tempdir().unwrap();
        let of_name = |name: &'static str| {
            let path = folder.path().join(name);
            let mut contents = decompressed(&format!("learned_{name}.model.gz"));
            std::io::copy(&mut contents, &mut File::create(&path).unwrap()).unwrap();
            let file = SentencePieceFile::new(path);
            tokenizer(name, Some(file.clone()));
            (name, file)
        };
        ["flores200", "flores101"].map(of_name).into()
    });
    models.get(tokenization).cloned()
}

fn tokenizer(tokenization: &str, sentencepiece: Option<SentencePieceFile>) -> BleuTokenizer {
    let bleu = Bleu {
        tokenization: tokenization.parse().unwrap(),
        sentencepiece,
        ..Bleu::default()
    };
    bleu.tokenizer().unwrap()
}

/// A text of sacreBLEU with this program's name and version in place of sacreBLEU's version.
fn renamed(text: &str, sacrebleu: &str) -> String {
    let ours = concat!("tallow-", env!("CARGO_PKG_VERSION"));
    text.replace(&format!("version:{sacrebleu}"), &format!("version:{ours}"))
        .replace(&format!("|v:{sacrebleu}"), &format!("|v:{ours}"))
        .replace(
            &format!("\"version\": \"{sacrebleu}\""),
            &format!("\"version\": \"{ours}\""),
        )
}

fn assert_close(actual: f64, expected: f64, what: &str) {
    assert!(
        (actual - expected).abs() <= TOLERANCE * expected.abs(),
        "{what}: {actual} instead of {expected}"
    );
}

/// The counts as one list, in sacreBLEU's order.
fn flattened(statistics: &Statistics) -> Vec<f64> {
    match statistics {
        Statistics::Bleu(bleu) => {
            let lengths = [bleu.hypothesis_length, bleu.reference_length];
            let counts = lengths.iter().chain(&bleu.matches).chain(&bleu.totals);
            counts.map(|&count| count as f64).collect()
        }
        Statistics::Chrf(chrf) => {
            let counts = chrf
                .orders
                .iter()
                .flat_map(|order| [order.hypothesis, order.reference, order.matches]);
            counts.map(|count| count as f64).collect()
        }
        Statistics::Ter(ter) => vec![ter.edits as f64, ter.reference_length],
        Statistics::None => Vec::new(),
    }
}

fn assert_equal(score: &Score, expected: &Expected, sacrebleu: &str, what: &str) {
    let what = format!("{what} ({})", score.signature);
    assert_eq!(flattened(&score.statistics), expected.statistics, "{what}");
    assert_close(score.score, expected.score, &what);
    assert_eq!(
        to_text(std::slice::from_ref(score), 1),
        renamed(&expected.line, sacrebleu),
        "{what}"
    );
    assert_eq!(
        score.signature.short(),
        renamed(&expected.short_signature, sacrebleu),
        "{what}"
    );
    assert_eq!(
        to_json_text(std::slice::from_ref(score), 2),
        renamed(&expected.json, sacrebleu),
        "{what}"
    );
}

#[test]
fn corpus_scores_are_equal_under_all_options() {
    let fixture = fixture();
    assert!(fixture.corpus.len() > 100);
    for case in &fixture.corpus {
        let score = case.expected.metric.corpus(
            &fixture.systems[case.system],
            &fixture.references[..case.reference_count],
        );
        let what = format!("system {} with {} references", case.system, case.reference_count);
        assert_equal(&score, &case.expected, &fixture.sacrebleu, &what);
    }
}

#[test]
fn scores_of_tiny_and_empty_texts_are_equal() {
    let fixture = fixture();
    for corpus in &fixture.small {
        for expected in &corpus.results {
            let score = expected.metric.corpus(&corpus.hypotheses, &corpus.references);
            assert_equal(
                &score,
                expected,
                &fixture.sacrebleu,
                &format!("{:?}", corpus.hypotheses),
            );
        }
    }
}

#[test]
fn sentence_scores_are_equal() {
    let fixture = fixture();
    for case in &fixture.sentences {
        assert_eq!(case.scores.len(), fixture.references[0].len());
        for (line, &expected) in case.scores.iter().enumerate() {
            let hypothesis = &fixture.systems[line % 2][line];
            let references: Vec<&str> = fixture.references[..1 + line % 3]
                .iter()
                .map(|stream| stream[line].as_str())
                .collect();
            let score = case.metric.sentence(hypothesis, &references);
            assert_close(
                score.score,
                expected,
                &format!("line {line} ({}): {hypothesis:?}", score.signature),
            );
        }
    }
}

#[test]
fn tokens_are_equal() {
    let fixture = fixture();
    for case in &fixture.tokens {
        for (name, expected) in [
            ("13a", &case.v13a),
            ("intl", &case.intl),
            ("char", &case.char),
            ("none", &case.none),
        ] {
            assert_eq!(
                &tokenizer(name, None).tokenize(&case.line),
                expected,
                "{name} of {:?}",
                case.line
            );
        }
    }
}

/// Scores of corpora and sentences, signatures and printed texts, where BLEU cuts lines by the rules for Chinese or by
/// SentencePiece models.
#[test]
fn scores_of_asian_text_are_equal() {
    let fixture = tokenizations();
    let mut seen: Vec<&str> = Vec::new();
    for case in &fixture.corpus {
        let CorpusCase {
            system,
            reference_count,
            expected,
        } = &case.case;
        let (hypotheses, references) = (&fixture.systems[*system], &fixture.references[..*reference_count]);
        let score = expected.metric.corpus(hypotheses, references);
        let what = format!("system {system} with {reference_count} references");
        assert_equal(&score, expected, &fixture.sacrebleu, &what);
        assert_eq!(case.sentences.len(), hypotheses.len());
        for (line, (hypothesis, expected_score)) in hypotheses.iter().zip(&case.sentences).enumerate() {
            let streams: Vec<&str> = references.iter().map(|stream| stream[line].as_str()).collect();
            let found = expected.metric.sentence(hypothesis, &streams).score;
            assert_close(found, *expected_score, &format!("{what}, line {line}: {hypothesis:?}"));
        }
        let Metric::Bleu { tokenize, .. } = &expected.metric else {
            panic!("not BLEU")
        };
        seen.push(tokenize);
    }
    seen.dedup();
    assert_eq!(seen, ["zh", "flores200", "flores101"]);
}

#[test]
fn tokens_of_asian_text_are_equal() {
    let fixture = tokenizations();
    assert!(fixture.tokens.len() > 90);
    for case in &fixture.tokens {
        for (name, expected) in &case.tokens {
            assert_eq!(
                &tokenizer(name, learned_model(name)).tokenize(&case.line),
                expected,
                "{name} of {:?}",
                case.line
            );
        }
        assert_eq!(case.tokens.len(), 3);
    }
}

/// Every character of Unicode between two letters.
#[test]
fn the_same_characters_are_chinese() {
    let fixture = tokenizations();
    let is_expected = |c: char| {
        let ranges = &mut fixture.chinese_characters.iter();
        ranges.any(|[first, last]| (*first..=*last).contains(&u32::from(c)))
    };
    let zh = tokenizer("zh", None);
    for c in ('\u{80}'..=char::MAX).filter(|c| !c.is_whitespace()) {
        let is_separate = zh.tokenize(&format!("a{c}b")) == format!("a {c} b");
        assert_eq!(is_separate, is_expected(c), "U+{:04X}", u32::from(c));
    }
}

/// sacreBLEU still takes the old name, and calls the result by the new one.
#[test]
fn spm_is_another_name_of_flores101() {
    let bleu = Bleu {
        tokenization: "spm".parse().unwrap(),
        ..Bleu::default()
    };
    assert_eq!(bleu.tokenization, Tokenization::Flores101);
    let tok = tokenizations().signature_of_spm;
    assert!(bleu.signature(1).to_string().contains(&format!("|tok:{tok}|")));
}

#[test]
fn edits_are_equal_at_the_limits_of_the_search() {
    let fixture = fixture();
    for case in &fixture.edits {
        let score = Ter::default().sentence(&case.hypothesis, &[&case.reference]).unwrap();
        let Statistics::Ter(statistics) = &score.statistics else {
            panic!("not counts of TER")
        };
        assert_eq!(
            statistics.edits, case.edits,
            "{} -> {}",
            case.hypothesis, case.reference
        );
    }
}

#[test]
fn printed_output_is_that_of_the_command() {
    let Fixture { sacrebleu, command, .. } = fixture();
    for output in &command.outputs {
        let score = |name: &String| match name.as_str() {
            "bleu" => Bleu::default().corpus(&command.hypotheses, &command.references),
            "chrf" => Chrf::default().corpus(&command.hypotheses, &command.references),
            _ => Ter::default().corpus(&command.hypotheses, &command.references),
        };
        let scores: Vec<Score> = output
            .metrics
            .iter()
            .map(score)
            .collect::<Result<_, ScoreError>>()
            .unwrap();
        let expected = renamed(&output.output, &sacrebleu);
        if output.format == "json" {
            assert_eq!(to_json_text(&scores, output.width), expected);
            let value: serde_json::Value = serde_json::from_str(&expected).unwrap();
            assert_eq!(to_json(&scores, output.width), value);
        } else {
            // The length of the version affects the alignment.
            let unpadded = |text: &str| {
                text.lines()
                    .map(|line| line.trim_start().to_string())
                    .collect::<Vec<_>>()
            };
            let text = to_text(&scores, output.width);
            assert_eq!(unpadded(&text), unpadded(&expected));
            let columns: Vec<_> = text.lines().map(|line| line.find(" = ")).collect();
            assert!(columns.iter().all(|column| column == &columns[0]), "{text}");
        }
    }
}

#[derive(Deserialize)]
struct Multi30kFixture {
    sacrebleu: String,
    cases: Vec<Multi30kCase>,
}

#[derive(Deserialize)]
struct Multi30kCase {
    language: String,
    hypotheses: String,
    reference_count: usize,
    #[serde(flatten)]
    expected: Expected,
}

/// The rule that turns a reference of Multi30k into a hypothesis; the script uses the same rule.
fn derived_hypothesis(line: &str, index: usize) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let third = words.len() / 3;
    match index % 5 {
        1 => words
            .iter()
            .enumerate()
            .filter(|(position, _)| position % 7 != 3)
            .map(|(_, word)| *word)
            .collect(),
        2 => words
            .chunks(4)
            .flat_map(|window| window.iter().rev())
            .copied()
            .collect(),
        3 => [&words[third..], &words[..third]].concat(),
        4 => {
            let changed = words.iter().enumerate().map(|(position, word)| {
                if position % 2 == 0 {
                    word.to_lowercase()
                } else {
                    word.chars().take(4).collect()
                }
            });
            return changed.collect::<Vec<_>>().join(" ");
        }
        _ => words,
    }
    .join(" ")
}

/// Needs the text of Multi30k, which cannot be part of the repository. Set `TALLOW_MULTI30K` to a folder with
/// `test_2016_flickr.de` and the other files, plain or as `.gz`.
#[test]
#[allow(clippy::disallowed_methods)]
fn multi30k_scores_are_equal() {
    let Some(folder) = std::env::var_os("TALLOW_MULTI30K") else {
        println!("skipped: TALLOW_MULTI30K does not name a folder with the text of Multi30k");
        return;
    };
    let read = |name: String| -> Vec<String> {
        let plain = Path::new(&folder).join(&name);
        let text = if plain.exists() {
            std::fs::read_to_string(plain).unwrap()
        } else {
            let mut text = String::new();
            let file = File::open(Path::new(&folder).join(name + ".gz")).unwrap();
            GzDecoder::new(file).read_to_string(&mut text).unwrap();
            text
        };
        text.lines().map(String::from).collect()
    };
    let fixture =
        File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/multi30k_scores.json")).unwrap();
    let fixture: Multi30kFixture = serde_json::from_reader(fixture).unwrap();
    for language in ["de", "fr"] {
        let lines = read(format!("test_2016_flickr.{language}"));
        let tokens = read(format!("test_2016_flickr.lc.norm.tok.{language}"));
        let derived: Vec<String> = lines
            .iter()
            .enumerate()
            .map(|(i, line)| derived_hypothesis(line, i))
            .collect();
        let mut unrelated = read(format!("val.{language}"));
        unrelated.truncate(lines.len());
        let cases: Vec<_> = fixture.cases.iter().filter(|case| case.language == language).collect();
        assert!(!cases.is_empty());
        for case in cases {
            let hypotheses = if case.hypotheses == "derived" {
                &derived
            } else {
                &unrelated
            };
            let references = [tokens.clone(), lines.clone()];
            let score = case
                .expected
                .metric
                .corpus(hypotheses, &references[2 - case.reference_count..]);
            let what = format!("{} {}", case.language, case.hypotheses);
            assert_equal(&score, &case.expected, &fixture.sacrebleu, &what);
        }
    }
}
