//! BPE-dropout (Provilkov et al. 2020): merges that are left out at random.

use std::collections::{HashMap, HashSet};

/// Pieces with more characters than this are not cut.
const MOST_CHARACTERS: usize = 1024;

/// The merges of a BPE vocabulary, by ids.
#[derive(Debug)]
pub(crate) struct BpeDropout {
    /// The result and the rank of the merge of two neighbours; the lowest rank is merged first.
    merges: HashMap<(u32, u32), Merge>,
    /// For each piece that merging makes, the pieces that merging began with.
    characters: HashMap<u32, Box<[u32]>>,
    /// Neighbours in a word between which some merge reaches. All other neighbours separate words.
    bridges: HashSet<(u32, u32)>,
    dropout: f64,
}

#[derive(Clone, Copy, Debug)]
struct Merge {
    rank: u32,
    piece: u32,
}

impl BpeDropout {
    /// `merges` are the left piece, right piece and result of each merge, in the order in which they are applied. Each
    /// merge is dropped with the probability `dropout` whenever it could be applied.
    pub(crate) fn new(merges: impl IntoIterator<Item = (u32, u32, u32)>, dropout: f64) -> Self {
        let mut table = HashMap::new();
        let mut halves = HashMap::new();
        for ((left, right, piece), rank) in merges.into_iter().zip(0u32..) {
            table.entry((left, right)).or_insert(Merge { rank, piece });
            halves.entry(piece).or_insert((left, right));
        }
        let characters: HashMap<u32, Box<[u32]>> = halves
            .keys()
            .map(|piece| (*piece, characters(*piece, &halves).into()))
            .collect();
        let own = |piece: &u32| characters.get(piece).map_or(vec![*piece], |own| own.to_vec());
        let bridges = table
            .keys()
            .filter_map(|(left, right)| Some((*own(left).last()?, *own(right).first()?)))
            .collect();
        Self {
            merges: table,
            characters,
            bridges,
            dropout,
        }
    }

    pub(super) fn sample(&self, ids: &[u32], uniform: &mut dyn FnMut() -> f64) -> Vec<u32> {
        let mut cut = Vec::with_capacity(2 * ids.len());
        for word in self.words(ids) {
            cut.extend(self.merge(word, uniform, &mut |_| {}));
        }
        cut
    }

    /// For each word, its pieces before the first merge and after each. The dropout must be 0.
    pub(crate) fn steps(&self, ids: &[u32]) -> Vec<Vec<Vec<u32>>> {
        let steps = |word: Vec<u32>| {
            let mut steps = vec![word.clone()];
            self.merge(word, &mut || 1.0, &mut |pieces| steps.push(pieces.to_vec()));
            steps
        };
        self.words(ids).into_iter().map(steps).collect()
    }

    /// The words of a text, as the pieces with which merging begins.
    fn words(&self, ids: &[u32]) -> Vec<Vec<u32>> {
        let mut characters = Vec::with_capacity(4 * ids.len());
        for id in ids {
            match self.characters.get(id) {
                Some(own) => characters.extend_from_slice(own),
                None => characters.push(*id),
            }
        }
        let words = characters.chunk_by(|left, right| self.bridges.contains(&(*left, *right)));
        words.map(<[u32]>::to_vec).collect()
    }

    /// Merges one word: algorithm 1 of the paper. `merged` gets the pieces after each merge.
    fn merge(&self, word: Vec<u32>, uniform: &mut dyn FnMut() -> f64, merged: &mut dyn FnMut(&[u32])) -> Vec<u32> {
        let merge = |left: u32, right: u32| self.merges.get(&(left, right)).copied();
        let mut pieces = word;
        let mut merges: Vec<Option<Merge>> = pieces.windows(2).map(|pair| merge(pair[0], pair[1])).collect();
        loop {
            let mut best: Option<(usize, Merge)> = None;
            for (at, merge) in merges.iter().enumerate() {
                let Some(merge) = merge else { continue };
                let is_dropped = self.dropout > 0.0 && uniform() < self.dropout;
                if !is_dropped && best.is_none_or(|(_, best)| merge.rank < best.rank) {
                    best = Some((at, *merge));
                }
            }
            let Some((at, Merge { piece, .. })) = best else { break };
            pieces[at] = piece;
            pieces.remove(at + 1);
            merges.remove(at);
            if at > 0 {
                merges[at - 1] = merge(pieces[at - 1], piece);
            }
            if at < merges.len() {
                merges[at] = merge(piece, pieces[at + 1]);
            }
            merged(&pieces);
        }
        pieces
    }
}

