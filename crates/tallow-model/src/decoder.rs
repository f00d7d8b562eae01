//! The decoder: a stack of causal self-attention, cross-attention and feed-forward layers.

use crate::attention::{CrossAttention, SelfAttention};
use crate::encoder::{finish, last_norm};
use crate::feed_forward::FeedForward;
use crate::record::Block;
use crate::state::{DecoderState, LayerState, SelfCache};
use crate::sublayer::{LayerPass, Weights};
use crate::transformer::Encoded;
use crate::{ModelConfig, ModelError, Pass};
use candle_core::Tensor;
use tallow_ops::{AttentionMask, Compute, Sentences};

#[derive(Clone, Debug)]
pub(crate) struct DecoderLayer {
    pub(crate) self_attention: SelfAttention,
    /// None if the decoder does not see the source.
    pub(crate) cross_attention: Option<CrossAttention>,
    /// None if the model has no such layers.
    pub(crate) feed_forward: Option<FeedForward>,
}

/// The decoder's layers.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    pub(crate) layers: Vec<DecoderLayer>,
    pub(crate) last_norm: Option<Tensor>,
}

impl Decoder {
    pub(crate) fn new(weights: &Weights, config: &ModelConfig) -> Result<Self, ModelError> {
        let heads = config.decoder_heads();
        let layer = |i: usize| {
            let prefix = format!("model.decoder.layers.{i}");
            Ok(DecoderLayer {
                self_attention: SelfAttention::new(weights, &prefix, config, heads, Block::DecoderSelf)?,
                cross_attention: match config.cross_attention {
                    true => Some(CrossAttention::new(weights, &prefix, config, heads)?),
                    false => None,
                },
                feed_forward: FeedForward::new(weights, &prefix, config, config.decoder_feed_forward())?,
            })
        };
        Ok(Self {
            layers: (0..config.decoder_layers)
                .map(layer)
                .collect::<Result<_, ModelError>>()?,
            last_norm: last_norm(weights, config, "decoder")?,
        })
    }

    /// Computes all positions at once, as in training. With links between tokens, it also returns the loss by which
    /// they guide the first head of the last layer's cross-attention.
    ///
    /// # Shapes
    /// `x` and the result: `[n, d]`, rows of `sentences`; the loss: a scalar.
    pub(crate) fn forward(
        &self,
        x: Tensor,
        sentences: &Sentences,
        encoded: &Encoded,
        pass: Pass,
        links: Option<&[(u32, u32)]>,
    ) -> Result<(Tensor, Option<Tensor>), ModelError> {
        let (mut x, mut loss) = (x, None);
        for (number, layer) in self.layers.iter().enumerate() {
            let pass = LayerPass {
                sentences,
                dropout: pass.dropout,
                record: pass.record,
                compute: pass.compute,
                stack: 1,
                layer: number,
            };
            x = layer.self_attention.forward(&x, pass)?;
            if let Some(cross) = &layer.cross_attention {
                if let Some(links) = links.filter(|_| number + 1 == self.layers.len()) {
                    loss = Some(cross.guided_alignment(&x, encoded, pass, links)?);
                }
                x = cross.forward(&x, encoded, pass)?;
            }
            if let Some(feed_forward) = &layer.feed_forward {
                x = feed_forward.forward(&x, pass)?;
            }
        }
        Ok((finish(x, self.last_norm.as_ref())?, loss))
    }

    /// Makes the state before the first token, with one row for each sentence.
    pub(crate) fn start(&self, encoded: &Encoded) -> Result<DecoderState, ModelError> {
        let state = |layer: &DecoderLayer| {
            Ok(LayerState {
                self_attention: SelfCache::default(),
                cross_attention: match &layer.cross_attention {
                    Some(cross) => Some(cross.cache(encoded)?),
                    None => None,
                },
            })
        };
        let layers = self.layers.iter().map(state).collect::<Result<_, ModelError>>()?;
        let (hidden, sentences) = (&encoded.hidden_nd, &encoded.sentences);
        let mask = AttentionMask::padding(
            sentences.lengths(),
            sentences.longest(),
            hidden.dtype(),
            hidden.device(),
        )?;
        Ok(DecoderState::new(layers, mask, sentences.count()))
    }

    /// Computes the next position of every row.
    ///
    /// # Shapes
    /// `x` and the result: `[rows, d]`; `singles`: one sentence for each row.
    pub(crate) fn step(&self, x: Tensor, singles: &Sentences, state: &mut DecoderState) -> Result<Tensor, ModelError> {
        let still = LayerPass {
            sentences: singles,
            dropout: None,
            record: None,
            compute: Compute::F32,
            stack: 1,
            layer: 0,
        };
        let mut x = x;
        if let Some(attention) = &mut state.attention {
            attention.clear();
        }
        for (number, (layer, memory)) in self.layers.iter().zip(&mut state.layers).enumerate() {
            let recorded = state
                .attention
                .as_mut()
                .and_then(|attention| attention.of_layer(number));
            x = layer
                .self_attention
                .step(&x, &mut memory.self_attention, state.position)?;
            if let (Some(cross), Some(memory)) = (&layer.cross_attention, &memory.cross_attention) {
                x = cross.step(&x, memory, &state.mask, recorded)?;
            }
            if let Some(feed_forward) = &layer.feed_forward {
                x = feed_forward.forward(&x, still)?;
            }
        }
        state.position += 1;
        finish(x, self.last_norm.as_ref())
    }
}
