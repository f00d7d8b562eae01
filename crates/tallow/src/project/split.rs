//! Splitting parallel text into training, validation and test sets that share nothing.

use super::ProjectPlan;
use crate::Result;
use crate::advice::TextFacts;
use crate::error::{WithContext, bail};
use crate::languages::rules_with_languages;
use crate::notice::{Listener, Work};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use tallow_data::{CleanConfig, Cleaning, CorpusFiles, PairReader, Rule, is_blank, keyed_hash, simplified};

/// The most pairs of a set: more measure a score no better.
const MOST_HELD_OUT: usize = 2000;
/// A set gets one pair of this many.
const ONE_OF: usize = 25;
/// A smaller set measures little but chance, if there are ten times as many pairs.
const LEAST_HELD_OUT: usize = 50;
/// The fewest pairs to begin with, and to train on.
const FEWEST_PAIRS: u64 = 50;
/// A source that occurs more often stays in the training text, where it may be most of it.
const MOST_TIMES: u64 = 10;
/// The longest side of a held-out pair in words, and the shortest.
const WORDS: std::ops::RangeInclusive<usize> = 2..=80;
/// Pairs among which repetitions are counted.
const COUNTED: usize = 1 << 22;
/// Pairs whose lengths are kept, to time updates.
const LENGTHS: usize = 4096;

/// The parts of a project's text.
#[derive(Clone, Debug)]
pub struct Split {
    /// The files of training, validation and test set.
    pub files: [CorpusFiles; 3],
    /// The pairs of each.
    pub pairs: [u64; 3],
    /// Pairs with an empty side, which are left out.
    pub empty: u64,
    /// Pairs left out of training because one of their sides is in the validation or test set.
    pub overlapping: u64,
    /// Pairs that occurred before, among those that were looked at for this.
    pub repeated: u64,
    /// Pairs that were looked at for repetitions: all, or those before the first four million different ones.
    pub looked_at: u64,
    /// Pairs that the rules of cleaning about single pairs would drop, by rule.
    pub unclean: BTreeMap<Rule, u64>,
    /// Pairs with placeholders, tags or addresses.
    pub with_placeholders: u64,
    /// Facts about the training set.
    pub facts: TextFacts,
    /// The characters of both sides of some training pairs.
    pub lengths: Vec<[usize; 2]>,
}

/// A pair that may be held out, the first with its source.
struct Candidate {
    source: u64,
    target: u64,
    line: u64,
    /// How often the source was met.
    times: u64,
}

/// Pairs that may be held out, by a random number that depends on the source alone.
type Candidates = BTreeMap<u64, Candidate>;

/// The sets of held-out pairs.
#[derive(Clone, Copy, PartialEq)]
enum Set {
    Valid,
    Test,
}

/// Reads the text twice: once to choose, once to write into this folder, which will become that of the project.
pub(super) fn split(
    plan: &ProjectPlan,
    folder: &Path,
    languages: &[Option<String>; 2],
    listener: &dyn Listener,
) -> Result<Split> {
    let rules = rules_with_languages(CleanConfig::default(), languages.clone());
    let rules = Cleaning::of_single_pairs(&rules);
    let mut split = Split {
        files: Default::default(),
        pairs: [0; 3],
        empty: 0,
        overlapping: 0,
        repeated: 0,
        looked_at: 0,
        unclean: BTreeMap::new(),
        with_placeholders: 0,
        facts: TextFacts::default(),
        lengths: Vec::new(),
    };
    let hash = |text: &str| keyed_hash(plan.seed, simplified(text).as_bytes());
    let mut candidates = Candidates::new();
    let mut met = HashSet::new();
    let mut lines = 0;
    for pair in PairReader::open(&plan.corpus)? {
        let pair = pair?;
        let line = lines;
        lines += 1;
        listener.working(&Work::new("choosing pairs to hold out", lines, None));
        if is_blank(&pair.source) || is_blank(&pair.target) {
            split.empty += 1;
            continue;
        }
        let (source, target) = (hash(&pair.source), hash(&pair.target));
        if met.len() < COUNTED {
            let exact = |side: &str| keyed_hash(plan.seed, side.as_bytes());
            split.looked_at += 1;
            split.repeated += u64::from(!met.insert((exact(&pair.source), exact(&pair.target))));
        }
        split.with_placeholders += u64::from(tallow_data::has_placeholders(&pair.source));
        if let Some(rule) = rules.verdict_of_pair(&pair.source, &pair.target) {
            *split.unclean.entry(rule).or_default() += 1;
            continue;
        }
        let has_usual_length =
            |side: &str| WORDS.contains(&side.split_whitespace().count().max(side.chars().count() / 8));
        if has_usual_length(&pair.source) && has_usual_length(&pair.target) {
            let order = keyed_hash(plan.seed, &source.to_le_bytes());
            let first = Candidate {
                source,
                target,
                line,
                times: 0,
            };
            candidates.entry(order).or_insert(first).times += 1;
            // Some are in the way of others: the same target.
            if candidates.len() > 4 * MOST_HELD_OUT {
                candidates.pop_last();
            }
        }
    }
    let distinct = met.len();
    drop(met);
    if (distinct as u64) < FEWEST_PAIRS {
        bail!(
            "{distinct} different pairs with text on both sides are too few to train on and to hold some out; at least {FEWEST_PAIRS}"
        );
    }
    let size = (distinct / ONE_OF).max(LEAST_HELD_OUT).min(distinct / 10);
    let chosen = choose(&candidates, size.clamp(1, MOST_HELD_OUT));
    if chosen.lines.len() < 2 {
        bail!(
            "no pairs are fit to be held out: all are very short, very long, very frequent, or would be dropped by the rules of \
             cleaning"
        );
    }
    write(plan, folder, languages, (&chosen, lines), hash, &mut split, listener)?;
    if split.facts.pairs < FEWEST_PAIRS {
        bail!(
            "{} pairs would be left to train on: the others share a side with the held-out ones; there is too little different text",
            split.facts.pairs
        );
    }
    Ok(split)
}

