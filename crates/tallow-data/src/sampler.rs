//! The order of the training data: which pairs form which batch of which epoch.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::batch::Batch;
use crate::config::DataConfig;
use crate::corpus::Corpus;
use crate::epoch_order::{EpochOrder, places_of};
use crate::error::DataError;
use crate::pair_source::{PairSource, PartOfPairs};
use crate::permutation::Permutation;
use crate::shuffle::{Purpose, SplitMix64};
use crate::window::Window;

/// Plans epochs and makes their batches. The plan depends only on the corpora, the batch size, the window size, the
/// seed and the number of the epoch.
///
/// An epoch is planned in four steps:
///
/// 1. Each corpus contributes its pairs as often as its weight says ([`crate::CorpusFiles::weight`]), after
///    [`DataConfig::temperature`].
/// 2. All these pairs are put into random order. Up to 2^20 of them, every order is equally likely; beyond that, the
///    order is a keyed bijection, which needs no memory.
/// 3. The order is cut into windows of `pool_pairs` pairs. Each window is sorted by the longer side; pairs of equal
///    length keep their random order. It is then cut into batches that are as large as `batch_tokens` allows. A pair
///    longer than `batch_tokens` forms a batch of its own.
/// 4. The batches of each window are shuffled.
///
/// So there is little padding, batches come in random order, their composition changes from epoch to epoch, and every
/// window is a random sample of the whole epoch. At any time, only windows are in memory.
///
/// If epochs cut sentences anew ([`crate::Cuts::anew`]) or change them ([`crate::Cuts::augmented`]), the lengths are
/// those of the epoch's own pairs.
#[derive(Clone)]
pub struct Sampler {
    source: Arc<dyn PairSource>,
    parts: Vec<PartOfPairs>,
    batch_tokens: usize,
    pool_pairs: usize,
    seed: u64,
    threads: usize,
    /// The order of the epoch that was used last. Windows come one after another, and a table takes time to make.
    order: Arc<Mutex<Option<OrderOfEpoch>>>,
}

/// An epoch and its order.
type OrderOfEpoch = (u64, Arc<EpochOrder>);

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler")
            .field("parts", &self.parts)
            .field("batch_tokens", &self.batch_tokens)
            .field("pool_pairs", &self.pool_pairs)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl Sampler {
    /// A sampler for the `batch_tokens`, `pool_pairs` and `temperature` of a configuration, and for its first stage if
    /// it has stages. `seed` is the seed of the run.
    pub fn new(source: Arc<dyn PairSource>, config: &DataConfig, seed: u64) -> Self {
        Self::of_stage(source, config, seed, 0)
    }

    /// A sampler for the stage of this number, from 0. A configuration without stages has the weights of its corpora.
    pub fn of_stage(source: Arc<dyn PairSource>, config: &DataConfig, seed: u64, number: usize) -> Self {
        let mut parts = source.parts();
        if let Some(stage) = config.stage.get(number) {
            let weights = stage.weights_of(&config.train);
            for (number, part) in parts.iter_mut().enumerate() {
                part.weight = weights.get(number).copied().unwrap_or(0.0);
            }
        }
        Self {
            parts: tempered(parts, config.temperature),
            source,
            batch_tokens: config.batch_tokens,
            pool_pairs: config.pool_pairs,
            seed,
            threads: 1,
            order: Arc::default(),
        }
    }

    /// Uses this many threads when epochs cut sentences anew. The batches stay the same.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self {
            threads: threads.max(1),
            ..self
        }
    }

    /// The number of pairs of every epoch, each as often as it occurs.
    pub fn epoch_pairs(&self) -> u64 {
        self.parts.iter().map(places_of).sum()
    }

    /// The number of windows of every epoch.
    pub fn windows(&self) -> u64 {
        self.epoch_pairs().div_ceil(self.window_pairs())
    }

    /// Whether epochs have the order that versions of Tallow before windows gave them.
    pub(crate) fn has_order_of_earlier_versions(&self) -> bool {
        let has_table = |part: &PartOfPairs| Permutation::is_table(part.pairs.len() as u64);
        self.windows() <= 1 && Permutation::is_table(self.epoch_pairs()) && self.parts.iter().all(has_table)
    }

    fn window_pairs(&self) -> u64 {
        match self.pool_pairs {
            0 => self.epoch_pairs().max(1),
            pairs => pairs as u64,
        }
    }

    /// A window of an epoch, read and cut into batches. A window beyond the last has no batches.
    ///
    /// # Errors
    /// When the pairs are in a file that cannot be read or is damaged.
    pub fn window(&self, epoch: u64, number: u64) -> Result<Window, DataError> {
        let size = self.window_pairs();
        let start = number.saturating_mul(size).min(self.epoch_pairs());
        let end = start.saturating_add(size).min(self.epoch_pairs());
        let order = self.order_of(epoch);
        let indices: Vec<usize> = (start..end).map(|place| order.pair(place)).collect();
        let mut window = Window::read(&self.source, indices)?;
        if self.source.cuts().are_anew() {
            window = window.of_epoch(self.seed, epoch, self.threads)?;
        }
        // The first window has the generator of the whole epoch in versions that shuffled all batches of an epoch, so
        // runs with one window keep their order.
        let keys = [epoch, number];
        let keys = if number == 0 { &keys[..1] } else { &keys };
        let generator = SplitMix64::keyed(self.seed, Purpose::Batches, keys);
        window.cut_into_batches(self.batch_tokens, generator);
        Ok(window)
    }

    fn order_of(&self, epoch: u64) -> Arc<EpochOrder> {
        let mut known = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((of, order)) if *of == epoch => order.clone(),
            _ => {
                let order = Arc::new(EpochOrder::new(&self.parts, self.seed, epoch));
                *known = Some((epoch, order.clone()));
                order
            }
        }
    }

    /// All batches of an epoch in order, as lists of pair numbers for [`Sampler::batch`]. None is empty. The list of a
    /// large corpus is long: training takes one [`Sampler::window`] after another.
    ///
    /// # Errors
    /// As for [`Sampler::window`].
    pub fn epoch(&self, epoch: u64) -> Result<Vec<Vec<usize>>, DataError> {
        let mut batches = Vec::new();
        for number in 0..self.windows() {
            let window = self.window(epoch, number)?;
            batches.extend((0..window.len()).map(|batch| window.pairs(batch)));
        }
        Ok(batches)
    }

    /// The batch of the pairs with these numbers, with the cuts and changes of this epoch; none are joined.
    ///
    /// # Errors
    /// As for [`Sampler::window`].
    ///
    /// # Panics
    /// If there is no pair of such a number.
    pub fn batch(&self, epoch: u64, indices: &[usize]) -> Result<Batch, DataError> {
        let mut window = Window::read(&self.source, indices.to_vec())?;
        if self.source.cuts().are_anew() {
            window = window.changed(self.seed, epoch, 1)?;
        }
        Ok(window.in_order())
    }
}

