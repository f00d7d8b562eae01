//! The sublayer of attention of sentences to themselves.

use super::frame::{Block, Frame, Kept};
use super::rows;
use crate::Sentences;
use crate::attention::{Attention, Sides};
use crate::saved::Saved;
use crate::sublayer::AttentionSublayerOptions;
use crate::sublayer::connection::RowConnection;
use crate::sublayer::layout::SelfAttentionLayout;
use crate::values::{Values, slice};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

/// See [`crate::self_attention_sublayer`].
pub(in crate::sublayer) struct SelfAttention {
    /// Keeps queries, keys and values.
    frame: Frame<Vec<f32>>,
    sentences: Sentences,
    attention: Attention,
}

impl SelfAttention {
    pub(in crate::sublayer) fn new(
        layout: SelfAttentionLayout,
        sentences: &Sentences,
        causal: bool,
        options: &AttentionSublayerOptions,
        with_gradient: bool,
    ) -> Self {
        Self {
            frame: Frame {
                connection: RowConnection::new(&options.connection, layout.width),
                norm: layout.norm(),
                first: layout.qkv(),
                last: layout.output(),
                engine: options.compute.engine(),
                with_gradient,
                kept: Saved::none(),
            },
            sentences: sentences.clone(),
            attention: Attention::new(options.heads, options.scale, causal, options.weights_dropout),
        }
    }

    fn blocks(&self) -> Vec<Block<Sides<'_>>> {
        self.frame.blocks([&self.sentences; 2], self.frame.first.outputs)
    }

    fn run(&self, x: &[f32], values: &[f32]) -> (Vec<f32>, Kept<Vec<f32>>) {
        let qkv = self.frame.buffer(3 * x.len());
        self.frame
            .forward((x, values), &self.blocks(), qkv, |block, (map, input), qkv, context| {
                let qkv = map.append(input, qkv);
                self.attention.self_attention(qkv, block.own.clone(), context);
            })
    }
}

impl CustomOp2 for SelfAttention {
    fn name(&self) -> &'static str {
        "self-attention-sublayer"
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
        let inputs = [(x, &*x_values), (packed, &*values)];
        self.frame.backward(inputs, gradient, &self.blocks(), &kept, |step, _| {
            let qkv = rows(step.kept, &step.block.rows, self.frame.first.outputs);
            let sides = step.block.own.clone();
            self.attention
                .self_attention_backward(qkv, step.d_inner, sides, step.d_first);
            step.d_first
        })
    }
}
