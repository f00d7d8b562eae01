//! A set of small numbers.

/// A set of numbers, one bit for each up to the largest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BitSet {
    words: Vec<u64>,
}

impl BitSet {
    /// Adds a number.
    pub fn insert(&mut self, number: u64) {
        let word = (number / 64) as usize;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (number % 64);
    }

    /// Adds all numbers of another set.
    pub(crate) fn add_all(&mut self, other: &Self) {
        if other.words.len() > self.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    /// Whether the number is in the set.
    pub fn contains(&self, number: u64) -> bool {
        let word = self.words.get((number / 64) as usize);
        word.is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_the_set_or_not() {
        let mut set = BitSet::default();
        for number in [0, 63, 64, 1000, 63] {
            set.insert(number);
        }
        let found: Vec<u64> = (0..2000).filter(|number| set.contains(*number)).collect();
        assert_eq!(found, [0, 63, 64, 1000]);
    }
}
