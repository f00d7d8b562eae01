//! The pairs of one update, and their division among workers.

use crate::deal::deal;

/// One encoded pair, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// See [`crate::Pair::id`]. A pair may occur twice in a batch when its corpus has a weight above 1.
    pub id: u64,
    /// The source tokens, the last of them `</s>`.
    pub source: Vec<u32>,
    /// The target tokens, the last of them `</s>`.
    pub target: Vec<u32>,
    /// Links between tokens that belong together: pairs of a target and a source token, by their places, in ascending
    /// order. Empty without word alignments.
    pub links: Vec<(u32, u32)>,
}

/// The pairs of one update, or of one worker's share of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The pairs.
    pub examples: Vec<Example>,
}

impl Batch {
    /// The number of source tokens, `</s>` included.
    pub fn source_tokens(&self) -> usize {
        self.examples.iter().map(|example| example.source.len()).sum()
    }

    /// The number of target tokens, `</s>` included. This is the number of predictions in the loss.
    pub fn target_tokens(&self) -> usize {
        self.examples.iter().map(|example| example.target.len()).sum()
    }

    /// The length of the longest source sentence.
    pub fn source_length(&self) -> usize {
        self.examples
            .iter()
            .map(|example| example.source.len())
            .max()
            .unwrap_or(0)
    }

    /// The length of the longest target sentence.
    pub fn target_length(&self) -> usize {
        self.examples
            .iter()
            .map(|example| example.target.len())
            .max()
            .unwrap_or(0)
    }

    /// The size that `batch_tokens` limits: rows times the length of the longest sentence on either side.
    pub fn padded_tokens(&self) -> usize {
        self.examples.len() * self.source_length().max(self.target_length())
    }

    /// Divides the sentences among workers, one part for each. If there are fewer sentences than workers, there are as
    /// many parts as sentences. No part is empty.
    ///
    /// `cost` estimates the work of a pair, and [`deal`] divides the work. The result depends only on the batch,
    /// `workers` and the costs. 0 workers count as 1.
    pub fn shards(&self, workers: usize, cost: impl Fn(&Example) -> usize) -> Vec<Batch> {
        let shards = deal(self.examples.iter().collect(), workers, |example| cost(example));
        let shards = shards.into_iter().filter(|shard| !shard.is_empty());
        let owned = |shard: Vec<&Example>| shard.into_iter().cloned().collect();
        shards.map(|shard| Batch { examples: owned(shard) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(lengths: &[(usize, usize)]) -> Batch {
        let example = |(id, &(source, target)): (usize, &(usize, usize))| Example {
            id: id as u64,
            source: vec![7; source],
            target: vec![8; target],
            links: Vec::new(),
        };
        Batch {
            examples: lengths.iter().enumerate().map(example).collect(),
        }
    }

    fn ids(shards: &[Batch]) -> Vec<Vec<u64>> {
        shards
            .iter()
            .map(|shard| shard.examples.iter().map(|example| example.id).collect())
            .collect()
    }

    #[test]
    fn sizes_count_padding_where_they_say_so() {
        let batch = batch(&[(2, 3), (5, 1)]);
        assert_eq!((batch.source_tokens(), batch.target_tokens()), (7, 4));
        assert_eq!((batch.source_length(), batch.target_length()), (5, 3));
        assert_eq!(batch.padded_tokens(), 10);
        assert_eq!(Batch::default().padded_tokens(), 0);
    }

    fn tokens(example: &Example) -> usize {
        example.source.len() + example.target.len()
    }

    #[test]
    fn shards_balance_costs() {
        // One long sentence costs as much as four short ones.
        let batch = batch(&[(5, 5), (20, 20), (5, 5), (5, 5), (5, 5)]);
        assert_eq!(ids(&batch.shards(2, tokens)), [vec![1], vec![0, 2, 3, 4]]);
        assert_eq!(ids(&batch.shards(1, tokens)), [vec![1, 0, 2, 3, 4]]);
        assert_eq!(batch.shards(0, tokens), batch.shards(1, tokens));
        // A cost of the target alone, and no cost at all.
        let batch = super::tests::batch(&[(90, 1), (1, 2), (1, 3)]);
        assert_eq!(ids(&batch.shards(2, |pair| pair.target.len())), [vec![2], vec![1, 0]]);
        assert_eq!(ids(&batch.shards(3, |_| 0)), [vec![0], vec![1], vec![2]]);
    }

    #[test]
    fn shards_are_never_empty_and_hold_every_example_once() {
        let lengths: Vec<(usize, usize)> = (0..61).map(|i| (1 + i * 7 % 13, 1 + i * 5 % 11)).collect();
        for rows in 0..lengths.len() {
            let batch = batch(&lengths[..rows]);
            for workers in 1..12 {
                let shards = batch.shards(workers, tokens);
                assert_eq!(shards.len(), workers.min(rows), "{rows} rows, {workers} workers");
                assert!(shards.iter().all(|shard| !shard.examples.is_empty()));
                let mut all: Vec<Example> = shards.into_iter().flat_map(|shard| shard.examples).collect();
                all.sort_by_key(|example| example.id);
                assert_eq!(all, batch.examples);
            }
        }
    }

    /// Two parts never differ by more than the most expensive pair; with many pairs, they differ by very little.
    #[test]
    fn shards_differ_by_little() {
        let lengths: Vec<(usize, usize)> = (0..200).map(|i| (3 + i * 7 % 13, 3 + i * i % 19)).collect();
        let batch = batch(&lengths);
        for workers in [2, 3, 7] {
            let costs: Vec<usize> = batch
                .shards(workers, tokens)
                .iter()
                .map(|shard| shard.examples.iter().map(tokens).sum())
                .collect();
            let (least, most) = (costs.iter().min().unwrap(), costs.iter().max().unwrap());
            assert!((most - least) * 50 <= *most, "{costs:?}");
        }
    }
}
