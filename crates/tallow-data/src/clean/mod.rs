//! Rules that drop pairs which are probably no translations of each other, or of no use for training.
//!
//! Some rules look at a pair alone (`pair_rules.rs`), others at all of its corpora: [`Cleaning::survey`] reads these
//! once before. A pair is dropped by the first rule that applies, in the order of [`Rule::ALL`].

mod language;
mod pair_rules;
mod parts;
mod repeats;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::bit_set::BitSet;
use crate::corpus_files::CorpusFiles;
use crate::error::DataError;
use crate::line_alignment::LineAlignment;
use crate::lines::is_blank;
use crate::pair_reader::PairReader;
use crate::text_record::{Reading, TextRecord};
use language::Wanted;
use pair_rules::PairRules;
pub use pair_rules::simplified;

/// The rules, and how strict they are: `data.clean`. Each has a value that switches it off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CleanConfig {
    /// The codes of source and target language, such as `["en", "de"]`; text in another language or script is dropped.
    /// Default: those of the card, or the extensions of the files. `["", ""]` switches the rule off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub languages: Option<[String; 2]>,
    /// Whether to drop text with traces of lost or garbled characters. Default: true.
    pub broken: bool,
    /// The most words of a side; 0 allows any number. Default: 200.
    pub max_words: usize,
    /// The largest ratio of the longer to the shorter side in characters, to each of which 10 are added; 0 allows any.
    /// Default: 3.
    pub max_length_ratio: f64,
    /// The least share of letters among the characters of a side that are no white space, beyond placeholders and
    /// markup. 0 switches the rule off. Default: 0.3.
    pub min_letters: f64,
    /// Whether to drop pairs with the same text of three or more words on both sides. Default: true.
    pub copies: bool,
    /// Whether to drop pairs whose numbers of two or more digits differ. Default: true.
    pub numbers: bool,
    /// Whether to drop pairs whose web and e-mail addresses differ. Default: true.
    pub links: bool,
    /// Whether to drop pairs whose placeholders, such as `%s` or `{name}`, or whose markup differ. Default: true.
    pub placeholders: bool,
    /// Whether to drop pairs that occurred before but for case, digits and punctuation. Default: true.
    pub near_duplicates: bool,
    /// How often a side may occur, but for case, digits and punctuation, with whatever other side; 0 allows any number.
    /// Default: 20.
    pub max_repeats: u32,
    /// Whether to drop stretches in which the lines of both sides are shifted against each other. Default: true.
    pub shifted: bool,
    /// A run or a model directory whose model scores pairs. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// The least mean log-probability for each target token, in nats, that this model must give. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_score: Option<f64>,
}

impl Default for CleanConfig {
    fn default() -> Self {
        Self {
            languages: None,
            broken: true,
            max_words: 200,
            max_length_ratio: 3.0,
            min_letters: 0.3,
            copies: true,
            numbers: true,
            links: true,
            placeholders: true,
            near_duplicates: true,
            max_repeats: 20,
            shifted: true,
            model: None,
            least_score: None,
        }
    }
}

impl CleanConfig {
    /// Whether text in the language of this code can be told from other text.
    pub fn knows_language(code: &str) -> bool {
        Wanted::new(code).is_ok()
    }

    /// All faults of the values, each beginning with its key below `data.clean`.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let ratio = self.max_length_ratio;
        if ratio != 0.0 && !(ratio.is_finite() && ratio >= 1.0) {
            faults.push(format!("max_length_ratio: {ratio} must be 0 (any ratio) or at least 1"));
        }
        let letters = self.min_letters;
        if !(0.0..=1.0).contains(&letters) {
            faults.push(format!("min_letters: {letters} must be from 0 to 1"));
        }
        match (&self.model, self.least_score) {
            (Some(_), None) => faults.push("least_score: the score below which pairs are dropped, such as -5".into()),
            (None, Some(_)) => faults.push("model: name the run or model that gives the scores for least_score".into()),
            _ => {}
        }
        if let Some(score) = self.least_score.filter(|score| !(score.is_finite() && *score < 0.0)) {
            faults.push(format!(
                "least_score: {score} must be below 0, the logarithm of a probability; -5 is usual"
            ));
        }
        for code in self.languages.iter().flatten() {
            if let Err(fault) = Wanted::new(code) {
                faults.push(format!("languages: {fault}"));
            }
        }
        faults
    }
}

