//! All tests of the crate's interface in one program: they share most of what has to be compiled for each.
//! `profile.rs` is a program of its own, because it counts for the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of a test may panic like the test itself.

mod average;
mod divergence;
mod gradient;
mod marian;
mod proof;
mod ranks;
mod resume;
mod stages;
mod toy;
mod training;
mod validation_sets;
