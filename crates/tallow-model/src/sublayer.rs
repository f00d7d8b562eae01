//! The surroundings of attention and feed-forward functions: the place of a layer in the model, dropout and
//! normalisation.

use crate::parameter::Params;
use crate::record::{AttentionRecord, Block};
use crate::{ModelConfig, ModelError, Norm};
use candle_core::Tensor;
use tallow_ops::{Compute, Connection, Dropout, DropoutStream, NormPlace, Sentences};

/// The epsilon of PyTorch's LayerNorm, with which Marian models are run.
pub(crate) const EPSILON: f64 = 1e-5;

/// Access to parameters while a model is built.
pub(crate) struct Weights<'a> {
    pub(crate) params: &'a Params,
    /// Whether operations on the weights are recorded for a backward pass.
    pub(crate) tracked: bool,
}

impl Weights<'_> {
    pub(crate) fn get(&self, name: &str) -> Result<Tensor, ModelError> {
        let var = &self.params.get(name)?.var;
        Ok(if self.tracked {
            var.as_tensor().clone()
        } else {
            var.as_detached_tensor()
        })
    }
}

/// Places where dropout happens inside a layer. The numbers key the masks, so they never change.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Site {
    Embedding = 0,
    SelfOutput = 1,
    SelfWeights = 2,
    CrossOutput = 3,
    CrossWeights = 4,
    FeedForwardOutput = 5,
    FeedForwardInner = 6,
}

/// Dropout rates of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) output: f32,
    pub(crate) attention: f32,
    pub(crate) activation: f32,
}

impl Rates {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        Self {
            output: config.dropout,
            attention: config.attention_dropout,
            activation: config.activation_dropout,
        }
    }
}

/// The context of a forward pass through one layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerPass<'a> {
    /// The sentences of the rows of hidden states.
    pub(crate) sentences: &'a Sentences,
    pub(crate) dropout: Option<&'a DropoutStream>,
    pub(crate) record: Option<&'a AttentionRecord>,
    pub(crate) compute: Compute,
    /// 0 for the encoder, 1 for the decoder.
    pub(crate) stack: u64,
    pub(crate) layer: usize,
}

impl LayerPass<'_> {
    /// Dropout at a place in this layer; `None` outside training or at a rate of zero.
    pub(crate) fn dropout(&self, site: Site, rate: f32) -> Option<Dropout> {
        let number = (self.stack << 32) | ((self.layer as u64) << 8) | site as u64;
        self.dropout
            .filter(|_| rate > 0.0)
            .map(|stream| stream.at(number, rate, self.sentences))
    }

    pub(crate) fn record(&self, block: Block, weights_bhts: Option<Tensor>) {
        if let (Some(record), Some(weights)) = (self.record, weights_bhts) {
            record.push(block, self.layer, weights);
        }
    }
}

/// What is around the function of every sublayer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    pub(crate) norm: Norm,
    pub(crate) residual: bool,
}

impl Around {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        Self {
            norm: config.norm,
            residual: config.residual,
        }
    }
}

/// The connection around the function of a sublayer.
pub(crate) fn connection(around: Around, dropout: Option<&Dropout>) -> Connection<'_> {
    Connection {
        place: match around.norm {
            Norm::Post => NormPlace::Post,
            Norm::Pre => NormPlace::Pre,
            Norm::None => NormPlace::None,
        },
        residual: around.residual,
        epsilon: EPSILON,
        dropout,
    }
}
