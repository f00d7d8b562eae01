//! A group behaves the same whatever connects its ranks; here, memory does. The command line's tests use MPI.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Outside test functions, too.

use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};
use tallow_comm::{CommError, Group, Wire, tree_sum};

/// Runs a function on every rank of a group, each in its own thread.
fn on_ranks<T: Send>(size: usize, work: impl Fn(&Group) -> T + Sync) -> Vec<T> {
    let group = Group::of_threads(size);
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = group
            .into_iter()
            .map(|group| scope.spawn(move || work(&group)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn ranks_have_numbers() {
    let alone = Group::alone();
    assert_eq!(
        (alone.rank(), alone.size(), alone.is_root(), alone.is_alone()),
        (0, 1, true, true)
    );
    let places = on_ranks(3, |group| {
        (group.rank(), group.size(), group.is_root(), group.is_alone())
    });
    assert_eq!(
        places,
        [(0, 3, true, false), (1, 3, false, false), (2, 3, false, false)]
    );
    assert_eq!(Group::of_threads(1).pop().map(|group| group.is_alone()), Some(true));
}

#[test]
fn values_come_to_all_to_the_root_and_from_the_root() {
    for size in 1..10 {
        let of = |rank: usize| vec![rank as u8; rank * 3];
        let all: Vec<Vec<u8>> = (0..size).map(of).collect();
        let results = on_ranks(size, |group| {
            let own = of(group.rank());
            let everywhere = group.all_gather(&own, |rank| rank * 3).unwrap();
            let at_root = group.gather(own).unwrap();
            group.barrier().unwrap();
            let from_root = group
                .broadcast(|| {
                    assert!(group.is_root());
                    vec![7; 1000]
                })
                .unwrap();
            let own = group.scatter(|| all.clone()).unwrap();
            assert_eq!(own, of(group.rank()));
            (everywhere, at_root, from_root)
        });
        for (rank, (everywhere, at_root, from_root)) in results.into_iter().enumerate() {
            assert_eq!(everywhere, all);
            assert_eq!(at_root, (rank == 0).then(|| all.clone()));
            assert_eq!(from_root, vec![7; 1000]);
        }
    }
}

#[test]
fn the_root_decides_by_what_all_claim() {
    for size in 1..5 {
        let verdicts = on_ranks(size, |group| {
            group.decide(&format!("rank {}", group.rank()), |claims: Vec<String>| {
                assert!(group.is_root());
                claims.join(", ")
            })
        });
        let all: Vec<String> = (0..size).map(|rank| format!("rank {rank}")).collect();
        assert_eq!(verdicts, vec![Ok(all.join(", ")); size]);
    }
    // A rank that claims something of another form.
    let errors = on_ranks(2, |group| match group.rank() {
        0 => group
            .decide(&1, |claims: Vec<usize>| claims.len())
            .unwrap_err()
            .to_string(),
        _ => group
            .decide(&"one".to_owned(), |_: Vec<String>| 0)
            .unwrap_err()
            .to_string(),
    });
    assert!(
        errors[0].starts_with("rank 1 sent a message that does not fit"),
        "{errors:?}"
    );
    assert!(errors[1].starts_with("rank 0 ended"), "{errors:?}");
}

fn numbers(rank: usize, count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| ((rank * 31 + i * 7) as f32 * 0.713).sin() * 100.0)
        .collect()
}

#[test]
fn sums_are_those_of_the_tree_to_the_bit() {
    for (size, without) in [(1, None), (2, None), (3, Some(0)), (4, None), (5, Some(3)), (8, None)] {
        let count = 41;
        let has_numbers: Vec<bool> = (0..size).map(|rank| Some(rank) != without).collect();
        let parts = (0..size)
            .map(|rank| has_numbers[rank].then(|| numbers(rank, count)))
            .collect();
        let expected = tree_sum(parts).unwrap();
        // Shares of different lengths, an empty one among them.
        let shares: Vec<Range<usize>> = (0..size)
            .map(|rank| (rank * rank * count / (size * size))..((rank + 1) * (rank + 1) * count / (size * size)))
            .collect();
        let lengths: Vec<usize> = shares.iter().map(ExactSizeIterator::len).collect();
        let sums = on_ranks(size, |group| {
            let own = has_numbers[group.rank()].then(|| numbers(group.rank(), count));
            let first = group.start_sum(own.as_deref(), &shares, &has_numbers, Wire::F32);
            // Another one at the same time.
            let second = group.start_sum(own.as_deref(), &shares, &has_numbers, Wire::Bf16);
            let share = first.wait().unwrap().unwrap();
            let all = group
                .start_collecting(&share, &lengths, Wire::F32)
                .wait()
                .unwrap()
                .concat();
            (all, second.wait().unwrap().unwrap())
        });
        for (rank, (all, rounded)) in sums.into_iter().enumerate() {
            assert_eq!(all, expected, "{size} ranks");
            for (rounded, exact) in rounded.iter().zip(&expected[shares[rank].clone()]) {
                assert!((rounded - exact).abs() <= size as f32 * 0.4, "{rounded} {exact}");
            }
        }
    }
}

#[test]
fn nobody_has_numbers() {
    let sums = on_ranks(2, |group| {
        let sum = group.start_sum(None, &[0..3, 3..4], &[false, false], Wire::F32);
        sum.wait().unwrap()
    });
    assert_eq!(sums, [None, None]);
}

#[test]
fn a_rank_that_leaves_is_an_error_of_the_others() {
    let results = on_ranks(3, |group| match group.rank() {
        1 => None,
        _ => Some(group.all_gather(&[], |_| 0).unwrap_err()),
    });
    let lost = Some(CommError::Lost { ranks: vec![1] });
    assert_eq!(results, [lost.clone(), None, lost]);
}

#[test]
fn a_rank_that_hangs_is_an_error_of_the_others() {
    let results = on_ranks(2, |group| {
        if group.rank() == 1 {
            thread::sleep(Duration::from_millis(1500));
            return None;
        }
        let group = group.clone().with_limit(Duration::from_secs(1));
        let begin = Instant::now();
        let error = group.all_gather(&[], |_| 0).unwrap_err();
        Some((error.to_string(), begin.elapsed() >= Duration::from_secs(1)))
    });
    let message = "rank 1 did not answer for 1 seconds: it has died, hangs, or cannot be reached";
    assert_eq!(results[0], Some((message.to_owned(), true)));
}

#[test]
fn a_rank_that_works_long_is_waited_for() {
    let results = on_ranks(3, |group| {
        let group = group.clone().with_limit(Duration::from_millis(20));
        group.broadcast(|| {
            thread::sleep(Duration::from_millis(200));
            vec![1]
        })
    });
    assert_eq!(results, vec![Ok(vec![1]); 3]);
}

#[test]
fn messages_that_do_not_fit_are_an_error() {
    let results = on_ranks(2, |group| {
        let own = vec![0; 1 + group.rank()];
        group.all_gather(&own, |_| 1)
    });
    assert!(
        matches!(results[0], Err(CommError::Unexpected { rank: 1, .. })),
        "{results:?}"
    );
    assert_eq!(results[1], Ok(vec![vec![0], vec![0, 0]]));
}
