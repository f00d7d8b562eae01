//! The pairs of one update, and their division among workers.

use std::cmp::Reverse;

use crate::corpus::Pair;

/// One encoded pair, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// See [`Pair::id`]. A pair may occur twice in a batch when its corpus has a weight above 1.
    pub id: u64,
    /// The source tokens, the last of them `</s>`.
    pub source: Vec<u32>,
    /// The target tokens, the last of them `</s>`.
    pub target: Vec<u32>,
}

impl From<Pair<'_>> for Example {
    fn from(pair: Pair<'_>) -> Self {
        Self {
            id: pair.id,
            source: pair.source.to_vec(),
            target: pair.target.to_vec(),
        }
    }
}

/// The pairs of one update, or of one worker's share of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The pairs.
    pub examples: Vec<Example>,
}

impl Batch {
    /// The number of source tokens, `</s>` included, without padding.
    pub fn source_tokens(&self) -> usize {
        self.examples.iter().map(|example| example.source.len()).sum()
    }

    /// The number of target tokens, `</s>` included, without padding: the number of predictions in the loss.
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

    /// The size that `batch_tokens` limits: rows times the length of the longest sentence of either side.
    pub fn padded_tokens(&self) -> usize {
        self.examples.len() * self.source_length().max(self.target_length())
    }

    /// The number of cells, padding included, of the source and the target matrix together.
    pub fn cells(&self) -> usize {
        self.examples.len() * (self.source_length() + self.target_length())
    }

    /// Splits the batch by sentences into one part for each worker; with fewer sentences than workers, into as many
    /// parts as there are sentences. No part is empty.
    ///
    /// Sentences of similar length go together, and the parts are cut so that the largest number of
    /// [`Batch::cells`] among them is as small as contiguous runs of sentences sorted by length allow. The result
    /// depends on nothing but the batch and `workers`. 0 workers count as 1.
    pub fn shards(&self, workers: usize) -> Vec<Batch> {
        let mut order: Vec<&Example> = self.examples.iter().collect();
        // A stable sort: equal lengths stay in the order of the batch.
        order.sort_by_key(|example| Reverse((example.target.len(), example.source.len())));
        let parts = workers.max(1).min(order.len());
        // The smallest bound that `parts` runs can keep, by bisection: `low` is too small, `high` is large enough.
        let (mut low, mut high) = (0, self.cells());
        while high - low > 1 {
            let bound = low + (high - low) / 2;
            if cut(&order, bound).is_some_and(|ends| ends.len() <= parts) {
                high = bound;
            } else {
                low = bound;
            }
        }
        let mut ends = cut(&order, high).unwrap_or_default();
        split_until(&mut ends, parts);
        let mut start = 0;
        let shard = |end: usize| {
            let examples = order[start..end].iter().map(|&example| example.clone()).collect();
            start = end;
            Batch { examples }
        };
        ends.into_iter().map(shard).collect()
    }
}

/// Cuts the examples into runs of at most `bound` cells, each as long as it can be. Returns the ends of the runs, or
/// nothing when a single example has more cells.
fn cut(order: &[&Example], bound: usize) -> Option<Vec<usize>> {
    let mut ends = Vec::new();
    let (mut start, mut source, mut target) = (0, 0, 0);
    for (index, example) in order.iter().enumerate() {
        let alone = example.source.len() + example.target.len();
        if alone > bound {
            return None;
        }
        source = example.source.len().max(source);
        target = example.target.len().max(target);
        if (index + 1 - start) * (source + target) > bound {
            ends.push(index);
            (start, source, target) = (index, example.source.len(), example.target.len());
        }
    }
    if start < order.len() {
        ends.push(order.len());
    }
    Some(ends)
}

/// Halves the run with the most examples until there are `parts` runs. Long runs under the bound of [`cut`] can leave
/// a worker without any.
fn split_until(ends: &mut Vec<usize>, parts: usize) {
    while ends.len() < parts {
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let runs = starts.zip(ends.iter().copied()).enumerate();
        let Some((index, (start, end))) = runs.max_by_key(|(index, (start, end))| (end - start, Reverse(*index)))
        else {
            return;
        };
        ends.insert(index, start + (end - start) / 2);
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
        assert_eq!((batch.padded_tokens(), batch.cells()), (10, 16));
        assert_eq!(Batch::default().padded_tokens(), 0);
    }

    #[test]
    fn shards_group_lengths_and_balance_cells() {
        // One long sentence costs as much as four short ones: 40 cells each.
        let batch = batch(&[(5, 5), (20, 20), (5, 5), (5, 5), (5, 5)]);
        assert_eq!(ids(&batch.shards(2)), [vec![1], vec![0, 2, 3, 4]]);
        assert_eq!(ids(&batch.shards(1)), [vec![1, 0, 2, 3, 4]]);
        assert_eq!(batch.shards(0), batch.shards(1));
    }

    #[test]
    fn shards_are_never_empty_and_hold_every_example_once() {
        let lengths: Vec<(usize, usize)> = (0..61).map(|i| (1 + i * 7 % 13, 1 + i * 5 % 11)).collect();
        for rows in 0..lengths.len() {
            let batch = batch(&lengths[..rows]);
            for workers in 1..12 {
                let shards = batch.shards(workers);
                assert_eq!(shards.len(), workers.min(rows), "{rows} rows, {workers} workers");
                assert!(shards.iter().all(|shard| !shard.examples.is_empty()));
                let mut all: Vec<Example> = shards.into_iter().flat_map(|shard| shard.examples).collect();
                all.sort_by_key(|example| example.id);
                assert_eq!(all, batch.examples);
            }
        }
    }

    /// Compares the largest shard with the best of all ways to cut the sorted examples in three.
    #[test]
    fn the_largest_shard_is_as_small_as_it_can_be() {
        let lengths: Vec<(usize, usize)> = (0..17).map(|i| (1 + i * 7 % 13, 1 + i * i % 19)).collect();
        let batch = batch(&lengths);
        let sorted = &batch.shards(1)[0].examples;
        let cells = |range: std::ops::Range<usize>| {
            Batch {
                examples: sorted[range].to_vec(),
            }
            .cells()
        };
        let mut best = usize::MAX;
        for first in 1..16 {
            for second in first + 1..17 {
                best = best.min(cells(0..first).max(cells(first..second)).max(cells(second..17)));
            }
        }
        assert_eq!(batch.shards(3).iter().map(Batch::cells).max(), Some(best));
    }
}
