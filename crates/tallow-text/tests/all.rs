//! All tests of the crate's interface in one program: they share most of what has to be compiled for each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of a test may panic like the test itself.

mod cut;
mod foreign;
mod learning;
mod marian;
mod marian_tokenizer;
mod python_ids;
mod regularization;
mod round_trip;
mod sentencepiece;
mod symbols;
