//! Lexical translation probabilities: IBM model 1 (Brown et al. 1993), learned from pairs of token ids.
//!
//! The model needs no other model, only counts, and its tables are what shortlists of other toolkits are made of. Every
//! target token is a translation of one source token, or of none; which one does not depend on the places.

use std::collections::BTreeMap;

use crate::word_alignments::Link;

/// The number of pairs of tokens that are collected before repeated ones are removed.
const COLLECTED: usize = 1 << 25;

/// The number of iterations after which probabilities hardly change their order.
const ITERATIONS: usize = 5;

/// For each source token, the target tokens that it occurs with, and the probability of each: p(target | source).
#[derive(Clone, Debug, Default)]
pub struct Lexicon {
    /// The source tokens that have entries, ascending, and the range of each in the entries.
    sources: BTreeMap<u32, std::ops::Range<usize>>,
    /// Target tokens, ascending within a source token.
    targets: Vec<u32>,
    probabilities: Vec<f32>,
    /// How often each target token occurs.
    frequencies: BTreeMap<u32, u64>,
}

/// The source of tokens that translate none. No vocabulary is so large.
const NOTHING: u32 = u32::MAX;

impl Lexicon {
    /// Learns from pairs of sentences. The memory is some 16 bytes for every two tokens that occur in one pair, and the
    /// product of the lengths of the longest pair.
    pub fn learn<S: AsRef<[u32]>, T: AsRef<[u32]>>(pairs: &[(S, T)]) -> Self {
        let mut lexicon = Self::of_occurrences(pairs);
        let mut counts = vec![0f32; lexicon.targets.len()];
        for _ in 0..ITERATIONS {
            lexicon.iterate(pairs, &mut counts);
        }
        lexicon
    }

    /// All pairs of tokens that occur together; for each source token, every target token is equally probable.
    fn of_occurrences<S: AsRef<[u32]>, T: AsRef<[u32]>>(pairs: &[(S, T)]) -> Self {
        let mut frequencies = BTreeMap::new();
        let mut all: Vec<u64> = Vec::new();
        let mut most = COLLECTED;
        for (source, target) in pairs {
            let mut sources = [&[NOTHING], source.as_ref()].concat();
            let mut targets = target.as_ref().to_vec();
            for token in &targets {
                *frequencies.entry(*token).or_default() += 1;
            }
            for side in [&mut sources, &mut targets] {
                side.sort_unstable();
                side.dedup();
            }
            let of_source = |source: &u32| targets.iter().map(|target| key(*source, *target)).collect();
            all.extend(sources.iter().flat_map::<Vec<u64>, _>(of_source));
            if all.len() > most {
                without_repeats(&mut all);
                most = all.len() + COLLECTED;
            }
        }
        without_repeats(&mut all);
        let mut sources = BTreeMap::new();
        let mut begin = 0;
        for of_source in all.chunk_by(|a, b| a >> 32 == b >> 32) {
            let end = begin + of_source.len();
            sources.insert((of_source[0] >> 32) as u32, begin..end);
            begin = end;
        }
        let share = |range: &std::ops::Range<usize>| std::iter::repeat_n(1.0 / range.len() as f32, range.len());
        Self {
            probabilities: sources.values().flat_map(share).collect(),
            sources,
            targets: all.iter().map(|key| *key as u32).collect(),
            frequencies,
        }
    }

    /// The place of an entry.
    fn place(&self, range: &std::ops::Range<usize>, target: u32) -> Option<usize> {
        let found = self.targets[range.clone()].binary_search(&target).ok()?;
        Some(range.start + found)
    }

    /// One iteration of expectation maximisation.
    fn iterate<S: AsRef<[u32]>, T: AsRef<[u32]>>(&mut self, pairs: &[(S, T)], counts: &mut [f32]) {
        counts.fill(0.0);
        let mut places = Vec::new();
        for (source, target) in pairs {
            let sources = std::iter::once(&NOTHING).chain(source.as_ref());
            let ranges: Vec<_> = sources.filter_map(|source| self.sources.get(source)).collect();
            for token in target.as_ref() {
                places.clear();
                places.extend(ranges.iter().filter_map(|range| self.place(range, *token)));
                let sum: f32 = places.iter().map(|place| self.probabilities[*place]).sum();
                if sum > 0.0 {
                    places
                        .iter()
                        .for_each(|place| counts[*place] += self.probabilities[*place] / sum);
                }
            }
        }
        for range in self.sources.values() {
            let total: f64 = counts[range.clone()].iter().map(|count| f64::from(*count)).sum();
            for place in range.clone() {
                self.probabilities[place] = (f64::from(counts[place]) / total.max(f64::MIN_POSITIVE)) as f32;
            }
        }
    }

    /// The most probable target tokens of a source token, best first, that are at least this probable.
    pub fn translations(&self, source: u32, most: usize, least: f32) -> Vec<(u32, f32)> {
        let range = self.sources.get(&source).cloned().unwrap_or_default();
        let entries = range.map(|place| (self.targets[place], self.probabilities[place]));
        let mut found: Vec<(u32, f32)> = entries.filter(|(_, probability)| *probability >= least).collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(most);
        found
    }

    /// The probability of a target token as a translation of a source token; 0 if they never occur together.
    pub fn probability(&self, source: u32, target: u32) -> f32 {
        let place = self.sources.get(&source).and_then(|range| self.place(range, target));
        place.map_or(0.0, |place| self.probabilities[place])
    }

