//! The attention sublayers (section 3.2 of the paper): of a sequence to itself, and of the decoder to the encoder.

use crate::record::Block;
use crate::state::{CrossCache, SelfCache};
use crate::sublayer::{Connection, LayerPass, Rates, Site, Weights};
use crate::{ModelConfig, ModelError};
use candle_core::Tensor;
use tallow_ops::{
    Activation, AttentionMask, AttentionOptions, Compute, attend, cross_attention, linear, self_attention, split_heads,
};

/// A weight and its bias.
type Projection = (Tensor, Tensor);

fn projection(weights: &Weights, name: &str) -> Result<Projection, ModelError> {
    Ok((
        weights.get(&format!("{name}.weight"))?,
        weights.get(&format!("{name}.bias"))?,
    ))
}

fn project(x: &Tensor, (weight, bias): &Projection, compute: Compute) -> Result<Tensor, ModelError> {
    Ok(linear(x, weight, Some(bias), Activation::None, compute)?)
}

/// The factor of attention scores.
fn score_scale(config: &ModelConfig, heads: usize) -> f64 {
    if config.scale_attention {
        ((config.d_model / heads) as f64).powf(-0.5)
    } else {
        1.0
    }
}

/// Attention of a sequence to itself.
#[derive(Clone, Debug)]
pub(crate) struct SelfAttention {
    packed: Projection,
    output: Projection,
    connection: Connection,
    heads: usize,
    scale: f64,
    rates: Rates,
    block: Block,
}

impl SelfAttention {
    pub(crate) fn new(
        weights: &Weights,
        prefix: &str,
        config: &ModelConfig,
        heads: usize,
        block: Block,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            packed: projection(weights, &format!("{prefix}.self_attn.qkv_proj"))?,
            output: projection(weights, &format!("{prefix}.self_attn.out_proj"))?,
            connection: Connection::new(weights, &format!("{prefix}.self_attn_layer_norm"), config.norm)?,
            heads,
            scale: score_scale(config, heads),
            rates: Rates::new(config),
            block,
        })
    }

    /// # Shapes
    /// `x` and the result: `[b, t, d]`.
    pub(crate) fn forward(&self, x: &Tensor, mask: &AttentionMask, pass: LayerPass) -> Result<Tensor, ModelError> {
        let qkv = project(&self.connection.enter(x)?, &self.packed, pass.compute)?;
        let dropout = pass.dropout(Site::SelfWeights, self.rates.attention);
        let options = AttentionOptions {
            heads: self.heads,
            scale: self.scale,
            mask: Some(mask),
            dropout: dropout.as_ref(),
            record: pass.record.is_some(),
        };
        let attended = self_attention(&qkv, options)?;
        pass.record(self.block, attended.weights_bhts);
        let y = project(&attended.context_btd, &self.output, pass.compute)?;
        self.connection
            .leave(x, &y, pass.dropout(Site::SelfOutput, self.rates.output).as_ref())
    }

    /// One position of the decoder, its keys and values joining those of the positions before it.
    ///
    /// # Shapes
    /// `x` and the result: `[rows, 1, d]`.
    pub(crate) fn step(&self, x: &Tensor, cache: &mut SelfCache, position: usize) -> Result<Tensor, ModelError> {
        let qkv = project(&self.connection.enter(x)?, &self.packed, Compute::F32)?;
        let width = x.dim(2)?;
        let part = |i: usize| split_heads(&qkv.narrow(2, i * width, width)?, self.heads);
        let (keys, values) = cache.append(&part(1)?, &part(2)?, position)?;
        let options = AttentionOptions {
            heads: self.heads,
            scale: self.scale,
            mask: None,
            dropout: None,
            record: false,
        };
        let attended = attend(&part(0)?, &keys, &values, options)?;
        self.connection
            .leave(x, &project(&attended.context_btd, &self.output, Compute::F32)?, None)
    }
}

/// Attention of the decoder to the encoder's output.
#[derive(Clone, Debug)]
pub(crate) struct CrossAttention {
    query: Projection,
    packed: Projection,
    output: Projection,
    connection: Connection,
    heads: usize,
    scale: f64,
    rates: Rates,
}

impl CrossAttention {
    pub(crate) fn new(weights: &Weights, prefix: &str, config: &ModelConfig, heads: usize) -> Result<Self, ModelError> {
        Ok(Self {
            query: projection(weights, &format!("{prefix}.encoder_attn.q_proj"))?,
            packed: projection(weights, &format!("{prefix}.encoder_attn.kv_proj"))?,
            output: projection(weights, &format!("{prefix}.encoder_attn.out_proj"))?,
            connection: Connection::new(weights, &format!("{prefix}.encoder_attn_layer_norm"), config.norm)?,
            heads,
            scale: score_scale(config, heads),
            rates: Rates::new(config),
        })
    }

    /// # Shapes
    /// `x` and the result: `[b, t, d]`; `memory`: `[b, s, d]`.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        memory: &Tensor,
        mask: &AttentionMask,
        pass: LayerPass,
    ) -> Result<Tensor, ModelError> {
        let q = project(&self.connection.enter(x)?, &self.query, pass.compute)?;
        let kv = project(memory, &self.packed, pass.compute)?;
        let dropout = pass.dropout(Site::CrossWeights, self.rates.attention);
        let options = AttentionOptions {
            heads: self.heads,
            scale: self.scale,
            mask: Some(mask),
            dropout: dropout.as_ref(),
            record: pass.record.is_some(),
        };
        let attended = cross_attention(&q, &kv, options)?;
        pass.record(Block::DecoderCross, attended.weights_bhts);
        let y = project(&attended.context_btd, &self.output, pass.compute)?;
        self.connection
            .leave(x, &y, pass.dropout(Site::CrossOutput, self.rates.output).as_ref())
    }

    /// The encoder's output as this layer's keys and values, computed once per sentence.
    pub(crate) fn cache(&self, memory: &Tensor) -> Result<CrossCache, ModelError> {
        let kv = project(memory, &self.packed, Compute::F32)?;
        let width = memory.dim(2)?;
        let part = |i: usize| split_heads(&kv.narrow(2, i * width, width)?, self.heads);
        Ok(CrossCache {
            keys: part(0)?,
            values: part(1)?,
        })
    }

    /// One position of every hypothesis. The hypotheses of a sentence share its keys and values.
    ///
    /// # Shapes
    /// `x` and the result: `[rows, 1, d]`, the rows of a sentence side by side.
    pub(crate) fn step(&self, x: &Tensor, cache: &CrossCache, mask: &AttentionMask) -> Result<Tensor, ModelError> {
        let (rows, _, width) = x.dims3()?;
        let sentences = cache.keys.dim(0)?;
        let q = project(&self.connection.enter(x)?, &self.query, Compute::F32)?;
        let q = split_heads(&q.reshape((sentences, rows / sentences, width))?, self.heads)?;
        let options = AttentionOptions {
            heads: self.heads,
            scale: self.scale,
            mask: Some(mask),
            dropout: None,
            record: false,
        };
        let attended = attend(&q, &cache.keys, &cache.values, options)?;
        let y = project(
            &attended.context_btd.reshape((rows, 1, width))?,
            &self.output,
            Compute::F32,
        )?;
        self.connection.leave(x, &y, None)
    }
}
