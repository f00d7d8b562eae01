//! Measures how fast a tokenizer encodes the lines of a file: by the `tokenizers` library, and as corpora are encoded.
//!
//! ```sh
//! cargo run --release -p tallow-text --example encoding -- tokenizer.json TEXT
//! ```

#![allow(clippy::print_stdout)] // A program, not the library.

use std::path::Path;
use std::time::Instant;

use tallow_text::{TextError, Tokenizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tokenizer, text] = arguments.as_slice() else {
        return Err("give a tokenizer.json and a text file".into());
    };
    let tokenizer = Tokenizer::open(Path::new(tokenizer))?;
    let text = std::fs::read_to_string(text)?;
    let lines: Vec<&str> = text.lines().collect();
    let measure = |name: &str, encode: &mut dyn FnMut(&str) -> Result<Vec<u32>, TextError>| {
        let start = Instant::now();
        let mut tokens = 0;
        for line in &lines {
            tokens += encode(line)?.len();
        }
        let seconds = start.elapsed().as_secs_f64();
        let (count, megabytes) = (lines.len() as f64, text.len() as f64 / 1e6);
        println!(
            "{name:10} {:9.0} lines/s, {:6.1} MB/s, {tokens} tokens",
            count / seconds,
            megabytes / seconds
        );
        Ok::<f64, TextError>(seconds)
    };
    for _ in 0..3 {
        let library = measure("library", &mut |line| tokenizer.encode(line))?;
        let mut encoder = tokenizer.line_encoder();
        let own = measure("remembered", &mut |line| encoder.encode(line))?;
        println!("ratio      {:9.2}", library / own);
    }
    Ok(())
}
