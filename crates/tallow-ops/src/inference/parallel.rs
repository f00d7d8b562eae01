//! Work that is done once, by all cores.

use crate::path::path;
use crate::with_path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Makes `count` values by `make(0)`, `make(1)`, .., with up to `threads` threads. The result is in this order.
pub fn in_parallel<T: Send>(threads: usize, count: usize, make: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (next, path) = (AtomicUsize::new(0), path());
    let work = || {
        let mut made = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return made;
            }
            made.push((number, with_path(path, || make(number))));
        }
    };
    let mut made = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(count)).map(|_| scope.spawn(work)).collect();
        let mut made = work();
        for other in others {
            match other.join() {
                Ok(more) => made.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        made
    });
    made.sort_by_key(|(number, _)| *number);
    made.into_iter().map(|(_, value)| value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Path;

    #[test]
    fn in_order_and_on_the_path_of_the_caller() {
        for (threads, count) in [(1, 5), (3, 0), (4, 2), (2, 100)] {
            let made = with_path(Path::Baseline, || {
                in_parallel(threads, count, |number| (number, path()))
            });
            assert_eq!(
                made,
                (0..count).map(|number| (number, Path::Baseline)).collect::<Vec<_>>()
            );
        }
    }
}
