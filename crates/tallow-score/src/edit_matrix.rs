//! Edit distance between two sequences of words, computed near the diagonal.

use std::ops::Range;

/// Greatest distance of computed cells from the diagonal, in words of the reference (Tercom's limit).
const BEAM_WIDTH: usize = 25;

/// The cost of a cell that was not computed; adding one to it does not overflow.
const UNREACHED: u32 = u32::MAX - 1;

/// One step on the way from the hypothesis to the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edit {
    /// The word stays.
    Keep,
    /// A word of the hypothesis becomes a word of the reference.
    Substitute,
    /// A word of the reference is added.
    Insert,
    /// A word of the hypothesis is removed.
    Delete,
}

/// The Levenshtein matrix of a hypothesis and a reference.
///
/// `rows[i].cost(j)` is the cost of turning the first `i` words of the hypothesis into the first `j` words of the
/// reference. As in sacreBLEU, only cells within a beam around the diagonal are computed. Only these cells are stored,
/// because a line may have any number of words. For long sentences of very different word order, the distance is
/// therefore only an upper bound; a wider beam would change scores.
#[derive(Debug)]
pub(crate) struct EditMatrix<'r> {
    hypothesis: Vec<usize>,
    reference: &'r [usize],
    rows: Vec<Row>,
}

/// The cells of a row that were computed.
#[derive(Debug)]
struct Row {
    /// The column of the first computed cell.
    start: usize,
    costs: Vec<u32>,
}

impl Row {
    /// The cost in a column.
    fn cost(&self, column: usize) -> u32 {
        let cell = column.checked_sub(self.start).and_then(|cell| self.costs.get(cell));
        cell.copied().unwrap_or(UNREACHED)
    }
}

impl<'r> EditMatrix<'r> {
    /// Computes the whole matrix.
    pub(crate) fn new(hypothesis: Vec<usize>, reference: &'r [usize]) -> Self {
        let first_row = Row {
            start: 0,
            costs: (0..).take(reference.len() + 1).collect(),
        };
        let mut rows = vec![first_row];
        for position in 1..=hypothesis.len() {
            let row = next_row(&rows[position - 1], &hypothesis, position, reference);
            rows.push(row);
        }
        Self {
            hypothesis,
            reference,
            rows,
        }
    }

    /// The words of the hypothesis.
    pub(crate) fn hypothesis(&self) -> &[usize] {
        &self.hypothesis
    }

    /// The words of the reference.
    pub(crate) fn reference(&self) -> &'r [usize] {
        self.reference
    }

    /// The edit distance.
    pub(crate) fn distance(&self) -> u32 {
        self.rows[self.hypothesis.len()].cost(self.reference.len())
    }

    /// The edit distance of `permuted`, another order of the hypothesis's words. The rows of the words that both have
    /// in common at the beginning are not computed again.
    pub(crate) fn distance_of(&self, permuted: &[usize]) -> u32 {
        let shared = self.hypothesis.iter().zip(permuted).take_while(|(a, b)| a == b).count();
        let mut row = None;
        for position in shared + 1..=permuted.len() {
            let above = row.as_ref().unwrap_or(&self.rows[shared]);
            row = Some(next_row(above, permuted, position, self.reference));
        }
        row.as_ref().unwrap_or(&self.rows[shared]).cost(self.reference.len())
    }

    /// The cheapest edits from the hypothesis to the reference, from the first word to the last. If several sequences
    /// of edits are equally cheap, keeping or substituting is preferred to deleting, and deleting to inserting (looking
    /// from the end of the sentences). The alignment of words depends on this choice, and so does the search for
    /// shifts.
    pub(crate) fn edits(&self) -> Vec<Edit> {
        let (mut i, mut j) = (self.hypothesis.len(), self.reference.len());
        let mut edits = Vec::with_capacity(i + j);
        while i > 0 || j > 0 {
            let edit = self.edit_at(i, j);
            match edit {
                Edit::Keep | Edit::Substitute => (i, j) = (i - 1, j - 1),
                Edit::Delete => i -= 1,
                Edit::Insert => j -= 1,
            }
            edits.push(edit);
        }
        edits.reverse();
        edits
    }

    /// The last edit on the path to cell (`i`, `j`), which is not (0, 0).
    fn edit_at(&self, i: usize, j: usize) -> Edit {
        if i == 0 {
            return Edit::Insert;
        }
        if j == 0 {
            return Edit::Delete;
        }
        let cost = self.rows[i].cost(j);
        let same = self.hypothesis[i - 1] == self.reference[j - 1];
        if self.rows[i - 1].cost(j - 1) + u32::from(!same) == cost {
            if same { Edit::Keep } else { Edit::Substitute }
        } else if self.rows[i - 1].cost(j) + 1 == cost {
            Edit::Delete
        } else {
            Edit::Insert
        }
    }
}

