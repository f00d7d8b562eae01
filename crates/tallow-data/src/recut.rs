//! Cuts sentences into other tokens in every epoch.

use std::fmt;

use crate::corpus::Pair;
use crate::shuffle::{Purpose, SplitMix64};

/// Cuts the tokens of one side of a pair, without `</s>`, in another way. The second argument draws numbers in [0, 1).
/// It must be the only source of randomness.
pub type Recut = Box<dyn Fn(&[u32], &mut dyn FnMut() -> f64) -> Vec<u32> + Send + Sync>;

/// The functions that cut the pairs of a corpus anew.
pub(crate) struct Recuts {
    pub(crate) source: Recut,
    pub(crate) target: Recut,
    /// The longest side, with `</s>`, that a new cut may give.
    pub(crate) longest: usize,
}

impl fmt::Debug for Recuts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recuts")
            .field("longest", &self.longest)
            .finish_non_exhaustive()
    }
}

impl Recuts {
    /// The tokens of a pair's source and target with the cut of this epoch. They depend only on the seed of the run,
    /// the epoch and the pair.
    pub(crate) fn sides(&self, pair: Pair<'_>, seed: u64, epoch: u64) -> (Vec<u32>, Vec<u32>) {
        let side = |recut: &Recut, tokens: &[u32], number: u64| {
            let Some((end, text)) = tokens.split_last() else {
                return Vec::new();
            };
            let mut generator = SplitMix64::keyed(seed, Purpose::Cuts, &[epoch, pair.id, number]);
            let mut cut = recut(text, &mut || generator.uniform());
            if cut.is_empty() || cut.len() >= self.longest {
                return tokens.to_vec();
            }
            cut.push(*end);
            cut
        };
        (side(&self.source, pair.source, 0), side(&self.target, pair.target, 1))
    }
}
