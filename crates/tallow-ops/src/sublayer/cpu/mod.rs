//! The fused sublayers: all steps and gradients of a sublayer on plain slices, with intermediate values outside
//! Candle's graph.
//!
//! A sublayer processes its batch in blocks of whole sentences. Each step finds the values of the previous step in the
//! second-level cache. Only values that the backward pass needs are written to main memory.

mod cross_attention;
mod feed_forward;
mod frame;
mod self_attention;

pub(super) use cross_attention::CrossAttention;
pub(super) use feed_forward::FeedForward;
pub(super) use self_attention::SelfAttention;

use super::connection::RowConnection;
use super::layout::Place;
use crate::gather::Gradient;
use crate::product::{Engine, Into, Matrix, Output, Prepared, append_product, product, product_prepared};
use crate::profile::{Operation, span};
use crate::rows::add_rows;
use candle_core::{Device, Result, Tensor};
use std::ops::Range;

/// The number of rows of a block whose widest values take `widest` values for a row.
///
/// With products in bf16, an update waits for memory. A matrix of such rows must leave room for others in a
/// second-level cache of 1 or 2 MiB. With too few rows, however, the gradients of the weights are read and written too
/// often: at a width of 512 with an inner width of 2,048, blocks of 128 rows were slower than blocks of 256, which no
/// longer fit. Products in three parts use the same blocks; in measurements they were no different from whole batches.
///
/// Products in vectors of f32 take longer than memory accesses and are fastest with many rows, so a batch is one block.
fn rows_of_block(engine: Engine, widest: usize) -> usize {
    if cfg!(test) {
        // Small blocks for every engine, so that tests can compare several blocks with a reference.
        return 40;
    }
    shipped_rows(engine, widest)
}

/// [`rows_of_block`] outside unit tests.
fn shipped_rows(engine: Engine, widest: usize) -> usize {
    const BYTES: usize = 1 << 20;
    const MOST: usize = 512;
    const LEAST: usize = 256;
    match engine {
        Engine::Tiles(_) if widest * size_of::<f32>() * MOST <= BYTES => MOST,
        Engine::Tiles(_) => LEAST,
        Engine::Panels(_) | Engine::Gemm => usize::MAX,
    }
}

/// Some of the rows of a matrix with `width` values in each row.
fn rows<'a>(values: &'a [f32], rows: &Range<usize>, width: usize) -> &'a [f32] {
    &values[rows.start * width..rows.end * width]
}

/// The packed parameters of a sublayer, and the engine of its products.
#[derive(Clone, Copy)]
struct Parameters<'a> {
    values: &'a [f32],
    engine: Engine,
}

impl<'a> Parameters<'a> {
    fn weight(self, place: Place) -> Matrix<'a> {
        Matrix::new(&self.values[place.weight()], place.outputs, place.inputs)
    }

    /// A map that is used for this many blocks.
    fn map(self, place: Place, blocks: usize) -> Map<'a> {
        Map {
            weight: Prepared::for_uses(self.engine, self.weight(place).t(), blocks),
            bias: &self.values[place.bias()],
            place,
        }
    }

    /// The gradient of a map's input, used for this many blocks.
    fn back(self, place: Place, blocks: usize) -> Back<'a> {
        Back {
            weight: Prepared::for_uses(self.engine, self.weight(place), blocks),
            place,
        }
    }
}

/// x Wᵀ + b.
struct Map<'a> {
    weight: Prepared<'a>,
    bias: &'a [f32],
    place: Place,
}

impl Map<'_> {
    /// Appends the result and returns it.
    fn append<'a>(&self, x: &[f32], to: &'a mut Vec<f32>) -> &'a mut [f32] {
        let (so_far, Place { inputs, outputs, .. }) = (to.len(), self.place);
        let x = Matrix::new(x, x.len() / inputs, inputs);
        let _span = x.span(Operation::ForwardProduct, outputs);
        append_product(to, x, &self.weight, Into::Bias(self.bias));
        &mut to[so_far..]
    }
}

/// dy W.
struct Back<'a> {
    weight: Prepared<'a>,
    place: Place,
}

impl Back<'_> {
    /// Appends the result.
    fn append(&self, dy: &[f32], to: &mut Vec<f32>) {
        let (dy, inputs) = (self.rows(dy), self.place.inputs);
        let _span = dy.span(Operation::InputGradientProduct, inputs);
        append_product(to, dy, &self.weight, Into::Set);
    }

    /// Adds the result to rows.
    fn add(&self, dy: &[f32], to: &mut [f32]) {
        let (dy, stride) = (self.rows(dy), self.place.inputs);
        let _span = dy.span(Operation::InputGradientProduct, stride);
        product_prepared(Output { values: to, stride }, dy, &self.weight, Into::Add);
    }

    fn rows<'a>(&self, dy: &'a [f32]) -> Matrix<'a> {
        Matrix::new(dy, dy.len() / self.place.outputs, self.place.outputs)
    }
}

