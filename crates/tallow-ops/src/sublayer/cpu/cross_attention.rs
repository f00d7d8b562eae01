//! The sublayer of attention to the encoder's output.

use super::{Gradients, Parameters, rows, rows_of_block, tensor};
use crate::Sentences;
use crate::attention::{Attention, Sides};
use crate::product::Engine;
use crate::saved::Saved;
use crate::sublayer::AttentionSublayerOptions;
use crate::sublayer::connection::RowConnection;
use crate::sublayer::layout::CrossAttentionLayout;
use crate::values::{Values, slice};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use std::ops::Range;

/// See [`crate::cross_attention_sublayer`].
pub(in crate::sublayer) struct CrossAttention {
    layout: CrossAttentionLayout,
    sentences: Sentences,
    memory_sentences: Sentences,
    attention: Attention,
    connection: RowConnection,
    engine: Engine,
    with_gradient: bool,
    kept: Saved<KeptCrossAttention>,
}

/// Values that the backward pass needs.
#[derive(Default)]
struct KeptCrossAttention {
    /// The input of the first map, if it differs from `x`.
    input: Vec<f32>,
    q: Vec<f32>,
    kv: Vec<f32>,
    context: Vec<f32>,
    y: Vec<f32>,
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
            layout,
            sentences: sentences.clone(),
            memory_sentences: memory_sentences.clone(),
            attention: Attention::new(options.heads, options.scale, false, options.weights_dropout),
            connection: RowConnection::new(&options.connection, layout.width),
            engine: options.compute.engine(),
            with_gradient,
            kept: Saved::none(),
        }
    }

    /// The blocks: runs of sentences.
    fn blocks(&self) -> Vec<Range<usize>> {
        let limit = rows_of_block(self.engine, self.layout.q().outputs + self.layout.kv().outputs);
        self.sentences.runs(&self.memory_sentences, limit)
    }

    fn sides(&self, block: &Range<usize>) -> Sides<'_> {
        Sides {
            queries: &self.sentences,
            keys: &self.memory_sentences,
            sentences: block.clone(),
            width: self.layout.width,
        }
    }

    fn run(&self, x: &[f32], memory: &[f32], values: &[f32]) -> (Vec<f32>, KeptCrossAttention) {
        let parameters = Parameters {
            values,
            engine: self.engine,
        };
        let (blocks, width, norm) = (self.blocks(), self.layout.width, &values[self.layout.norm()]);
        let q_map = parameters.map(self.layout.q(), blocks.len());
        let kv_map = parameters.map(self.layout.kv(), blocks.len());
        let output_map = parameters.map(self.layout.output(), blocks.len());
        let (mut result, mut kept) = (Vec::with_capacity(x.len()), KeptCrossAttention::default());
        if self.with_gradient {
            kept.q.reserve_exact(x.len());
            kept.kv.reserve_exact(2 * memory.len());
            kept.context.reserve_exact(x.len());
            kept.y.reserve_exact(x.len());
            if self.connection.enters_normalised() {
                kept.input.reserve_exact(x.len());
            }
        }
        for block in &blocks {
            let of_block = self.sentences.rows_of(block);
            let x = rows(x, &of_block, width);
            let input = self.connection.enter(x, norm, &mut kept.input);
            let q = q_map.append(input, &mut kept.q);
            let memory = rows(memory, &self.memory_sentences.rows_of(block), width);
            let kv = kv_map.append(memory, &mut kept.kv);
            let so_far = kept.context.len();
            self.attention
                .cross_attention((q, kv), self.sides(block), &mut kept.context);
            let y = output_map.append(&kept.context[so_far..], &mut kept.y);
            self.connection.leave(of_block.start, (x, y), norm, &mut result);
        }
        (result, kept)
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
        let (result, kept) = self.run(x, memory, slice(packed, of_packed)?);
        if self.with_gradient {
            self.kept.put(kept);
        }
        Ok((CpuStorage::F32(result), of_x.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        memory: &Tensor,
        packed: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (x_values, memory_values) = (Values::of(x)?, Values::of(memory)?);
        let (values, gradient) = (Values::of(packed)?, Values::of(&gradient)?);
        let kept = self
            .kept
            .take()
            .unwrap_or_else(|| self.run(&x_values, &memory_values, &values).1);
        let parameters = Parameters {
            values: &values,
            engine: self.engine,
        };
        let (blocks, width) = (self.blocks(), self.layout.width);
        let output_back = parameters.back(self.layout.output(), blocks.len());
        let kv_back = parameters.back(self.layout.kv(), blocks.len());
        let q_back = parameters.back(self.layout.q(), blocks.len());
        let mut gradients = Gradients::new(parameters, &self.connection, self.layout.norm(), (x, packed));
        let mut d_memory = Vec::with_capacity(memory_values.len());
        let (mut dy, mut d_context, mut dq, mut d_kv) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for block in &blocks {
            let of_block = self.sentences.rows_of(block);
            let of_memory = self.memory_sentences.rows_of(block);
            let of_width = |values| rows(values, &of_block, width);
            let x = of_width(&x_values);
            gradients.leave(of_block.start, (x, of_width(&kept.y)), of_width(&gradient), &mut dy);
            gradients.add_parameters(output_back.place, of_width(&kept.context), &dy);
            d_context.clear();
            output_back.append(&dy, &mut d_context);
            let sources = (of_width(&kept.q), rows(&kept.kv, &of_memory, 2 * width));
            self.attention
                .cross_attention_backward(sources, &d_context, self.sides(block), (&mut dq, &mut d_kv));
            gradients.add_parameters(kv_back.place, rows(&memory_values, &of_memory, width), &d_kv);
            kv_back.append(&d_kv, &mut d_memory);
            gradients.enter(&q_back, (x, &kept.input, &of_block), &dq);
        }
        let (dx, d_packed) = gradients.finish(x, packed)?;
        Ok((dx, tensor(d_memory, memory)?, d_packed))
    }
}
