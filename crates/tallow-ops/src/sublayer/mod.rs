//! The three sublayers of a Transformer (Vaswani et al. 2017, section 3): attention of a sequence to itself, attention
//! to the encoder's output, and the position-wise feed-forward layer, each with projections, dropout, residual
//! connection and normalisation.
//!
//! A sublayer is one operation whose parameters are concatenated in one tensor, because Candle allows at most three
//! inputs for a custom operation, and every edge of its graph costs a tensor of zeros and an addition. `reference.rs`
//! defines each sublayer in the small operations of this crate, and also runs wherever the fused form is not possible.

mod connection;
mod cpu;
mod layout;
mod reference;

pub(crate) use connection::RowConnection;
pub use layout::{CrossAttentionParts, FeedForwardParts, SelfAttentionParts};

use crate::backend::Backend;
use crate::{Activation, Compute, Dropout, Sentences};
use candle_core::{Result, Tensor, bail};
use layout::{CrossAttentionLayout, FeedForwardLayout, SelfAttentionLayout};
use std::cell::RefCell;

/// The place of a sublayer's normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// layer_norm(x + f(x)), as in the paper.
    Post,
    /// x + f(layer_norm(x)) (Xiong et al. 2020).
    Pre,
    /// x + f(x): there is none, and no parameters for it.
    None,
}

/// The connection around the function of a sublayer.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The place of the normalisation.
    pub place: NormPlace,
    /// Whether x is added to f(x).
    pub residual: bool,
    /// Added to the variance before its root is taken.
    pub epsilon: f64,
    /// Dropout on the function's output.
    pub dropout: Option<&'a Dropout>,
}

/// Options of an attention sublayer.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSublayerOptions<'a> {
    /// The number of heads, a divisor of the model width.
    pub heads: usize,
    /// The factor of the products of queries and keys; 1/sqrt(k) in the paper.
    pub scale: f64,
    /// Dropout on the attention weights.
    pub weights_dropout: Option<&'a Dropout>,
    /// Residual connection and normalisation.
    pub connection: Connection<'a>,
    /// The arithmetic of matrix products.
    pub compute: Compute,
    /// The place for the attention weights, `[b, h, t, s]`, if they are requested.
    pub record: Option<&'a RefCell<Option<Tensor>>>,
}

/// Options of a feed-forward sublayer.
#[derive(Clone, Copy, Debug)]
pub struct FeedForwardOptions<'a> {
    /// The inner width.
    pub inner: usize,
    /// The non-linearity between the two maps.
    pub activation: Activation,
    /// Dropout on the result of the non-linearity.
    pub inner_dropout: Option<&'a Dropout>,
    /// Residual connection and normalisation.
    pub connection: Connection<'a>,
    /// The arithmetic of matrix products.
    pub compute: Compute,
}

/// x + W2 activation(W1 x + b1) + b2, with dropout and normalisation around it.
///
/// # Shapes
/// `x` and the result: `[n, d]`; `packed`: the elements of [`FeedForwardParts`], concatenated.
///
/// # Errors
/// When the shapes do not fit.
pub fn feed_forward(x: &Tensor, packed: &Tensor, options: FeedForwardOptions) -> Result<Tensor> {
    let (_, width) = x.dims2()?;
    let layout = FeedForwardLayout {
        width,
        inner: options.inner,
        has_norm: options.connection.has_norm(),
    };
    expect(packed, layout.elements(), "feed_forward")?;
    match Backend::of(&[x, packed]) {
        Backend::Cpu => {
            // Both masks have a row for each row of `x`; their widths do not matter.
            let masks = [options.inner_dropout, options.connection.dropout];
            masks
                .into_iter()
                .flatten()
                .try_for_each(|dropout| dropout.check_rows(x.dims()))?;
            x.apply_op2(packed, cpu::FeedForward::new(layout, &options, tracked(&[x, packed])))
        }
        Backend::Reference => reference::feed_forward(x, &FeedForwardParts::of(packed, width, options.inner)?, options),
    }
}

