//! Ranks that are threads of one process.

use crate::CommError;
use crate::link::{Link, Patience, Received, Round};
use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, spawn};
use std::time::Instant;

/// The messages under way between all ranks.
#[derive(Default)]
struct Post {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Messages by sender and receiver, in order.
    messages: HashMap<(usize, usize), VecDeque<Vec<u8>>>,
    /// Ranks that have left.
    gone: Vec<usize>,
}

impl Post {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exchange(&self, rank: usize, round: Round) -> Received {
        let begin = Instant::now();
        let mut state = self.lock();
        for (to, message) in round.sends {
            state.messages.entry((rank, to)).or_default().push_back(message);
        }
        self.changed.notify_all();
        let mut received: Vec<Option<Vec<u8>>> = round.receives.iter().map(|_| None).collect();
        loop {
            let mut missing = Vec::new();
            for ((from, length), received) in round.receives.iter().zip(&mut received) {
                if received.is_none() {
                    *received = state.messages.get_mut(&(*from, rank)).and_then(VecDeque::pop_front);
                }
                match received {
                    None => missing.push(*from),
                    Some(message) if message.len() != *length => {
                        let reason = format!("{} bytes instead of {length}", message.len());
                        return Err(CommError::Unexpected { rank: *from, reason });
                    }
                    Some(_) => {}
                }
            }
            if missing.is_empty() {
                return Ok(received.into_iter().flatten().collect());
            }
            let lost: Vec<usize> = missing
                .iter()
                .copied()
                .filter(|rank| state.gone.contains(rank))
                .collect();
            if !lost.is_empty() {
                return Err(CommError::Lost { ranks: lost });
            }
            state = match round.patience {
                // Threads of a living process are alive.
                Patience::SignsOfLife(_) => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Patience::Limit(limit) => {
                    let Some(left) = limit.checked_sub(begin.elapsed()) else {
                        return Err(CommError::Silent {
                            ranks: missing,
                            seconds: limit.as_secs(),
                        });
                    };
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// The place of one thread.
pub(crate) struct ThreadLink {
    rank: usize,
    size: usize,
    post: Arc<Post>,
    /// Rounds for the thread that does them; `None` only while this is dropped.
    rounds: Option<Sender<(Round, Sender<Received>)>>,
    worker: Option<JoinHandle<()>>,
}

impl ThreadLink {
    pub(crate) fn all(size: usize) -> Vec<Self> {
        let post = Arc::new(Post::default());
        (0..size).map(|rank| Self::new(rank, size, post.clone())).collect()
    }

    fn new(rank: usize, size: usize, post: Arc<Post>) -> Self {
        let (rounds, to_do) = channel::<(Round, Sender<Received>)>();
        let for_worker = post.clone();
        let worker = spawn(move || {
            for (round, answer) in to_do {
                // The rank may have left without waiting for its answer.
                let _ = answer.send(for_worker.exchange(rank, round));
            }
        });
        Self {
            rank,
            size,
            post,
            rounds: Some(rounds),
            worker: Some(worker),
        }
    }
}

impl Link for ThreadLink {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn start(&self, round: Round) -> Receiver<Received> {
        let (sender, receiver) = channel();
        if let Some(rounds) = &self.rounds {
            // Fails only if the worker has panicked; then the receiver is closed.
            let _ = rounds.send((round, sender));
        }
        receiver
    }
}

impl Drop for ThreadLink {
    fn drop(&mut self) {
        // Others must learn of it before this waits for a round with them.
        self.post.lock().gone.push(self.rank);
        self.post.changed.notify_all();
        self.rounds = None;
        // A round that waits for a rank that stays but does not answer would never end; it is left to itself.
        drop(self.worker.take());
    }
}
