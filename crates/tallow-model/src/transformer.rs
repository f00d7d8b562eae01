//! The complete model.

use crate::decoder::Decoder;
use crate::encoder::Encoder;
use crate::parameter::Params;
use crate::position::{sinusoidal, sinusoidal_marian};
use crate::record::AttentionRecord;
use crate::state::DecoderState;
use crate::sublayer::{LayerPass, Rates, Site, Weights};
use crate::{Architecture, InferenceCompute, ModelError, Positions, PreparedTransformer, Tie, Tokens};
use candle_core::{DType, Device, Tensor};
use tallow_ops::{Activation, Compute, CrossEntropyOptions, DropoutStream, Sentences, cross_entropy, embed, linear};

/// The number of sinusoidal positions computed in advance; longer sentences compute theirs.
const READY_POSITIONS: usize = 256;

/// Settings of the loss.
#[derive(Clone, Copy, Debug, Default)]
pub struct LossOptions<'a> {
    /// Probability that the target distribution spreads over all pieces.
    pub smoothing: f64,
    /// The weight of R-Drop. The second half of the sentences then repeats the first with other dropout, and the loss
    /// also measures their disagreement: see [`tallow_ops::CrossEntropyOptions::r_drop`].
    pub r_drop: Option<f64>,
    /// Links between tokens that guide the first head of the last decoder layer's cross-attention.
    pub guided_alignment: Option<GuidedAlignment<'a>>,
}

/// Guided alignment: see [`tallow_ops::guided_alignment`]. The head is the one that Marian guides; converters of its
/// models expect alignments there.
#[derive(Clone, Copy, Debug)]
pub struct GuidedAlignment<'a> {
    /// The weight of this part of the loss.
    pub weight: f64,
    /// Pairs of a label and a source token, by their rows in the batch. Those of a label are side by side.
    pub links: &'a [(u32, u32)],
}

/// The loss of a batch.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The sum of all parts, by their weights: a scalar.
    pub total: Tensor,
    /// The part of guided alignment without its weight, summed over the labels that have links: a scalar.
    pub alignment: Option<Tensor>,
}

/// The context of a forward pass. The default is inference: no dropout, no recording.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass<'a> {
    /// Dropout masks, in training.
    pub dropout: Option<&'a DropoutStream>,
    /// The collector of attention weights.
    pub record: Option<&'a AttentionRecord>,
    /// The arithmetic of matrix products.
    pub compute: Compute,
}

/// The encoder's output for a batch.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The output of the last layer: `[n, d]`.
    pub hidden_nd: Tensor,
    /// The sentences of the rows.
    pub sentences: Sentences,
}

/// The input side of a stack: its embedding table and its positions.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) table_vd: Tensor,
    scale: f64,
    kind: Positions,
    /// Sinusoidal or learned positions, starting at 0: `[positions, d]`.
    pub(crate) positions: Option<Tensor>,
    dropout: f32,
    stack: u64,
}

/// Computed (not learned) positions.
pub(crate) fn computed(
    kind: Positions,
    (start, length, width): (usize, usize, usize),
    (dtype, device): (DType, &Device),
) -> Result<Option<Tensor>, ModelError> {
    let of = match kind {
        Positions::Sinusoidal => sinusoidal,
        Positions::SinusoidalMarian => sinusoidal_marian,
        Positions::Learned | Positions::None => return Ok(None),
    };
    Ok(Some(of(start, length, width, dtype, device)?))
}

impl Input {
    fn new(weights: &Weights, architecture: &Architecture, stack: &str) -> Result<Self, ModelError> {
        let model = &architecture.model;
        let name = if model.tie == Tie::All {
            "model.shared"
        } else {
            &format!("model.{stack}.embed_tokens")
        };
        let table_vd = weights.get(&format!("{name}.weight"))?;
        let positions = match model.positions {
            Positions::None => None,
            Positions::Learned => Some(weights.get(&format!("model.{stack}.embed_positions.weight"))?),
            kind => {
                let numbers = (table_vd.dtype(), table_vd.device());
                computed(kind, (0, READY_POSITIONS, model.d_model), numbers)?
            }
        };
        Ok(Self {
            table_vd,
            scale: if model.scale_embedding {
                (model.d_model as f64).sqrt()
            } else {
                1.0
            },
            kind: model.positions,
            positions,
            dropout: Rates::new(model).output,
            stack: u64::from(stack == "decoder"),
        })
    }

