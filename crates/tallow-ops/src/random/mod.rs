//! Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
//!
//! A number is a pure function of a [`Key`] and a counter. There is no generator state, so a resumed run draws the same
//! numbers as an uninterrupted one, and a batch draws the same numbers however it is split over workers.

#[cfg(target_arch = "x86_64")]
mod avx512;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Four random words for a counter and a key: Philox4x32 with ten rounds.
#[inline]
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key[0] = key[0].wrapping_add(WEYL[0]);
            key[1] = key[1].wrapping_add(WEYL[1]);
        }
        let product0 = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let product1 = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (product1 >> 32) as u32 ^ counter[1] ^ key[0],
            product1 as u32,
            (product0 >> 32) as u32 ^ counter[3] ^ key[1],
            product0 as u32,
        ];
    }
    counter
}

/// The number of generator blocks that [`Key::wide_words`] computes side by side.
pub(crate) const WIDE: usize = 16;

/// The purpose of random numbers. Different purposes never share a number, whatever the rest of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial values of parameters.
    Initialisation = 1,
    /// Dropout masks.
    Dropout = 2,
    /// Tokens drawn while decoding.
    Sampling = 3,
    /// Times at which a run is killed to prove that it can be resumed.
    Kills = 4,
    /// Mutations of seed inputs in tests.
    Mutations = 5,
}

/// A key of the generator. Keys are derived step by step: `Key::new(seed, purpose).fold(update).fold(layer)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u32; 2]);