/// A reason to drop a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// In a stretch of shifted lines.
    Shifted,
    /// Lost or garbled characters.
    Broken,
    /// A side with too many words.
    TooManyWords,
    /// Sides of too different lengths.
    Lengths,
    /// Too few letters.
    Letters,
    /// The same text on both sides.
    Copy,
    /// Other numbers.
    Numbers,
    /// Other addresses.
    Links,
    /// Other placeholders or markup.
    Placeholders,
    /// Another language or script.
    Language,
    /// Nearly the same as an earlier pair.
    NearDuplicate,
    /// A side that occurs too often.
    Repeated,
    /// An improbable translation.
    Score,
}

impl Rule {
    /// All rules in the order in which they are applied.
    pub const ALL: [Self; 13] = [
        Self::Shifted,
        Self::Broken,
        Self::TooManyWords,
        Self::Lengths,
        Self::Letters,
        Self::Copy,
        Self::Numbers,
        Self::Links,
        Self::Placeholders,
        Self::Language,
        Self::NearDuplicate,
        Self::Repeated,
        Self::Score,
    ];

    /// The key of `data.clean` that sets the rule.
    pub fn key(self) -> &'static str {
        match self {
            Self::Shifted => "shifted",
            Self::Broken => "broken",
            Self::TooManyWords => "max_words",
            Self::Lengths => "max_length_ratio",
            Self::Letters => "min_letters",
            Self::Copy => "copies",
            Self::Numbers => "numbers",
            Self::Links => "links",
            Self::Placeholders => "placeholders",
            Self::Language => "languages",
            Self::NearDuplicate => "near_duplicates",
            Self::Repeated => "max_repeats",
            Self::Score => "least_score",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shifted => "in shifted stretches",
            Self::Broken => "with lost or garbled characters",
            Self::TooManyWords => "with too many words",
            Self::Lengths => "of too different lengths",
            Self::Letters => "with too few letters",
            Self::Copy => "with the same text on both sides",
            Self::Numbers => "with different numbers",
            Self::Links => "with different addresses",
            Self::Placeholders => "with different placeholders",
            Self::Language => "in another language",
            Self::NearDuplicate => "nearly the same as earlier ones",
            Self::Repeated => "with a side that occurs too often",
            Self::Score => "that the model takes for improbable",
        })
    }
}

/// Rules that are ready to be applied to corpora.
#[derive(Debug)]
pub struct Cleaning {
    rules: PairRules,
    /// What is known of the lines of each corpus.
    corpora: Vec<Known>,
}

/// Lines of a corpus, from 0, that rules about all corpora drop.
#[derive(Debug, Default)]
struct Known {
    shifted: BitSet,
    near_duplicates: BitSet,
    repeated: BitSet,
    improbable: BitSet,
    prefixes: [Option<String>; 2],
}

/// Pairs that are scored together.
const SCORED: usize = 4096;

/// Lines between which shifted stretches are looked for at a time: their lengths are in memory.
const BLOCK: usize = 1 << 20;

impl Cleaning {
    /// Prepares the rules for some corpora, and reads these if a rule needs that. `folder` is for temporary files.
    /// `progress` gets the number of pairs read so far.
    ///
    /// # Errors
    /// Every error of [`PairReader`], text that has other hashes than its record, and a folder that cannot be written.
    pub fn survey(
        config: &CleanConfig,
        corpora: &[(CorpusFiles, TextRecord)],
        folder: &Path,
        mut progress: impl FnMut(u64),
    ) -> Result<Self, DataError> {
        let mut known: Vec<Known> = corpora
            .iter()
            .map(|(files, _)| Known {
                prefixes: Reading::of(files).prefixes,
                ..Known::default()
            })
            .collect();
        let rules = PairRules::new(config);
        let mut repeats = repeats::Repeats::new(config, folder);
        let reads = config.shifted || repeats.has_rules();
        let mut pairs = 0;
        for ((files, record), known) in corpora.iter().zip(&mut known).filter(|_| reads) {
            let plain = CorpusFiles {
                source_prefix: None,
                target_prefix: None,
                ..files.clone()
            };
            let mut lengths = [Vec::new(), Vec::new()];
            let mut line = 0;
            let mut reader = PairReader::open(&plain)?;
            for pair in &mut reader {
                let pair = pair?;
                repeats.add(&pair, &rules)?;
                if config.shifted {
                    lengths[0].push(LineAlignment::length(&pair.source));
                    lengths[1].push(LineAlignment::length(&pair.target));
                }
                line += 1;
                pairs += 1;
                progress(pairs);
                if lengths[0].len() == BLOCK {
                    mark_shifted(&mut lengths, line - BLOCK as u64, &mut known.shifted);
                }
            }
            let rest = lengths[0].len() as u64;
            mark_shifted(&mut lengths, line - rest, &mut known.shifted);
            repeats.end_corpus();
            record.must_be_of(reader)?;
        }
        for (known, (near_duplicates, repeated)) in known.iter_mut().zip(repeats.find()?) {
            (known.near_duplicates, known.repeated) = (near_duplicates, repeated);
        }
        Ok(Self { rules, corpora: known })
    }

