//! All tests of the crate's interface in one program: they share most of what has to be compiled for each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of a test may panic like the test itself.

mod architectures;
mod cache;
mod directory;
mod guided_alignment;
mod initialisation;
mod marian;
mod marian_attention;
mod marian_toolkit;
mod pytorch;
mod specimen;
mod trace;
mod verify;
mod weights;
