//! Trains a run from a config and prints its results.
//!
//!     cargo run --release -p tallow --example train -- configs/numbers-en-de.toml train.max_updates=500
#![allow(clippy::print_stdout)] // A program may print.

use tallow::{Config, Silent, Training};

fn main() -> tallow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().unwrap_or("configs/numbers-en-de.toml".into());
    let changes: Vec<String> = arguments.collect();
    let trained = Training::new(Config::compose(file, &changes)?).run(&Silent)?;
    println!("{} updates, {}", trained.update, trained.spent);
    for test in trained.test {
        println!("exact match {:.1} %", test.exact_match);
    }
    println!("the best model is {}", trained.run.best().display());
    Ok(())
}
