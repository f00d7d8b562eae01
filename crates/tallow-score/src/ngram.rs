//! Counting n-grams.

use std::collections::HashMap;
use std::hash::Hash;

/// The longest n-grams that options may ask for: far longer than useful, and few enough to allocate counters for.
pub(crate) const LARGEST_ORDER: usize = 100;

/// Number of occurrences of each n-gram.
pub(crate) type NgramCounts<'t, T> = HashMap<&'t [T], u64>;

/// Counts the n-grams of `order` (at least 1) tokens. A sequence with fewer tokens has none.
pub(crate) fn count_ngrams<T: Eq + Hash>(tokens: &[T], order: usize) -> NgramCounts<'_, T> {
    let mut counts = NgramCounts::with_capacity(ngram_total(tokens.len(), order));
    for ngram in tokens.windows(order) {
        *counts.entry(ngram).or_default() += 1;
    }
    counts
}

/// The number of n-grams of `order` tokens in a sequence of `length` tokens.
pub(crate) fn ngram_total(length: usize, order: usize) -> usize {
    (length + 1).saturating_sub(order)
}

/// The number of common n-grams. Each n-gram counts as often as it occurs on the side that has fewer of it.
pub(crate) fn count_matches<T: Eq + Hash>(hypothesis: &NgramCounts<'_, T>, reference: &NgramCounts<'_, T>) -> u64 {
    let common = |(ngram, &count): (&&[T], &u64)| reference.get(ngram).map_or(0, |&other| count.min(other));
    hypothesis.iter().map(common).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_are_clipped() {
        let hypothesis: Vec<char> = "aaab".chars().collect();
        let reference: Vec<char> = "aab".chars().collect();
        let matches = |order| count_matches(&count_ngrams(&hypothesis, order), &count_ngrams(&reference, order));
        assert_eq!([matches(1), matches(2), matches(3), matches(4)], [3, 2, 1, 0]);
        assert_eq!([1, 4, 5, 9].map(|order| ngram_total(4, order)), [4, 1, 0, 0]);
    }
}
