//! Processes that do one job together.
//!
//! Each process of a [`Group`] has a number, its *rank*; rank 0 is the *root*. All ranks call the same functions of
//! their group in the same order. Results depend on the ranks' values only, never on their speed: sums are added in a
//! fixed tree ([`tree_sum`]), whatever connects the processes.
//!
//! Groups are connected by MPI (feature `mpi`, `Group::of_mpi`) or, within one process, by memory
//! ([`Group::of_threads`]). A process without others is a group, too ([`Group::alone`]).

mod error;
mod group;
mod link;
#[cfg(feature = "mpi")]
mod mpi;
mod numbers;
mod threads;
mod tree;

pub use error::CommError;
pub use group::{Group, Pending};
pub use numbers::Wire;
pub use tree::{tree_fold, tree_sum};
