//! Hostile input: one function for each kind of input that a person can give to `tallow`.
//!
//! Each target turns bytes into that input and calls the same functions as the binary. It panics if a promise is
//! broken: nothing panics, an error is one message that names the file, and accepted input is read exactly as it was
//! written. The targets are run by `fuzz/` (libFuzzer, guided by coverage) and by `tests/replay.rs` (the seeds in
//! `seeds/` and mutations of them).
//!
//! | target | the bytes are |
//! |---|---|
//! | [`configs`] | a config; its lines `#! key=value` are also given as `--set key=value` |
//! | [`tokenizers`] | one byte that says which file of a tokenizer, then the file |
//! | [`models`] | one byte that says which file of a model directory or of its run, then the file |
//! | [`checkpoints`] | one byte for the file of a checkpoint, one for its checksums, then the file |
//! | [`corpora`] | one byte for form and filters, then one file or two, parted by [`PART`] |
//! | [`catalogs`] | one byte for the form and the languages, then a translation memory or a PO file |
//! | [`prepared`] | one byte that says which file of a prepared corpus, and whether it has links, then the file |
//! | [`lines`] | one byte for how it is read and translated, then standard input |
//! | [`scores`] | one byte for the options, then hypotheses and references, parted by [`PART`] |
#![allow(clippy::expect_used, clippy::panic)] // A target reports a fault by a panic.

mod message;
mod specimen;
mod targets;

pub use specimen::seeds;
pub use targets::{catalogs, checkpoints, configs, corpora, lines, models, prepared, scores, tokenizers};

/// The separator between two files in an input.
pub const PART: &[u8] = b"\0|\0";

/// A target: takes any bytes, and panics if a promise is broken.
pub type Target = fn(&[u8]);

/// Every target with its name.
pub const TARGETS: [(&str, Target); 9] = [
    ("configs", configs),
    ("tokenizers", tokenizers),
    ("models", models),
    ("checkpoints", checkpoints),
    ("corpora", corpora),
    ("prepared", prepared),
    ("catalogs", catalogs),
    ("lines", lines),
    ("scores", scores),
];