    /// The factor of embeddings.
    pub(crate) fn scale(&self) -> f64 {
        self.scale
    }

    /// The vectors of some positions, `[length, d]`; `None` if the model has none.
    pub(crate) fn positions_of(&self, start: usize, length: usize) -> Result<Option<Tensor>, ModelError> {
        let Some(table) = &self.positions else {
            return Ok(None);
        };
        if start + length <= table.dim(0)? {
            return Ok(Some(table.narrow(0, start, length)?));
        }
        let shape = (start, length, table.dim(1)?);
        match computed(self.kind, shape, (table.dtype(), table.device()))? {
            Some(positions) => Ok(Some(positions)),
            None => Err(ModelError::TooLong {
                length: start + length,
                limit: table.dim(0)?,
            }),
        }
    }

    /// # Shapes
    /// `ids`: u32 `[n]`, the tokens of sentences whose first token has the position `start`; the result: `[n, d]`.
    fn forward(
        &self,
        (ids, sentences): (&Tensor, &Sentences),
        start: usize,
        dropout: Option<&DropoutStream>,
    ) -> Result<Tensor, ModelError> {
        let positions = self.positions_of(start, sentences.longest())?;
        let pass = LayerPass {
            sentences,
            dropout,
            record: None,
            compute: Compute::F32,
            stack: self.stack,
            layer: 0,
        };
        let dropout = pass.dropout(Site::Embedding, self.dropout);
        Ok(embed(
            ids,
            &self.table_vd,
            self.scale,
            positions.as_ref(),
            sentences,
            dropout.as_ref(),
        )?)
    }
}

/// An encoder-decoder Transformer.
#[derive(Clone, Debug)]
pub struct Transformer {
    architecture: Architecture,
    pub(crate) source: Input,
    pub(crate) target: Input,
    pub(crate) encoder: Encoder,
    pub(crate) decoder: Decoder,
    pub(crate) output_vd: Tensor,
    /// A constant added to the logits, `[1, v]`; only imported models have one that is not zero.
    pub(crate) logits_bias: Option<Tensor>,
}

impl Transformer {
    /// Makes a model for training, whose operations are recorded. It shares its weights with `params` and sees their
    /// updates.
    ///
    /// # Errors
    /// When the parameters do not belong to the architecture.
    pub fn for_training(
        architecture: &Architecture,
        params: &Params,
        logits_bias: Option<Tensor>,
    ) -> Result<Self, ModelError> {
        Self::new(architecture, &Weights { params, tracked: true }, logits_bias)
    }

    /// Makes a model for inference, which records nothing. It shares its weights with `params` and sees their updates.
    ///
    /// # Errors
    /// When the parameters do not belong to the architecture.
    pub fn for_inference(
        architecture: &Architecture,
        params: &Params,
        logits_bias: Option<Tensor>,
    ) -> Result<Self, ModelError> {
        Self::new(architecture, &Weights { params, tracked: false }, logits_bias)
    }

    fn new(architecture: &Architecture, weights: &Weights, logits_bias: Option<Tensor>) -> Result<Self, ModelError> {
        let faults = architecture.validate();
        if !faults.is_empty() {
            return Err(ModelError::Architecture(faults));
        }
        let target = Input::new(weights, architecture, "decoder")?;
        let output_vd = match architecture.model.tie {
            Tie::None => weights.get("lm_head.weight")?,
            Tie::All | Tie::Output => target.table_vd.clone(),
        };
        Ok(Self {
            source: Input::new(weights, architecture, "encoder")?,
            target,
            encoder: Encoder::new(weights, &architecture.model)?,
            decoder: Decoder::new(weights, &architecture.model)?,
            output_vd,
            logits_bias,
            architecture: architecture.clone(),
        })
    }

    /// Prepares the model for search: see [`PreparedTransformer`].
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn prepare(&self, compute: InferenceCompute) -> Result<PreparedTransformer, ModelError> {
        PreparedTransformer::new(self.clone(), compute)
    }

    /// The architecture of the model.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The device of the weights.
    pub fn device(&self) -> &Device {
        self.output_vd.device()
    }

