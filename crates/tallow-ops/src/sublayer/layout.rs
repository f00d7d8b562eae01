//! The layout of a sublayer's parameters in one tensor.

use candle_core::{Result, Tensor};
use std::ops::Range;

/// The parameters of attention to the sequence itself, as views.
#[derive(Clone, Debug)]
pub struct SelfAttentionParts {
    /// Queries, keys and values: `[3d, d]`.
    pub qkv_weight: Tensor,
    /// `[3d]`.
    pub qkv_bias: Tensor,
    /// `[d, d]`.
    pub output_weight: Tensor,
    /// `[d]`.
    pub output_bias: Tensor,
    /// Scale and shift: `[2, d]`; none if the sublayer has no normalisation.
    pub norm: Option<Tensor>,
}

/// The parameters of attention to the encoder's output, as views.
#[derive(Clone, Debug)]
pub struct CrossAttentionParts {
    /// `[d, d]`.
    pub q_weight: Tensor,
    /// `[d]`.
    pub q_bias: Tensor,
    /// Keys and values: `[2d, d]`.
    pub kv_weight: Tensor,
    /// `[2d]`.
    pub kv_bias: Tensor,
    /// `[d, d]`.
    pub output_weight: Tensor,
    /// `[d]`.
    pub output_bias: Tensor,
    /// Scale and shift: `[2, d]`; none if the sublayer has no normalisation.
    pub norm: Option<Tensor>,
}

/// The parameters of a feed-forward layer, as views.
#[derive(Clone, Debug)]
pub struct FeedForwardParts {
    /// `[f, d]`.
    pub inner_weight: Tensor,
    /// `[f]`.
    pub inner_bias: Tensor,
    /// `[d, f]`.
    pub outer_weight: Tensor,
    /// `[d]`.
    pub outer_bias: Tensor,
    /// Scale and shift: `[2, d]`; none if the sublayer has no normalisation.
    pub norm: Option<Tensor>,
}

/// Cuts consecutive views of the given shapes.
fn cut<const N: usize>(packed: &Tensor, shapes: [&[usize]; N]) -> Result<[Tensor; N]> {
    let mut start = 0;
    let views = shapes.map(|shape| {
        let count = shape.iter().product();
        let view = packed.narrow(0, start, count).and_then(|part| part.reshape(shape));
        start += count;
        view
    });
    let mut tensors = Vec::with_capacity(N);
    for view in views {
        tensors.push(view?);
    }
    tensors
        .try_into()
        .map_err(|_| candle_core::Error::Msg("the number of parts changed".into()))
}

/// The scale and shift behind all other parameters, if there are any.
fn norm_of(packed: &Tensor, d: usize, before: usize) -> Result<Option<Tensor>> {
    match packed.elem_count() > before {
        true => packed.narrow(0, before, 2 * d)?.reshape((2, d)).map(Some),
        false => Ok(None),
    }
}

impl SelfAttentionParts {
    /// Views of the packed parameters of width `d`, with or without a normalisation.
    ///
    /// # Errors
    /// When there are too few elements.
    pub fn of(packed: &Tensor, d: usize) -> Result<Self> {
        let [qkv_weight, qkv_bias, output_weight, output_bias] = cut(packed, [&[3 * d, d], &[3 * d], &[d, d], &[d]])?;
        let norm = norm_of(packed, d, 4 * d * (d + 1))?;
        Ok(Self {
            qkv_weight,
            qkv_bias,
            output_weight,
            output_bias,
            norm,
        })
    }
}

impl CrossAttentionParts {
    /// Views of the packed parameters of width `d`, with or without a normalisation.
    ///
    /// # Errors
    /// When there are too few elements.
    pub fn of(packed: &Tensor, d: usize) -> Result<Self> {
        let [q_weight, q_bias, kv_weight, kv_bias, output_weight, output_bias] =
            cut(packed, [&[d, d], &[d], &[2 * d, d], &[2 * d], &[d, d], &[d]])?;
        let norm = norm_of(packed, d, 4 * d * (d + 1))?;
        Ok(Self {
            q_weight,
            q_bias,
            kv_weight,
            kv_bias,
            output_weight,
            output_bias,
            norm,
        })
    }
}

impl FeedForwardParts {
    /// Views of the packed parameters of width `d` and inner width `f`, with or without a normalisation.
    ///
    /// # Errors
    /// When there are too few elements.
    pub fn of(packed: &Tensor, d: usize, f: usize) -> Result<Self> {
        let [inner_weight, inner_bias, outer_weight, outer_bias] = cut(packed, [&[f, d], &[f], &[d, f], &[d]])?;
        let norm = norm_of(packed, d, 2 * d * f + f + d)?;
        Ok(Self {
            inner_weight,
            inner_bias,
            outer_weight,
            outer_bias,
            norm,
        })
    }
}

/// An affine map inside the packed parameters: its weight `[outputs, inputs]`, then its bias.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) start: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

impl Place {
    pub(super) fn weight(self) -> Range<usize> {
        self.start..self.start + self.inputs * self.outputs
    }

    pub(super) fn bias(self) -> Range<usize> {
        let start = self.weight().end;
        start..start + self.outputs
    }

    /// The map after this one.
    fn then(self, inputs: usize, outputs: usize) -> Self {
        Self {
            start: self.bias().end,
            inputs,
            outputs,
        }
    }

    fn first(inputs: usize, outputs: usize) -> Self {
        Self {
            start: 0,
            inputs,
            outputs,
        }
    }

    /// The scale and shift after this map, if there are any.
    fn then_norm(self, has_norm: bool) -> Range<usize> {
        let start = self.bias().end;
        start..start + if has_norm { 2 * self.outputs } else { 0 }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SelfAttentionLayout {
    pub(super) width: usize,
    pub(super) has_norm: bool,
}

impl SelfAttentionLayout {
    pub(super) fn qkv(self) -> Place {
        Place::first(self.width, 3 * self.width)
    }

    pub(super) fn output(self) -> Place {
        self.qkv().then(self.width, self.width)
    }

    pub(super) fn norm(self) -> Range<usize> {
        self.output().then_norm(self.has_norm)
    }

    pub(super) fn elements(self) -> usize {
        self.norm().end
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct CrossAttentionLayout {
    pub(super) width: usize,
    pub(super) has_norm: bool,
}

impl CrossAttentionLayout {
    pub(super) fn q(self) -> Place {
        Place::first(self.width, self.width)
    }

    pub(super) fn kv(self) -> Place {
        self.q().then(self.width, 2 * self.width)
    }

    pub(super) fn output(self) -> Place {
        self.kv().then(self.width, self.width)
    }

    pub(super) fn norm(self) -> Range<usize> {
        self.output().then_norm(self.has_norm)
    }

    pub(super) fn elements(self) -> usize {
        self.norm().end
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FeedForwardLayout {
    pub(super) width: usize,
    pub(super) inner: usize,
    pub(super) has_norm: bool,
}

impl FeedForwardLayout {
    pub(super) fn inner_map(self) -> Place {
        Place::first(self.width, self.inner)
    }

    pub(super) fn outer_map(self) -> Place {
        self.inner_map().then(self.inner, self.width)
    }

    pub(super) fn norm(self) -> Range<usize> {
        self.outer_map().then_norm(self.has_norm)
    }

    pub(super) fn elements(self) -> usize {
        self.norm().end
    }
}
