//! Work on parameters, divided among threads.

use crate::TrainError;
use tallow_data::deal;

/// Does independent pieces of work on several threads. `cost` estimates a piece, and [`deal`] divides the pieces. The
/// result of a piece does not depend on its thread.
pub(crate) fn share<T: Send>(
    pieces: Vec<T>,
    workers: usize,
    cost: impl Fn(&T) -> usize,
    work: impl Fn(T) -> Result<(), TrainError> + Sync,
) -> Result<(), TrainError> {
    let do_all = |hand: Vec<T>| hand.into_iter().try_for_each(&work);
    std::thread::scope(|scope| {
        let mut hands = deal(pieces, workers, cost).into_iter().filter(|hand| !hand.is_empty());
        let own = hands.next();
        let threads: Vec<_> = hands.map(|hand| scope.spawn(|| do_all(hand))).collect();
        let mut result = own.map_or(Ok(()), do_all);
        for thread in threads {
            result = result.and(thread.join().unwrap_or(Err(TrainError::Worker)));
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_piece_is_done_once() {
        for workers in [0, 1, 2, 3, 9] {
            let mut done = vec![0usize; 7];
            let pieces: Vec<(usize, &mut usize)> = done.iter_mut().enumerate().collect();
            share(
                pieces,
                workers,
                |(i, _)| *i,
                |(i, count)| {
                    *count += i;
                    Ok(())
                },
            )
            .unwrap();
            assert_eq!(done, [0, 1, 2, 3, 4, 5, 6]);
        }
    }

    #[test]
    fn an_error_is_returned() {
        let tried = AtomicUsize::new(0);
        let result = share(
            vec![1, 2, 3, 4],
            2,
            |_| 1,
            |piece| {
                tried.fetch_add(1, Ordering::Relaxed);
                if piece == 3 { Err(TrainError::Worker) } else { Ok(()) }
            },
        );
        assert!(matches!(result, Err(TrainError::Worker)));
        assert!(tried.into_inner() >= 1);
    }
}
