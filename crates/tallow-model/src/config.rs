//! The `[model]` section of a config.

use serde::{Deserialize, Serialize, Serializer};
use tallow_ops::Activation;

/// The place of layer normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// After the residual addition, as in the paper and in Marian.
    #[default]
    Post,
    /// Before the sublayer, with one more normalisation after the last layer (Wang et al. 2019).
    Pre,
    /// Nowhere.
    None,
}

/// The encoding of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// Sines and cosines of the position, for any length (section 3.5 of the paper).
    #[default]
    Sinusoidal,
    /// Sinusoidal positions with the frequencies of the Marian toolkit and of tensor2tensor, which end at exactly
    /// 1/10000.
    SinusoidalMarian,
    /// A learned vector for each of the first `max_positions` positions.
    Learned,
    /// No positions: the encoder sees a bag of tokens, and the decoder only knows the order from its causal mask.
    None,
}

/// The tying of the three matrices over the vocabulary (Press and Wolf 2017).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tie {
    /// Source embedding, target embedding and output are one matrix; needs a shared vocabulary.
    #[default]
    All,
    /// Target embedding and output are one matrix.
    Output,
    /// No matrices are tied.
    None,
}

/// The non-linearity of the feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivationKind {
    /// max(0, x).
    #[default]
    Relu,
    /// x Φ(x), with the exact error function.
    Gelu,
    /// x sigmoid(x), also called swish.
    Silu,
}

impl From<ActivationKind> for Activation {
    fn from(kind: ActivationKind) -> Self {
        match kind {
            ActivationKind::Relu => Self::Relu,
            ActivationKind::Gelu => Self::Gelu,
            ActivationKind::Silu => Self::Silu,
        }
    }
}

/// The shape of the Transformer and its regularisation: the `[model]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Width of embeddings and layers. Default 256.
    pub d_model: usize,
    /// Inner width of the feed-forward layers; 0 leaves these layers out. Default 1024.
    pub feed_forward: usize,
    /// Inner width of the decoder's feed-forward layers. Default: `feed_forward`.
    pub decoder_feed_forward: Option<usize>,
    /// Layers of the encoder; 0 without `cross_attention`. Default 3.
    pub encoder_layers: usize,
    /// Layers of the decoder. Default 3.
    pub decoder_layers: usize,
    /// Attention heads; must divide `d_model`. Default 4.
    pub heads: usize,
    /// Attention heads of the decoder. Default: `heads`.
    pub decoder_heads: Option<usize>,
    /// Dropout on embeddings and on the output of every sublayer. Default 0.1.
    #[serde(serialize_with = "serialize_rate")]
    pub dropout: f32,
    /// Dropout on attention weights. Default 0.
    #[serde(serialize_with = "serialize_rate")]
    pub attention_dropout: f32,
    /// Dropout after the activation inside feed-forward layers. Default 0.
    #[serde(serialize_with = "serialize_rate")]
    pub activation_dropout: f32,
    /// The place of layer normalisation: `post`, `pre` or `none`. Default `post`.
    pub norm: Norm,
    /// Whether every sublayer adds its input to its result (He et al. 2016). Default true.
    pub residual: bool,
    /// Whether the decoder's tokens see only themselves and those before them in training. Default true.
    pub causal_mask: bool,
    /// Whether the decoder sees the source. Without it, the decoder is a language model of the target, and there are no
    /// layers in the encoder. Default true.
    pub cross_attention: bool,
    /// `relu`, `gelu` or `silu`. Default `relu`.
    pub activation: ActivationKind,
    /// `sinusoidal`, `sinusoidal-marian`, `learned` or `none`. Default `sinusoidal`.
    pub positions: Positions,
    /// Length of the table of learned positions; other kinds of positions have no limit. Default 512.
    pub max_positions: usize,
    /// Tying of the matrices over the vocabulary: `all`, `output` or `none`. Default `all`.
    pub tie: Tie,
    /// Whether attention scores are divided by the root of the head's width. Default true.
    pub scale_attention: bool,
    /// Whether embeddings are multiplied by the root of `d_model`. Default true.
    pub scale_embedding: bool,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            d_model: 256,
            feed_forward: 1024,
            decoder_feed_forward: None,
            encoder_layers: 3,
            decoder_layers: 3,
            heads: 4,
            decoder_heads: None,
            dropout: 0.1,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
            norm: Norm::Post,
            residual: true,
            causal_mask: true,
            cross_attention: true,
            activation: ActivationKind::Relu,
            positions: Positions::Sinusoidal,
            max_positions: 512,
            tie: Tie::All,
            scale_attention: true,
            scale_embedding: true,
        }
    }
}

/// Upper limits of sizes. A config with larger sizes is treated as a mistake; the limits also prevent overflow in
/// arithmetic on sizes.
const LARGEST_WIDTH: usize = 1 << 16;
const MOST_LAYERS: usize = 1 << 10;

