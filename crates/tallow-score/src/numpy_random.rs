//! The random numbers of NumPy's `default_rng`, which sacreBLEU resamples with.
//!
//! The generator is PCG64 (O'Neill 2014, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms
//! for Random Number Generation"), its start NumPy's `SeedSequence`, and numbers below a bound come from Lemire's
//! method (2019, "Fast Random Integer Generation in an Interval"). The tests have numbers of NumPy 2.4.6.

/// The multiplier of PCG's generator of 128 bits.
const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;

/// Numbers of the seed's pool.
const POOL: usize = 4;

/// A generator of random numbers, as `numpy.random.default_rng(seed)` makes one.
#[derive(Clone, Debug)]
pub(crate) struct NumpyRandom {
    state: u128,
    increment: u128,
    /// The upper half of a number of 64 bits of which only the lower half has been used.
    kept: Option<u32>,
}

impl NumpyRandom {
    pub(crate) fn new(seed: u64) -> Self {
        let [a, b, c, d] = seeds(seed);
        let joined = |high: u64, low: u64| (u128::from(high) << 64) | u128::from(low);
        let mut random = Self {
            state: 0,
            increment: (joined(c, d) << 1) | 1,
            kept: None,
        };
        random.step();
        random.state = random.state.wrapping_add(joined(a, b));
        random.step();
        random
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }

    fn next_u64(&mut self) -> u64 {
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    fn next_u32(&mut self) -> u32 {
        self.kept.take().unwrap_or_else(|| {
            let next = self.next_u64();
            self.kept = Some((next >> 32) as u32);
            next as u32
        })
    }

    /// A number below `bound`, which is at least 1: one of `integers(0, bound)`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        // NumPy draws nothing where there is no choice.
        if bound <= 1 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u64::from(self.next_u32()) * u64::from(bound);
            if product as u32 >= threshold {
                return (product >> 32) as u32;
            }
        }
    }

    /// Choices between two things, as one call of `integers(2, size=count, dtype=bool)` makes them: 32 of each number.
    pub(crate) fn choices(&mut self) -> impl FnMut() -> bool {
        let (mut bits, mut left) = (0, 0);
        move || {
            (bits, left) = match left {
                0 => (self.next_u32(), 31),
                _ => (bits >> 1, left - 1),
            };
            bits & 1 == 1
        }
    }
}

/// The four numbers that `SeedSequence` makes of a seed.
fn seeds(seed: u64) -> [u64; 4] {
    let mut factor: u32 = 0x43b0_d7e5;
    let mut hashed = |value: u32| {
        let value = value ^ factor;
        factor = factor.wrapping_mul(0x931e_8875);
        let value = value.wrapping_mul(factor);
        value ^ (value >> 16)
    };
    let mixed = |x: u32, y: u32| {
        let value = x.wrapping_mul(0xca01_f9dd).wrapping_sub(y.wrapping_mul(0x4973_f715));
        value ^ (value >> 16)
    };
    // A seed below 2^32 is one word; the others of the pool are zero in any case.
    let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0].map(&mut hashed);
    for source in 0..POOL {
        for target in (0..POOL).filter(|target| *target != source) {
            pool[target] = mixed(pool[target], hashed(pool[source]));
        }
    }
    let mut factor: u32 = 0x8b51_f9dd;
    let mut word = |place: usize| {
        let value = pool[place % POOL] ^ factor;
        factor = factor.wrapping_mul(0x58f3_8ded);
        let value = value.wrapping_mul(factor);
        u64::from(value ^ (value >> 16))
    };
    std::array::from_fn(|number| {
        let low = word(2 * number);
        low | word(2 * number + 1) << 32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `default_rng(seed).choice(bound, size=8)` of NumPy 2.4.6.
    #[test]
    fn numbers_are_those_of_numpy() {
        let numbers = |seed, bound| -> Vec<u32> {
            let mut random = NumpyRandom::new(seed);
            (0..8).map(|_| random.below(bound)).collect()
        };
        assert_eq!(numbers(12345, 1000), [699, 227, 788, 316, 204, 797, 642, 676]);
        assert_eq!(numbers(12345, 3), [2, 0, 2, 0, 0, 2, 1, 2]);
        assert_eq!(
            numbers(7, 4_000_000_000),
            [
                3_779_619_823,
                2_500_381_865,
                2_736_719_747,
                3_588_855_203,
                3_102_742_760,
                3_334_604_086,
                900_828_759,
                222_126_309
            ]
        );
        assert_eq!(numbers((1 << 40) + 5, 10), [0, 0, 4, 3, 9, 5, 8, 1]);
        assert_eq!(numbers(0, 1), [0; 8]);
    }

    /// `r = default_rng(12345); r.integers(2, size=69, dtype=bool); r.choice(1000, size=4)` of NumPy 2.4.6.
    #[test]
    fn choices_are_those_of_numpy() {
        let mut random = NumpyRandom::new(12345);
        let mut choice = random.choices();
        let chosen: String = (0..69).map(|_| if choice() { '1' } else { '0' }).collect();
        drop(choice);
        assert_eq!(
            chosen,
            "101110011000001111111111010011011011000110001101010011000101110001111"
        );
        assert_eq!([(); 4].map(|()| random.below(1000)), [316, 204, 797, 642]);
    }
}
