//! Words as numbers, so that n-grams and edit distances compare integers.

use std::collections::HashMap;

use crate::whitespace::words;

/// Numbers for the distinct words of one segment. Equal words get equal numbers, different words different ones.
#[derive(Debug, Default)]
pub(crate) struct WordIds<'t> {
    ids: HashMap<&'t str, usize>,
}

impl<'t> WordIds<'t> {
    /// The words of `text` (separated by white space) as numbers.
    pub(crate) fn of(&mut self, text: &'t str) -> Vec<usize> {
        words(text)
            .map(|word| {
                let next = self.ids.len();
                *self.ids.entry(word).or_insert(next)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_words_share_a_number_across_texts() {
        let mut ids = WordIds::default();
        assert_eq!(ids.of("to be or not to be"), [0, 1, 2, 3, 0, 1]);
        assert_eq!(ids.of("or be it"), [2, 1, 4]);
    }
}
