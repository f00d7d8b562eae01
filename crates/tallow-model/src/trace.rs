//! A forward pass over one pair of sentences, with everything that happens on the way.
//!
//! It computes the same as [`Transformer::encode`] and [`Transformer::decode`], in the order of the paper and by plain
//! operations, and keeps what these throw away. It serves to look inside a model, and to switch parts of it off.

use crate::encoder::finish;
use crate::feed_forward::FeedForward;
use crate::record::Block;
use crate::sublayer::{Around, connection};
use crate::transformer::Input;
use crate::{ModelError, Transformer};
use candle_core::{D, Tensor};
use candle_nn::ops::{log_softmax, softmax};
use tallow_ops::{Activation, Compute, FeedForwardParts, linear};

/// A head of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Head {
    /// The kind of attention.
    pub block: Block,
    /// The layer, from 0.
    pub layer: usize,
    /// The head, from 0.
    pub head: usize,
}

/// All values of a forward pass over one pair of sentences. `s` is the number of source tokens and `t` that of target
/// tokens, both with `</s>`; `d` is the width of the model.
#[derive(Clone, Debug)]
pub struct ForwardTrace {
    /// The encoder.
    pub encoder: StackTrace,
    /// The decoder.
    pub decoder: StackTrace,
    /// The log-probabilities of the pieces that can be predicted, for every target token: `[t, v - 1]`.
    pub log_probabilities: Tensor,
}

/// The values of one stack.
#[derive(Clone, Debug)]
pub struct StackTrace {
    /// The embeddings of the tokens, times the scale: `[n, d]`. In the decoder, of the tokens before the predicted
    /// ones.
    pub embedding: Tensor,
    /// The vectors of the positions: `[n, d]`; `None` if the model has none.
    pub positions: Option<Tensor>,
    /// Their sum, the input of the first layer: `[n, d]`.
    pub input: Tensor,
    /// The layers.
    pub layers: Vec<LayerTrace>,
    /// The result, after the last normalisation: `[n, d]`.
    pub output: Tensor,
}

/// The values of one layer.
#[derive(Clone, Debug)]
pub struct LayerTrace {
    /// Attention to the stack's own tokens.
    pub self_attention: AttentionTrace,
    /// Attention to the encoder's output, in a decoder.
    pub cross_attention: Option<AttentionTrace>,
    /// The feed-forward sublayer, if the model has any.
    pub feed_forward: Option<FeedForwardTrace>,
}

impl LayerTrace {
    /// The residual stream after the layer: `[n, d]`.
    pub fn stream(&self) -> &Tensor {
        let attention = self.cross_attention.as_ref().unwrap_or(&self.self_attention);
        self.feed_forward
            .as_ref()
            .map_or(&attention.stream, |layer| &layer.stream)
    }
}

/// The values of an attention sublayer. `h` is the number of heads and `k` their width; the attention is of `n` tokens
/// to `m` tokens.
#[derive(Clone, Debug)]
pub struct AttentionTrace {
    /// The queries: `[h, n, k]`.
    pub queries: Tensor,
    /// The keys: `[h, m, k]`.
    pub keys: Tensor,
    /// The values: `[h, m, k]`.
    pub values: Tensor,
    /// The products of queries and keys, not yet scaled: `[h, n, m]`.
    pub products: Tensor,
    /// The factor that scales the products.
    pub scale: f64,
    /// Whether a token sees only itself and the tokens before it.
    pub is_causal: bool,
    /// The weights: the softmax of the scaled products of what a token sees, zero elsewhere: `[h, n, m]`.
    pub weights: Tensor,
    /// The sums of the values by these weights; zero for a head that is switched off: `[h, n, k]`.
    pub mixed: Tensor,
    /// What the sublayer adds to the residual stream: `[n, d]`.
    pub output: Tensor,
    /// The residual stream after the sublayer, in a post-norm model normalised: `[n, d]`.
    pub stream: Tensor,
}

/// The values of a feed-forward sublayer.
#[derive(Clone, Debug)]
pub struct FeedForwardTrace {
    /// The units after their activation: `[n, f]`.
    pub units: Tensor,
    /// What the sublayer adds to the residual stream: `[n, d]`.
    pub output: Tensor,
    /// The residual stream after the sublayer, in a post-norm model normalised: `[n, d]`.
    pub stream: Tensor,
}

