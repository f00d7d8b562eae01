//! Division of work among workers.

use std::cmp::Reverse;

/// Divides pieces of work among `hands` workers (0 counts as 1). The most expensive piece goes first, and each piece
/// goes to the worker with the lowest total cost so far (Graham 1969, "Bounds on multiprocessing timing anomalies":
/// longest processing time first). Of equal pieces or workers, the earlier one is taken. A piece costs at least 1, so
/// that pieces without a cost are spread too. If there are fewer pieces than workers, some workers get none.
pub fn deal<T>(pieces: Vec<T>, hands: usize, cost: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut dearest_first: Vec<(usize, T)> = pieces.into_iter().map(|piece| (cost(&piece).max(1), piece)).collect();
    dearest_first.sort_by_key(|(cost, _)| Reverse(*cost));
    let mut hands: Vec<(usize, Vec<T>)> = (0..hands.max(1)).map(|_| (0, Vec::new())).collect();
    for (cost, piece) in dearest_first {
        if let Some((total, hand)) = hands.iter_mut().min_by_key(|(total, _)| *total) {
            *total += cost;
            hand.push(piece);
        }
    }
    hands.into_iter().map(|(_, hand)| hand).collect()
}