/// The pieces from which a piece is made, found by undoing merges as long as possible.
fn characters(piece: u32, halves: &HashMap<u32, (u32, u32)>) -> Vec<u32> {
    let (mut found, mut open) = (Vec::new(), vec![piece]);
    while let Some(part) = open.pop() {
        match halves.get(&part) {
            // In a vocabulary from elsewhere, merges may make each other: such a piece stays whole.
            _ if found.len() + open.len() > MOST_CHARACTERS => return vec![piece],
            Some((left, right)) => open.extend([*right, *left]),
            None => found.push(part),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::uniform;
    use super::*;
    use std::collections::BTreeMap;

    /// The merges of `lower`: a b -> ab first, then bc, then abc from either side.
    const MERGES: [(u32, u32, u32); 4] = [(1, 2, 12), (2, 3, 23), (12, 3, 123), (1, 23, 123)];

    #[test]
    fn without_dropout_every_merge_is_made() {
        let sampler = BpeDropout::new(MERGES, 0.0);
        let mut never = || panic!("nothing is drawn");
        assert_eq!(sampler.sample(&[1, 2, 3, 9, 2, 3, 1], &mut never), [123, 9, 23, 1]);
        assert_eq!(sampler.sample(&[123, 7, 12, 3], &mut never), [123, 7, 123]);
        assert!(sampler.sample(&[], &mut never).is_empty());
    }

    #[test]
    fn with_all_merges_dropped_characters_remain() {
        let sampler = BpeDropout::new(MERGES, 1.0);
        assert_eq!(sampler.sample(&[123, 9, 12], &mut uniform(1)), [1, 2, 3, 9, 1, 2]);
    }

    /// With probability q = 1 - p of keeping a merge, `a b c` becomes: `ab` first (q) and then `abc` (q), or stays (p);
    /// `bc` first (p q) and then `abc` (q), or stays (p); nothing (p²).
    #[test]
    fn cuts_have_the_probabilities_of_the_paper() {
        const DRAWS: usize = 40_000;
        let p: f64 = 0.3;
        let sampler = BpeDropout::new(MERGES, p);
        let mut uniform = uniform(7);
        let mut counts: BTreeMap<Vec<u32>, usize> = BTreeMap::new();
        for _ in 0..DRAWS {
            *counts.entry(sampler.sample(&[123], &mut uniform)).or_default() += 1;
        }
        let q = 1.0 - p;
        let expected = [
            (vec![123], q * q + p * q * q),
            (vec![12, 3], q * p),
            (vec![1, 23], p * q * p),
            (vec![1, 2, 3], p * p),
        ];
        assert_eq!(counts.len(), expected.len());
        for (cut, probability) in expected {
            let share = counts[&cut] as f64 / DRAWS as f64;
            let deviation = (probability * (1.0 - probability) / DRAWS as f64).sqrt();
            assert!(
                (share - probability).abs() < 5.0 * deviation,
                "{cut:?}: {share}, not {probability}"
            );
        }
    }

    /// Merges that make each other, as in a hostile file.
    #[test]
    fn circles_end() {
        let sampler = BpeDropout::new([(1, 2, 3), (3, 3, 1), (4, 4, 4)], 0.5);
        for ids in [&[1u32, 2, 3, 1][..], &[4, 4, 4]] {
            sampler.sample(ids, &mut uniform(3));
        }
    }
}
