//! The errors of a group.

/// Errors of messages between processes. After one, the group cannot be used any more: the ranks no longer agree on
/// which message comes next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommError {
    /// Some ranks did not answer in time.
    #[error("{} did not answer for {seconds} seconds: it has died, hangs, or cannot be reached", in_words(.ranks))]
    Silent {
        /// The ranks.
        ranks: Vec<usize>,
        /// The limit of time.
        seconds: u64,
    },
    /// Some ranks have left the group, mostly because of an error of their own.
    #[error("{} ended before the work was done", in_words(.ranks))]
    Lost {
        /// The ranks.
        ranks: Vec<usize>,
    },
    /// A rank sent something else than the others expect.
    #[error("rank {rank} sent a message that does not fit: {reason}")]
    Unexpected {
        /// The rank.
        rank: usize,
        /// What does not fit.
        reason: String,
    },
    /// The thread that exchanges messages has ended.
    #[error("the thread that exchanges messages with other ranks has ended")]
    Broken,
    /// MPI could not be started.
    #[error("MPI: {0}")]
    Mpi(String),
}

fn in_words(ranks: &[usize]) -> String {
    match ranks {
        [one] => format!("rank {one}"),
        several => {
            let numbers: Vec<String> = several.iter().map(usize::to_string).collect();
            format!("ranks {}", numbers.join(", "))
        }
    }
}