    /// Why a pair of a corpus is dropped, if it is. `line` is counted from 0. Pairs with a blank side are not looked
    /// at.
    pub fn verdict(&self, corpus: usize, line: u64, source: &str, target: &str) -> Option<Rule> {
        let known = self.corpora.get(corpus)?;
        if known.shifted.contains(line) {
            return Some(Rule::Shifted);
        }
        let [source, target] = [(source, &known.prefixes[0]), (target, &known.prefixes[1])].map(|(line, prefix)| {
            let without = prefix.as_deref().and_then(|prefix| line.strip_prefix(prefix));
            without.map_or(line, str::trim_start)
        });
        self.rules
            .verdict(source, target)
            .or_else(|| {
                if known.near_duplicates.contains(line) {
                    Some(Rule::NearDuplicate)
                } else {
                    known.repeated.contains(line).then_some(Rule::Repeated)
                }
            })
            .or_else(|| known.improbable.contains(line).then_some(Rule::Score))
    }

    /// The rules about single pairs alone, for [`Self::verdict_of_pair`].
    pub fn of_single_pairs(config: &CleanConfig) -> Self {
        Self {
            rules: PairRules::new(config),
            corpora: Vec::new(),
        }
    }

    /// Why the rules about single pairs drop a pair, if they do. Pairs with a blank side are not looked at.
    pub fn verdict_of_pair(&self, source: &str, target: &str) -> Option<Rule> {
        self.rules.verdict(source, target)
    }

    /// Drops the pairs to whose target a model gives a mean log-probability below `least`. Pairs that other rules drop
    /// are not scored. `score` gets some sources and targets, with the prefixes of their corpus, and returns a score
    /// for each pair that has one.
    ///
    /// # Errors
    /// Every error of [`PairReader`], text that has other hashes than its record, and those of `score`.
    pub fn drop_improbable<E: From<DataError>>(
        &mut self,
        corpora: &[(CorpusFiles, TextRecord)],
        least: f64,
        mut score: impl FnMut(&[String], &[String]) -> Result<Vec<Option<f64>>, E>,
        mut progress: impl FnMut(u64),
    ) -> Result<(), E> {
        let mut pairs = 0;
        for (number, (files, record)) in corpora.iter().enumerate() {
            let mut reader = PairReader::open(files)?;
            let mut improbable = BitSet::default();
            let (mut lines, mut sources, mut targets) = (Vec::new(), Vec::new(), Vec::new());
            let mut line = 0;
            loop {
                let next = reader.next().transpose()?;
                let is_end = next.is_none();
                if let Some(pair) = next {
                    let is_blank = is_blank(&pair.source) || is_blank(&pair.target);
                    if !is_blank && self.verdict(number, line, &pair.source, &pair.target).is_none() {
                        lines.push(line);
                        sources.push(pair.source);
                        targets.push(pair.target);
                    }
                    line += 1;
                    pairs += 1;
                }
                if lines.len() == SCORED || (is_end && !lines.is_empty()) {
                    let scores = score(&sources, &targets)?;
                    let low = lines
                        .iter()
                        .zip(scores)
                        .filter(|(_, score)| score.is_some_and(|score| score < least));
                    low.for_each(|(line, _)| improbable.insert(*line));
                    progress(pairs);
                    lines.clear();
                    sources.clear();
                    targets.clear();
                }
                if is_end {
                    break;
                }
            }
            record.must_be_of(reader)?;
            self.corpora[number].improbable = improbable;
        }
        Ok(())
    }
}

/// Marks the lines of shifted stretches, which begin at line `first` of the corpus.
fn mark_shifted(lengths: &mut [Vec<f64>; 2], first: u64, shifted: &mut BitSet) {
    let [source, target] = std::mem::take(lengths);
    for stretch in LineAlignment::of_lengths(&source, &target).misaligned {
        if stretch.shift.is_some() {
            (stretch.first - 1..stretch.last).for_each(|line| shifted.insert(first + line));
        }
    }
}
