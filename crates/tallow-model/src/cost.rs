//! What a translation costs by calculation: multiplications and bytes, stage by stage.

use crate::Architecture;

/// A stage of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Queries, keys, values and output of the encoder's self-attention.
    EncoderProjections,
    /// Scores and mixing of the encoder's self-attention.
    EncoderAttention,
    /// The encoder's feed-forward layers.
    EncoderFeedForward,
    /// Queries, keys, values and output of the decoder's self-attention.
    DecoderProjections,
    /// Scores and mixing of the decoder's self-attention.
    DecoderAttention,
    /// Queries and output of the cross-attention, and keys and values of the source.
    CrossProjections,
    /// Scores and mixing of the cross-attention.
    CrossAttention,
    /// The decoder's feed-forward layers.
    DecoderFeedForward,
    /// The output layer.
    Output,
}

impl Stage {
    /// Whether its cost grows with the square of the length.
    pub fn is_attention(self) -> bool {
        matches!(
            self,
            Self::EncoderAttention | Self::DecoderAttention | Self::CrossAttention
        )
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::EncoderProjections => "encoder: projections of attention",
            Self::EncoderAttention => "encoder: attention",
            Self::EncoderFeedForward => "encoder: feed-forward",
            Self::DecoderProjections => "decoder: projections of self-attention",
            Self::DecoderAttention => "decoder: self-attention",
            Self::CrossProjections => "decoder: projections of cross-attention",
            Self::CrossAttention => "decoder: cross-attention",
            Self::DecoderFeedForward => "decoder: feed-forward",
            Self::Output => "output layer",
        }
    }
}

/// The cost of a stage, for all layers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageCost {
    /// The stage.
    pub stage: Stage,
    /// Multiplications, each with its addition.
    pub multiplications: u64,
    /// The numbers of weights that are read, each as often as the stage runs.
    pub weights_read: u64,
}

impl Architecture {
    /// The cost of translating one sentence token by token: `source` and `target` are its lengths with `</s>`.
    ///
    /// With a cache of keys and values, a step computes its own token only. Without, a step computes the whole prefix
    /// anew, and the keys and values of the source, too; the output layer has one token in either case. Embeddings,
    /// normalisation and softmax are not counted: their cost is small.
    pub fn cost(&self, source: u64, target: u64, is_cached: bool) -> Vec<StageCost> {
        let model = &self.model;
        let (d, f) = (model.d_model as u64, model.feed_forward as u64);
        let inner = model.decoder_feed_forward() as u64;
        let (encoder, decoder) = (model.encoder_layers as u64, model.decoder_layers as u64);
        // The decoder's tokens, the pairs of a token and one that it sees, and how often the source is projected.
        let triangle = |n: u64| n * (n + 1) / 2;
        let (tokens, seen, projections) = match is_cached {
            true => (target, triangle(target), 1),
            false => (triangle(target), (1..=target).map(triangle).sum(), target),
        };
        let cost = |stage, multiplications, weights_read| StageCost {
            stage,
            multiplications,
            weights_read,
        };
        let mut costs = vec![
            cost(
                Stage::EncoderProjections,
                encoder * 4 * d * d * source,
                encoder * 4 * d * d,
            ),
            cost(Stage::EncoderAttention, encoder * 2 * d * source * source, 0),
            cost(
                Stage::EncoderFeedForward,
                encoder * 2 * d * f * source,
                encoder * 2 * d * f,
            ),
            cost(
                Stage::DecoderProjections,
                decoder * 4 * d * d * tokens,
                decoder * 4 * d * d * target,
            ),
            cost(Stage::DecoderAttention, decoder * 2 * d * seen, 0),
            cost(
                Stage::CrossProjections,
                decoder * 2 * d * d * (tokens + source * projections),
                decoder * 2 * d * d * (target + projections),
            ),
            cost(Stage::CrossAttention, decoder * 2 * d * tokens * source, 0),
            cost(
                Stage::DecoderFeedForward,
                decoder * 2 * d * inner * tokens,
                decoder * 2 * d * inner * target,
            ),
            cost(
                Stage::Output,
                d * self.classes() as u64 * target,
                d * self.classes() as u64 * target,
            ),
        ];
        let is_cross = |stage| matches!(stage, Stage::CrossProjections | Stage::CrossAttention);
        costs.retain(|cost| model.cross_attention || !is_cross(cost.stage));
        costs
    }

    /// The numbers that the cache of keys and values holds at the end of a sentence: those of the target's tokens, and
    /// those of the source.
    pub fn cached_numbers(&self, source: u64, target: u64) -> u64 {
        let source = if self.model.cross_attention { source } else { 0 };
        2 * (self.model.decoder_layers * self.model.d_model) as u64 * (source + target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelConfig;

    fn architecture() -> Architecture {
        Architecture {
            model: ModelConfig {
                d_model: 2,
                feed_forward: 3,
                decoder_feed_forward: Some(5),
                encoder_layers: 1,
                decoder_layers: 2,
                heads: 1,
                ..ModelConfig::default()
            },
            source_vocabulary: 11,
            target_vocabulary: 11,
            shared_vocabulary: true,
            eos_id: 0,
            unk_id: 1,
        }
    }

    #[test]
    fn counted_by_hand() {
        let found = |is_cached| -> Vec<(u64, u64)> {
            let costs = architecture().cost(3, 2, is_cached);
            costs
                .iter()
                .map(|cost| (cost.multiplications, cost.weights_read))
                .collect()
        };
        // Encoder: 3 tokens, four 2x2 weights; 9 pairs, products and mixing of 2 numbers; two 2x3 weights.
        let encoder = [(48, 16), (36, 0), (36, 12)];
        // Decoder, two layers, two steps: 4 weights of 4 for 2 tokens; 1 + 2 pairs of 2 numbers, twice; queries and
        // outputs of 2 tokens, keys and values of 3; 2 tokens by 3, 2 numbers, twice; two 2x5 weights; 10 pieces.
        let cached = [(64, 64), (24, 0), (80, 48), (48, 0), (80, 80), (40, 40)];
        assert_eq!(found(true), [&encoder[..], &cached[..]].concat());
        // The second step computes the first token again: 3 tokens, 1 + 3 pairs, the source twice.
        let uncached = [(96, 64), (32, 0), (144, 64), (72, 0), (120, 80), (40, 40)];
        assert_eq!(found(false), [&encoder[..], &uncached[..]].concat());
        assert_eq!(architecture().cached_numbers(3, 2), 2 * 2 * 2 * 5);
    }
}