    /// The links between the tokens of a pair on which this lexicon and that of the other direction agree: each token
    /// is the other's most probable translation in this pair, and more probable than none. Of equal tokens, the one
    /// nearest to the diagonal counts.
    pub fn links(&self, reverse: &Self, source: &[u32], target: &[u32]) -> Vec<Link> {
        let place = |number: usize, side: &[u32]| (number as f64 + 0.5) / side.len() as f64;
        let best = |lexicon: &Self, (from, to): (&[u32], &[u32]), of: usize| -> Option<usize> {
            let probability = |number: usize| lexicon.probability(from[number], to[of]);
            let distance = |number: usize| (place(number, from) - place(of, to)).abs();
            let best = (0..from.len()).max_by(|a, b| {
                let nearer = distance(*b).total_cmp(&distance(*a));
                probability(*a).total_cmp(&probability(*b)).then(nearer)
            });
            best.filter(|best| probability(*best) > lexicon.probability(NOTHING, to[of]))
        };
        let sources: Vec<Option<usize>> = (0..target.len()).map(|of| best(self, (source, target), of)).collect();
        let targets: Vec<Option<usize>> = (0..source.len())
            .map(|of| best(reverse, (target, source), of))
            .collect();
        let agreed = |(target, source): (usize, &Option<usize>)| {
            let source = (*source)?;
            (targets[source] == Some(target)).then_some(Link {
                source: source as u32,
                target: target as u32,
                is_sure: true,
            })
        };
        sources.iter().enumerate().filter_map(agreed).collect()
    }

    /// The most frequent target tokens, most frequent first.
    pub fn frequent(&self, most: usize) -> Vec<u32> {
        let mut all: Vec<(u32, u64)> = self.frequencies.iter().map(|(token, count)| (*token, *count)).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        all.into_iter().map(|(token, _)| token).take(most).collect()
    }
}

fn without_repeats(keys: &mut Vec<u64>) {
    // A stable sort makes use of what is sorted already.
    keys.sort();
    keys.dedup();
}

/// A source and a target token as one number.
fn key(source: u32, target: u32) -> u64 {
    u64::from(source) << 32 | u64::from(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// The example of the field: das Haus, das Buch, ein Buch.
    const BOOKS: [(&[u32], &[u32]); 3] = [(&[1, 2], &[11, 12]), (&[1, 3], &[11, 13]), (&[4, 3], &[14, 13])];

    #[test]
    fn links_are_those_of_both_directions() {
        let reversed: Vec<(&[u32], &[u32])> = BOOKS.iter().map(|(source, target)| (*target, *source)).collect();
        let (lexicon, reverse) = (Lexicon::learn(&BOOKS), Lexicon::learn(&reversed));
        let places = |source: &[u32], target: &[u32]| -> Vec<(u32, u32)> {
            let links = lexicon.links(&reverse, source, target);
            links.iter().map(|link| (link.source, link.target)).collect()
        };
        assert_eq!(places(&[4, 2, 9], &[12, 14]), [(1, 0), (0, 1)]);
        // Of repeated words, those at the same place belong together.
        assert_eq!(places(&[3, 2, 3], &[13, 12, 13]), [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(places(&[9], &[13]), []);
        assert_eq!(places(&[], &[13]), []);
    }

    #[test]
    fn words_find_each_other() {
        let lexicon = Lexicon::learn(&BOOKS);
        for (source, target) in [(1, 11), (2, 12), (3, 13), (4, 14)] {
            let found = lexicon.translations(source, 2, 0.0);
            assert!(found[0].0 == target && found[0].1 > 0.5, "{source}: {found:?}");
            assert_eq!(lexicon.translations(source, 9, 0.5).len(), 1);
        }
        assert!(lexicon.translations(9, 5, 0.0).is_empty());
        assert_eq!(lexicon.frequent(2), [11, 13]);
    }

    /// Against a second implementation that writes the formulas down.
    #[test]
    fn probabilities_are_those_of_the_formulas() {
        let mut state = 5u32;
        let mut random = |bound: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % bound
        };
        let pairs: Vec<(Vec<u32>, Vec<u32>)> = (0..40)
            .map(|_| {
                let sentence = |random: &mut dyn FnMut(u32) -> u32| (0..1 + random(6)).map(|_| random(9)).collect();
                (sentence(&mut random), sentence(&mut random))
            })
            .collect();
        let mut together: HashMap<(u32, u32), f64> = HashMap::new();
        for (source, target) in &pairs {
            for s in source.iter().chain([&NOTHING]) {
                together.extend(target.iter().map(|t| ((*s, *t), 1.0)));
            }
        }
        let normalise = |table: &HashMap<(u32, u32), f64>| -> HashMap<(u32, u32), f64> {
            let total = |s: u32| {
                table
                    .iter()
                    .filter(|(key, _)| key.0 == s)
                    .map(|(_, value)| value)
                    .sum::<f64>()
            };
            table.iter().map(|(key, value)| (*key, value / total(key.0))).collect()
        };
        let mut table = normalise(&together);
        for _ in 0..ITERATIONS {
            let mut counts: HashMap<(u32, u32), f64> = HashMap::new();
            for (source, target) in &pairs {
                let sources: Vec<u32> = source.iter().copied().chain([NOTHING]).collect();
                for t in target {
                    let sum: f64 = sources.iter().map(|s| table[&(*s, *t)]).sum();
                    for s in &sources {
                        *counts.entry((*s, *t)).or_default() += table[&(*s, *t)] / sum;
                    }
                }
            }
            table = normalise(&counts);
        }
        let lexicon = Lexicon::learn(&pairs);
        for source in 0..9 {
            let found = lexicon.translations(source, 99, 0.0);
            assert!((found.iter().map(|(_, p)| p).sum::<f32>() - 1.0).abs() < 1e-4);
            for (target, p) in found {
                assert!(
                    (f64::from(p) - table[&(source, target)]).abs() < 1e-4,
                    "{source} {target}"
                );
            }
        }
    }
}
