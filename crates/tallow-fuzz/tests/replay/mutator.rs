//! Small changes to an input, the same in every run.

use tallow_ops::{Key, Purpose};

/// Whole numbers at which something may overflow.
const NUMBERS: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 53,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Replacements for a number or a word in a text.
const WORDS: [&str; 14] = [
    "-1",
    "0",
    "65536",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "1e309",
    "1e-400",
    "nan",
    "null",
    "\"\"",
    "[]",
    "{}",
    "\u{2581}\u{1f600}\0",
];

/// Draws the changes of one input.
pub(crate) struct Mutator {
    key: Key,
    drawn: u32,
}

impl Mutator {
    /// The mutator for one mutation of a seed, given by its number.
    pub(crate) fn new(target: &str, seed: &str, number: u64) -> Self {
        let key = Key::new(1, Purpose::Mutations)
            .fold_name(target)
            .fold_name(seed)
            .fold(number);
        Self { key, drawn: 0 }
    }

    /// A number below `end`; an `end` of 0 counts as 1.
    fn below(&mut self, end: usize) -> usize {
        let [low, high, ..] = self.key.words(self.drawn, 0, 0);
        self.drawn += 1;
        let drawn = u64::from(high) << 32 | u64::from(low);
        (drawn % end.max(1) as u64) as usize
    }

    /// A random range within this many bytes, at most `longest` long.
    fn stretch(&mut self, length: usize, longest: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let end = (start + 1 + self.below(longest)).min(length);
        start..end
    }

    /// An input with one to four changes; `other` is another seed.
    pub(crate) fn mutate(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut mutated = input.to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut mutated, other);
        }
        mutated
    }

    fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let length = input.len();
        match self.below(10) {
            0 => {
                let bit = self.below(8 * length);
                if let Some(byte) = input.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            1 => {
                let (place, value) = (self.below(length), self.below(256));
                if let Some(byte) = input.get_mut(place) {
                    *byte = value as u8;
                }
            }
            2 => input.truncate(self.below(length)),
            3 => {
                let place = self.below(length + 1);
                let bytes: Vec<u8> = (0..=self.below(8)).map(|_| self.below(256) as u8).collect();
                input.splice(place..place, bytes);
            }
            4 => drop(input.drain(self.stretch(length, 64))),
            5 => {
                let stretch = self.stretch(length, 32);
                let repeated = input[stretch.clone()].repeat(1 + self.below(40));
                input.splice(stretch.end..stretch.end, repeated);
            }
            // The beginning of this input and the end of the other.
            6 => {
                input.truncate(self.below(length));
                input.extend(&other[self.below(other.len() + 1)..]);
            }
            7 => {
                let number = NUMBERS[self.below(NUMBERS.len())].to_le_bytes();
                let width = [1, 2, 4, 8][self.below(4)];
                let place = self.below(length);
                let end = (place + width).min(length);
                input[place..end].copy_from_slice(&number[..end - place]);
            }
            // A number or a word of a text.
            8 => {
                let from = self.below(length);
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b".-+".contains(byte);
                let start = from + input[from..].iter().position(is_part).unwrap_or(0);
                let end = start + input[start..].iter().take_while(|byte| is_part(byte)).count();
                let word = WORDS[self.below(WORDS.len())];
                input.splice(start..end, word.bytes());
            }
            _ => {
                let copied = input[self.stretch(length, 64)].to_vec();
                let place = self.below(length + 1);
                input.splice(place..place, copied);
            }
        }
    }
}
