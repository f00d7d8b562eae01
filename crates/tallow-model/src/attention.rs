//! The attention sublayers (section 3.2 of the paper): of a sequence to itself, and of the decoder to the encoder.

use crate::record::Block;
use crate::state::{CrossCache, SelfCache};
use crate::sublayer::{Around, LayerPass, Rates, Site, Weights, connection};
use crate::trace::{AttentionTrace, Traced};
use crate::transformer::Encoded;
use crate::{ModelConfig, ModelError};
use candle_core::{DType, Tensor};
use std::cell::RefCell;
use tallow_ops::inference::RecordedHeads;
use tallow_ops::{
    Activation, Attended, AttentionMask, AttentionOptions, AttentionSublayerOptions, Compute, CrossAttentionParts,
    SelfAttentionParts, attend, cross_attention_sublayer, guided_alignment, linear, self_attention_sublayer,
    split_heads,
};

/// Settings of both kinds of attention.
#[derive(Clone, Copy, Debug)]
struct Settings {
    heads: usize,
    scale: f64,
    around: Around,
    rates: Rates,
}

impl Settings {
    fn new(config: &ModelConfig, heads: usize) -> Self {
        Self {
            heads,
            scale: config.attention_scale(heads),
            around: Around::new(config),
            rates: Rates::new(config),
        }
    }

    /// Runs a sublayer with its dropout, and records its attention weights on request.
    fn run(
        &self,
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
            weights_dropout: weights_dropout.as_ref(),
            connection: connection(self.around, output_dropout.as_ref()),
            compute: pass.compute,
            record: pass.record.map(|_| &recorded),
        };
        let result = sublayer(options)?;
        pass.record(block, recorded.into_inner());
        Ok(result)
    }

    /// The surroundings of an attention function whose values are kept.
    fn traced<'a>(
        &self,
        norm: (Around, Option<&'a Tensor>),
        x: &'a Tensor,
        output: (&'a Tensor, &'a Tensor),
        off: &'a [usize],
    ) -> Traced<'a> {
        Traced {
            norm,
            x,
            output,
            heads: self.heads,
            scale: self.scale,
            off,
        }
    }

    /// Attention of the newest positions to cached keys and values.
    ///
    /// # Shapes
    /// `q`: `[b, h, t, k]`; `keys` and `values`: `[b, h, s, k]`; the result: `[b t, d]`.
    fn attend(
        &self,
        q: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        mask: Option<&AttentionMask>,
        record: bool,
    ) -> Result<Attended, ModelError> {
        let options = AttentionOptions {
            heads: self.heads,
            scale: self.scale,
            dropout: None,
            record,
        };
        Ok(attend(q, keys, values, mask, options)?)
    }
}

/// One part of a packed tensor `[b, t, parts d]`, whose parts are as wide as the model. The heads are moved in front of
/// the positions.
fn part_heads(packed: &Tensor, part: usize, width: usize, heads: usize) -> Result<Tensor, ModelError> {
    Ok(split_heads(&packed.narrow(2, part * width, width)?, heads)?)
}