/// The sublayer of attention of sentences to themselves.
///
/// # Shapes
/// `x` and the result: `[n, d]`, rows of `sentences`; `packed`: the elements of [`SelfAttentionParts`], concatenated.
/// With `causal`, a position sees only positions up to itself in its sentence.
///
/// # Errors
/// When the shapes do not fit.
pub fn self_attention_sublayer(
    x: &Tensor,
    sentences: &Sentences,
    causal: bool,
    packed: &Tensor,
    options: AttentionSublayerOptions,
) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    if rows != sentences.rows() {
        bail!(
            "self_attention: x {:?} does not have the {} rows of its sentences",
            x.dims(),
            sentences.rows()
        );
    }
    let layout = SelfAttentionLayout {
        width,
        has_norm: options.connection.has_norm(),
    };
    expect(packed, layout.elements(), "self_attention")?;
    match Backend::of(&[x, packed]).if_able(options.can_fuse(x, sentences)?) {
        Backend::Cpu => {
            let operation = cpu::SelfAttention::new(layout, sentences, causal, &options, tracked(&[x, packed]));
            x.apply_op2(packed, operation)
        }
        Backend::Reference => {
            reference::self_attention((x, sentences), causal, &SelfAttentionParts::of(packed, width)?, options)
        }
    }
}

/// The sublayer of attention to the encoder's output.
///
/// # Shapes
/// `x` and the result: `[n, d]`, rows of `sentences`; `memory`: `[m, d]`, rows of `memory_sentences`; `packed`: the
/// elements of [`CrossAttentionParts`], concatenated.
///
/// # Errors
/// When the shapes do not fit.
pub fn cross_attention_sublayer(
    (x, sentences): (&Tensor, &Sentences),
    (memory, memory_sentences): (&Tensor, &Sentences),
    packed: &Tensor,
    options: AttentionSublayerOptions,
) -> Result<Tensor> {
    let ((rows, width), (memory_rows, memory_width)) = (x.dims2()?, memory.dims2()?);
    let fits = (rows, memory_rows) == (sentences.rows(), memory_sentences.rows());
    if !fits || width != memory_width || sentences.count() != memory_sentences.count() {
        bail!(
            "cross_attention: x {:?} in {} sentences and memory {:?} in {} do not fit",
            x.dims(),
            sentences.count(),
            memory.dims(),
            memory_sentences.count()
        );
    }
    let layout = CrossAttentionLayout {
        width,
        has_norm: options.connection.has_norm(),
    };
    expect(packed, layout.elements(), "cross_attention")?;
    match Backend::of(&[x, memory, packed]).if_able(options.can_fuse(x, sentences)?) {
        Backend::Cpu => {
            let with_gradient = tracked(&[x, memory, packed]);
            let operation = cpu::CrossAttention::new(layout, sentences, memory_sentences, &options, with_gradient);
            x.apply_op3(memory, packed, operation)
        }
        Backend::Reference => {
            let parts = CrossAttentionParts::of(packed, width)?;
            reference::cross_attention((x, sentences), (memory, memory_sentences), &parts, options)
        }
    }
}

impl Connection<'_> {
    fn has_norm(&self) -> bool {
        self.place != NormPlace::None
    }
}

impl AttentionSublayerOptions<'_> {
    /// Whether the fused form can compute this: it never writes the weights out, so it cannot record them.
    fn can_fuse(&self, x: &Tensor, sentences: &Sentences) -> Result<bool> {
        let (_, width) = x.dims2()?;
        if self.record.is_some() || self.heads == 0 || !width.is_multiple_of(self.heads) || self.scale <= 0.0 {
            return Ok(false);
        }
        if let Some(dropout) = self.weights_dropout {
            dropout.check_weights(sentences, self.heads)?;
        }
        if let Some(dropout) = self.connection.dropout {
            dropout.check_rows(x.dims())?;
        }
        Ok(true)
    }
}

fn expect(packed: &Tensor, elements: usize, what: &str) -> Result<()> {
    if packed.dims() != [elements] {
        bail!("{what}: the parameters {:?} are not [{elements}]", packed.dims());
    }
    Ok(())
}

/// Whether a backward pass may follow.
fn tracked(inputs: &[&Tensor]) -> bool {
    inputs.iter().any(|x| x.track_op())
}
