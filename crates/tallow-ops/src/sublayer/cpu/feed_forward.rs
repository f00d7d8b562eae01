//! The feed-forward sublayer.

use super::frame::{Block, Frame, Kept};
use super::{rows, rows_of_block};
use crate::profile::{Operation, span};
use crate::saved::Saved;
use crate::sublayer::FeedForwardOptions;
use crate::sublayer::connection::RowConnection;
use crate::sublayer::layout::FeedForwardLayout;
use crate::values::{Values, slice};
use crate::{Activation, Dropout};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

/// See [`crate::feed_forward`].
pub(in crate::sublayer) struct FeedForward {
    /// Keeps the input of the activation, if its derivative needs it.
    frame: Frame<Vec<f32>>,
    activation: Activation,
    inner_dropout: Option<Dropout>,
}

impl FeedForward {
    pub(in crate::sublayer) fn new(
        layout: FeedForwardLayout,
        options: &FeedForwardOptions,
        with_gradient: bool,
    ) -> Self {
        Self {
            frame: Frame {
                connection: RowConnection::new(&options.connection, layout.width),
                norm: layout.norm(),
                first: layout.inner_map(),
                last: layout.outer_map(),
                engine: options.compute.engine(),
                with_gradient,
                kept: Saved::none(),
            },
            activation: options.activation,
            inner_dropout: options.inner_dropout.filter(|dropout| dropout.is_active()).cloned(),
        }
    }

    fn blocks(&self, x: &[f32]) -> Vec<Block<()>> {
        let (width, inner) = (self.frame.first.inputs, self.frame.first.outputs);
        let (count, step) = (x.len() / width, rows_of_block(self.frame.engine, inner.max(width)));
        let starts = (0..count).step_by(step);
        let rows = starts.map(|start| start..count.min(start.saturating_add(step)));
        rows.map(|rows| Block { rows, own: () }).collect()
    }

    /// Multiplies rows of the inner width by their masks; `first` is the number of the first row.
    fn drop_inner(&self, first: usize, rows: &mut [f32]) {
        let Some(dropout) = &self.inner_dropout else { return };
        let width = self.frame.first.outputs;
        vectorized!({
            let mut factors = vec![0f32; width];
            for (index, row) in rows.chunks_exact_mut(width).enumerate() {
                dropout.fill_row(first + index, &mut factors);
                row.iter_mut().zip(&factors).for_each(|(x, factor)| *x *= factor);
            }
        });
    }

    fn run(&self, x: &[f32], values: &[f32]) -> (Vec<f32>, Kept<Vec<f32>>) {
        let (blocks, inputs) = (self.blocks(x), self.frame.first.inputs);
        let keeps_before = self.frame.with_gradient && self.activation.needs_input();
        let mut before = Vec::new();
        if keeps_before {
            before.reserve_exact(x.len() / inputs * self.frame.first.outputs);
        }
        self.frame
            .forward((x, values), &blocks, before, |block, (map, input), before, inner| {
                let inner = map.append(input, inner);
                let _span = span(Operation::Activation);
                if keeps_before {
                    before.extend_from_slice(inner);
                }
                self.activation.apply(inner);
                self.drop_inner(block.rows.start, inner);
            })
    }
}

impl CustomOp2 for FeedForward {
    fn name(&self) -> &'static str {
        "feed-forward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        packed: &CpuStorage,
        of_packed: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let passed = self.run(slice(x, of_x)?, slice(packed, of_packed)?);
        Ok((self.frame.keep(passed), of_x.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        packed: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (x_values, values) = (Values::of(x)?, Values::of(packed)?);
        let kept = self.frame.kept.take();
        let kept = kept.unwrap_or_else(|| self.run(&x_values, &values).1);
        let (inputs, blocks) = ([(x, &*x_values), (packed, &*values)], self.blocks(&x_values));
        self.frame.backward(inputs, gradient, &blocks, &kept, |step, _| {
            let _span = span(Operation::Activation);
            self.drop_inner(step.block.rows.start, step.d_inner);
            let at = if self.activation.needs_input() {
                rows(step.kept, &step.block.rows, self.frame.first.outputs)
            } else {
                step.inner
            };
            self.activation.backward(step.d_inner, at);
            step.d_inner
        })
    }
}