/// The heads of a block and layer that are among `off`.
fn heads_off(off: &[Head], block: Block, layer: usize) -> Vec<usize> {
    let of_layer = off.iter().filter(|head| head.block == block && head.layer == layer);
    of_layer.map(|head| head.head).collect()
}

impl Transformer {
    /// A copy of the model without some heads: they contribute nothing. It shares the other weights with this one.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn without_heads(&self, off: &[Head]) -> Result<Self, ModelError> {
        let mut copy = self.clone();
        for (number, (attention, _)) in copy.encoder.layers.iter_mut().enumerate() {
            let off = heads_off(off, Block::EncoderSelf, number);
            if !off.is_empty() {
                *attention = attention.without(&off)?;
            }
        }
        for (number, layer) in copy.decoder.layers.iter_mut().enumerate() {
            let off_self = heads_off(off, Block::DecoderSelf, number);
            if !off_self.is_empty() {
                layer.self_attention = layer.self_attention.without(&off_self)?;
            }
            let off_cross = heads_off(off, Block::DecoderCross, number);
            if let (Some(cross), false) = (&mut layer.cross_attention, off_cross.is_empty()) {
                *cross = cross.without(&off_cross)?;
            }
        }
        Ok(copy)
    }

    /// Runs the model over one pair, with some heads switched off: they contribute nothing.
    ///
    /// # Shapes
    /// `source` and `target` end with `</s>`; the target is what the decoder predicts.
    ///
    /// # Errors
    /// When a sentence is empty or longer than the learned positions, or an id is outside its vocabulary.
    pub fn trace(&self, source: &[u32], target: &[u32], off: &[Head]) -> Result<ForwardTrace, ModelError> {
        let Some((_, before_last)) = target.split_last() else {
            return Err(ModelError::Batch("an empty target".into()));
        };
        let mut encoder = self.source.trace(source)?;
        let mut x = encoder.input.clone();
        for (number, (attention, feed_forward)) in self.encoder.layers.iter().enumerate() {
            let attention = attention.trace(&x, &heads_off(off, Block::EncoderSelf, number))?;
            let feed_forward = match feed_forward {
                Some(feed_forward) => Some(feed_forward.trace(&attention.stream)?),
                None => None,
            };
            let layer = LayerTrace {
                self_attention: attention,
                cross_attention: None,
                feed_forward,
            };
            x = layer.stream().clone();
            encoder.layers.push(layer);
        }
        encoder.output = finish(x, self.encoder.last_norm.as_ref())?;
        let input = [&[self.architecture().target_pad_id()], before_last].concat();
        let mut decoder = self.target.trace(&input)?;
        let mut x = decoder.input.clone();
        for (number, layer) in self.decoder.layers.iter().enumerate() {
            let own = layer
                .self_attention
                .trace(&x, &heads_off(off, Block::DecoderSelf, number))?;
            let off_cross = heads_off(off, Block::DecoderCross, number);
            let cross = match &layer.cross_attention {
                Some(cross) => Some(cross.trace(&own.stream, &encoder.output, &off_cross)?),
                None => None,
            };
            let stream = cross.as_ref().map_or(&own.stream, |cross| &cross.stream);
            let feed_forward = match &layer.feed_forward {
                Some(feed_forward) => Some(feed_forward.trace(stream)?),
                None => None,
            };
            let layer = LayerTrace {
                self_attention: own,
                cross_attention: cross,
                feed_forward,
            };
            x = layer.stream().clone();
            decoder.layers.push(layer);
        }
        decoder.output = finish(x, self.decoder.last_norm.as_ref())?;
        Ok(ForwardTrace {
            log_probabilities: self.log_probabilities(&decoder.output)?,
            encoder,
            decoder,
        })
    }

    /// The log-probabilities that a state of the decoder's residual stream would give, if it were that after the last
    /// layer ("logit lens"): of all pieces that can be predicted.
    ///
    /// # Shapes
    /// `stream`: `[n, d]`; the result: `[n, v - 1]`.
    ///
    /// # Errors
    /// When the width differs from the model's.
    pub fn lens(&self, stream: &Tensor) -> Result<Tensor, ModelError> {
        self.log_probabilities(&finish(stream.clone(), self.decoder.last_norm.as_ref())?)
    }

    fn log_probabilities(&self, hidden: &Tensor) -> Result<Tensor, ModelError> {
        let logits = self
            .logits(hidden)?
            .narrow(D::Minus1, 0, self.architecture().classes())?;
        Ok(log_softmax(&logits.contiguous()?, D::Minus1)?)
    }
}

