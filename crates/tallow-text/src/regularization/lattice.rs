//! Cuts drawn from a unigram language model (Kudo 2018).

use std::collections::{HashMap, HashSet};

use crate::cut::RankedCut;
use crate::sentencepiece::Trie;

/// The pieces of a unigram model and their scores.
#[derive(Debug)]
pub(crate) struct Lattice {
    trie: Trie,
    /// Log-probability times `alpha`, by id.
    scores: HashMap<u32, f64>,
    texts: HashMap<u32, String>,
}

/// A way to reach a place: from another place by a piece.
struct Arrival {
    start: usize,
    piece: u32,
    /// Logarithm of the summed weight of all ways that end with this piece.
    weight: f64,
}

impl Lattice {
    /// `pieces` are text, id and log-probability. The probability of a drawn cut is proportional to the cut's own
    /// probability to the power of `alpha`: 0 makes all cuts equally likely, 1 keeps their probabilities.
    pub(crate) fn new(mut pieces: Vec<(String, u32, f64)>, alpha: f64) -> Self {
        // A file from elsewhere may list a piece twice.
        let mut seen = HashSet::new();
        pieces.retain(|(text, _, _)| !text.is_empty() && seen.insert(text.clone()));
        Self {
            trie: Trie::new(pieces.iter().map(|(text, id, _)| (text.as_str(), *id))),
            scores: pieces.iter().map(|(_, id, score)| (*id, alpha * score)).collect(),
            texts: pieces.into_iter().map(|(text, id, _)| (id, text)).collect(),
        }
    }

    /// Draws a cut. Pieces outside the model, such as bytes, stay where they are.
    pub(super) fn sample(&self, ids: &[u32], uniform: &mut dyn FnMut() -> f64) -> Vec<u32> {
        let mut cut = Vec::with_capacity(2 * ids.len());
        for (run, text) in self.runs(ids) {
            match text.is_empty() {
                true => cut.extend_from_slice(run),
                false => self.sample_text(&text, uniform, &mut cut),
            }
        }
        cut
    }

    /// For each stretch of text, its `count` best cuts, best first: the Viterbi algorithm with several ways to each
    /// place. Among equals, the way that begins earlier is first.
    pub(crate) fn best(&self, ids: &[u32], count: usize) -> Vec<Vec<RankedCut>> {
        let texts = self.runs(ids).map(|(_, text)| text).filter(|text| !text.is_empty());
        texts.map(|text| self.best_of_text(&text, count)).collect()
    }

    /// Runs of pieces that the model has, each with its text, and runs of others.
    fn runs<'a>(&'a self, ids: &'a [u32]) -> impl Iterator<Item = (&'a [u32], String)> {
        let is_same = |left: &u32, right: &u32| self.texts.contains_key(left) == self.texts.contains_key(right);
        ids.chunk_by(is_same).map(|run| {
            let texts = run.iter().filter_map(|id| self.texts.get(id));
            (run, texts.map(String::as_str).collect())
        })
    }

    fn best_of_text(&self, text: &str, count: usize) -> Vec<RankedCut> {
        let bytes = text.as_bytes();
        // The ways to each place: log-probability, last piece, where it begins, and which way leads there.
        let mut ways: Vec<Vec<(f64, u32, usize, usize)>> = vec![Vec::new(); bytes.len() + 1];
        for start in 0..bytes.len() {
            let here: Vec<f64> = match start {
                0 => vec![0.0],
                _ => ways[start].iter().map(|way| way.0).collect(),
            };
            if here.is_empty() {
                continue;
            }
            let mut node = Trie::ROOT;
            for (end, byte) in (start + 1..).zip(&bytes[start..]) {
                let Some(next) = self.trie.step(node, *byte) else { break };
                node = next;
                if let Some(piece) = self.trie.value(node) {
                    let arrivals = here.iter().enumerate();
                    ways[end].extend(arrivals.map(|(way, score)| (score + self.scores[&piece], piece, start, way)));
                    // A stable sort.
                    ways[end].sort_by(|a, b| b.0.total_cmp(&a.0));
                    ways[end].truncate(count);
                }
            }
        }
        let back = |mut way: (f64, u32, usize, usize)| {
            let (log_probability, mut ids) = (way.0, vec![way.1]);
            while way.2 > 0 {
                way = ways[way.2][way.3];
                ids.push(way.1);
            }
            ids.reverse();
            RankedCut { ids, log_probability }
        };
        ways[bytes.len()].iter().copied().map(back).collect()
    }

    /// Forward filtering, backward sampling: exact, without listing the cuts.
    fn sample_text(&self, text: &str, uniform: &mut dyn FnMut() -> f64, cut: &mut Vec<u32>) {
        let bytes = text.as_bytes();
        let mut arrivals: Vec<Vec<Arrival>> = Vec::new();
        arrivals.resize_with(bytes.len() + 1, Vec::new);
        for start in 0..bytes.len() {
            let here = match start {
                0 => 0.0,
                _ if arrivals[start].is_empty() => continue,
                _ => log_sum(&arrivals[start]),
            };
            let mut node = Trie::ROOT;
            for (end, byte) in (start + 1..).zip(&bytes[start..]) {
                let Some(next) = self.trie.step(node, *byte) else { break };
                node = next;
                if let Some(piece) = self.trie.value(node) {
                    let weight = here + self.scores[&piece];
                    arrivals[end].push(Arrival { start, piece, weight });
                }
            }
        }
        let first = cut.len();
        let mut end = bytes.len();
        while end > 0 {
            let total = log_sum(&arrivals[end]);
            let mut left = uniform();
            let drawn = arrivals[end].iter().find(|arrival| {
                left -= (arrival.weight - total).exp();
                left < 0.0
            });
            // Rounding may leave a rest after the last arrival, which is taken then. Every place that the loop reaches
            // has an arrival, because the cut of the given text leads to it.
            let Some(Arrival { start, piece, .. }) = drawn.or(arrivals[end].last()) else {
                break;
            };
            cut.push(*piece);
            end = *start;
        }
        cut[first..].reverse();
    }
}

