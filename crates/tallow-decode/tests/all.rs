//! All tests of the crate's interface in one program: they share most of what has to be compiled for each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of a test may panic like the test itself.

mod asked;
mod batch;
mod beam_record;
mod constraint;
mod ensemble;
mod enumeration;
mod exhaustive;
mod marian;
mod marian_toolkit;
mod requests;
mod small_translator;
mod specimen;
mod translator;
