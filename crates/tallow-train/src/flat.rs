//! All parameters in one line of numbers, and the division of this line among ranks.
//!
//! The line has the parameters in the order in which a backward pass completes their gradients: the reverse of the
//! forward pass. It is divided into *blocks* of the same length, which do not depend on the number of ranks, and runs
//! of blocks are *buckets*, which are reduced one after another. Each rank owns a share of every bucket: whole blocks.

use candle_core::{Device, Tensor};
use std::ops::Range;
use tallow_model::Params;

/// Numbers of a block. The squares of a gradient are added up block by block, so blocks belong to the meaning of an
/// update: another length gives other bits.
const BLOCK: usize = 1 << 14;

/// Blocks of a bucket: 8 MiB of f32. Less would add latency, and more would leave less to overlap with the backward
/// pass.
const BUCKET_BLOCKS: usize = 128;

/// A part of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The number of the parameter in its [`Params`].
    pub(crate) parameter: usize,
    /// Its elements, in the order of storage.
    pub(crate) elements: Range<usize>,
}

impl Piece {
    /// All parameters, each whole.
    pub(crate) fn all(params: &Params) -> Vec<Self> {
        let whole = |(parameter, elements)| Self {
            parameter,
            elements: 0..elements,
        };
        let sizes = params.iter().map(|parameter| parameter.var.elem_count());
        sizes.enumerate().map(whole).collect()
    }

    /// Whether this is a piece of the same parameter that includes another one.
    pub(crate) fn contains(&self, other: &Piece) -> bool {
        self.parameter == other.parameter
            && self.elements.start <= other.elements.start
            && other.elements.end <= self.elements.end
    }

    pub(crate) fn len(&self) -> usize {
        self.elements.len()
    }

    /// This piece of a parameter, or of a tensor of the same shape: `[len]`, in the same storage.
    pub(crate) fn of(&self, tensor: &Tensor) -> candle_core::Result<Tensor> {
        tensor
            .detach()
            .flatten_all()?
            .narrow(0, self.elements.start, self.len())
    }
}

/// The line of all parameters.
#[derive(Clone, Debug)]
pub(crate) struct Flat {
    /// The end of each parameter in the line, in the line's order.
    ends: Vec<usize>,
    block: usize,
}

impl Flat {
    /// The line of parameters, of which the sizes are given in the order of the forward pass. Where every operation is
    /// a call of the device, a parameter is one block.
    pub(crate) fn new(sizes: impl DoubleEndedIterator<Item = usize>, device: &Device) -> Self {
        let block = if device.is_cpu() { BLOCK } else { usize::MAX };
        Self::with_blocks(sizes, block)
    }

    fn with_blocks(sizes: impl DoubleEndedIterator<Item = usize>, block: usize) -> Self {
        let add = |end: &mut usize, size| {
            *end += size;
            Some(*end)
        };
        Self {
            ends: sizes.rev().scan(0, add).collect(),
            block,
        }
    }

    /// Numbers in the line.
    pub(crate) fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The buckets for so many ranks, of which each gets at least a block of a full bucket.
    pub(crate) fn buckets(&self, ranks: usize) -> Vec<Range<usize>> {
        let length = self.block.saturating_mul(BUCKET_BLOCKS.max(ranks));
        (0..self.len())
            .step_by(length)
            .map(|start| start..start.saturating_add(length).min(self.len()))
            .collect()
    }

    /// The shares of a bucket, for each rank in order.
    pub(crate) fn shares(&self, bucket: &Range<usize>, ranks: usize) -> Vec<Range<usize>> {
        let blocks = bucket.len().div_ceil(self.block);
        let at = |rank: usize| {
            let before = (rank * blocks / ranks).saturating_mul(self.block);
            bucket.end.min(bucket.start.saturating_add(before))
        };
        (0..ranks).map(|rank| at(rank)..at(rank + 1)).collect()
    }

    /// The pieces of parameters in a range of the line.
    pub(crate) fn pieces(&self, range: Range<usize>) -> Vec<Piece> {
        let first = self.ends.partition_point(|end| *end <= range.start);
        let mut pieces = Vec::new();
        let mut from = range.start;
        for (place, end) in self.ends.iter().enumerate().skip(first) {
            if from >= range.end {
                break;
            }
            let start = if place == 0 { 0 } else { self.ends[place - 1] };
            let to = range.end.min(*end);
            if from < to {
                pieces.push(Piece {
                    parameter: self.ends.len() - 1 - place,
                    elements: from - start..to - start,
                });
            }
            from = to;
        }
        pieces
    }

    /// The pieces of a range that neither parameters nor blocks divide further.
    pub(crate) fn cuts(&self, range: Range<usize>) -> Vec<Piece> {
        if self.block == usize::MAX {
            return self.pieces(range);
        }
        let first = range.start / self.block;
        (first..range.end.div_ceil(self.block))
            .flat_map(|block| {
                let start = range.start.max(block * self.block);
                self.pieces(start..range.end.min((block + 1) * self.block))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_runs_backwards() {
        let flat = Flat::with_blocks([5, 3, 4].into_iter(), 4);
        assert_eq!(flat.len(), 12);
        let piece = |parameter, elements| Piece { parameter, elements };
        assert_eq!(flat.pieces(0..12), [piece(2, 0..4), piece(1, 0..3), piece(0, 0..5)]);
        assert_eq!(flat.pieces(3..8), [piece(2, 3..4), piece(1, 0..3), piece(0, 0..1)]);
        assert_eq!(flat.pieces(7..7), []);
        let cuts = [piece(2, 0..4), piece(1, 0..3), piece(0, 0..1), piece(0, 1..5)];
        assert_eq!(flat.cuts(0..12), cuts);
    }

    #[test]
    fn shares_are_whole_blocks_and_cover_everything_once() {
        let sizes = [70usize, 1, 300, 0, 45, 999];
        let flat = Flat::with_blocks(sizes.into_iter(), 4);
        let all = flat.cuts(0..flat.len());
        for ranks in [1, 2, 3, 7, 200, 1000] {
            let buckets = flat.buckets(ranks);
            let mut cuts = Vec::new();
            for bucket in &buckets {
                let shares = flat.shares(bucket, ranks);
                assert_eq!(shares.len(), ranks);
                let lengths: Vec<usize> = shares.iter().map(ExactSizeIterator::len).collect();
                let (least, most) = (lengths.iter().min().unwrap(), lengths.iter().max().unwrap());
                // The last block of the line may be short.
                assert!(most - least <= 2 * 4, "{ranks} {lengths:?}");
                cuts.extend(shares.into_iter().flat_map(|share| flat.cuts(share)));
            }
            assert_eq!(cuts, all, "{ranks} ranks");
        }
    }

    #[test]
    fn without_blocks_a_parameter_is_one_piece() {
        let flat = Flat::with_blocks([5, 3].into_iter(), usize::MAX);
        let whole = vec![Range { start: 0, end: 8 }];
        assert_eq!(flat.buckets(1), whole);
        assert_eq!(flat.shares(&whole[0], 1), whole);
        assert_eq!(flat.cuts(0..8), flat.pieces(0..8));
        assert_eq!(flat.cuts(0..8).len(), 2);
    }
}