fn log_sum(arrivals: &[Arrival]) -> f64 {
    let weights = || arrivals.iter().map(|arrival| arrival.weight);
    let most = weights().fold(f64::NEG_INFINITY, f64::max);
    most + weights().map(|weight| (weight - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::super::uniform;
    use super::*;
    use std::collections::BTreeMap;

    fn pieces() -> Vec<(String, u32, f64)> {
        let listed = [
            ("▁", -3.0),
            ("a", -2.0),
            ("b", -2.5),
            ("▁a", -1.5),
            ("ab", -3.5),
            ("▁ab", -4.0),
        ];
        listed
            .into_iter()
            .zip(10..)
            .map(|((text, score), id)| (text.to_owned(), id, score))
            .collect()
    }

    /// The four cuts of `▁ab`, listed by hand.
    #[test]
    fn cuts_have_their_probabilities() {
        const DRAWS: usize = 40_000;
        for alpha in [0.0, 0.2, 1.0] {
            let lattice = Lattice::new(pieces(), alpha);
            let cuts = [
                (vec![10, 11, 12], -7.5),
                (vec![13, 12], -4.0),
                (vec![10, 14], -6.5),
                (vec![15], -4.0),
            ];
            let total: f64 = cuts.iter().map(|(_, score): &(_, f64)| (alpha * score).exp()).sum();
            let mut uniform = uniform(5);
            let mut counts: BTreeMap<Vec<u32>, usize> = BTreeMap::new();
            for _ in 0..DRAWS {
                *counts.entry(lattice.sample(&[15], &mut uniform)).or_default() += 1;
            }
            assert!(counts.len() <= cuts.len());
            for (cut, score) in cuts {
                let probability = (alpha * score).exp() / total;
                let share = counts.get(&cut).copied().unwrap_or(0) as f64 / DRAWS as f64;
                let deviation = (probability * (1.0 - probability) / DRAWS as f64).sqrt();
                assert!(
                    (share - probability).abs() < 5.0 * deviation,
                    "{cut:?}: {share}, not {probability}"
                );
            }
        }
    }

    #[test]
    fn other_pieces_stay() {
        // With so large an alpha, only the best cut remains.
        let lattice = Lattice::new(pieces(), 1e4);
        let mut uniform = uniform(2);
        assert_eq!(lattice.sample(&[10, 11, 3, 4, 11, 0], &mut uniform), [13, 3, 4, 11, 0]);
        assert!(lattice.sample(&[], &mut uniform).is_empty());
    }
}
