//! Pairs and sides that occur again and again but for case, digits and punctuation.

use std::path::{Path, PathBuf};

use super::CleanConfig;
use super::pair_rules::{PairRules, simplified};
use crate::bit_set::BitSet;
use crate::duplicates::Occurrences;
use crate::error::DataError;
use crate::lines::is_blank;
use crate::pair_reader::PairOfLines;

/// Finds repeated pairs and sides in bounded memory.
pub(super) struct Repeats {
    pairs: Option<Occurrences>,
    sides: Option<(Occurrences, Occurrences)>,
    most: u32,
    number: u64,
    ends: Vec<u64>,
}

impl Repeats {
    pub(super) fn new(config: &CleanConfig, folder: &Path) -> Self {
        let folder: PathBuf = folder.to_owned();
        let occurrences = || Occurrences::new(&folder);
        Self {
            pairs: config.near_duplicates.then(occurrences),
            sides: (config.max_repeats > 0).then(|| (occurrences(), occurrences())),
            most: config.max_repeats,
            number: 0,
            ends: Vec::new(),
        }
    }

    pub(super) fn has_rules(&self) -> bool {
        self.pairs.is_some() || self.sides.is_some()
    }

    /// Adds the next pair. Pairs that other rules drop do not count.
    pub(super) fn add(&mut self, pair: &PairOfLines, rules: &PairRules) -> Result<(), DataError> {
        let number = self.number;
        self.number += 1;
        let is_dropped =
            || is_blank(&pair.source) || is_blank(&pair.target) || rules.verdict(&pair.source, &pair.target).is_some();
        if !self.has_rules() || is_dropped() {
            return Ok(());
        }
        let (source, target) = (simplified(&pair.source), simplified(&pair.target));
        if let Some(pairs) = &mut self.pairs {
            pairs.add(&source, &target, number)?;
        }
        if let Some((sources, targets)) = &mut self.sides {
            sources.add(&source, "", number)?;
            targets.add("", &target, number)?;
        }
        Ok(())
    }

    pub(super) fn end_corpus(&mut self) {
        self.ends.push(self.number);
    }

    /// For each corpus, the lines of pairs that occurred before, and of pairs with a side that occurred too often.
    pub(super) fn find(self) -> Result<Vec<(BitSet, BitSet)>, DataError> {
        let nothing = || vec![BitSet::default(); self.ends.len()];
        let pairs = match self.pairs {
            Some(pairs) => pairs.beyond(1, &self.ends)?,
            None => nothing(),
        };
        let sides = match self.sides {
            Some((sources, targets)) => {
                let mut both = sources.beyond(self.most, &self.ends)?;
                for (set, other) in both.iter_mut().zip(targets.beyond(self.most, &self.ends)?) {
                    set.add_all(&other);
                }
                both
            }
            None => nothing(),
        };
        Ok(pairs.into_iter().zip(sides).collect())
    }
}
