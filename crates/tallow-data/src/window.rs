//! A window of an epoch: some of its pairs in memory, and the batches that are made of them.

use std::fmt;
use std::sync::Arc;

use crate::batch::Batch;
use crate::cuts::Cuts;
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

    /// The same pairs as an epoch has them: changed, cut anew, some of them joined.
    pub(crate) fn of_epoch(self, seed: u64, epoch: u64, threads: usize) -> Result<Self, DataError> {
        Ok(self.changed(seed, epoch, threads)?.merged(seed, epoch))
    }

    /// The same pairs changed and cut anew, none of them joined.
    pub(crate) fn changed(self, seed: u64, epoch: u64, threads: usize) -> Result<Self, DataError> {
        let share = self.places.len().div_ceil(threads.max(1)).max(1);
        let change = |places: &[Place]| {
            let (mut changed, mut tokens) = (Vec::with_capacity(places.len()), Vec::new());
            for place in places {
                let pair = self.source.cuts().of_epoch(place.index, self.pair(place), seed, epoch);
                let [source, target] = pair.sides;
                changed.push((source.len() as u32, target.len() as u32, pair.keeps_links));
                tokens.extend(source);
                tokens.extend(target);
            }
            (changed, tokens)
        };
        let parts = std::thread::scope(|scope| {
            let change = &change;
            let chunks = self.places.chunks(share);
            let threads: Vec<_> = chunks.map(|places| scope.spawn(move || change(places))).collect();
            let joined = threads.into_iter().map(|thread| thread.join().map_err(|_| WorkerLost));
            joined.collect::<Result<Vec<_>, _>>()
        });
        let parts = parts.map_err(|_| DataError::Broken("a cut of a sentence failed".into()))?;
        let (mut places, mut tokens) = (self.places, Vec::new());
        let mut rest = places.iter_mut();
        for (changed, of_part) in parts {
            let mut begin = tokens.len();
            for ((source, target, keeps_links), place) in changed.into_iter().zip(&mut rest) {
                (place.tokens, place.source, place.target) = (begin, source, target);
                if !keeps_links {
                    place.link_count = 0;
                }
                begin += (source + target) as usize;
            }
            tokens.extend(of_part);
        }
        Ok(Self { places, tokens, ..self })
    }

    /// Joins pairs to those that come before them in the order of the epoch, if the config asks for it. Only pairs of
    /// the same corpus are joined. Every pair stays in the window once.
    fn merged(self, seed: u64, epoch: u64) -> Self {
        let source = self.source.clone();
        let Some((augmentation, longest)) = source.cuts().merging() else {
            return self;
        };
        let mut merged = Self {
            source: self.source.clone(),
            places: Vec::with_capacity(self.places.len()),
            tokens: Vec::with_capacity(self.tokens.len()),
            links: Vec::with_capacity(self.links.len()),
            batches: Vec::new(),
        };
        let mut at = 0;
        while let Some(first) = self.places.get(at) {
            at += 1;
            let mut joined = Joined::new(self.pair(first));
            let part = augmentation.part_of(first.index);
            for _ in 0..augmentation.config.merged(seed, epoch, first.id) {
                let Some((next, part)) = self.places.get(at).zip(part) else {
                    break;
                };
                let pair = self.pair(next);
                let bare = |side: usize, tokens| augmentation.without_prefix(part, side, tokens);
                let sides = bare(0, pair.source).zip(bare(1, pair.target));
                let fits = |(source, target): &(&[u32], &[u32])| {
                    joined.sides[0].len() + source.len() <= longest + 1
                        && joined.sides[1].len() + target.len() <= longest + 1
                };
                let is_same_part = augmentation.part_of(next.index) == Some(part);
                let Some((of_source, of_target)) = sides.filter(|sides| is_same_part && fits(sides)) else {
                    break;
                };
                let prefix_words = augmentation.prefix_words(part);
                joined.add(source.cuts(), [of_source, of_target], pair.links, prefix_words);
                at += 1;
            }
            merged.places.push(Place {
                tokens: merged.tokens.len(),
                source: joined.sides[0].len() as u32,
                target: joined.sides[1].len() as u32,
                links: merged.links.len(),
                link_count: joined.links.len() as u32,
                ..*first
            });
            let [of_source, of_target] = joined.sides;
            merged.tokens.extend(of_source);
            merged.tokens.extend(of_target);
            merged.links.extend(joined.links);
        }
        merged
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

    /// The numbers of the pairs of a batch; of pairs that were joined, that of the first one.
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

/// A pair to which others are joined.
struct Joined {
    sides: [Vec<u32>; 2],
    links: Vec<Link>,
}

impl Joined {
    fn new(pair: Pair<'_>) -> Self {
        Self {
            sides: [pair.source.to_vec(), pair.target.to_vec()],
            links: pair.links.to_vec(),
        }
    }

    /// Puts the tokens of another pair, which end in `</s>`, in the place of `</s>`, and its links behind. The links
    /// count the words of prefixes that the tokens lack.
    fn add(&mut self, cuts: &Cuts, sides: [&[u32]; 2], links: &[Link], prefix_words: [u32; 2]) {
        let before = cuts.word_counts([&self.sides[0], &self.sides[1]]);
        for (joined, side) in self.sides.iter_mut().zip(sides) {
            joined.pop();
            joined.extend_from_slice(side);
        }
        // Without the words of the tokens, nobody asks for links.
        let [source, target] = before.unwrap_or_default();
        self.links.extend(links.iter().map(|link| Link {
            source: link.source.saturating_sub(prefix_words[0]) + source,
            target: link.target.saturating_sub(prefix_words[1]) + target,
            ..*link
        }));
    }
}