fn project(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor, ModelError> {
    Ok(linear(x, weight, Some(bias), Activation::None, Compute::F32)?)
}

/// Packed parameters whose output weight is zero for the values of some heads. In both kinds of attention, the output
/// weight follows three square weights and their biases.
fn without_heads(packed: &Tensor, width: usize, heads: usize, off: &[usize]) -> Result<Tensor, ModelError> {
    let (start, of_head) = (3 * width * (width + 1), width / heads);
    let is_off = |place: usize| off.contains(&(place % width / of_head));
    let on: Vec<f32> = (0..width * width)
        .map(|place| if is_off(place) { 0.0 } else { 1.0 })
        .collect();
    let on = Tensor::from_vec(on, width * width, packed.device())?.to_dtype(packed.dtype())?;
    let packed = packed.detach();
    let end = start + width * width;
    let before = packed.narrow(0, 0, start)?;
    let output = (packed.narrow(0, start, width * width)? * on)?;
    let after = packed.narrow(0, end, packed.dim(0)? - end)?;
    Ok(Tensor::cat(&[before, output, after], 0)?)
}

/// Attention of a sequence to itself.
#[derive(Clone, Debug)]
pub(crate) struct SelfAttention {
    pub(crate) packed: Tensor,
    /// Views of the same parameters, for single positions.
    parts: SelfAttentionParts,
    settings: Settings,
    block: Block,
    /// Whether a token sees only itself and the tokens before it.
    is_causal: bool,
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
            is_causal: block == Block::DecoderSelf && config.causal_mask,
        })
    }

    /// # Shapes
    /// `x` and the result: `[n, d]`.
    pub(crate) fn forward(&self, x: &Tensor, pass: LayerPass) -> Result<Tensor, ModelError> {
        let sites = (self.block, Site::SelfWeights, Site::SelfOutput);
        self.settings.run(pass, sites, |options| {
            self_attention_sublayer(x, pass.sentences, self.is_causal, &self.packed, options)
        })
    }

    /// The same without some heads, which contribute nothing.
    pub(crate) fn without(&self, off: &[usize]) -> Result<Self, ModelError> {
        let width = self.parts.output_bias.dim(0)?;
        let packed = without_heads(&self.packed, width, self.settings.heads, off)?;
        Ok(Self {
            parts: SelfAttentionParts::of(&packed, width)?,
            packed,
            ..self.clone()
        })
    }

    /// The values of a pass over one sentence, with some heads switched off.
    ///
    /// # Shapes
    /// `x`: `[n, d]`.
    pub(crate) fn trace(&self, x: &Tensor, off: &[usize]) -> Result<AttentionTrace, ModelError> {
        let (parts, around, width) = (&self.parts, self.settings.around, x.dim(1)?);
        let input = connection(around, None).enter(x, parts.norm.as_ref())?;
        let qkv = project(&input, &parts.qkv_weight, &parts.qkv_bias)?;
        let part = |i: usize| qkv.narrow(1, i * width, width)?.contiguous();
        let projected = [&part(0)?, &part(1)?, &part(2)?];
        self.settings
            .traced(
                (around, parts.norm.as_ref()),
                x,
                (&parts.output_weight, &parts.output_bias),
                off,
            )
            .trace(projected, self.is_causal)
    }

    /// Computes one position of the decoder and adds its keys and values to the cache.
    ///
    /// # Shapes
    /// `x` and the result: `[rows, d]`.
    pub(crate) fn step(&self, x: &Tensor, cache: &mut SelfCache, position: usize) -> Result<Tensor, ModelError> {
        let (parts, around) = (&self.parts, connection(self.settings.around, None));
        let qkv = project(
            &around.enter(x, parts.norm.as_ref())?,
            &parts.qkv_weight,
            &parts.qkv_bias,
        )?;
        let (rows, width) = x.dims2()?;
        let qkv = qkv.reshape((rows, 1, 3 * width))?;
        let part = |i: usize| part_heads(&qkv, i, width, self.settings.heads);
        let (keys, values) = cache.append(&part(1)?, &part(2)?, position)?;
        let attended = self.settings.attend(&part(0)?, &keys, &values, None, false)?;
        let y = project(&attended.context_nd, &parts.output_weight, &parts.output_bias)?;
        Ok(around.leave(x, &y, parts.norm.as_ref())?)
    }
}

/// Attention of the decoder to the encoder's output.
#[derive(Clone, Debug)]
pub(crate) struct CrossAttention {
    pub(crate) packed: Tensor,
    /// Views of the same parameters, for single positions.
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
    /// `x` and the result: `[n, d]`.
    pub(crate) fn forward(&self, x: &Tensor, encoded: &Encoded, pass: LayerPass) -> Result<Tensor, ModelError> {
        let sites = (Block::DecoderCross, Site::CrossWeights, Site::CrossOutput);
        let memory = (&encoded.hidden_nd, &encoded.sentences);
        self.settings.run(pass, sites, |options| {
            cross_attention_sublayer((x, pass.sentences), memory, &self.packed, options)
        })
    }

    /// The same without some heads, which contribute nothing.
    pub(crate) fn without(&self, off: &[usize]) -> Result<Self, ModelError> {
        let width = self.parts.output_bias.dim(0)?;
        let packed = without_heads(&self.packed, width, self.settings.heads, off)?;
        Ok(Self {
            parts: CrossAttentionParts::of(&packed, width)?,
            packed,
            ..self.clone()
        })
    }

