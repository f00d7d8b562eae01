//! The attention sublayers (section 3.2 of the paper): of a sequence to itself, and of the decoder to the encoder.

use crate::record::Block;
use crate::state::{CrossCache, SelfCache};
use crate::sublayer::{LayerPass, Rates, Site, Weights, connection};
use crate::{ModelConfig, ModelError, Norm};
use candle_core::Tensor;
use std::cell::RefCell;
use tallow_ops::{
    Activation, AttentionMask, AttentionOptions, AttentionSublayerOptions, Compute, CrossAttentionParts,
    SelfAttentionParts, attend, cross_attention_sublayer, linear, self_attention_sublayer, split_heads,
};

/// What both kinds of attention share.
#[derive(Clone, Copy, Debug)]
struct Settings {
    heads: usize,
    scale: f64,
    norm: Norm,
    rates: Rates,
}

impl Settings {
    fn new(config: &ModelConfig, heads: usize) -> Self {
        Self {
            heads,
            scale: if config.scale_attention {
                ((config.d_model / heads) as f64).powf(-0.5)
            } else {
                1.0
            },
            norm: config.norm,
            rates: Rates::new(config),
        }
    }

    /// Runs a sublayer with its dropout, and records its weights if they are wanted.
    fn run(
        &self,
        mask: &AttentionMask,
        pass: LayerPass,
        (block, of_weights, of_output): (Block, Site, Site),
        sublayer: impl FnOnce(AttentionSublayerOptions) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor, ModelError> {
        let weights_dropout = pass.dropout(of_weights, self.rates.attention);
        let output_dropout = pass.dropout(of_output, self.rates.output);
        let recorded = RefCell::new(None);
        let options = AttentionSublayerOptions {
            heads: self.heads,
            scale: self.scale,
            mask: Some(mask),
            weights_dropout: weights_dropout.as_ref(),
            connection: connection(self.norm, output_dropout.as_ref()),
            compute: pass.compute,
            record: pass.record.map(|_| &recorded),
        };
        let result = sublayer(options)?;
        pass.record(block, recorded.into_inner());
        Ok(result)
    }

    /// Attention of the newest positions to cached keys and values.
    fn attend(
        &self,
        q: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        mask: Option<&AttentionMask>,
    ) -> Result<Tensor, ModelError> {
        let options = AttentionOptions {
            heads: self.heads,
            scale: self.scale,
            mask,
            dropout: None,
            record: false,
        };
        Ok(attend(q, keys, values, options)?.context_btd)
    }
}

fn project(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor, ModelError> {
    Ok(linear(x, weight, Some(bias), Activation::None, Compute::F32)?)
}

/// Attention of a sequence to itself.
#[derive(Clone, Debug)]
pub(crate) struct SelfAttention {
    packed: Tensor,
    /// The same parameters by name, for single positions.
    parts: SelfAttentionParts,
    settings: Settings,
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
        let packed = weights.get(&format!("{prefix}.self_attn"))?;
        Ok(Self {
            parts: SelfAttentionParts::of(&packed.detach(), config.d_model)?,
            packed,
            settings: Settings::new(config, heads),
            block,
        })
    }

    /// # Shapes
    /// `x` and the result: `[b, t, d]`.
    pub(crate) fn forward(&self, x: &Tensor, mask: &AttentionMask, pass: LayerPass) -> Result<Tensor, ModelError> {
        let sites = (self.block, Site::SelfWeights, Site::SelfOutput);
        self.settings.run(mask, pass, sites, |options| {
            self_attention_sublayer(x, &self.packed, options)
        })
    }

    /// One position of the decoder, its keys and values joining those of the positions before it.
    ///
    /// # Shapes
    /// `x` and the result: `[rows, 1, d]`.
    pub(crate) fn step(&self, x: &Tensor, cache: &mut SelfCache, position: usize) -> Result<Tensor, ModelError> {
        let (parts, around) = (&self.parts, connection(self.settings.norm, None));
        let qkv = project(&around.enter(x, &parts.norm)?, &parts.qkv_weight, &parts.qkv_bias)?;
        let width = x.dim(2)?;
        let part = |i: usize| split_heads(&qkv.narrow(2, i * width, width)?, self.settings.heads);
        let (keys, values) = cache.append(&part(1)?, &part(2)?, position)?;
        let context = self.settings.attend(&part(0)?, &keys, &values, None)?;
        let y = project(&context, &parts.output_weight, &parts.output_bias)?;
        Ok(around.leave(x, &y, &parts.norm)?)
    }
}

/// Attention of the decoder to the encoder's output.
#[derive(Clone, Debug)]
pub(crate) struct CrossAttention {
    packed: Tensor,
    /// The same parameters by name, for single positions.
    parts: CrossAttentionParts,
    settings: Settings,
}

impl CrossAttention {
    pub(crate) fn new(weights: &Weights, prefix: &str, config: &ModelConfig, heads: usize) -> Result<Self, ModelError> {
        let packed = weights.get(&format!("{prefix}.encoder_attn"))?;
        Ok(Self {
            parts: CrossAttentionParts::of(&packed.detach(), config.d_model)?,
            packed,
            settings: Settings::new(config, heads),
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
        let sites = (Block::DecoderCross, Site::CrossWeights, Site::CrossOutput);
        self.settings.run(mask, pass, sites, |options| {
            cross_attention_sublayer(x, memory, &self.packed, options)
        })
    }

    /// The encoder's output as this layer's keys and values, computed once per sentence.
    pub(crate) fn cache(&self, memory: &Tensor) -> Result<CrossCache, ModelError> {
        let kv = project(memory, &self.parts.kv_weight, &self.parts.kv_bias)?;
        let width = memory.dim(2)?;
        let part = |i: usize| split_heads(&kv.narrow(2, i * width, width)?, self.settings.heads);
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
        let (parts, around) = (&self.parts, connection(self.settings.norm, None));
        let q = project(&around.enter(x, &parts.norm)?, &parts.q_weight, &parts.q_bias)?;
        let q = split_heads(&q.reshape((sentences, rows / sentences, width))?, self.settings.heads)?;
        let context = self.settings.attend(&q, &cache.keys, &cache.values, Some(mask))?;
        let y = project(
            &context.reshape((rows, 1, width))?,
            &parts.output_weight,
            &parts.output_bias,
        )?;
        Ok(around.leave(x, &y, &parts.norm)?)
    }
}