impl Key {
    /// The key of a purpose under a run's seed.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        Self([seed as u32, (seed >> 32) as u32]).fold(purpose as u64)
    }

    /// A new key from this one and a number (an update, a layer, a sentence...).
    pub fn fold(self, value: u64) -> Self {
        // The last word separates derivations from draws, whose counters end in a smaller word.
        let words = philox4x32([value as u32, (value >> 32) as u32, 0, u32::MAX], self.0);
        Self([words[0], words[1]])
    }

    /// A new key from this one and a name.
    pub fn fold_name(self, name: &str) -> Self {
        name.bytes()
            .fold(self, |key, byte| key.fold(u64::from(byte)))
            .fold(name.len() as u64)
    }

    /// Four random words. `block` counts along a row; `row` and `sentence` identify the row.
    #[inline]
    pub fn words(self, block: u32, row: u32, sentence: u64) -> [u32; 4] {
        // Sentences are counted, so the upper word of their number stays far below the value that `fold` uses.
        philox4x32([block, row, sentence as u32, (sentence >> 32) as u32], self.0)
    }

    /// The words of [`WIDE`] consecutive blocks: element `[w][i]` is word `w` of block `first + i`.
    ///
    /// It is written as loops over blocks, which become vector instructions where they are inlined.
    #[inline(always)]
    pub(crate) fn wide_words(self, first: u32, row: u32, sentence: u64) -> [[u32; WIDE]; 4] {
        let mut key = self.0;
        let mut counter = [
            [0; WIDE],
            [row; WIDE],
            [sentence as u32; WIDE],
            [(sentence >> 32) as u32; WIDE],
        ];
        for (i, block) in counter[0].iter_mut().enumerate() {
            *block = first + i as u32;
        }
        for round in 0..ROUNDS {
            if round > 0 {
                key[0] = key[0].wrapping_add(WEYL[0]);
                key[1] = key[1].wrapping_add(WEYL[1]);
            }
            let [c0, c1, c2, c3] = counter;
            for i in 0..WIDE {
                let product0 = u64::from(MULTIPLIERS[0]) * u64::from(c0[i]);
                let product1 = u64::from(MULTIPLIERS[1]) * u64::from(c2[i]);
                counter[0][i] = (product1 >> 32) as u32 ^ c1[i] ^ key[0];
                counter[1][i] = product1 as u32;
                counter[2][i] = (product0 >> 32) as u32 ^ c3[i] ^ key[1];
                counter[3][i] = product0 as u32;
            }
        }
        counter
    }

    /// Converts the words of [`WIDE`] consecutive blocks to factors: 0 if the 16 bits of a value are below the
    /// threshold, else `scale`. Half `h` of word `w` of block `first + i` decides on value `32 w + 16 h + i`.
    #[inline(always)]
    pub(crate) fn fill_mask(
        self,
        place: (u32, u32, u64),
        (threshold, scale): (u16, f32),
        factors: &mut [f32; 8 * WIDE],
    ) {
        #[cfg(target_arch = "x86_64")]
        if matches!(crate::path::arch(), pulp::Arch::V4(_)) {
            // SAFETY: the processor has AVX-512.
            #[allow(unsafe_code)]
            unsafe {
                avx512::fill(self.0, place, (threshold, scale), factors);
            }
            return;
        }
        let (first, row, sentence) = place;
        let words = self.wide_words(first, row, sentence);
        let threshold = u32::from(threshold);
        for (w, word) in words.iter().enumerate() {
            for i in 0..WIDE {
                let (low, high) = (word[i] & 0xffff, word[i] >> 16);
                factors[2 * WIDE * w + i] = if low < threshold { 0.0 } else { scale };
                factors[2 * WIDE * w + WIDE + i] = if high < threshold { 0.0 } else { scale };
            }
        }
    }

    /// `count` random numbers, uniform in the open interval (0, 1), with 24 random bits each.
    pub fn uniform(self, count: usize) -> Vec<f64> {
        (0..count.div_ceil(4))
            .flat_map(|block| self.words(block as u32, (block >> 32) as u32, 0))
            .map(|word| (f64::from(word >> 8) + 0.5) / f64::from(1u32 << 24))
            .take(count)
            .collect()
    }

    /// `count` random numbers, normal with mean 0 and standard deviation 1 (Box and Muller 1958).
    pub fn normal(self, count: usize) -> Vec<f64> {
        let uniform = self.uniform(count.next_multiple_of(2));
        let pairs = uniform.chunks_exact(2).flat_map(|pair| {
            let radius = (-2.0 * pair[0].ln()).sqrt();
            let (sine, cosine) = (std::f64::consts::TAU * pair[1]).sin_cos();
            [radius * cosine, radius * sine]
        });
        pairs.take(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the authors of Philox distribute with their reference implementation (Random123).
    #[test]
    fn known_answers() {
        assert_eq!(
            philox4x32([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn wide_words_are_the_words_of_each_block() {
        let key = Key::new(5, Purpose::Dropout).fold(9);
        for (first, row, sentence) in [(0, 0, 0), (32, 7, 3 << 33 | 5), (1, u32::MAX, 1)] {
            let wide = key.wide_words(first, row, sentence);
            for i in 0..WIDE {
                let expected = key.words(first + i as u32, row, sentence);
                assert_eq!(wide.map(|word| word[i]), expected);
            }
        }
    }

    #[test]
    fn masks_on_every_path() {
        let key = Key::new(5, Purpose::Dropout).fold(9);
        for (first, row, sentence) in [(0, 0, 0), (32, 7, 3 << 33 | 5), (1, u32::MAX, 1)] {
            for threshold in [0, 1, 6554, 32_768, u16::MAX] {
                let mut expected = [0f32; 8 * WIDE];
                for (value, factor) in expected.iter_mut().enumerate() {
                    let (w, h, i) = (value / 32, value / 16 % 2, value % 16);
                    let bits = key.words(first + i as u32, row, sentence)[w] >> (16 * h) & 0xffff;
                    *factor = if bits < u32::from(threshold) { 0.0 } else { 1.25 };
                }
                for path in crate::Path::KERNELS {
                    let mut factors = [7f32; 8 * WIDE];
                    crate::with_path(path, || {
                        key.fill_mask((first, row, sentence), (threshold, 1.25), &mut factors)
                    });
                    assert_eq!(factors, expected, "{path:?}");
                }
            }
        }
    }

    #[test]
    fn keys_differ_by_every_part() {
        let base = Key::new(1, Purpose::Dropout);
        let others = [
            Key::new(2, Purpose::Dropout),
            Key::new(1 << 32, Purpose::Dropout),
            Key::new(1, Purpose::Sampling),
            base.fold(0),
            base.fold(1),
            base.fold(0).fold(1),
            base.fold_name("a"),
            base.fold_name("ab"),
        ];
        for (i, a) in others.iter().enumerate() {
            assert_ne!(*a, base);
            for b in &others[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }

    #[test]
    fn moments() {
        let key = Key::new(7, Purpose::Initialisation);
        let count = 100_000;
        let mean = |xs: &[f64]| xs.iter().sum::<f64>() / xs.len() as f64;
        let uniform = key.uniform(count);
        assert!(uniform.iter().all(|x| *x > 0.0 && *x < 1.0));
        assert!((mean(&uniform) - 0.5).abs() < 0.005);
        let normal = key.normal(count);
        let variance = mean(&normal.iter().map(|x| x * x).collect::<Vec<_>>());
        assert!(
            mean(&normal).abs() < 0.01 && (variance - 1.0).abs() < 0.02,
            "{variance}"
        );
        assert_eq!(key.normal(5).len(), 5);
    }
}