    /// The values of a pass over one pair of sentences, with some heads switched off.
    ///
    /// # Shapes
    /// `x`: `[n, d]`; `memory`: the encoder's output, `[m, d]`.
    pub(crate) fn trace(&self, x: &Tensor, memory: &Tensor, off: &[usize]) -> Result<AttentionTrace, ModelError> {
        let (parts, around, width) = (&self.parts, self.settings.around, x.dim(1)?);
        let input = connection(around, None).enter(x, parts.norm.as_ref())?;
        let queries = project(&input, &parts.q_weight, &parts.q_bias)?;
        let kv = project(memory, &parts.kv_weight, &parts.kv_bias)?;
        let part = |i: usize| kv.narrow(1, i * width, width)?.contiguous();
        self.settings
            .traced(
                (around, parts.norm.as_ref()),
                x,
                (&parts.output_weight, &parts.output_bias),
                off,
            )
            .trace([&queries, &part(0)?, &part(1)?], false)
    }

    /// The loss of the first head's attention by the links between tokens; see [`guided_alignment`]. It is that of the
    /// weights without dropout.
    ///
    /// # Shapes
    /// `x`: the input of the sublayer, `[n, d]`; the result: a scalar.
    pub(crate) fn guided_alignment(
        &self,
        x: &Tensor,
        encoded: &Encoded,
        pass: LayerPass,
        links: &[(u32, u32)],
    ) -> Result<Tensor, ModelError> {
        let width = x.dim(1)?;
        let of_head = width / self.settings.heads;
        let parts = CrossAttentionParts::of(&self.packed, width)?;
        let project = |x: &Tensor, weight: &Tensor, bias: &Tensor| {
            let (weight, bias) = (weight.narrow(0, 0, of_head)?, bias.narrow(0, 0, of_head)?);
            linear(x, &weight, Some(&bias), Activation::None, pass.compute)
        };
        let input = connection(self.settings.around, None).enter(x, parts.norm.as_ref())?;
        let queries = project(&input, &parts.q_weight, &parts.q_bias)?;
        let keys = project(&encoded.hidden_nd, &parts.kv_weight, &parts.kv_bias)?;
        let sides = ((&queries, pass.sentences), (&keys, &encoded.sentences));
        Ok(guided_alignment(sides.0, sides.1, self.settings.scale, links)?)
    }

    /// This layer's keys and values of the encoder's output, computed once per sentence.
    pub(crate) fn cache(&self, encoded: &Encoded) -> Result<CrossCache, ModelError> {
        let kv = project(&encoded.hidden_nd, &self.parts.kv_weight, &self.parts.kv_bias)?;
        let (kv, width) = (encoded.sentences.pad(&kv)?, encoded.hidden_nd.dim(1)?);
        let part = |i: usize| part_heads(&kv, i, width, self.settings.heads);
        Ok(CrossCache {
            keys: part(0)?,
            values: part(1)?,
        })
    }

    /// Computes one position of every hypothesis. The hypotheses of a sentence share its keys and values. The weights
    /// of heads are added to `recorded`, one vector for each row.
    ///
    /// # Shapes
    /// `x` and the result: `[rows, d]`; the rows of a sentence are adjacent.
    pub(crate) fn step(
        &self,
        x: &Tensor,
        cache: &CrossCache,
        mask: &AttentionMask,
        recorded: Option<RecordedHeads>,
    ) -> Result<Tensor, ModelError> {
        let (rows, width) = x.dims2()?;
        let sentences = cache.keys.dim(0)?;
        let (parts, around) = (&self.parts, connection(self.settings.around, None));
        let q = project(&around.enter(x, parts.norm.as_ref())?, &parts.q_weight, &parts.q_bias)?;
        let q = split_heads(&q.reshape((sentences, rows / sentences, width))?, self.settings.heads)?;
        let attended = self
            .settings
            .attend(&q, &cache.keys, &cache.values, Some(mask), recorded.is_some())?;
        if let (Some(mut recorded), Some(weights_bhts)) = (recorded, &attended.weights_bhts) {
            let heads: Vec<u32> = recorded.heads.iter().map(|head| *head as u32).collect();
            let heads = Tensor::from_slice(&heads, heads.len(), x.device())?;
            let sums = weights_bhts.index_select(&heads, 1)?.sum(1)?.flatten_to(1)?;
            for (row, sums) in sums.to_dtype(DType::F32)?.to_vec2::<f32>()?.iter().enumerate() {
                recorded.add(row, sums.len(), |token| sums[token]);
            }
        }
        let y = project(&attended.context_nd, &parts.output_weight, &parts.output_bias)?;
        Ok(around.leave(x, &y, parts.norm.as_ref())?)
    }
}