/// The corpora with the weights that a temperature gives them: the share of a corpus in an epoch becomes its natural
/// share to the power of 1 / temperature. The corpus with the largest share keeps its weight, and the others are
/// raised.
fn tempered(mut parts: Vec<PartOfPairs>, temperature: f64) -> Vec<PartOfPairs> {
    let natural = |part: &PartOfPairs| part.weight * part.pairs.len() as f64;
    let largest = parts.iter().map(natural).fold(0.0, f64::max);
    for part in parts
        .iter_mut()
        .filter(|part| part.weight > 0.0 && !part.pairs.is_empty())
    {
        part.weight *= (largest / natural(part)).powf(1.0 - 1.0 / temperature);
    }
    parts
}

/// Every pair of the corpus once, whatever the weights, in batches of at most `batch_tokens`, from short to long pairs.
/// Meant for validation, where the order does not matter and must not change.
pub fn fixed_batches(corpus: &Corpus, batch_tokens: usize) -> Vec<Vec<usize>> {
    let longer = |index: &usize| {
        let (source, target) = corpus.lengths(*index);
        source.max(target)
    };
    let mut pairs: Vec<usize> = (0..corpus.len()).collect();
    pairs.sort_by_cached_key(longer);
    cut_by_length(&pairs, longer, batch_tokens)
}

/// Cuts a list that is sorted by length into batches.
///
/// The budget counts the longer side. Sorting by the shorter side too would gain nothing, because batches are not
/// padded. It would also put pairs with the same two lengths into one batch in every epoch.
pub(crate) fn cut_by_length<T: Copy>(sorted: &[T], longer: impl Fn(&T) -> usize, batch_tokens: usize) -> Vec<Vec<T>> {
    let (mut batches, mut batch) = (Vec::new(), Vec::new());
    let mut longest = 0;
    for item in sorted {
        let length = longer(item);
        longest = longest.max(length);
        if !batch.is_empty() && (batch.len() + 1) * longest > batch_tokens {
            batches.push(std::mem::take(&mut batch));
            longest = length;
        }
        batch.push(*item);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temperature_raises_small_corpora() {
        let parts = |weights: [f64; 3]| -> Vec<PartOfPairs> {
            let ends = [100, 500, 500, 10_500];
            let part = |i: usize| PartOfPairs {
                pairs: [0, 100, 500][i]..ends[[0, 1, 3][i]],
                weight: weights[i],
            };
            (0..3).map(part).collect()
        };
        assert_eq!(tempered(parts([1.0, 2.0, 0.5]), 1.0), parts([1.0, 2.0, 0.5]));
        // Natural sizes 100, 400 and 10,000: the roots of their shares are as 1 to 2 to 10.
        let places: Vec<u64> = tempered(parts([1.0; 3]), 2.0).iter().map(places_of).collect();
        assert_eq!(places, [1000, 2000, 10_000]);
    }
}
