//! The sublayers in the small operations of this crate.

use super::{
    AttentionSublayerOptions, Connection, CrossAttentionParts, FeedForwardOptions, FeedForwardParts, NormPlace,
    SelfAttentionParts,
};
use crate::{
    Activation, Attended, AttentionOptions, Sentences, cross_attention as attend_to_memory, dropout, layer_norm,
    linear, residual, residual_norm, self_attention as attend_to_self,
};
use candle_core::{Result, Tensor};

impl Connection<'_> {
    /// The input of the sublayer's function: `x`, or normalised `x` in a pre-norm sublayer.
    ///
    /// # Shapes
    /// `x` and the result: `[n, d]`; `norm`: scale and shift, `[2, d]`, if the sublayer normalises.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn enter(&self, x: &Tensor, norm: Option<&Tensor>) -> Result<Tensor> {
        match (self.place, norm) {
            (NormPlace::Pre, Some(norm)) => layer_norm(x, norm, self.epsilon),
            _ => Ok(x.clone()),
        }
    }

    /// The sum of `x` and the function's result `y` (with dropout), or that result alone without a residual connection,
    /// normalised in a post-norm sublayer.
    ///
    /// # Shapes
    /// `x`, `y` and the result: `[n, d]`; `norm`: scale and shift, `[2, d]`, if the sublayer normalises.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn leave(&self, x: &Tensor, y: &Tensor, norm: Option<&Tensor>) -> Result<Tensor> {
        let norm = norm.filter(|_| self.place == NormPlace::Post);
        match (self.residual, norm) {
            (true, Some(norm)) => residual_norm(x, y, self.dropout, norm, self.epsilon),
            (true, None) => residual(x, y, self.dropout),
            (false, Some(norm)) => layer_norm(&dropout(y, self.dropout)?, norm, self.epsilon),
            (false, None) => dropout(y, self.dropout),
        }
    }
}

impl<'a> AttentionSublayerOptions<'a> {
    fn attention(&self) -> AttentionOptions<'a> {
        AttentionOptions {
            heads: self.heads,
            scale: self.scale,
            dropout: self.weights_dropout,
            record: self.record.is_some(),
        }
    }

    fn keep(&self, attended: &Attended) {
        if let Some(record) = self.record {
            record.replace(attended.weights_bhts.clone());
        }
    }
}

pub(super) fn feed_forward(x: &Tensor, parts: &FeedForwardParts, options: FeedForwardOptions) -> Result<Tensor> {
    let input = options.connection.enter(x, parts.norm.as_ref())?;
    let (weight, bias) = (&parts.inner_weight, Some(&parts.inner_bias));
    let inner = linear(&input, weight, bias, options.activation, options.compute)?;
    let inner = dropout(&inner, options.inner_dropout)?;
    let (weight, bias) = (&parts.outer_weight, Some(&parts.outer_bias));
    let y = linear(&inner, weight, bias, Activation::None, options.compute)?;
    options.connection.leave(x, &y, parts.norm.as_ref())
}

pub(super) fn self_attention(
    (x, sentences): (&Tensor, &Sentences),
    causal: bool,
    parts: &SelfAttentionParts,
    options: AttentionSublayerOptions,
) -> Result<Tensor> {
    let input = options.connection.enter(x, parts.norm.as_ref())?;
    let project =
        |x: &Tensor, weight: &Tensor, bias: &Tensor| linear(x, weight, Some(bias), Activation::None, options.compute);
    let qkv = project(&input, &parts.qkv_weight, &parts.qkv_bias)?;
    let attended = attend_to_self(&qkv, sentences, causal, options.attention())?;
    options.keep(&attended);
    let y = project(&attended.context_nd, &parts.output_weight, &parts.output_bias)?;
    options.connection.leave(x, &y, parts.norm.as_ref())
}

pub(super) fn cross_attention(
    (x, sentences): (&Tensor, &Sentences),
    (memory, memory_sentences): (&Tensor, &Sentences),
    parts: &CrossAttentionParts,
    options: AttentionSublayerOptions,
) -> Result<Tensor> {
    let input = options.connection.enter(x, parts.norm.as_ref())?;
    let project =
        |x: &Tensor, weight: &Tensor, bias: &Tensor| linear(x, weight, Some(bias), Activation::None, options.compute);
    let q = project(&input, &parts.q_weight, &parts.q_bias)?;
    let kv = project(memory, &parts.kv_weight, &parts.kv_bias)?;
    let attended = attend_to_memory(&q, sentences, &kv, memory_sentences, options.attention())?;
    options.keep(&attended);
    let y = project(&attended.context_nd, &parts.output_weight, &parts.output_bias)?;
    options.connection.leave(x, &y, parts.norm.as_ref())
}