impl Input {
    /// The values before the first layer.
    fn trace(&self, ids: &[u32]) -> Result<StackTrace, ModelError> {
        let tokens = Tensor::from_slice(ids, ids.len(), self.table_vd.device())?;
        let embedding = (self.table_vd.index_select(&tokens, 0)? * self.scale())?;
        let positions = self.positions_of(0, ids.len())?;
        let input = match &positions {
            Some(positions) => (&embedding + positions)?,
            None => embedding.clone(),
        };
        Ok(StackTrace {
            output: input.clone(),
            input,
            embedding,
            positions,
            layers: Vec::new(),
        })
    }
}

/// What is around the function of an attention sublayer.
pub(crate) struct Traced<'a> {
    /// Residual connection and normalisation, with its scale and shift.
    pub(crate) norm: (Around, Option<&'a Tensor>),
    /// The input of the sublayer: `[n, d]`.
    pub(crate) x: &'a Tensor,
    /// The weight and the bias of the output.
    pub(crate) output: (&'a Tensor, &'a Tensor),
    pub(crate) heads: usize,
    pub(crate) scale: f64,
    /// The heads that contribute nothing.
    pub(crate) off: &'a [usize],
}

impl Traced<'_> {
    /// # Shapes
    /// `projected`: queries `[n, d]`, keys and values `[m, d]`.
    pub(crate) fn trace(&self, projected: [&Tensor; 3], is_causal: bool) -> Result<AttentionTrace, ModelError> {
        let (rows, width) = self.x.dims2()?;
        let of_heads = |x: &Tensor| -> Result<Tensor, ModelError> {
            let rows = x.dim(0)?;
            let parted = x.reshape((rows, self.heads, width / self.heads))?;
            Ok(parted.transpose(0, 1)?.contiguous()?)
        };
        let [queries, keys, values] = projected;
        let (queries, keys, values) = (of_heads(queries)?, of_heads(keys)?, of_heads(values)?);
        let products = queries.matmul(&keys.transpose(1, 2)?.contiguous()?)?;
        let mut scores = (&products * self.scale)?;
        if is_causal {
            let hidden = |place: usize| {
                if place % rows > place / rows {
                    f32::NEG_INFINITY
                } else {
                    0.0
                }
            };
            let hidden: Vec<f32> = (0..rows * rows).map(hidden).collect();
            let mask = Tensor::from_vec(hidden, (1, rows, rows), scores.device())?.to_dtype(scores.dtype())?;
            scores = scores.broadcast_add(&mask)?;
        }
        let weights = softmax(&scores, D::Minus1)?;
        let mut mixed = weights.matmul(&values)?;
        if !self.off.is_empty() {
            let on = |head: usize| if self.off.contains(&head) { 0f32 } else { 1.0 };
            let on: Vec<f32> = (0..self.heads).map(on).collect();
            let on = Tensor::from_vec(on, (self.heads, 1, 1), mixed.device())?.to_dtype(mixed.dtype())?;
            mixed = mixed.broadcast_mul(&on)?;
        }
        let joined = mixed.transpose(0, 1)?.reshape((rows, width))?;
        let output = linear(
            &joined,
            self.output.0,
            Some(self.output.1),
            Activation::None,
            Compute::F32,
        )?;
        let stream = connection(self.norm.0, None).leave(self.x, &output, self.norm.1)?;
        Ok(AttentionTrace {
            queries,
            keys,
            values,
            products,
            scale: self.scale,
            is_causal,
            weights,
            mixed,
            output,
            stream,
        })
    }
}

impl FeedForward {
    fn trace(&self, x: &Tensor) -> Result<FeedForwardTrace, ModelError> {
        let (width, around) = (x.dim(1)?, connection(self.around, None));
        let parts = FeedForwardParts::of(&self.packed.detach(), width, self.inner)?;
        let map = |x: &Tensor, weight: &Tensor, bias: &Tensor, activation: Activation| {
            linear(x, weight, Some(bias), activation, Compute::F32)
        };
        let input = around.enter(x, parts.norm.as_ref())?;
        let units = map(&input, &parts.inner_weight, &parts.inner_bias, self.activation)?;
        let output = map(&units, &parts.outer_weight, &parts.outer_bias, Activation::None)?;
        let stream = around.leave(x, &output, parts.norm.as_ref())?;
        Ok(FeedForwardTrace { units, output, stream })
    }
}
