//! The order of the training data: which pairs form which batch of which epoch.

use std::sync::Arc;

use crate::batch::Batch;
use crate::config::DataConfig;
use crate::corpus::{Corpus, Part};
use crate::shuffle::{Purpose, SplitMix64};

/// Plans epochs and makes their batches. The plan depends only on the corpus, the batch size, the pool size, the seed
/// and the number of the epoch.
///
/// An epoch is planned in four steps:
///
/// 1. Each corpus contributes its pairs as often as its weight says ([`crate::CorpusFiles::weight`]).
/// 2. All these pairs are shuffled and cut into pools.
/// 3. Each pool is sorted by the longer side; pairs of equal length keep their random order. It is then cut into
///    batches that are as large as `batch_tokens` allows. A pair longer than `batch_tokens` forms a batch of its own.
/// 4. The batches of all pools are shuffled.
///
/// So there is little padding, batches come in random order, and their composition changes from epoch to epoch.
///
/// If epochs cut sentences anew ([`Corpus::recut_with`]), the lengths are those of the epoch's own cuts. The cuts are
/// drawn twice, once for the plan and once for the batch, so that an epoch need not be kept in memory.
#[derive(Debug, Clone)]
pub struct Sampler {
    corpus: Arc<Corpus>,
    batch_tokens: usize,
    pool_pairs: usize,
    seed: u64,
    threads: usize,
}

impl Sampler {
    /// A sampler for the `batch_tokens` and `pool_pairs` of a configuration. `seed` is the seed of the run.
    pub fn new(corpus: Arc<Corpus>, config: &DataConfig, seed: u64) -> Self {
        Self {
            corpus,
            batch_tokens: config.batch_tokens,
            pool_pairs: config.pool_pairs,
            seed,
            threads: 1,
        }
    }

    /// Uses this many threads for planning when epochs cut sentences anew. The plans stay the same.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self {
            threads: threads.max(1),
            ..self
        }
    }

    /// The corpus.
    pub fn corpus(&self) -> &Arc<Corpus> {
        &self.corpus
    }

    /// The batches of an epoch in order. Each batch is a list of pair indices for [`Sampler::batch`], and none is
    /// empty.
    pub fn epoch(&self, epoch: u64) -> Vec<Vec<usize>> {
        let mut pairs = Vec::new();
        for (number, part) in self.corpus.parts().iter().enumerate() {
            let generator = SplitMix64::keyed(self.seed, Purpose::Subset, &[epoch, number as u64]);
            draw(part, generator, &mut pairs);
        }
        SplitMix64::keyed(self.seed, Purpose::Pairs, &[epoch]).shuffle(&mut pairs);
        let pool = if self.pool_pairs == 0 {
            pairs.len()
        } else {
            self.pool_pairs
        };
        let mut batches = Vec::new();
        let lengths = self.recut_lengths(epoch);
        let longer = |index: usize| match &lengths {
            Some(lengths) => lengths[index] as usize,
            None => longer_side(&self.corpus, index),
        };
        for pool in pairs.chunks_mut(pool.max(1)) {
            cut_by_length(longer, pool, self.batch_tokens, &mut batches);
        }
        SplitMix64::keyed(self.seed, Purpose::Batches, &[epoch]).shuffle(&mut batches);
        batches
    }

    /// The batch of the pairs with these indices, with the cuts of this epoch.
    ///
    /// # Panics
    /// If an index is not below [`Corpus::len`].
    pub fn batch(&self, epoch: u64, indices: &[usize]) -> Batch {
        match self.corpus.recuts() {
            None => self.corpus.batch(indices),
            Some(recuts) => {
                let example = |&index: &usize| {
                    let (source, target) = recuts.sides(self.corpus.pair(index), self.seed, epoch);
                    self.corpus.example(index, source, target)
                };
                Batch {
                    examples: indices.iter().map(example).collect(),
                }
            }
        }
    }

    /// The tokens of the longer side of each pair, if the epoch cuts sentences anew.
    fn recut_lengths(&self, epoch: u64) -> Option<Vec<u32>> {
        let recuts = self.corpus.recuts()?;
        let longer = |index| {
            let (source, target) = recuts.sides(self.corpus.pair(index), self.seed, epoch);
            source.len().max(target.len()) as u32
        };
        let mut lengths = vec![0; self.corpus.len()];
        let share = lengths.len().div_ceil(self.threads).max(1);
        std::thread::scope(|scope| {
            for (number, part) in lengths.chunks_mut(share).enumerate() {
                scope.spawn(move || {
                    for (index, length) in (number * share..).zip(part) {
                        *length = longer(index);
                    }
                });
            }
        });
        Some(lengths)
    }
}

impl Corpus {
    /// The batch of the pairs with these indices.
    ///
    /// # Panics
    /// If an index is not below [`Corpus::len`].
    pub fn batch(&self, indices: &[usize]) -> Batch {
        let example = |&index: &usize| {
            let pair = self.pair(index);
            self.example(index, pair.source.to_vec(), pair.target.to_vec())
        };
        Batch {
            examples: indices.iter().map(example).collect(),
        }
    }
}

/// Every pair of the corpus once, whatever the weights, in batches of at most `batch_tokens`, from short to long pairs.
/// Meant for validation, where the order does not matter and must not change.
pub fn fixed_batches(corpus: &Corpus, batch_tokens: usize) -> Vec<Vec<usize>> {
    let mut pairs: Vec<usize> = (0..corpus.len()).collect();
    let mut batches = Vec::new();
    cut_by_length(
        |index| longer_side(corpus, index),
        &mut pairs,
        batch_tokens,
        &mut batches,
    );
    batches
}

/// Adds the pairs of one corpus for one epoch. Their number is `weight` times the number of pairs, rounded, and at
/// least one. Every pair occurs as often as the weight has whole units; the rest is a random sample without repetition.
fn draw(part: &Part, mut generator: SplitMix64, pairs: &mut Vec<usize>) {
    let size = part.pairs.len();
    if size == 0 {
        return;
    }
    let wanted = ((part.weight * size as f64).round() as usize).max(1);
    for _ in 0..wanted / size {
        pairs.extend(part.pairs.clone());
    }
    let rest = wanted % size;
    if rest > 0 {
        let mut sample: Vec<usize> = part.pairs.clone().collect();
        generator.shuffle(&mut sample);
        pairs.extend_from_slice(&sample[..rest]);
    }
}

/// The number of tokens of the longer side of a pair.
fn longer_side(corpus: &Corpus, index: usize) -> usize {
    let (source, target) = corpus.lengths(index);
    source.max(target)
}

/// Sorts pairs by the length of the longer side and cuts them into batches. Pairs of equal length keep their order.
///
/// The budget counts the longer side. Sorting by the shorter side too would gain nothing, because batches are not
/// padded. It would also put pairs with the same two lengths into one batch in every epoch.
fn cut_by_length(
    longer: impl Fn(usize) -> usize,
    pairs: &mut [usize],
    batch_tokens: usize,
    batches: &mut Vec<Vec<usize>>,
) {
    pairs.sort_by_cached_key(|&index| longer(index));
    let mut batch = Vec::new();
    let mut longest = 0;
    for &index in &*pairs {
        let length = longer(index);
        longest = longest.max(length);
        if !batch.is_empty() && (batch.len() + 1) * longest > batch_tokens {
            batches.push(std::mem::take(&mut batch));
            longest = length;
        }
        batch.push(index);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
}
