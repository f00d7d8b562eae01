//! What has been found for sentences, for those that come again.

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::sync::Arc;
use tallow_decode::{Hypothesis, Sentence, SentenceRequest};

/// The bytes of an entry beside its tokens: keys, counts, allocations.
const ENTRY_BYTES: usize = 256;

/// A sentence, and the search that it is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    variant: u64,
    tokens: Vec<u32>,
    prefix: Vec<u32>,
    phrases: Vec<Vec<u32>>,
}

impl Key {
    fn bytes(&self) -> usize {
        let tokens = self.tokens.len() + self.prefix.len() + self.phrases.iter().map(Vec::len).sum::<usize>();
        tokens * size_of::<u32>() + self.phrases.len() * size_of::<Vec<u32>>()
    }
}

/// Translations of a sentence.
pub(crate) type Found = Arc<Vec<Hypothesis>>;

#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<Key, Found> for Bytes {
    fn weight(&self, key: &Key, found: &Found) -> u64 {
        let of_hypothesis = |found: &Hypothesis| {
            let attention: usize = found.attention.iter().map(|of_token| of_token.len()).sum();
            size_of::<Hypothesis>()
                + found.tokens.len() * (size_of::<u32>() + size_of::<f64>())
                + attention * size_of::<f32>()
        };
        (ENTRY_BYTES + key.bytes() + found.iter().map(of_hypothesis).sum::<usize>()) as u64
    }
}

/// A cache of sentences, with a limit in bytes.
#[derive(Debug)]
pub(crate) struct Sentences {
    cache: Option<Cache<Key, Found, Bytes>>,
}

impl Sentences {
    /// A cache of so many bytes; none if there is no byte.
    pub(crate) fn new(bytes: u64) -> Self {
        // Sentences have about a kilobyte each.
        let of_bytes = || Cache::with_weighter((bytes / 1024).max(16) as usize, bytes, Bytes);
        Self {
            cache: (bytes > 0).then(of_bytes),
        }
    }

    /// What the search `variant` has found for a sentence.
    pub(crate) fn get(&self, variant: u64, sentence: &Sentence) -> Option<Found> {
        self.cache.as_ref()?.get(&key(variant, sentence))
    }

    /// Keeps what a search has found.
    pub(crate) fn insert(&self, variant: u64, sentence: &Sentence, found: Found) {
        if let Some(cache) = &self.cache {
            cache.insert(key(variant, sentence), found);
        }
    }

    /// The bytes in use.
    pub(crate) fn bytes(&self) -> u64 {
        self.cache.as_ref().map_or(0, Cache::weight)
    }
}

fn key(variant: u64, sentence: &Sentence) -> Key {
    let SentenceRequest { prefix, phrases, .. } = sentence.request.clone();
    Key {
        variant,
        tokens: sentence.tokens.clone(),
        prefix,
        phrases,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(tokens: &[u32], prefix: &[u32]) -> Sentence {
        Sentence {
            tokens: tokens.to_vec(),
            request: SentenceRequest {
                prefix: prefix.to_vec(),
                ..SentenceRequest::numbered(7)
            },
        }
    }

    #[test]
    fn searches_and_requests_are_told_apart() {
        let cache = Sentences::new(1 << 20);
        let found: Found = Arc::default();
        cache.insert(1, &sentence(&[2, 3], &[]), found.clone());
        // The number of a sentence matters to samples only, and those are not kept.
        let mut same = sentence(&[2, 3], &[]);
        same.request.number = 9;
        assert!(Arc::ptr_eq(&cache.get(1, &same).unwrap(), &found));
        assert!(cache.get(2, &same).is_none());
        assert!(cache.get(1, &sentence(&[2, 3], &[4])).is_none());
        let off = Sentences::new(0);
        off.insert(1, &same, found);
        assert!(off.get(1, &same).is_none() && off.bytes() == 0);
    }

    #[test]
    fn bytes_are_limited() {
        let cache = Sentences::new(64 << 10);
        for token in 0..10_000 {
            cache.insert(1, &sentence(&[token; 30], &[]), Arc::default());
        }
        assert!((1..=64 << 10).contains(&cache.bytes()), "{}", cache.bytes());
    }
}
