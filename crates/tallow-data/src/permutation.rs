//! Random orders of the numbers below a bound, which need no memory for large bounds.

use crate::shuffle::{Purpose, SplitMix64};

/// Up to this many numbers, an order is a table: all orders are equally likely. The table takes 8 MiB at most.
const LARGEST_TABLE: u64 = 1 << 20;

/// Rounds of a swap-or-not shuffle for each bit of the bound.
const ROUNDS_PER_BIT: u32 = 6;

/// A random order of the numbers below a bound: a function of seed, purpose and keys.
#[derive(Debug, Clone)]
pub(crate) enum Permutation {
    /// The order itself, made by Fisher and Yates's shuffle.
    Table(Vec<u64>),
    /// The swap-or-not shuffle (Hoang, Morris and Rogaway: An Enciphering Scheme Based on a Card Shuffle, CRYPTO 2012),
    /// a bijection for any bound. In every round, number `x` and its partner `key - x` change places or stay, which a
    /// random bit of the pair decides. With six rounds for each bit of the bound, statistical tests cannot tell a part
    /// of the order from that of a uniformly random one.
    SwapOrNot { bound: u64, rounds: Vec<Round> },
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// A number and its partner have this sum, modulo the bound.
    sum: u64,
    /// The key of the bits that decide.
    key: u64,
}

impl Permutation {
    /// Whether the order of the numbers below `bound` is a table.
    pub(crate) fn is_table(bound: u64) -> bool {
        bound <= LARGEST_TABLE
    }

    /// The order of the numbers below `bound`.
    pub(crate) fn new(seed: u64, purpose: Purpose, keys: &[u64], bound: u64) -> Self {
        let mut generator = SplitMix64::keyed(seed, purpose, keys);
        if Self::is_table(bound) {
            let mut table: Vec<u64> = (0..bound).collect();
            generator.shuffle(&mut table);
            return Self::Table(table);
        }
        Self::swap_or_not(&mut generator, bound)
    }

    fn swap_or_not(generator: &mut SplitMix64, bound: u64) -> Self {
        let bits = u64::BITS - bound.saturating_sub(1).leading_zeros();
        let round = |_| Round {
            sum: generator.below(bound),
            key: generator.next(),
        };
        Self::SwapOrNot {
            bound,
            rounds: (0..ROUNDS_PER_BIT * bits).map(round).collect(),
        }
    }

    /// The number at a place below the bound.
    pub(crate) fn at(&self, place: u64) -> u64 {
        match self {
            Self::Table(table) => table[place as usize],
            Self::SwapOrNot { bound, rounds } => rounds.iter().fold(place, |number, round| {
                let partner = match round.sum >= number {
                    true => round.sum - number,
                    false => round.sum + (bound - number),
                };
                let has_swapped = SplitMix64::bit(round.key, number.max(partner));
                if has_swapped { partner } else { number }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn swap_or_not(seed: u64, bound: u64) -> Permutation {
        Permutation::swap_or_not(&mut SplitMix64::keyed(seed, Purpose::Pairs, &[]), bound)
    }

    #[test]
    fn every_number_has_one_place() {
        for bound in (1..70).chain([255, 256, 257, 1000, 65_537]) {
            for seed in 0..3 {
                let order = swap_or_not(seed, bound);
                let mut all: Vec<u64> = (0..bound).map(|place| order.at(place)).collect();
                all.sort_unstable();
                assert!(all.iter().copied().eq(0..bound), "{bound}");
            }
        }
    }

    /// Orders must never change, because resumed runs depend on them. tests/fixtures/plan.py computed these numbers.
    #[test]
    fn the_order_of_a_seed_is_fixed() {
        let bound = (1 << 20) + 7;
        let order = Permutation::new(5, Purpose::Pairs, &[2], bound);
        let numbers = [0, 1, 2, 1000, bound - 1].map(|place| order.at(place));
        assert_eq!(numbers, [11_165, 909_737, 425_063, 309_409, 863_190]);
    }

    #[test]
    fn large_orders_need_no_table() {
        for bound in [LARGEST_TABLE, LARGEST_TABLE + 1] {
            let order = Permutation::new(1, Purpose::Pairs, &[3], bound);
            assert_eq!(matches!(order, Permutation::Table(_)), bound == LARGEST_TABLE);
            let mut has = vec![false; bound as usize];
            (0..bound).for_each(|place| has[order.at(place) as usize] = true);
            assert!(has.into_iter().all(|has| has));
        }
        let largest = swap_or_not(7, u64::MAX);
        assert_ne!(largest.at(0), largest.at(u64::MAX - 1));
    }

    /// Each of the 24 orders of 4 numbers is expected 1000 times; the bound is six standard deviations.
    #[test]
    fn every_order_is_equally_likely() {
        let mut counts = HashMap::new();
        for seed in 0..24_000 {
            let order = swap_or_not(seed, 4);
            *counts.entry([0, 1, 2, 3].map(|place| order.at(place))).or_insert(0_i32) += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(counts.values().all(|count| (count - 1000).abs() < 190), "{counts:?}");
    }

    /// Of the numbers at the first hundredth of the places, a hundredth comes from each hundredth of the numbers: 100
    /// classes with 1000 expected in each, so chi-squared is 99 on average, and above 200 in one of 10^8 cases.
    #[test]
    fn a_window_holds_numbers_from_everywhere() {
        let (bound, window) = (10_000_000, 100_000);
        for seed in 0..3 {
            let order = swap_or_not(seed, bound);
            let mut counts = [0_f64; 100];
            (0..window).for_each(|place| counts[(order.at(place) * 100 / bound) as usize] += 1.0);
            let squared: f64 = counts.iter().map(|count| (count - 1000.0).powi(2) / 1000.0).sum();
            assert!((40.0..200.0).contains(&squared), "{squared}");
            // Neighbours are not neighbours any more.
            let near = |place: &u64| order.at(*place).abs_diff(order.at(place + 1)) < bound / 1000;
            let count = (0..window).filter(near).count();
            assert!((100..320).contains(&count), "{count}");
        }
    }
}