impl ModelConfig {
    /// All faults of the section, each beginning with the key's path; empty if there is none.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (key, value) in [
            ("feed_forward", self.feed_forward),
            ("decoder_feed_forward", self.decoder_feed_forward()),
        ] {
            if value > LARGEST_WIDTH {
                faults.push(format!("model.{key}: {value} is not between 0 and {LARGEST_WIDTH}"));
            }
        }
        match (self.cross_attention, self.encoder_layers) {
            (true, 1..=MOST_LAYERS) | (false, 0) => {}
            (true, layers) => faults.push(format!(
                "model.encoder_layers: {layers} is not between 1 and {MOST_LAYERS}"
            )),
            (false, layers) => faults.push(format!(
                "model.encoder_layers: {layers} layers that nothing sees; without model.cross_attention it is 0"
            )),
        }
        if !self.cross_attention {
            if self.tie != Tie::All {
                faults.push("model.tie: without model.cross_attention only \"all\" is possible".into());
            }
            if self.positions == Positions::Learned {
                faults.push("model.positions: without model.cross_attention \"learned\" is not possible".into());
            }
        }
        let sizes = [
            ("d_model", self.d_model, LARGEST_WIDTH),
            ("decoder_layers", self.decoder_layers, MOST_LAYERS),
            ("heads", self.heads, LARGEST_WIDTH),
            ("decoder_heads", self.decoder_heads(), LARGEST_WIDTH),
            ("max_positions", self.max_positions, 1 << 20),
        ];
        for (key, value, most) in sizes {
            if value == 0 || value > most {
                faults.push(format!("model.{key}: {value} is not between 1 and {most}"));
            }
        }
        for (key, heads) in [("heads", self.heads), ("decoder_heads", self.decoder_heads())] {
            if heads > 0 && !self.d_model.is_multiple_of(heads) {
                faults.push(format!(
                    "model.{key}: {heads} heads do not divide model.d_model = {}",
                    self.d_model
                ));
            }
        }
        let is_computed = matches!(self.positions, Positions::Sinusoidal | Positions::SinusoidalMarian);
        if is_computed && !self.d_model.is_multiple_of(2) {
            faults.push(format!(
                "model.d_model: sinusoidal positions need an even width, not {}",
                self.d_model
            ));
        }
        for (key, rate) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
            ("activation_dropout", self.activation_dropout),
        ] {
            if !(0.0..1.0).contains(&rate) {
                faults.push(format!("model.{key}: {rate} is not a rate from 0 to below 1"));
            }
        }
        faults.dedup();
        faults
    }

    /// The factor of attention scores for a number of heads (section 3.2.1 of the paper).
    pub(crate) fn attention_scale(&self, heads: usize) -> f64 {
        if self.scale_attention {
            ((self.d_model / heads) as f64).powf(-0.5)
        } else {
            1.0
        }
    }

    /// The number of attention heads of the decoder.
    pub fn decoder_heads(&self) -> usize {
        self.decoder_heads.unwrap_or(self.heads)
    }

    /// The maximum number of tokens of a sentence on either side, `</s>` included; `None` unless positions are learned.
    pub fn position_limit(&self) -> Option<usize> {
        (self.positions == Positions::Learned).then_some(self.max_positions)
    }

    /// Whether a stack ends with a normalisation of its own.
    pub(crate) fn has_last_norm(&self, stack: &str) -> bool {
        self.norm == Norm::Pre && (stack == "decoder" || self.cross_attention)
    }

    /// Inner width of the decoder's feed-forward layers.
    pub fn decoder_feed_forward(&self) -> usize {
        self.decoder_feed_forward.unwrap_or(self.feed_forward)
    }
}

/// A rate as a short decimal: 0.1, not 0.10000000149011612.
pub(crate) fn decimal(rate: f32) -> f64 {
    rate.to_string().parse().unwrap_or_else(|_| f64::from(rate))
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde wants it.
fn serialize_rate<S: Serializer>(rate: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(decimal(*rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_written_as_people_write_them() {
        let config = ModelConfig {
            dropout: 0.1,
            attention_dropout: 0.3,
            activation_dropout: 1e-9,
            ..ModelConfig::default()
        };
        let value = serde_json::to_value(&config).unwrap();
        for (key, rate) in [
            ("dropout", 0.1),
            ("attention_dropout", 0.3),
            ("activation_dropout", 1e-9),
        ] {
            assert_eq!(value[key], serde_json::json!(rate), "{key}");
        }
        assert_eq!(serde_json::from_value::<ModelConfig>(value).unwrap(), config);
    }

    #[test]
    fn every_fault_is_reported() {
        assert!(ModelConfig::default().validate().is_empty());
        let config = ModelConfig {
            d_model: 255,
            heads: 4,
            dropout: 1.0,
            encoder_layers: 0,
            ..ModelConfig::default()
        };
        let faults = config.validate().join("\n");
        for part in [
            "model.heads: 4",
            "model.d_model: sinusoidal",
            "model.dropout: 1",
            "model.encoder_layers: 0",
        ] {
            assert!(faults.contains(part), "{faults}");
        }
    }
}
