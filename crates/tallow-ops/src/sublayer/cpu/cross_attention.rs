//! The sublayer of attention to the encoder's output.

use super::frame::{Block, Frame, Kept};
use super::{rows, tensor};
use crate::Sentences;
use crate::attention::{Attention, Sides};
use crate::saved::Saved;
use crate::sublayer::AttentionSublayerOptions;
use crate::sublayer::connection::RowConnection;
use crate::sublayer::layout::{CrossAttentionLayout, Place};
use crate::values::{Values, slice};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

/// See [`crate::cross_attention_sublayer`].
pub(in crate::sublayer) struct CrossAttention {
    frame: Frame<Projections>,
    /// The map of the memory.
    kv: Place,
    sentences: Sentences,
    memory_sentences: Sentences,
    attention: Attention,
}

struct Projections {
    q: Vec<f32>,
    kv: Vec<f32>,
}

impl CrossAttention {
    pub(in crate::sublayer) fn new(
        layout: CrossAttentionLayout,
        sentences: &Sentences,
        memory_sentences: &Sentences,
        options: &AttentionSublayerOptions,
        with_gradient: bool,
    ) -> Self {
        Self {
            frame: Frame {
                connection: RowConnection::new(&options.connection, layout.width),
                norm: layout.norm(),
                first: layout.q(),
                last: layout.output(),
                engine: options.compute.engine(),
                with_gradient,
                kept: Saved::none(),
            },
            kv: layout.kv(),
            sentences: sentences.clone(),
            memory_sentences: memory_sentences.clone(),
            attention: Attention::new(options.heads, options.scale, false, options.weights_dropout),
        }
    }

    fn blocks(&self) -> Vec<Block<Sides<'_>>> {
        let widest = self.frame.first.outputs + self.kv.outputs;
        self.frame.blocks([&self.sentences, &self.memory_sentences], widest)
    }

    fn run(&self, x: &[f32], memory: &[f32], values: &[f32]) -> (Vec<f32>, Kept<Projections>) {
        let blocks = self.blocks();
        let kv_map = self.frame.parameters(values).map(self.kv, blocks.len());
        let own = Projections {
            q: self.frame.buffer(x.len()),
            kv: self.frame.buffer(2 * memory.len()),
        };
        self.frame
            .forward((x, values), &blocks, own, |block, (map, input), own, context| {
                let q = map.append(input, &mut own.q);
                let of_memory = self.memory_sentences.rows_of(&block.own.sentences);
                let kv = kv_map.append(rows(memory, &of_memory, self.kv.inputs), &mut own.kv);
                self.attention.cross_attention((q, kv), block.own.clone(), context);
            })
    }
}

impl CustomOp3 for CrossAttention {
    fn name(&self) -> &'static str {
        "cross-attention-sublayer"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        memory: &CpuStorage,
        of_memory: &Layout,
        packed: &CpuStorage,
        of_packed: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, memory) = (slice(x, of_x)?, slice(memory, of_memory)?);
        let passed = self.run(x, memory, slice(packed, of_packed)?);
        Ok((self.frame.keep(passed), of_x.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        memory: &Tensor,
        packed: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (x_values, memory_values, values) = (Values::of(x)?, Values::of(memory)?, Values::of(packed)?);
        let kept = self.frame.kept.take();
        let kept = kept.unwrap_or_else(|| self.run(&x_values, &memory_values, &values).1);
        let (inputs, blocks) = ([(x, &*x_values), (packed, &*values)], self.blocks());
        let kv_back = self.frame.parameters(&values).back(self.kv, blocks.len());
        let (mut d_memory, mut d_kv) = (Vec::with_capacity(memory_values.len()), Vec::new());
        let (dx, d_packed) = self
            .frame
            .backward(inputs, gradient, &blocks, &kept, |step, gradients| {
                let sides = step.block.own.clone();
                let of_memory = self.memory_sentences.rows_of(&sides.sentences);
                let q = rows(&step.kept.q, &step.block.rows, self.frame.first.outputs);
                let kv = rows(&step.kept.kv, &of_memory, self.kv.outputs);
                self.attention
                    .cross_attention_backward((q, kv), step.d_inner, sides, (&mut *step.d_first, &mut d_kv));
                gradients.add_parameters(self.kv, rows(&memory_values, &of_memory, self.kv.inputs), &d_kv);
                kv_back.append(&d_kv, &mut d_memory);
                step.d_first
            })?;
        Ok((dx, tensor(d_memory, memory)?, d_packed))
    }
}
