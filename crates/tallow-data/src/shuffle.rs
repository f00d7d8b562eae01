//! Random order that depends only on the seed, a purpose and keys.
//!
//! Nothing in this crate draws from a shared, running generator. Each random choice has its own generator, whose start
//! is mixed from the run's seed, a [`Purpose`] and numbers such as the epoch. So the order of the draws does not
//! matter, and epoch 7 can be planned without planning epochs 0 to 6.
//!
//! The generator is SplitMix64 (Steele, Lea and Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
//! Output `i` is a bijective mix of `start + i * GAMMA`, a counter. Two generators could overlap, because all of them
//! go through the same cycle of 2^64 numbers. For the billions of numbers of a long run, the probability is negligible.

use sha2::{Digest, Sha256};

/// 2^64 divided by the golden ratio, made odd: the step of the counter.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The purposes of random numbers. The values are part of the meaning of a seed: never change or reuse one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// The pairs of a corpus with a fractional weight that take part in an epoch.
    Subset = 1,
    /// The order of the pairs before they are cut into pools and sorted.
    Pairs = 2,
    /// The order of the batches.
    Batches = 3,
    /// The numbers of a toy corpus.
    ToyNumbers = 4,
    /// The sequences of a toy corpus.
    ToySequences = 5,
    /// The cuts of an epoch's sentences into tokens.
    Cuts = 6,
    /// The lines from which a vocabulary is learned, if there are too many of them.
    VocabularyLines = 7,
    /// The changes of an epoch's pairs.
    Augmentation = 8,
}

/// A hash of bytes that depends on a seed: the first eight bytes of a SHA-256.
pub fn keyed_hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut digest = Sha256::new();
    digest.update(seed.to_le_bytes());
    digest.update(bytes);
    let digest = digest.finalize();
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// The stream of a seed, a purpose and `keys`.
    pub(crate) fn keyed(seed: u64, purpose: Purpose, keys: &[u64]) -> Self {
        // Each step mixes before it adds the next key, so swapped keys give other streams.
        let mut state = mix(seed.wrapping_add(GAMMA));
        for &key in [purpose as u64].iter().chain(keys) {
            state = mix((state ^ key).wrapping_add(GAMMA));
        }
        Self { state }
    }

    /// The next 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// The random bit of a number under a key.
    pub(crate) fn bit(key: u64, number: u64) -> bool {
        mix((key ^ number).wrapping_add(GAMMA)) >> 63 == 1
    }

    /// A number in [0, 1), a multiple of 2^-53.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number below `bound`, all equally likely; 0 if `bound` is 0.
    ///
    /// The high half of a 64 x 64 bit product. The few products that would favour some numbers are rejected (Lemire:
    /// Fast Random Integer Generation in an Interval, 2019).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let unfair = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next()) * u128::from(bound);
            if product as u64 >= unfair {
                return (product >> 64) as u64;
            }
        }
    }

    /// Puts the items into random order, all orders equally likely (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            let other = self.below(index as u64 + 1) as usize;
            items.swap(index, other);
        }
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Outputs of the C program splitmix64.c by Sebastiano Vigna (prng.di.unimi.it), started at these states.
    #[test]
    fn outputs_equal_the_published_program() {
        let mut generator = SplitMix64 { state: 1_234_567 };
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(expected.map(|_| generator.next()), expected);
        let mut generator = SplitMix64 { state: 0 };
        let expected = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f];
        assert_eq!(expected.map(|_| generator.next()), expected);
    }

    #[test]
    fn every_key_is_a_stream_of_its_own() {
        let mut starts = HashSet::new();
        for seed in 0..10 {
            for purpose in [Purpose::Subset, Purpose::Pairs, Purpose::Batches] {
                for epoch in 0..10 {
                    for part in 0..10 {
                        assert!(starts.insert(SplitMix64::keyed(seed, purpose, &[epoch, part]).next()));
                    }
                    assert!(starts.insert(SplitMix64::keyed(seed, purpose, &[epoch]).next()));
                }
            }
        }
    }

    /// Each of the 24 orders of 4 items is expected 1000 times; the bound is six standard deviations.
    #[test]
    fn every_order_is_equally_likely() {
        let mut counts = std::collections::HashMap::new();
        for draw in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            SplitMix64::keyed(1, Purpose::Pairs, &[draw]).shuffle(&mut items);
            *counts.entry(items).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(
            counts.values().all(|&count: &i32| (count - 1000).abs() < 190),
            "{counts:?}"
        );
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut generator = SplitMix64 { state: 7 };
        assert_eq!((generator.below(0), generator.below(1)), (0, 0));
        let drawn: HashSet<u64> = (0..200).map(|_| generator.below(5)).collect();
        assert_eq!(drawn, (0..5).collect());
        let large = u64::MAX / 3 * 2;
        assert!((0..200).all(|_| generator.below(large) < large));
        let mut none: [u8; 0] = [];
        generator.shuffle(&mut none);
    }
}
