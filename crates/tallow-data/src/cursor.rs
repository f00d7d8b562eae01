//! The position of a run in its training data.

use serde::{Deserialize, Serialize};

/// The position of the NEXT batch; the default is the start of the first epoch. Together with the seed, the corpus and
/// the `[data]` table, it determines all future batches. So a checkpoint needs nothing else for the data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// The batch within the epoch, counted from 0.
    pub batch: u64,
}
