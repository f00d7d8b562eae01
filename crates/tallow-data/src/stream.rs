//! Batches prepared ahead in separate threads.

use std::any::Any;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::batch::Batch;
use crate::cursor::Cursor;
use crate::error::DataError;
use crate::sampler::Sampler;
use crate::window::Window;

type Item = Result<(Batch, Cursor), DataError>;

/// What a stream reads: the windows of every epoch.
trait Windows: Send + 'static {
    type Window: Batches + Send + 'static;
    /// The number of windows of every epoch.
    fn count(&self) -> u64;
    fn window(&self, epoch: u64, number: u64) -> Result<Self::Window, DataError>;
}

/// The batches of a window.
trait Batches {
    fn count(&self) -> usize;
    fn batch(&self, number: usize) -> Batch;
}

impl Windows for Sampler {
    type Window = Window;

    fn count(&self) -> u64 {
        self.windows()
    }

    fn window(&self, epoch: u64, number: u64) -> Result<Window, DataError> {
        Sampler::window(self, epoch, number)
    }
}

impl Batches for Window {
    fn count(&self) -> usize {
        self.len()
    }

    fn batch(&self, number: usize) -> Batch {
        Window::batch(self, number)
    }
}

/// A window and its place: epoch and number.
type Placed<W> = (W, u64, u64);

/// An endless iterator over the training batches, epoch after epoch. Each batch comes with the cursor AFTER it: store
/// this cursor once the batch has been trained on.
///
/// Two threads work while the caller trains: one reads and plans the next window, the other makes the batches of the
/// present one. At any time there are at most two windows, `lookahead` finished batches, and one more that the thread
/// works on. The batches do not depend on the speed of the threads. Dropping the stream ends them. The stream ends
/// after an error.
#[derive(Debug)]
pub struct BatchStream {
    /// Present until the stream is dropped; the threads notice the drop.
    receiver: Option<Receiver<Item>>,
    /// Each is present until it has been joined: first the one that makes batches, then the one that reads windows.
    threads: Vec<JoinHandle<()>>,
}

impl BatchStream {
    /// Starts at a cursor: [`Cursor::default`], or the one of a checkpoint.
    ///
    /// # Errors
    /// A cursor beyond the last batch of its window; a cursor of an earlier version, whose order of the data was
    /// another; pairs that cannot be read; or a system that cannot start another thread.
    pub fn start(sampler: Sampler, cursor: Cursor, lookahead: usize) -> Result<Self, DataError> {
        if cursor.window.is_none() && !sampler.has_order_of_earlier_versions() {
            return Err(DataError::EarlierOrder);
        }
        Self::start_with(sampler, cursor, lookahead)
    }

    fn start_with<W: Windows>(windows: W, cursor: Cursor, lookahead: usize) -> Result<Self, DataError> {
        let Cursor { epoch, window, batch } = cursor;
        let number = window.unwrap_or(0);
        // Done here rather than in the thread: a wrong cursor is reported before the caller asks for the first batch.
        let count = windows.count();
        let (first, batches) = match number < count {
            true => {
                let first = windows.window(epoch, number)?;
                let batches = first.count();
                (Some(first), batches)
            }
            false => (None, 0),
        };
        let Some(first) = first.filter(|_| usize::try_from(batch).is_ok_and(|batch| batch < batches)) else {
            return Err(DataError::Cursor {
                epoch,
                window: number,
                batch,
                batches,
            });
        };
        let named = |name: &str| Builder::new().name(name.into());
        // Without room, so that only one window is read ahead.
        let (window_sender, window_receiver) = sync_channel(0);
        let (sender, receiver) = sync_channel(lookahead);
        let reads = named("tallow-windows")
            .spawn(move || read_windows(windows, (first, epoch, number), &window_sender))
            .map_err(DataError::Thread)?;
        let makes = named("tallow-batches")
            .spawn(move || make_batches(window_receiver, count, batch as usize, &sender))
            .map_err(DataError::Thread)?;
        Ok(Self {
            receiver: Some(receiver),
            threads: vec![makes, reads],
        })
    }
}

/// Sends windows until the receiver is dropped, or one cannot be read.
fn read_windows<W: Windows>(
    windows: W,
    first: Placed<W::Window>,
    sender: &SyncSender<Result<Placed<W::Window>, DataError>>,
) {
    let (_, mut epoch, mut number) = first;
    if sender.send(Ok(first)).is_err() {
        return;
    }
    loop {
        number += 1;
        if number >= windows.count() {
            (epoch, number) = (epoch + 1, 0);
        }
        let window = windows.window(epoch, number);
        let is_last = window.is_err();
        if sender.send(window.map(|window| (window, epoch, number))).is_err() || is_last {
            return;
        }
    }
}

