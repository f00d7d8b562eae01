//! Pieces of work that threads share; the results keep the order of the pieces.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A worker panicked before its work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerLost;

/// Does pieces of work on `workers` threads, one of which is the caller's. Each thread takes the next piece that no
/// thread has begun. The results have the order of the pieces, so the speed of the threads does not matter.
///
/// # Errors
/// The error of the first piece that fails, in the order of the pieces; a panic counts as an error. Pieces that no
/// thread has begun by then are left out.
pub fn in_order<T, R, E>(workers: usize, pieces: &[T], work: impl Fn(&T) -> Result<R, E> + Sync) -> Result<Vec<R>, E>
where
    T: Sync,
    R: Send,
    E: From<WorkerLost> + Send,
{
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = pieces.get(index) else {
                return done;
            };
            // A panic may leave things half done, but they are in no result: there is none.
            let result = catch_unwind(AssertUnwindSafe(|| work(piece))).unwrap_or_else(|_| Err(WorkerLost.into()));
            if result.is_err() {
                next.store(pieces.len(), Ordering::Relaxed);
            }
            done.push((index, result));
        }
    };
    let mut all = thread::scope(|scope| {
        let threads: Vec<_> = (1..workers.min(pieces.len())).map(|_| scope.spawn(take)).collect();
        let mut all = take();
        for thread in threads {
            all.extend(thread.join().map_err(|_| WorkerLost)?);
        }
        Ok::<_, E>(all)
    })?;
    all.sort_unstable_by_key(|(index, _)| *index);
    // Pieces begin in order, so no piece before the first failed one is missing.
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::time::Duration;

    #[derive(Debug, PartialEq)]
    enum Fault {
        Piece(usize),
        Lost,
    }

    impl From<WorkerLost> for Fault {
        fn from(_: WorkerLost) -> Self {
            Fault::Lost
        }
    }

    #[test]
    fn results_stand_in_order() {
        let pieces: Vec<usize> = (0..20).collect();
        for workers in [0, 1, 2, 3, 50] {
            let work = |piece: &usize| {
                // The first pieces take longest.
                thread::sleep(Duration::from_millis(if *piece < 3 { 10 } else { 0 }));
                Ok::<_, Fault>(piece * piece)
            };
            let expected: Vec<usize> = pieces.iter().map(|piece| piece * piece).collect();
            assert_eq!(in_order(workers, &pieces, work), Ok(expected), "{workers} workers");
        }
        assert_eq!(in_order(3, &[], |_: &usize| Ok::<usize, Fault>(0)), Ok(vec![]));
    }

    #[test]
    fn threads_work_at_the_same_time() {
        let barrier = Barrier::new(3);
        let meet = |_: &usize| {
            barrier.wait();
            Ok::<_, Fault>(())
        };
        assert_eq!(in_order(3, &[0, 1, 2], meet).map(|done| done.len()), Ok(3));
    }

    #[test]
    fn the_first_error_is_returned_and_ends_the_work() {
        for workers in [1, 2, 4] {
            let begun = AtomicUsize::new(0);
            let work = |piece: &usize| {
                begun.fetch_add(1, Ordering::Relaxed);
                match *piece {
                    5 | 6 => Err(Fault::Piece(*piece)),
                    // By then, the error is known.
                    7.. => {
                        thread::sleep(Duration::from_millis(20));
                        Ok(())
                    }
                    _ => Ok(()),
                }
            };
            let pieces: Vec<usize> = (0..1000).collect();
            assert_eq!(
                in_order(workers, &pieces, work),
                Err(Fault::Piece(5)),
                "{workers} workers"
            );
            assert!(begun.into_inner() < 100, "{workers} workers");
        }
    }

    #[test]
    #[allow(clippy::panic)]
    fn a_panic_is_an_error() {
        for workers in [1, 3] {
            let work = |piece: &usize| match piece {
                2 => panic!("as the test wants it"),
                _ => Ok::<_, Fault>(()),
            };
            assert_eq!(
                in_order(workers, &[0, 1, 2, 3], work),
                Err(Fault::Lost),
                "{workers} workers"
            );
        }
    }
}
