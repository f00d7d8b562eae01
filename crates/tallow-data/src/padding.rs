//! Batches as rectangles.

use crate::batch::Batch;

/// A batch padded to the longest sentence of each side: row-major matrices, ready to become tensors.
///
/// # Shapes
/// b = rows, s = `source_length`, t = `target_length`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaddedBatch {
    /// The number of pairs, b.
    pub rows: usize,
    /// The length of the longest source, s.
    pub source_length: usize,
    /// The length of the longest target, t.
    pub target_length: usize,
    /// b x s: the source tokens, then the source's padding.
    pub source: Vec<u32>,
    /// b x t: what the decoder reads: the start token, then the target without its last token, then padding. At
    /// position i it has seen exactly what precedes label i (teacher forcing).
    pub target_input: Vec<u32>,
    /// b x t: what the decoder shall predict: the target tokens with `</s>`, then padding.
    pub labels: Vec<u32>,
    /// b: the number of source tokens of each row.
    pub source_lengths: Vec<usize>,
    /// b: the number of labels of each row.
    pub target_lengths: Vec<usize>,
    /// b: the [`crate::Pair::id`] of each row.
    pub ids: Vec<u64>,
    /// The number of labels that are not padding.
    pub target_tokens: usize,
}

impl Batch {
    /// Pads the examples, one row each, in their order.
    ///
    /// `start_id` begins every decoder input (Marian models begin with the padding token), `source_pad` and
    /// `target_pad` are the padding tokens of the two vocabularies.
    pub fn pad(&self, start_id: u32, source_pad: u32, target_pad: u32) -> PaddedBatch {
        let rows = self.examples.len();
        let (source_length, target_length) = (self.source_length(), self.target_length());
        let mut source = vec![source_pad; rows * source_length];
        let mut target_input = vec![target_pad; rows * target_length];
        let mut labels = vec![target_pad; rows * target_length];
        for (row, example) in self.examples.iter().enumerate() {
            let (from, length) = (row * source_length, example.source.len());
            source[from..from + length].copy_from_slice(&example.source);
            let (from, length) = (row * target_length, example.target.len());
            labels[from..from + length].copy_from_slice(&example.target);
            if let Some(before_last) = length.checked_sub(1) {
                target_input[from] = start_id;
                target_input[from + 1..from + length].copy_from_slice(&example.target[..before_last]);
            }
        }
        PaddedBatch {
            rows,
            source_length,
            target_length,
            source,
            target_input,
            labels,
            source_lengths: self.examples.iter().map(|example| example.source.len()).collect(),
            target_lengths: self.examples.iter().map(|example| example.target.len()).collect(),
            ids: self.examples.iter().map(|example| example.id).collect(),
            target_tokens: self.target_tokens(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Example;

    /// `</s>` is 0, the padding of the source 98, of the target 99, the start token 50.
    #[test]
    fn the_layout_written_out() {
        let examples = vec![
            Example {
                id: 4,
                source: vec![11, 12, 0],
                target: vec![21, 0],
            },
            Example {
                id: 2,
                source: vec![13, 0],
                target: vec![22, 23, 24, 0],
            },
            Example {
                id: 9,
                source: vec![0],
                target: vec![0],
            },
        ];
        #[rustfmt::skip]
        let expected = PaddedBatch {
            rows: 3,
            source_length: 3,
            target_length: 4,
            source: vec![
                11, 12,  0,
                13,  0, 98,
                 0, 98, 98,
            ],
            target_input: vec![
                50, 21, 99, 99,
                50, 22, 23, 24,
                50, 99, 99, 99,
            ],
            labels: vec![
                21,  0, 99, 99,
                22, 23, 24,  0,
                 0, 99, 99, 99,
            ],
            source_lengths: vec![3, 2, 1],
            target_lengths: vec![2, 4, 1],
            ids: vec![4, 2, 9],
            target_tokens: 7,
        };
        assert_eq!(Batch { examples }.pad(50, 98, 99), expected);
    }

    #[test]
    fn nothing_pads_to_nothing() {
        let padded = Batch::default().pad(1, 2, 3);
        assert_eq!(
            (
                padded.rows,
                padded.source_length,
                padded.labels.len(),
                padded.target_tokens
            ),
            (0, 0, 0, 0)
        );
        // An example that was never given its `</s>`.
        let examples = vec![Example {
            id: 0,
            source: vec![],
            target: vec![],
        }];
        assert_eq!(Batch { examples }.pad(1, 2, 3).rows, 1);
    }
}
