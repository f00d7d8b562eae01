//! Translates standard input line by line, as a server would: it opens the model only once.
//!
//!     echo forty-two | cargo run --release -p tallow --example translate -- runs/numbers-en-de
#![allow(clippy::print_stdout)] // A program may print.

use std::io::stdin;
use tallow::{SavedModel, Silent};

fn main() -> tallow::Result<()> {
    let model = std::env::args().nth(1).unwrap_or("runs/numbers-en-de".into());
    let translator = SavedModel::at(model, &Silent)?.translator()?;
    for (number, line) in stdin().lines().enumerate() {
        for translation in translator.translate(&[line?], number as u64)? {
            println!("{}", translation.text());
        }
    }
    Ok(())
}
