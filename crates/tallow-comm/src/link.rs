//! What connects the processes of a group.

use crate::CommError;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// Messages that one rank exchanges with others at the same time.
pub(crate) struct Round {
    /// Messages by the ranks that get them.
    pub(crate) sends: Vec<(usize, Vec<u8>)>,
    /// The ranks from which messages come, with their lengths in bytes.
    pub(crate) receives: Vec<(usize, usize)>,
    /// How long to wait.
    pub(crate) patience: Patience,
}

/// How long a rank waits for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// The others do the same work, so they should be ready at about the same time.
    Limit(Duration),
    /// The others may work on something for hours. As long as they show signs of life at least this often, it is
    /// right to wait.
    SignsOfLife(Duration),
}

#[cfg(feature = "mpi")]
impl Patience {
    pub(crate) fn limit(self) -> Duration {
        match self {
            Patience::Limit(limit) | Patience::SignsOfLife(limit) => limit,
        }
    }
}

/// The messages of a round, in the order of its `receives`.
pub(crate) type Received = Result<Vec<Vec<u8>>, CommError>;

/// A connection to all other ranks. Rounds are done one after another, in the order in which they were started; rounds
/// of all ranks match each other in this order.
pub(crate) trait Link: Send + Sync {
    fn rank(&self) -> usize;
    fn size(&self) -> usize;
    /// Starts a round. Its result arrives later; if the receiver is closed, the link has broken down.
    fn start(&self, round: Round) -> Receiver<Received>;
    /// Ends the connection in an orderly way. All ranks do so, after their last round.
    fn leave(&self) {}
}