/// The gradients of a sublayer, to which its blocks add.
struct Gradients<'a> {
    parameters: Parameters<'a>,
    connection: &'a RowConnection,
    norm: Range<usize>,
    d_packed: Gradient,
    /// Whether the gradients of the weights are still empty.
    is_first: bool,
    dx: Vec<f32>,
    /// Memory for the gradient of a block of normalised rows.
    d_input: Vec<f32>,
}

impl<'a> Gradients<'a> {
    fn new(
        parameters: Parameters<'a>,
        connection: &'a RowConnection,
        norm: Range<usize>,
        (x, packed): (&Tensor, &Tensor),
    ) -> Self {
        let d_packed = Gradient::of(packed);
        Self {
            parameters,
            connection,
            norm,
            is_first: d_packed.is_new(),
            d_packed,
            dx: Vec::with_capacity(x.elem_count()),
            d_input: Vec::new(),
        }
    }

    /// Computes the gradients of the steps after the sublayer's function, whose result was `y`, for the block that
    /// starts at row `first`. The gradient of `y` replaces the contents of `dy`.
    fn leave(&mut self, first: usize, (x, y): (&[f32], &[f32]), gradient: &[f32], dy: &mut Vec<f32>) {
        dy.clear();
        let norm = (
            &self.parameters.values[self.norm.clone()],
            &mut self.d_packed[self.norm.clone()],
        );
        self.connection
            .leave_backward(first, (x, y), gradient, norm, (&mut self.dx, dy));
    }

    /// Adds the gradients of a map's parameters: dW = dyᵀ x and db = Σ dy.
    fn add_parameters(&mut self, place: Place, x: &[f32], dy: &[f32]) {
        let rows = dy.len() / place.outputs;
        let (x, dy_no) = (Matrix::new(x, rows, place.inputs), Matrix::new(dy, rows, place.outputs));
        let into = if self.is_first { Into::Set } else { Into::Add };
        let output = Output {
            values: &mut self.d_packed[place.weight()],
            stride: place.inputs,
        };
        {
            let _span = dy_no.span(Operation::WeightGradientProduct, place.inputs);
            product(self.parameters.engine, output, dy_no.t(), x, into);
        }
        let _span = span(Operation::BiasGradient);
        add_rows(dy, &mut self.d_packed[place.bias()]);
    }

    /// Computes the gradients of the sublayer's first map and of the steps before it. This ends the block that
    /// [`Self::leave`] began. The input of the map was `x`, or the block's rows of normalised `x`, which were kept.
    fn enter(&mut self, map: &Back, (x, kept, block): (&[f32], &[f32], &Range<usize>), dy: &[f32]) {
        let normalised = self.connection.enters_normalised();
        let input = if normalised {
            rows(kept, block, map.place.inputs)
        } else {
            x
        };
        self.add_parameters(map.place, input, dy);
        self.is_first = false;
        let start = self.dx.len() - x.len();
        if !normalised {
            map.add(dy, &mut self.dx[start..]);
            return;
        }
        self.d_input.clear();
        map.append(dy, &mut self.d_input);
        let (norm, d_norm) = (
            &self.parameters.values[self.norm.clone()],
            &mut self.d_packed[self.norm.clone()],
        );
        self.connection
            .enter_backward(x, &self.d_input, norm, d_norm, &mut self.dx[start..]);
    }

    /// The gradients of `x` and of the packed parameters.
    fn finish(self, x: &Tensor, packed: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((tensor(self.dx, x)?, self.d_packed.finish_complete(packed)?))
    }
}

fn tensor(values: Vec<f32>, like: &Tensor) -> Result<Option<Tensor>> {
    Tensor::from_vec(values, like.shape(), &Device::Cpu).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compute;

    /// Blocks on units for bf16, the whole batch in vectors of f32; narrow rows by more.
    #[test]
    fn sizes_of_blocks() {
        assert_eq!(shipped_rows(Compute::F32.engine(), 768), usize::MAX);
        for engine in [Compute::Bf16x3, Compute::Bf16].map(Compute::engine) {
            if matches!(engine, Engine::Tiles(_)) {
                assert_eq!(
                    [512, 513, 2048].map(|widest| shipped_rows(engine, widest)),
                    [512, 256, 256]
                );
            } else {
                println!("skipped: this machine has no unit for bf16");
            }
        }
    }
}
