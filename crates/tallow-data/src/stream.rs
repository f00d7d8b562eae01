//! Batches prepared ahead in a separate thread.

use std::any::Any;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::batch::Batch;
use crate::cursor::Cursor;
use crate::error::DataError;
use crate::sampler::Sampler;

type Item = Result<(Batch, Cursor), DataError>;

/// An endless iterator over the training batches, epoch after epoch. Each batch comes with the cursor AFTER it: store
/// this cursor once the batch has been trained on.
///
/// A thread plans the epochs and copies the batches out of the corpus while the caller trains. At any time there are at
/// most `lookahead` finished batches, and one more that the thread works on. The batches do not depend on the thread's
/// speed. Dropping the stream ends the thread. The stream ends after an error.
#[derive(Debug)]
pub struct BatchStream {
    /// Present until the stream is dropped; the thread notices the drop.
    receiver: Option<Receiver<Item>>,
    /// Present until the thread has been joined.
    thread: Option<JoinHandle<()>>,
}

impl BatchStream {
    /// Starts at a cursor: [`Cursor::default`], or the one of a checkpoint.
    ///
    /// # Errors
    /// A cursor beyond the last batch of its epoch, or a system that cannot start another thread.
    pub fn start(sampler: Sampler, cursor: Cursor, lookahead: usize) -> Result<Self, DataError> {
        let planner = sampler.clone();
        Self::start_with(
            move |epoch| planner.epoch(epoch),
            move |epoch, indices| sampler.batch(epoch, indices),
            cursor,
            lookahead,
        )
    }

    fn start_with(
        plan: impl Fn(u64) -> Vec<Vec<usize>> + Send + 'static,
        batch: impl Fn(u64, &[usize]) -> Batch + Send + 'static,
        cursor: Cursor,
        lookahead: usize,
    ) -> Result<Self, DataError> {
        // Done here rather than in the thread: a wrong cursor is reported before the caller asks for the first batch.
        let first = plan(cursor.epoch);
        let Cursor { epoch, batch: start } = cursor;
        if usize::try_from(start).map_or(true, |start| start >= first.len()) {
            return Err(DataError::Cursor {
                epoch,
                batch: start,
                batches: first.len(),
            });
        }
        let (sender, receiver) = sync_channel(lookahead);
        let thread = Builder::new()
            .name("tallow-batches".into())
            .spawn(move || produce(first, plan, batch, cursor, &sender))
            .map_err(DataError::Thread)?;
        Ok(Self {
            receiver: Some(receiver),
            thread: Some(thread),
        })
    }
}

/// Sends batches until the receiver is dropped.
fn produce(
    mut batches: Vec<Vec<usize>>,
    plan: impl Fn(u64) -> Vec<Vec<usize>>,
    batch: impl Fn(u64, &[usize]) -> Batch,
    cursor: Cursor,
    sender: &SyncSender<Item>,
) {
    let Cursor {
        mut epoch,
        batch: mut start,
    } = cursor;
    loop {
        let count = batches.len() as u64;
        for (number, indices) in (0..).zip(&batches).skip(start as usize) {
            let mut after = Cursor {
                epoch,
                batch: number + 1,
            };
            if after.batch == count {
                after = Cursor {
                    epoch: epoch + 1,
                    batch: 0,
                };
            }
            if sender.send(Ok((batch(epoch, indices), after))).is_err() {
                return;
            }
        }
        epoch += 1;
        start = 0;
        batches = plan(epoch);
        if batches.is_empty() {
            // Otherwise the loop would plan empty epochs for ever. If the receiver is gone, nobody needs the error.
            let _ = sender.send(Err(DataError::Broken(format!("epoch {epoch} has no batches"))));
            return;
        }
    }
}

impl Iterator for BatchStream {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if let Ok(item) = self.receiver.as_ref()?.recv() {
            return Some(item);
        }
        // The thread has ended: either it reported an error and stopped, or it panicked.
        match self.thread.take()?.join() {
            Ok(()) => None,
            Err(payload) => Some(Err(DataError::Broken(panic_message(payload.as_ref())))),
        }
    }
}

impl Drop for BatchStream {
    fn drop(&mut self) {
        drop(self.receiver.take());
        if let Some(thread) = self.thread.take() {
            // A caller who drops the stream does not need to know of a panic.
            let _ = thread.join();
        }
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no reason given".into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    fn two_batches(_epoch: u64) -> Vec<Vec<usize>> {
        vec![vec![0], vec![1]]
    }

    #[test]
    fn a_panic_in_the_thread_is_an_error_and_then_the_end() {
        let plan = |epoch| {
            if epoch == 1 {
                panic!("no plan for epoch {epoch}")
            } else {
                two_batches(epoch)
            }
        };
        let stream = BatchStream::start_with(plan, |_, _| Batch::default(), Cursor::default(), 8).unwrap();
        let items: Vec<Item> = stream.collect();
        assert_eq!(items.len(), 3);
        let error = items[2].as_ref().unwrap_err().to_string();
        assert_eq!(
            error,
            "the thread that prepares batches broke down: no plan for epoch 1"
        );
    }

    #[test]
    fn an_empty_epoch_is_an_error_and_not_an_endless_loop() {
        let plan = |epoch| if epoch == 1 { Vec::new() } else { two_batches(epoch) };
        let stream = BatchStream::start_with(plan, |_, _| Batch::default(), Cursor::default(), 0).unwrap();
        let items: Vec<Item> = stream.collect();
        assert_eq!(items.len(), 3);
        let error = items[2].as_ref().unwrap_err().to_string();
        assert_eq!(
            error,
            "the thread that prepares batches broke down: epoch 1 has no batches"
        );
    }

    #[test]
    fn batches_are_prepared_ahead_but_not_more_than_asked() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = made.clone();
        let count = move |_, _: &[usize]| {
            counter.fetch_add(1, Ordering::SeqCst);
            Batch::default()
        };
        let mut stream = BatchStream::start_with(two_batches, count, Cursor::default(), 3).unwrap();
        stream.next().unwrap().unwrap();
        // One batch taken, three waiting, one in work in the thread.
        let patience = Instant::now() + Duration::from_secs(20);
        while made.load(Ordering::SeqCst) < 5 && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(made.load(Ordering::SeqCst), 5);
        // Ends the thread, which is blocked while it sends a batch. The call returns only after the thread has ended,
        // so the counter here is the last one.
        drop(stream);
        assert_eq!(Arc::strong_count(&made), 1);
    }
}
