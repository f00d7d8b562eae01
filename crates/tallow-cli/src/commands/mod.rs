//! The commands, one file for each.

pub(crate) mod ablate;
pub(crate) mod alignment_heads;
pub(crate) mod average;
pub(crate) mod chart;
pub(crate) mod check;
pub(crate) mod clean;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod cost;
pub(crate) mod eval;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod init;
pub(crate) mod look;
pub(crate) mod prepare;
pub(crate) mod report;
pub(crate) mod score;
pub(crate) mod score_pairs;
pub(crate) mod serve;
pub(crate) mod shortlist;
pub(crate) mod tokenizer;
pub(crate) mod toy;
pub(crate) mod train;
pub(crate) mod translate;
pub(crate) mod verify;

mod page_output;
mod resumable;
mod scoring;
mod search_flags;