/// The row of the hypothesis's word number `position` (counted from one), computed from the row `above` it.
fn next_row(above: &Row, hypothesis: &[usize], position: usize, reference: &[usize]) -> Row {
    let word = hypothesis[position - 1];
    let columns = beam(position, hypothesis.len(), reference.len());
    let start = columns.start;
    let mut left = UNREACHED;
    let cost = |j: usize| {
        let mut cost = (above.cost(j) + 1).min(left + 1);
        if j > 0 {
            cost = cost.min(above.cost(j - 1) + u32::from(word != reference[j - 1]));
        }
        left = cost.min(UNREACHED);
        left
    };
    Row {
        start,
        costs: columns.map(cost).collect(),
    }
}

/// The columns of row `position` within the beam. The diagonal goes from corner to corner, even if the lengths differ
/// greatly.
fn beam(position: usize, hypothesis_length: usize, reference_length: usize) -> Range<usize> {
    let columns_per_row = reference_length as f64 / hypothesis_length as f64;
    let half_step = columns_per_row / 2.0;
    // If the step is larger, the beams of neighbouring rows do not touch.
    let width = if half_step > BEAM_WIDTH as f64 {
        (half_step + BEAM_WIDTH as f64).ceil() as usize
    } else {
        BEAM_WIDTH
    };
    let diagonal = (position as f64 * columns_per_row).floor() as usize;
    diagonal.saturating_sub(width)..(diagonal + width).min(reference_length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::word_ids::WordIds;

    #[test]
    fn edits_prefer_the_diagonal() {
        let matrix = EditMatrix::new(vec![1, 2, 3, 4], &[1, 3, 5, 6]);
        assert_eq!(matrix.distance(), 3);
        assert_eq!(
            matrix.edits(),
            [Edit::Keep, Edit::Substitute, Edit::Substitute, Edit::Substitute]
        );
        let matrix = EditMatrix::new(vec![1, 2, 3], &[1, 3]);
        assert_eq!(matrix.edits(), [Edit::Keep, Edit::Delete, Edit::Keep]);
        assert_eq!(EditMatrix::new(vec![], &[7, 8]).edits(), [Edit::Insert; 2]);
    }

    /// The traces of the fixture `edits`, in sacreBLEU's letters.
    #[test]
    fn edits_are_those_of_sacrebleu() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sacrebleu_scores.json.gz");
        let file = flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap());
        let fixture: serde_json::Value = serde_json::from_reader(file).unwrap();
        let cases = fixture["edits"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let mut ids = WordIds::default();
            let hypothesis = ids.of(case["hypothesis"].as_str().unwrap());
            let reference = ids.of(case["reference"].as_str().unwrap());
            let letter = |edit: &Edit| match edit {
                Edit::Keep => ' ',
                Edit::Substitute => 's',
                Edit::Insert => 'i',
                Edit::Delete => 'd',
            };
            let trace: String = EditMatrix::new(hypothesis, &reference)
                .edits()
                .iter()
                .map(letter)
                .collect();
            assert_eq!(trace, case["trace"].as_str().unwrap(), "{case}");
        }
    }

    #[test]
    fn long_lines_take_memory_by_their_length() {
        let words: Vec<usize> = (0..30_000).map(|word| word % 7).collect();
        let matrix = EditMatrix::new(words.clone(), &words);
        assert_eq!(matrix.distance(), 0);
        let cells: usize = matrix.rows.iter().map(|row| row.costs.len()).sum();
        assert!(cells < 100 * words.len(), "{cells}");
    }

    #[test]
    fn permutations_cost_what_their_own_matrix_says() {
        let reference: Vec<usize> = (0..40).collect();
        let hypothesis: Vec<usize> = (0..30).map(|word| word * 7 % 45).collect();
        let matrix = EditMatrix::new(hypothesis.clone(), &reference);
        assert_eq!(matrix.distance_of(&hypothesis), matrix.distance());
        for from in 0..hypothesis.len() {
            let mut permuted = hypothesis.clone();
            permuted[from..].rotate_left(1);
            assert_eq!(
                matrix.distance_of(&permuted),
                EditMatrix::new(permuted, &reference).distance()
            );
        }
    }
}