    /// The vectors of the first source positions, `[count, d]`, or of fewer if the model has learned fewer; `None` if
    /// it has no positions.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn source_positions(&self, count: usize) -> Result<Option<Tensor>, ModelError> {
        let count = self
            .architecture
            .model
            .position_limit()
            .map_or(count, |limit| limit.min(count));
        self.source.positions_of(0, count)
    }

    /// Runs the encoder.
    ///
    /// # Errors
    /// When an id is outside the vocabulary or a sentence is longer than the learned positions.
    pub fn encode(&self, source: &Tokens, pass: Pass) -> Result<Encoded, ModelError> {
        let sentences = &source.sentences;
        let x_nd = self.source.forward((&source.ids, sentences), 0, pass.dropout)?;
        Ok(Encoded {
            hidden_nd: self.encoder.forward(x_nd, sentences, pass)?,
            sentences: sentences.clone(),
        })
    }

    /// Runs the decoder over complete targets. Each position sees the true tokens before it (teacher forcing).
    ///
    /// # Shapes
    /// `target`: the labels shifted right, starting with `<pad>`; the result: hidden states `[n, d]`, rows of the
    /// target's sentences.
    ///
    /// # Errors
    /// When the batches differ, an id is outside the vocabulary or a sentence is longer than the learned positions.
    pub fn decode(&self, target: &Tokens, encoded: &Encoded, pass: Pass) -> Result<Tensor, ModelError> {
        let sentences = &target.sentences;
        let x_nd = self.target.forward((&target.ids, sentences), 0, pass.dropout)?;
        Ok(self.decoder.forward(x_nd, sentences, encoded, pass, None)?.0)
    }

    /// Computes the scores of all pieces, `<pad>` included.
    ///
    /// # Shapes
    /// `hidden`: `[.., d]`; the result: `[.., v]`.
    ///
    /// # Errors
    /// When the width differs from the model's.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor, ModelError> {
        let logits = linear(hidden, &self.output_vd, None, Activation::None, Compute::F32)?;
        match &self.logits_bias {
            Some(bias) => Ok(logits.broadcast_add(&bias.flatten_all()?)?),
            None => Ok(logits),
        }
    }

    /// The sum over target tokens of the label-smoothed cross-entropy, in nats, and of the parts that the options add.
    ///
    /// # Shapes
    /// `labels`: the tokens to predict, one for each id of `target_input`.
    ///
    /// # Errors
    /// When batch and labels do not fit, and the errors of [`Transformer::encode`].
    pub fn loss(
        &self,
        source: &Tokens,
        target_input: &Tokens,
        labels: &[u32],
        options: LossOptions,
        pass: Pass,
    ) -> Result<Loss, ModelError> {
        let encoded = self.encode(source, pass)?;
        let sentences = &target_input.sentences;
        let x_nd = self.target.forward((&target_input.ids, sentences), 0, pass.dropout)?;
        let links = options.guided_alignment.map(|guided| guided.links);
        let (hidden_nd, alignment) = self.decoder.forward(x_nd, sentences, &encoded, pass, links)?;
        let guided = options.guided_alignment.zip(alignment.as_ref());
        let options = CrossEntropyOptions {
            smoothing: options.smoothing,
            r_drop: options.r_drop,
            classes: self.architecture.classes(),
            compute: pass.compute,
        };
        let loss = cross_entropy(&hidden_nd, &self.output_vd, self.logits_bias.as_ref(), labels, options)?;
        let total = match guided {
            Some((guided, alignment)) => (loss + (alignment * guided.weight)?)?,
            None => loss,
        };
        Ok(Loss { total, alignment })
    }

    /// Makes the decoder's state before the first token, with one row for each sentence.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn start(&self, encoded: &Encoded) -> Result<DecoderState, ModelError> {
        self.decoder.start(encoded)
    }

    /// Feeds one token to every row and returns the scores of the next token: `[rows, v]`.
    ///
    /// # Errors
    /// When the number of tokens differs from the number of rows.
    pub fn step(&self, tokens: &[u32], state: &mut DecoderState) -> Result<Tensor, ModelError> {
        if tokens.len() != state.rows() {
            return Err(ModelError::Batch(format!(
                "{} tokens for {} rows",
                tokens.len(),
                state.rows()
            )));
        }
        let ids = Tensor::from_slice(tokens, tokens.len(), self.output_vd.device())?;
        let singles = Sentences::new(&vec![1; tokens.len()])?;
        let x = self.target.forward((&ids, &singles), state.position(), None)?;
        self.logits(&self.decoder.step(x, &singles, state)?)
    }
}
