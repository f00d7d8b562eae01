//! A random sample of the lines of corpora.

use crate::shuffle::{Purpose, SplitMix64};

/// The share of lines that a vocabulary is learned from, if there are too many of them. Whether a line belongs to it
/// depends only on the seed, the corpus and the number of the line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LineSample {
    seed: u64,
    share: f64,
}

impl LineSample {
    /// A sample of about `most` of so many lines.
    pub fn new(seed: u64, most: u64, lines: u64) -> Self {
        let share = if lines <= most { 1.0 } else { most as f64 / lines as f64 };
        Self { seed, share }
    }

    /// Whether the sample is everything.
    pub fn is_all(&self) -> bool {
        self.share >= 1.0
    }

    /// Whether a line of a corpus, both counted from 0, is in the sample.
    pub fn has(&self, corpus: u64, line: u64) -> bool {
        self.is_all() || SplitMix64::keyed(self.seed, Purpose::VocabularyLines, &[corpus, line]).uniform() < self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_random_and_of_the_right_size() {
        let count = |sample: LineSample, corpus| (0..100_000).filter(|line| sample.has(corpus, *line)).count();
        let sample = LineSample::new(1, 3000, 100_000);
        let found = count(sample, 0);
        assert!((2700..3300).contains(&found), "{found}");
        let both = (0..100_000)
            .filter(|line| sample.has(0, *line) && sample.has(1, *line))
            .count();
        assert!(both < 200, "{both}");
        assert_eq!(count(LineSample::new(1, 100_000, 100_000), 0), 100_000);
        assert_ne!(
            (0..9000).find(|line| sample.has(0, *line)),
            (0..9000).find(|line| LineSample::new(2, 3000, 100_000).has(0, *line))
        );
    }
}
