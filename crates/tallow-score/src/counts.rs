//! The counts of every sentence, from which the score of any selection of sentences follows.

/// The counts of every sentence of a corpus under one metric. The score of a set of sentences follows from the sum of
/// their counts ([`Metric::of_counts`](crate::Metric::of_counts)), so that scores of parts and of resampled corpora
/// need no second look at the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    columns: usize,
    numbers: Vec<f64>,
}

impl Counts {
    /// No sentences; each will have this many numbers.
    pub(crate) fn new(columns: usize) -> Self {
        Self {
            columns,
            numbers: Vec::new(),
        }
    }

    /// Appends a sentence.
    pub(crate) fn push(&mut self, row: impl IntoIterator<Item = f64>) {
        let before = self.numbers.len();
        self.numbers.extend(row);
        debug_assert_eq!(self.numbers.len() - before, self.columns);
    }

    /// The number of sentences.
    pub fn sentences(&self) -> usize {
        self.numbers.len() / self.columns.max(1)
    }

    /// The counts of a sentence, in the metric's own order; none for a sentence that does not exist.
    pub fn row(&self, sentence: usize) -> &[f64] {
        let begin = sentence.saturating_mul(self.columns);
        let end = begin.saturating_add(self.columns);
        self.numbers.get(begin..end).unwrap_or_default()
    }

    /// The sum over some sentences, each as often as it is named.
    pub fn sum(&self, sentences: impl IntoIterator<Item = usize>) -> Vec<f64> {
        let mut sum = vec![0.0; self.columns];
        for sentence in sentences {
            add(&mut sum, self.row(sentence));
        }
        sum
    }

    /// The sum over all sentences.
    pub fn total(&self) -> Vec<f64> {
        self.sum(0..self.sentences())
    }
}

/// Adds the counts of a sentence to a sum.
pub(crate) fn add(sum: &mut [f64], row: &[f64]) {
    sum.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_that_do_not_exist_count_nothing() {
        let mut counts = Counts::new(2);
        counts.push([1.0, 2.0]);
        counts.push([3.0, 4.0]);
        assert_eq!(counts.row(1), [3.0, 4.0]);
        assert!([2, usize::MAX].iter().all(|sentence| counts.row(*sentence).is_empty()));
        assert_eq!(counts.sum([1, 1, usize::MAX]), [6.0, 8.0]);
        assert_eq!(counts.total(), [4.0, 6.0]);
    }
}
