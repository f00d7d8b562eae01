//! The order of the pairs of one epoch.

use crate::pair_source::PartOfPairs;
use crate::permutation::Permutation;
use crate::shuffle::Purpose;

/// The order in which an epoch takes its pairs. Beyond the size of a table, it holds no list of them.
#[derive(Debug)]
pub(crate) struct EpochOrder {
    /// The slot at each place of the epoch.
    slots: Permutation,
    parts: Vec<PartOrder>,
}

/// The slots of one corpus: all of its pairs as often as the weight has whole units, then some of its pairs.
#[derive(Debug)]
struct PartOrder {
    first_slot: u64,
    first_pair: u64,
    size: u64,
    copies: u64,
    /// The order from which the pairs beyond whole copies are taken.
    rest: Option<Permutation>,
}

/// The number of places that a corpus has in every epoch: its size times its weight, rounded, and at least one. A
/// weight of 0 leaves it out.
pub(crate) fn places_of(part: &PartOfPairs) -> u64 {
    match part.pairs.len() {
        0 => 0,
        _ if part.weight == 0.0 => 0,
        size => ((part.weight * size as f64).round() as u64).max(1),
    }
}

impl EpochOrder {
    pub(crate) fn new(parts: &[PartOfPairs], seed: u64, epoch: u64) -> Self {
        let mut slots = 0;
        let mut orders = Vec::with_capacity(parts.len());
        for (number, part) in (0..).zip(parts) {
            let (size, wanted) = (part.pairs.len() as u64, places_of(part));
            let has_rest = size > 0 && wanted % size > 0;
            orders.push(PartOrder {
                first_slot: slots,
                first_pair: part.pairs.start as u64,
                size,
                copies: wanted.checked_div(size).unwrap_or(0),
                rest: has_rest.then(|| Permutation::new(seed, Purpose::Subset, &[epoch, number], size)),
            });
            slots += wanted;
        }
        Self {
            slots: Permutation::new(seed, Purpose::Pairs, &[epoch], slots),
            parts: orders,
        }
    }

    /// The number of the pair at a place.
    pub(crate) fn pair(&self, place: u64) -> usize {
        let slot = self.slots.at(place);
        let part = self.parts.partition_point(|part| part.first_slot <= slot);
        let part = &self.parts[part - 1];
        let within = slot - part.first_slot;
        let chosen = match &part.rest {
            Some(rest) if within >= part.copies * part.size => rest.at(within - part.copies * part.size),
            _ => within % part.size,
        };
        (part.first_pair + chosen) as usize
    }
}
