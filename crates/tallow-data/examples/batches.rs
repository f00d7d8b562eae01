//! Measures how fast a corpus is read and planned, how full the batches are relative to the token budget, and how
//! evenly the batches divide among workers.
//!
//! ```sh
//! cargo run --release -p tallow-data --example batches -- SOURCE TARGET [BATCH_TOKENS] [POOL_PAIRS]
//! ```
//!
//! White space separates the tokens. Text already cut into subwords gives the figures of its tokenizer.

#![allow(clippy::print_stdout)] // A program, not the library.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use tallow_data::{Batch, Corpus, CorpusFiles, DataConfig, Example, ParallelText, Sampler};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, target, numbers @ ..] = arguments.as_slice() else {
        return Err("give a source file and a target file".into());
    };
    let mut config = DataConfig::default();
    if let Some(number) = numbers.first() {
        config.batch_tokens = number.parse()?;
    }
    if let Some(number) = numbers.get(1) {
        config.pool_pairs = number.parse()?;
    }

    let start = Instant::now();
    let text = ParallelText::open(&CorpusFiles::two_files(source, target))?;
    println!("read     {:7.1} ms  {}", milliseconds(start), text.report);

    let start = Instant::now();
    let (mut source_ids, mut target_ids) = (HashMap::new(), HashMap::new());
    let encode_source = |lines: &[&str]| Ok::<_, Infallible>(encode(&mut source_ids, lines));
    let encode_target = |lines: &[&str]| Ok::<_, Infallible>(encode(&mut target_ids, lines));
    let corpus = Corpus::build(&[text], 0, &config.filters(), encode_source, encode_target)?;
    println!("encoded  {:7.1} ms", milliseconds(start));
    for report in corpus.reports() {
        println!("         {report}");
    }

    let sampler = Sampler::new(Arc::new(corpus), &config, 1);
    let start = Instant::now();
    let plan = sampler.epoch(0)?;
    println!("planned  {:7.1} ms  {} batches", milliseconds(start), plan.len());

    let start = Instant::now();
    let batches: Vec<Batch> = plan
        .iter()
        .map(|indices| sampler.batch(0, indices))
        .collect::<Result<_, _>>()?;
    let pairs: usize = batches.iter().map(|batch| batch.flatten(0).ids.len()).sum();
    println!("flat     {:7.1} ms  {pairs} pairs", milliseconds(start));

    let of_pair = |example: &Example| example.source.len() + example.target.len();
    let tokens: usize = batches.iter().flat_map(|batch| &batch.examples).map(of_pair).sum();
    let cells: usize = batches
        .iter()
        .map(|batch| batch.examples.len() * (batch.source_length() + batch.target_length()))
        .sum();
    println!(
        "padding  {:7.2} %   of batches, if they were padded",
        share(tokens, cells)
    );
    for workers in [2, 4] {
        let dearest: usize = batches
            .iter()
            .filter_map(|batch| {
                let cost = |shard: &Batch| shard.examples.iter().map(of_pair).sum::<usize>();
                batch.shards(workers, of_pair).iter().map(cost).max()
            })
            .sum();
        println!(
            "waiting  {:7.2} %   of the time of {workers} workers, if tokens are what counts",
            share(tokens, workers * dearest)
        );
    }
    let size: usize = batches.iter().map(Batch::padded_tokens).sum();
    let fill = size as f64 / (batches.len() * config.batch_tokens) as f64;
    println!("filled   {:7.2} %   of the token budget on average", 100.0 * fill);
    Ok(())
}

fn encode<'a>(ids: &mut HashMap<String, u32>, lines: &[&'a str]) -> Vec<Vec<u32>> {
    let mut id = |word: &'a str| {
        let next = ids.len() as u32 + 2;
        *ids.entry(word.to_owned()).or_insert(next)
    };
    lines
        .iter()
        .map(|line| line.split_whitespace().map(&mut id).collect())
        .collect()
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

fn share(tokens: usize, cells: usize) -> f64 {
    100.0 * (cells - tokens) as f64 / cells as f64
}