/// The held-out pairs.
struct Chosen {
    lines: HashMap<u64, Set>,
    sources: HashSet<u64>,
    targets: HashSet<u64>,
}

/// Chooses pairs for two sets of this size, no two with the same source or target.
fn choose(candidates: &Candidates, size: usize) -> Chosen {
    let mut chosen = Chosen {
        lines: HashMap::new(),
        sources: HashSet::new(),
        targets: HashSet::new(),
    };
    for candidate in candidates.values().filter(|candidate| candidate.times <= MOST_TIMES) {
        if chosen.lines.len() == 2 * size {
            break;
        }
        if chosen.sources.contains(&candidate.source) || chosen.targets.contains(&candidate.target) {
            continue;
        }
        let set = if chosen.lines.len().is_multiple_of(2) {
            Set::Valid
        } else {
            Set::Test
        };
        chosen.lines.insert(candidate.line, set);
        chosen.sources.insert(candidate.source);
        chosen.targets.insert(candidate.target);
    }
    chosen
}

/// Writes the three sets, and counts what goes into training.
fn write(
    plan: &ProjectPlan,
    folder: &Path,
    languages: &[Option<String>; 2],
    (chosen, lines): (&Chosen, u64),
    hash: impl Fn(&str) -> u64,
    split: &mut Split,
    listener: &dyn Listener,
) -> Result<()> {
    let mut sets = ["train", "valid", "test"].map(|name| SetFiles::create(folder, name, languages));
    split.files = [0, 1, 2].map(|set| match &sets[set] {
        Ok(files) => {
            // They will be in the folder of the project.
            let path = |side: usize| plan.folder.join(files.paths[side].file_name().unwrap_or_default());
            CorpusFiles::two_files(path(0), path(1))
        }
        Err(_) => CorpusFiles::default(),
    });
    let (mut pairs, mut characters) = (0u64, [0u64; 2]);
    let step = (lines / LENGTHS as u64).max(1);
    for (line, pair) in (0..).zip(PairReader::open(&plan.corpus)?) {
        let pair = pair?;
        listener.working(&Work::new("writing the sets", line + 1, None));
        if is_blank(&pair.source) || is_blank(&pair.target) {
            continue;
        }
        let set = match chosen.lines.get(&line) {
            Some(Set::Valid) => 1,
            Some(Set::Test) => 2,
            None if chosen.sources.contains(&hash(&pair.source)) || chosen.targets.contains(&hash(&pair.target)) => {
                split.overlapping += 1;
                continue;
            }
            None => 0,
        };
        if set == 0 {
            let lengths = [pair.source.chars().count(), pair.target.chars().count()];
            characters[0] += lengths[0] as u64;
            characters[1] += lengths[1] as u64;
            if pairs.is_multiple_of(step) && split.lengths.len() < LENGTHS {
                split.lengths.push(lengths);
            }
            pairs += 1;
        }
        split.pairs[set] += 1;
        match &mut sets[set] {
            Ok(files) => files.write(&pair.source, &pair.target)?,
            Err(_) => break,
        }
    }
    for files in sets {
        files?.finish()?;
    }
    split.facts = TextFacts {
        pairs,
        characters,
        has_spaces: [0, 1].map(|side| languages[side].as_deref().is_none_or(writes_spaces)),
    };
    Ok(())
}

/// Whether words are separated by spaces in the language of this code.
pub(super) fn writes_spaces(code: &str) -> bool {
    let language = code.split(['-', '_']).next().unwrap_or(code);
    !["zh", "ja", "th", "lo", "km", "my", "yue", "wuu", "bo", "dz"].contains(&language)
}

/// The two files of a set.
struct SetFiles {
    paths: [PathBuf; 2],
    files: [BufWriter<File>; 2],
}

impl SetFiles {
    fn create(folder: &Path, name: &str, languages: &[Option<String>; 2]) -> Result<Self> {
        let extension = |side: usize| {
            languages[side]
                .clone()
                .unwrap_or_else(|| ["source", "target"][side].to_owned())
        };
        let paths = [0, 1].map(|side| folder.join(format!("{name}.{}", extension(side))));
        let create = |path: &PathBuf| {
            let file = File::create_new(path).with_context(|| format!("cannot write {}", path.display()))?;
            Ok::<_, crate::Error>(BufWriter::new(file))
        };
        let files = [create(&paths[0])?, create(&paths[1])?];
        Ok(Self { paths, files })
    }

    fn write(&mut self, source: &str, target: &str) -> Result<()> {
        for (side, line) in [source, target].into_iter().enumerate() {
            writeln!(self.files[side], "{line}")
                .with_context(|| format!("cannot write {}", self.paths[side].display()))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        for (file, path) in self.files.iter_mut().zip(&self.paths) {
            file.flush()
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}
