//! The feed-forward sublayer.

use super::{Gradients, Parameters, rows, rows_of_block};
use crate::product::Engine;
use crate::profile::{Operation, span};
use crate::saved::Saved;
use crate::sublayer::FeedForwardOptions;
use crate::sublayer::connection::RowConnection;
use crate::sublayer::layout::FeedForwardLayout;
use crate::values::{Values, slice};
use crate::{Activation, Dropout};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use std::ops::Range;

/// See [`crate::feed_forward`].
pub(in crate::sublayer) struct FeedForward {
    layout: FeedForwardLayout,
    activation: Activation,
    inner_dropout: Option<Dropout>,
    connection: RowConnection,
    engine: Engine,
    with_gradient: bool,
    kept: Saved<KeptFeedForward>,
}

/// Values that the backward pass needs.
#[derive(Default)]
struct KeptFeedForward {
    /// The input of the first map, if it differs from `x`.
    input: Vec<f32>,
    /// The input of the activation, if its derivative needs it.
    before: Vec<f32>,
    inner: Vec<f32>,
    y: Vec<f32>,
}

impl FeedForward {
    pub(in crate::sublayer) fn new(
        layout: FeedForwardLayout,
        options: &FeedForwardOptions,
        with_gradient: bool,
    ) -> Self {
        Self {
            layout,
            activation: options.activation,
            inner_dropout: options.inner_dropout.filter(|dropout| dropout.is_active()).cloned(),
            connection: RowConnection::new(&options.connection, layout.width),
            engine: options.compute.engine(),
            with_gradient,
            kept: Saved::none(),
        }
    }

    fn blocks(&self, x: &[f32]) -> Vec<Range<usize>> {
        let (count, step) = (
            x.len() / self.layout.width,
            rows_of_block(self.engine, self.layout.inner.max(self.layout.width)),
        );
        (0..count)
            .step_by(step)
            .map(|start| start..count.min(start.saturating_add(step)))
            .collect()
    }

    /// Multiplies rows of the inner width by their masks; `first` is the number of the first row.
    fn drop_inner(&self, first: usize, rows: &mut [f32]) {
        let Some(dropout) = &self.inner_dropout else { return };
        let width = self.layout.inner;
        vectorized!({
            let mut factors = vec![0f32; width];
            for (index, row) in rows.chunks_exact_mut(width).enumerate() {
                dropout.fill_row(first + index, &mut factors);
                row.iter_mut().zip(&factors).for_each(|(x, factor)| *x *= factor);
            }
        });
    }

    fn run(&self, x: &[f32], values: &[f32]) -> (Vec<f32>, KeptFeedForward) {
        let parameters = Parameters {
            values,
            engine: self.engine,
        };
        let (blocks, width, norm) = (self.blocks(x), self.layout.width, &values[self.layout.norm()]);
        let inner_map = parameters.map(self.layout.inner_map(), blocks.len());
        let outer_map = parameters.map(self.layout.outer_map(), blocks.len());
        let (mut result, mut kept) = (Vec::with_capacity(x.len()), KeptFeedForward::default());
        if self.with_gradient {
            kept.inner.reserve_exact(x.len() / width * self.layout.inner);
            kept.y.reserve_exact(x.len());
            if self.connection.enters_normalised() {
                kept.input.reserve_exact(x.len());
            }
            if self.activation.needs_input() {
                kept.before.reserve_exact(x.len() / width * self.layout.inner);
            }
        }
        for block in blocks {
            let x = rows(x, &block, width);
            let input = self.connection.enter(x, norm, &mut kept.input);
            let inner = inner_map.append(input, &mut kept.inner);
            let of_activation = span(Operation::Activation);
            if self.with_gradient && self.activation.needs_input() {
                kept.before.extend_from_slice(inner);
            }
            self.activation.apply(inner);
            self.drop_inner(block.start, inner);
            drop(of_activation);
            let y = outer_map.append(inner, &mut kept.y);
            self.connection.leave(block.start, (x, y), norm, &mut result);
        }
        (result, kept)
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
        let (result, kept) = self.run(slice(x, of_x)?, slice(packed, of_packed)?);
        if self.with_gradient {
            self.kept.put(kept);
        }
        Ok((CpuStorage::F32(result), of_x.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        packed: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (x_values, values, gradient) = (Values::of(x)?, Values::of(packed)?, Values::of(&gradient)?);
        let kept = self.kept.take().unwrap_or_else(|| self.run(&x_values, &values).1);
        let parameters = Parameters {
            values: &values,
            engine: self.engine,
        };
        let (blocks, width, inner_width) = (self.blocks(&x_values), self.layout.width, self.layout.inner);
        let outer_back = parameters.back(self.layout.outer_map(), blocks.len());
        let inner_back = parameters.back(self.layout.inner_map(), blocks.len());
        let mut gradients = Gradients::new(parameters, &self.connection, self.layout.norm(), (x, packed));
        let (mut dy, mut d_inner) = (Vec::new(), Vec::new());
        for block in &blocks {
            let of_width = |values| rows(values, block, width);
            let (x, inner) = (of_width(&x_values), rows(&kept.inner, block, inner_width));
            gradients.leave(block.start, (x, of_width(&kept.y)), of_width(&gradient), &mut dy);
            gradients.add_parameters(outer_back.place, inner, &dy);
            d_inner.clear();
            outer_back.append(&dy, &mut d_inner);
            let of_activation = span(Operation::Activation);
            self.drop_inner(block.start, &mut d_inner);
            let needs_input = self.activation.needs_input();
            let at = if needs_input {
                rows(&kept.before, block, inner_width)
            } else {
                inner
            };
            self.activation.backward(&mut d_inner, at);
            drop(of_activation);
            gradients.enter(&inner_back, (x, &kept.input, block), &d_inner);
        }
        gradients.finish(x, packed)
    }
}
