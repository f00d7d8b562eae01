//! Writes generated parallel text, one pair on each line with a tab between both sides, for measuring how large corpora
//! are prepared. The words follow Zipf's law, so that there are always new ones, as in real text.
//!
//! ```sh
//! cargo run --release -p tallow-data --example generated_pairs -- 1000000 > pairs.tsv
//! ```

use std::io::{self, BufWriter, Write, stdout};

/// The number of different words of each language.
const WORDS: f64 = 5e6;
const SOURCE: [&str; 16] = [
    "ba", "the", "ri", "on", "sta", "me", "lo", "ing", "ca", "er", "du", "and", "pe", "so", "ty", "al",
];
const TARGET: [&str; 16] = [
    "be", "die", "ru", "en", "sch", "mo", "la", "ung", "ka", "er", "zu", "und", "pf", "se", "keit", "ei",
];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Appends the word of a rank. Frequent words are short.
fn push_word(line: &mut String, syllables: &[&str; 16], rank: u64) {
    let mut code = mix(rank);
    for _ in 0..=(rank + 1).ilog2() / 4 {
        line.push_str(syllables[(code & 15) as usize]);
        code >>= 4;
    }
}

fn main() -> io::Result<()> {
    let pairs: u64 = std::env::args()
        .nth(1)
        .and_then(|count| count.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "give the number of pairs"))?;
    let mut out = BufWriter::with_capacity(1 << 20, stdout().lock());
    let mut random = Random(1);
    let mut line = String::new();
    for _ in 0..pairs {
        let length = 4 + (random.uniform() * random.uniform() * 40.0) as usize;
        let ranks: Vec<u64> = (0..length)
            .map(|_| (random.uniform() * WORDS.ln()).exp() as u64)
            .collect();
        line.clear();
        for (place, rank) in ranks.iter().enumerate() {
            if place > 0 {
                line.push(' ');
            }
            push_word(&mut line, &SOURCE, *rank);
        }
        line.push_str(" .\t");
        for (place, rank) in ranks.iter().enumerate() {
            if place > 0 {
                line.push(' ');
            }
            push_word(&mut line, &TARGET, *rank);
        }
        line.push_str(" .\n");
        out.write_all(line.as_bytes())?;
    }
    out.flush()
}