/// Sends batches until the receiver is dropped, from this batch of the first window on.
fn make_batches<W: Batches>(
    windows: Receiver<Result<Placed<W>, DataError>>,
    window_count: u64,
    mut start: usize,
    sender: &SyncSender<Item>,
) {
    for window in windows {
        let (window, epoch, number) = match window {
            Ok(window) => window,
            Err(error) => {
                // If the receiver is gone, nobody needs the error.
                let _ = sender.send(Err(error));
                return;
            }
        };
        let count = window.count();
        if count == 0 {
            // Otherwise the loop would go through empty epochs for ever.
            let empty = format!("window {number} of epoch {epoch} has no batches");
            let _ = sender.send(Err(DataError::Broken(empty)));
            return;
        }
        for batch in std::mem::take(&mut start)..count {
            let after = if batch + 1 < count {
                Cursor {
                    epoch,
                    window: Some(number),
                    batch: batch as u64 + 1,
                }
            } else if number + 1 < window_count {
                Cursor {
                    epoch,
                    window: Some(number + 1),
                    batch: 0,
                }
            } else {
                Cursor::epoch(epoch + 1)
            };
            if sender.send(Ok((window.batch(batch), after))).is_err() {
                return;
            }
        }
    }
}

impl Iterator for BatchStream {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if let Ok(item) = self.receiver.as_ref()?.recv() {
            return Some(item);
        }
        // The threads have ended: either they reported an error and stopped, or one of them panicked.
        let ended: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        let panic = ended.into_iter().find_map(Result::err)?;
        Some(Err(DataError::Broken(panic_message(panic.as_ref()))))
    }
}

impl Drop for BatchStream {
    fn drop(&mut self) {
        drop(self.receiver.take());
        for thread in self.threads.drain(..) {
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

    /// Two windows of an epoch, with the number of batches that a function gives. Counts the batches that are made.
    struct Fake<F> {
        batches: F,
        made: Arc<AtomicUsize>,
    }

    struct FakeWindow {
        batches: usize,
        made: Arc<AtomicUsize>,
    }

    impl<F: Fn(u64, u64) -> usize + Send + 'static> Windows for Fake<F> {
        type Window = FakeWindow;

        fn count(&self) -> u64 {
            2
        }

        fn window(&self, epoch: u64, number: u64) -> Result<FakeWindow, DataError> {
            let (batches, made) = ((self.batches)(epoch, number), self.made.clone());
            Ok(FakeWindow { batches, made })
        }
    }

    impl Batches for FakeWindow {
        fn count(&self) -> usize {
            self.batches
        }

        fn batch(&self, _: usize) -> Batch {
            self.made.fetch_add(1, Ordering::SeqCst);
            Batch::default()
        }
    }

    fn start(batches: impl Fn(u64, u64) -> usize + Send + 'static, lookahead: usize) -> BatchStream {
        let made = Arc::default();
        BatchStream::start_with(Fake { batches, made }, Cursor::default(), lookahead).unwrap()
    }

    #[test]
    fn a_panic_in_a_thread_is_an_error_and_then_the_end() {
        let plan = |epoch, _| match epoch {
            1 => panic!("no plan for epoch {epoch}"),
            _ => 2,
        };
        let items: Vec<Item> = start(plan, 8).collect();
        assert_eq!(items.len(), 5);
        let error = items[4].as_ref().unwrap_err().to_string();
        assert_eq!(
            error,
            "the threads that prepare batches broke down: no plan for epoch 1"
        );
    }

    #[test]
    fn an_empty_window_is_an_error_and_not_an_endless_loop() {
        let plan = |epoch, number| if (epoch, number) == (1, 1) { 0 } else { 2 };
        let items: Vec<Item> = start(plan, 0).collect();
        assert_eq!(items.len(), 7);
        let error = items[6].as_ref().unwrap_err().to_string();
        assert_eq!(
            error,
            "the threads that prepare batches broke down: window 1 of epoch 1 has no batches"
        );
    }

    #[test]
    fn cursors_count_through_windows_and_epochs() {
        let plan = |_, number| [2, 1][number as usize];
        let cursor = |epoch, window, batch| Cursor {
            epoch,
            window: Some(window),
            batch,
        };
        let cursors: Vec<Cursor> = start(plan, 1).take(4).map(|item| item.unwrap().1).collect();
        assert_eq!(
            cursors,
            [cursor(0, 0, 1), cursor(0, 1, 0), cursor(1, 0, 0), cursor(1, 0, 1)]
        );
        for (epoch, window, batch) in [(3, 0, 2), (3, 1, 1), (3, 2, 0), (3, u64::MAX, 0), (3, 0, u64::MAX)] {
            let made = Arc::default();
            let fake = Fake { batches: plan, made };
            let error = BatchStream::start_with(fake, cursor(epoch, window, batch), 1).unwrap_err();
            assert!(matches!(error, DataError::Cursor { .. }), "{error}");
        }
    }

    #[test]
    fn batches_are_prepared_ahead_but_not_more_than_asked() {
        let made = Arc::new(AtomicUsize::new(0));
        let fake = Fake {
            batches: |_, _| 2,
            made: made.clone(),
        };
        let mut stream = BatchStream::start_with(fake, Cursor::default(), 3).unwrap();
        stream.next().unwrap().unwrap();
        // One batch taken, three waiting, one in work in the thread.
        let patience = Instant::now() + Duration::from_secs(20);
        while made.load(Ordering::SeqCst) < 5 && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(made.load(Ordering::SeqCst), 5);
        // Ends the threads, which are blocked while they send. The call returns only after they have ended, so the
        // counter here is the last one.
        drop(stream);
        assert_eq!(Arc::strong_count(&made), 1);
    }
}
