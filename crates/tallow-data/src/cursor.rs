//! The position of a run in its training data.

use serde::{Deserialize, Serialize};

/// The position of the NEXT batch; the default is the start of the first epoch. Together with the seed, the corpora and
/// the `[data]` table, it determines all future batches. So a checkpoint needs nothing else for the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// The window within the epoch, counted from 0. `None` if an earlier version of Tallow wrote the cursor: it counted
    /// the batches of the whole epoch, which is the same if the epoch has one window.
    #[serde(default)]
    pub window: Option<u64>,
    /// The batch within the window, counted from 0.
    pub batch: u64,
}

impl Cursor {
    /// The beginning of an epoch.
    pub const fn epoch(epoch: u64) -> Self {
        Self {
            epoch,
            window: Some(0),
            batch: 0,
        }
    }
}

impl Default for Cursor {
    fn default() -> Self {
        Self::epoch(0)
    }
}
