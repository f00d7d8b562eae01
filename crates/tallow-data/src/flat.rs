//! Batches as plain numbers.

use crate::batch::Batch;

/// The tokens of a batch, one sentence after another without padding, ready to become tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlatBatch {
    /// The source tokens.
    pub source: Vec<u32>,
    /// The input of the decoder: for each sentence the start token, then the target without its last token. Each
    /// position sees exactly the tokens before its label (teacher forcing).
    pub target_input: Vec<u32>,
    /// The tokens that the decoder must predict: the target tokens with `</s>`.
    pub labels: Vec<u32>,
    /// The number of source tokens of each pair.
    pub source_lengths: Vec<usize>,
    /// The number of labels of each pair.
    pub target_lengths: Vec<usize>,
    /// The [`crate::Pair::id`] of each pair.
    pub ids: Vec<u64>,
    /// Links between tokens that belong together: pairs of a label's and a source token's place in these vectors. The
    /// labels are in ascending order.
    pub links: Vec<(u32, u32)>,
}

impl Batch {
    /// Lays out the examples in their order. `start_id` is the first token of every decoder input (the padding token in
    /// Marian models).
    pub fn flatten(&self, start_id: u32) -> FlatBatch {
        let target_tokens = self.target_tokens();
        let mut flat = FlatBatch {
            source: Vec::with_capacity(self.source_tokens()),
            target_input: Vec::with_capacity(target_tokens),
            labels: Vec::with_capacity(target_tokens),
            source_lengths: self.examples.iter().map(|example| example.source.len()).collect(),
            target_lengths: self.examples.iter().map(|example| example.target.len()).collect(),
            ids: self.examples.iter().map(|example| example.id).collect(),
            links: Vec::new(),
        };
        for example in &self.examples {
            let (target, source) = (flat.labels.len() as u32, flat.source.len() as u32);
            let links = example.links.iter().map(|link| (target + link.0, source + link.1));
            flat.links.extend(links);
            flat.source.extend(&example.source);
            flat.labels.extend(&example.target);
            if let Some((_, before_last)) = example.target.split_last() {
                flat.target_input.push(start_id);
                flat.target_input.extend(before_last);
            }
        }
        flat
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Example;

    /// `</s>` is 0, the start token 50.
    #[test]
    fn the_layout_written_out() {
        let example = |id, source: &[u32], target: &[u32], links: &[(u32, u32)]| Example {
            id,
            source: source.to_vec(),
            target: target.to_vec(),
            links: links.to_vec(),
        };
        let examples = vec![
            example(4, &[11, 12, 0], &[21, 0], &[(0, 1)]),
            example(2, &[13, 0], &[22, 23, 24, 0], &[(0, 0), (2, 0)]),
            example(9, &[0], &[0], &[]),
        ];
        #[rustfmt::skip]
        let expected = FlatBatch {
            source: vec![11, 12, 0,  13, 0,  0],
            target_input: vec![50, 21,  50, 22, 23, 24,  50],
            labels: vec![21, 0,  22, 23, 24, 0,  0],
            source_lengths: vec![3, 2, 1],
            target_lengths: vec![2, 4, 1],
            ids: vec![4, 2, 9],
            links: vec![(0, 1),  (2, 3), (4, 3)],
        };
        assert_eq!(Batch { examples }.flatten(50), expected);
    }

    #[test]
    fn nothing_becomes_nothing() {
        let flat = Batch::default().flatten(1);
        assert_eq!((flat.source.len(), flat.labels.len(), flat.ids.len()), (0, 0, 0));
        // An example without `</s>`.
        let examples = vec![Example {
            id: 0,
            source: vec![],
            target: vec![],
            links: vec![],
        }];
        let flat = Batch { examples }.flatten(1);
        assert_eq!((flat.target_input.len(), flat.target_lengths), (0, vec![0]));
    }
}
