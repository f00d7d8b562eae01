//! A window of an epoch: some of its pairs in memory, and the batches that are made of them.

use std::fmt;
use std::sync::Arc;

use crate::batch::Batch;
use crate::error::DataError;
use crate::pair_source::{Pair, PairSource};
use crate::pool::WorkerLost;
use crate::sampler::cut_by_length;
use crate::shuffle::SplitMix64;
use crate::word_alignments::Link;

/// Consecutive pairs of an epoch, in memory, and their batches.
pub struct Window {
    source: Arc<dyn PairSource>,
    /// The pairs in the order of the epoch.
    places: Vec<Place>,
    tokens: Vec<u32>,
    links: Vec<Link>,
    /// The places of each batch.
    batches: Vec<Vec<u32>>,
}

/// A pair, and where its tokens and links begin.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The number of the pair.
    index: usize,
    id: u64,
    tokens: usize,
    source: u32,
    target: u32,
    links: usize,
    link_count: u32,
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window")
            .field("pairs", &self.places.len())
            .field("batches", &self.batches.len())
            .finish_non_exhaustive()
    }
}

impl Window {
    /// Reads these pairs, which keep their order.
    pub(crate) fn read(source: &Arc<dyn PairSource>, indices: Vec<usize>) -> Result<Self, DataError> {
        // Files are read from their beginning to their end.
        let mut ascending: Vec<u32> = (0..indices.len() as u32).collect();
        ascending.sort_unstable_by_key(|place| indices[*place as usize]);
        let sorted: Vec<usize> = ascending.iter().map(|place| indices[*place as usize]).collect();
        let mut places = vec![Place::default(); indices.len()];
        let (mut tokens, mut links) = (Vec::new(), Vec::new());
        let mut next = ascending.iter();
        source.read(&sorted, &mut |pair| {
            if let Some(place) = next.next() {
                places[*place as usize] = Place {
                    index: indices[*place as usize],
                    id: pair.id,
                    tokens: tokens.len(),
                    source: pair.source.len() as u32,
                    target: pair.target.len() as u32,
                    links: links.len(),
                    link_count: pair.links.len() as u32,
                };
                tokens.extend_from_slice(pair.source);
                tokens.extend_from_slice(pair.target);
                links.extend_from_slice(pair.links);
            }
        })?;
        let source = source.clone();
        Ok(Self {
            source,
            places,
            tokens,
            links,
            batches: Vec::new(),
        })
    }

    /// The same pairs with the cuts of an epoch.
    pub(crate) fn cut_anew(self, seed: u64, epoch: u64, threads: usize) -> Result<Self, DataError> {
        let share = self.places.len().div_ceil(threads.max(1)).max(1);
        let cut = |places: &[Place]| {
            let (mut lengths, mut tokens) = (Vec::with_capacity(places.len()), Vec::new());
            for place in places {
                let [source, target] = self.source.cuts().sides(self.pair(place), seed, epoch);
                lengths.push((source.len() as u32, target.len() as u32));
                tokens.extend(source);
                tokens.extend(target);
            }
            (lengths, tokens)
        };
        let parts = std::thread::scope(|scope| {
            let cut = &cut;
            let chunks = self.places.chunks(share);
            let threads: Vec<_> = chunks.map(|places| scope.spawn(move || cut(places))).collect();
            let joined = threads.into_iter().map(|thread| thread.join().map_err(|_| WorkerLost));
            joined.collect::<Result<Vec<_>, _>>()
        });
        let parts = parts.map_err(|_| DataError::Broken("a cut of a sentence failed".into()))?;
        let (mut places, mut tokens) = (self.places, Vec::new());
        let mut rest = places.iter_mut();
        for (lengths, of_part) in parts {
            let mut begin = tokens.len();
            for ((source, target), place) in lengths.into_iter().zip(&mut rest) {
                (place.tokens, place.source, place.target) = (begin, source, target);
                begin += (source + target) as usize;
            }
            tokens.extend(of_part);
        }
        Ok(Self { places, tokens, ..self })
    }

    /// Sorts the pairs by length, cuts them into batches and shuffles these.
    pub(crate) fn cut_into_batches(&mut self, batch_tokens: usize, mut generator: SplitMix64) {
        let longer = |place: &u32| {
            let place = &self.places[*place as usize];
            place.source.max(place.target) as usize
        };
        let mut order: Vec<u32> = (0..self.places.len() as u32).collect();
        order.sort_by_key(longer);
        self.batches = cut_by_length(&order, longer, batch_tokens);
        generator.shuffle(&mut self.batches);
    }

    /// The number of batches.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether there are no batches.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The batch of this number.
    ///
    /// # Panics
    /// If there is no such batch.
    pub fn batch(&self, number: usize) -> Batch {
        self.examples(self.batches[number].iter().map(|place| *place as usize))
    }

    /// The numbers of the pairs of a batch.
    ///
    /// # Panics
    /// If there is no such batch.
    pub fn pairs(&self, number: usize) -> Vec<usize> {
        let places = self.batches[number].iter();
        places.map(|place| self.places[*place as usize].index).collect()
    }

    /// All pairs as one batch, in their order.
    pub(crate) fn in_order(&self) -> Batch {
        self.examples(0..self.places.len())
    }

    fn examples(&self, places: impl Iterator<Item = usize>) -> Batch {
        let cuts = self.source.cuts();
        Batch {
            examples: places.map(|place| cuts.usual(self.pair(&self.places[place]))).collect(),
        }
    }

    fn pair(&self, place: &Place) -> Pair<'_> {
        let middle = place.tokens + place.source as usize;
        Pair {
            id: place.id,
            source: &self.tokens[place.tokens..middle],
            target: &self.tokens[middle..middle + place.target as usize],
            links: &self.links[place.links..place.links + place.link_count as usize],
        }
    }
}
