//! The frame of a fused sublayer: connection, first map, the sublayer's own function, last map. The sublayers differ in
//! their functions only, which they pass in as closures.

use super::{Gradients, Map, Parameters, rows, rows_of_block};
use crate::Sentences;
use crate::attention::Sides;
use crate::product::Engine;
use crate::saved::Saved;
use crate::sublayer::connection::RowConnection;
use crate::sublayer::layout::Place;
use crate::values::Values;
use candle_core::{CpuStorage, Result, Tensor};
use std::ops::Range;

/// A sublayer without its function. `K` holds the values that the gradient of the function needs.
pub(super) struct Frame<K> {
    pub(super) connection: RowConnection,
    pub(super) norm: Range<usize>,
    /// The first map, of the connection's input.
    pub(super) first: Place,
    /// The last map, whose result goes through the connection.
    pub(super) last: Place,
    pub(super) engine: Engine,
    pub(super) with_gradient: bool,
    pub(super) kept: Saved<Kept<K>>,
}

/// Rows that a sublayer processes together, and what its function has to know about them.
pub(super) struct Block<B> {
    pub(super) rows: Range<usize>,
    pub(super) own: B,
}

/// Values that the backward pass needs.
pub(super) struct Kept<K> {
    /// The input of the first map, if it differs from `x`.
    input: Vec<f32>,
    own: K,
    /// The input of the last map.
    inner: Vec<f32>,
    y: Vec<f32>,
}

/// The backward pass of a function on one block.
pub(super) struct Step<'a, B, K> {
    pub(super) block: &'a Block<B>,
    pub(super) kept: &'a K,
    /// The input of the last map, which the function computed from the result of the first map.
    pub(super) inner: &'a [f32],
    /// The gradient of `inner`.
    pub(super) d_inner: &'a mut Vec<f32>,
    /// Memory for the gradient of the first map's result.
    pub(super) d_first: &'a mut Vec<f32>,
}

impl<K> Frame<K> {
    pub(super) fn parameters<'a>(&self, values: &'a [f32]) -> Parameters<'a> {
        let engine = self.engine;
        Parameters { values, engine }
    }

    /// The blocks of attention between two sides: runs of sentences. `widest` as for [`rows_of_block`].
    pub(super) fn blocks<'a>(&self, [queries, keys]: [&'a Sentences; 2], widest: usize) -> Vec<Block<Sides<'a>>> {
        let block = |sentences| Block {
            rows: queries.rows_of(&sentences),
            own: Sides {
                queries,
                keys,
                sentences,
                width: self.first.inputs,
            },
        };
        let runs = queries.runs(keys, rows_of_block(self.engine, widest));
        runs.into_iter().map(block).collect()
    }

    /// A buffer with room for this many values, if a backward pass needs them.
    pub(super) fn buffer(&self, values: usize) -> Vec<f32> {
        Vec::with_capacity(if self.with_gradient { values } else { 0 })
    }

    /// The forward pass. For each block, `function` applies the first map to an input, and appends the input of the
    /// last map to a buffer.
    pub(super) fn forward<B>(
        &self,
        (x, values): (&[f32], &[f32]),
        blocks: &[Block<B>],
        own: K,
        function: impl Fn(&Block<B>, (&Map, &[f32]), &mut K, &mut Vec<f32>),
    ) -> (Vec<f32>, Kept<K>) {
        let (parameters, norm, width) = (self.parameters(values), &values[self.norm.clone()], self.first.inputs);
        let first = parameters.map(self.first, blocks.len());
        let last = parameters.map(self.last, blocks.len());
        let normalised = if self.connection.enters_normalised() {
            x.len()
        } else {
            0
        };
        let mut kept = Kept {
            input: self.buffer(normalised),
            own,
            inner: self.buffer(x.len() / width * self.last.inputs),
            y: self.buffer(x.len()),
        };
        let mut result = Vec::with_capacity(x.len());
        for block in blocks {
            let x = rows(x, &block.rows, width);
            let input = self.connection.enter(x, norm, &mut kept.input);
            let so_far = kept.inner.len();
            function(block, (&first, input), &mut kept.own, &mut kept.inner);
            let y = last.append(&kept.inner[so_far..], &mut kept.y);
            self.connection.leave(block.rows.start, (x, y), norm, &mut result);
        }
        (result, kept)
    }

    /// The result of the forward pass, whose other values are kept if a backward pass needs them.
    pub(super) fn keep(&self, (result, kept): (Vec<f32>, Kept<K>)) -> CpuStorage {
        if self.with_gradient {
            self.kept.put(kept);
        }
        CpuStorage::F32(result)
    }

    /// The backward pass: the gradients of `x` and of the packed parameters. For each block, `function` returns the
    /// gradient of the first map's result.
    pub(super) fn backward<B>(
        &self,
        [(x, x_values), (packed, values)]: [(&Tensor, &[f32]); 2],
        gradient: &Tensor,
        blocks: &[Block<B>],
        kept: &Kept<K>,
        mut function: impl for<'a> FnMut(Step<'a, B, K>, &mut Gradients) -> &'a [f32],
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let gradient = Values::of(&gradient)?;
        let parameters = self.parameters(values);
        let last = parameters.back(self.last, blocks.len());
        let first = parameters.back(self.first, blocks.len());
        let mut gradients = Gradients::new(parameters, &self.connection, self.norm.clone(), (x, packed));
        let (mut dy, mut d_inner, mut d_first) = (Vec::new(), Vec::new(), Vec::new());
        for block in blocks {
            let of_width = |values| rows(values, &block.rows, self.first.inputs);
            let (x, inner) = (of_width(x_values), rows(&kept.inner, &block.rows, self.last.inputs));
            gradients.leave(block.rows.start, (x, of_width(&kept.y)), of_width(&gradient), &mut dy);
            gradients.add_parameters(last.place, inner, &dy);
            d_inner.clear();
            last.append(&dy, &mut d_inner);
            let step = Step {
                block,
                kept: &kept.own,
                inner,
                d_inner: &mut d_inner,
                d_first: &mut d_first,
            };
            let d_first = function(step, &mut gradients);
            gradients.enter(&first, (x, &kept.input, &block.rows), d_first);
        }
        gradients.finish(x, packed)
    }
}
