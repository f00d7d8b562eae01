//! The sublayer of attention of sentences to themselves.

use super::{Gradients, Parameters, rows, rows_of_block};
use crate::Sentences;
use crate::attention::{Attention, Sides};
use crate::product::Engine;
use crate::saved::Saved;
use crate::sublayer::AttentionSublayerOptions;
use crate::sublayer::connection::RowConnection;
use crate::sublayer::layout::SelfAttentionLayout;
use crate::values::{Values, slice};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use std::ops::Range;

/// See [`crate::self_attention_sublayer`].
pub(in crate::sublayer) struct SelfAttention {
    layout: SelfAttentionLayout,
    sentences: Sentences,
    attention: Attention,
    connection: RowConnection,
    engine: Engine,
    with_gradient: bool,
    kept: Saved<KeptSelfAttention>,
}

/// Values that the backward pass needs.
#[derive(Default)]
struct KeptSelfAttention {
    /// The input of the first map, if it differs from `x`.
    input: Vec<f32>,
    qkv: Vec<f32>,
    context: Vec<f32>,
    y: Vec<f32>,
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
            layout,
            sentences: sentences.clone(),
            attention: Attention::new(options.heads, options.scale, causal, options.weights_dropout),
            connection: RowConnection::new(&options.connection, layout.width),
            engine: options.compute.engine(),
            with_gradient,
            kept: Saved::none(),
        }
    }

    /// The blocks: runs of sentences.
    fn blocks(&self) -> Vec<Range<usize>> {
        let limit = rows_of_block(self.engine, self.layout.qkv().outputs);
        self.sentences.runs(&self.sentences, limit)
    }

    fn sides(&self, block: &Range<usize>) -> Sides<'_> {
        Sides {
            queries: &self.sentences,
            keys: &self.sentences,
            sentences: block.clone(),
            width: self.layout.width,
        }
    }

    fn run(&self, x: &[f32], values: &[f32]) -> (Vec<f32>, KeptSelfAttention) {
        let parameters = Parameters {
            values,
            engine: self.engine,
        };
        let (blocks, width, norm) = (self.blocks(), self.layout.width, &values[self.layout.norm()]);
        let qkv_map = parameters.map(self.layout.qkv(), blocks.len());
        let output_map = parameters.map(self.layout.output(), blocks.len());
        let (mut result, mut kept) = (Vec::with_capacity(x.len()), KeptSelfAttention::default());
        if self.with_gradient {
            kept.qkv.reserve_exact(3 * x.len());
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
            let qkv = qkv_map.append(input, &mut kept.qkv);
            let so_far = kept.context.len();
            self.attention.self_attention(qkv, self.sides(block), &mut kept.context);
            let y = output_map.append(&kept.context[so_far..], &mut kept.y);
            self.connection.leave(of_block.start, (x, y), norm, &mut result);
        }
        (result, kept)
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
        let (blocks, width) = (self.blocks(), self.layout.width);
        let output_back = parameters.back(self.layout.output(), blocks.len());
        let qkv_back = parameters.back(self.layout.qkv(), blocks.len());
        let mut gradients = Gradients::new(parameters, &self.connection, self.layout.norm(), (x, packed));
        let (mut dy, mut d_context, mut d_qkv) = (Vec::new(), Vec::new(), Vec::new());
        for block in &blocks {
            let of_block = self.sentences.rows_of(block);
            let of_width = |values| rows(values, &of_block, width);
            let x = of_width(&x_values);
            gradients.leave(of_block.start, (x, of_width(&kept.y)), of_width(&gradient), &mut dy);
            gradients.add_parameters(output_back.place, of_width(&kept.context), &dy);
            d_context.clear();
            output_back.append(&dy, &mut d_context);
            let qkv = rows(&kept.qkv, &of_block, 3 * width);
            self.attention
                .self_attention_backward(qkv, &d_context, self.sides(block), &mut d_qkv);
            gradients.enter(&qkv_back, (x, &kept.input, &of_block), &d_qkv);
        }
        gradients.finish(x, packed)
    }
}
