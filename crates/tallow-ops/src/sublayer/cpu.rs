//! The fused sublayers: all their steps and all their gradients on plain slices, with the intermediate values in memory
//! that Candle's graph does not know.

use super::connection::RowConnection;
use super::layout::{CrossAttentionLayout, FeedForwardLayout, Place, SelfAttentionLayout};
use super::{AttentionSublayerOptions, FeedForwardOptions};
use crate::attention::{Attention, Sides};
use crate::gather::Gradient;
use crate::kept::Kept;
use crate::product::{Engine, Into, Matrix, Output, new_product, product};
use crate::profile::{Operation, span};
use crate::rows::add_rows;
use crate::values::{Values, slice};
use crate::{Activation, Dropout, Sentences};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor};
use std::ops::Range;

/// The packed parameters of a sublayer.
#[derive(Clone, Copy)]
struct Parameters<'a> {
    values: &'a [f32],
    engine: Engine,
}

impl Parameters<'_> {
    /// x Wᵀ + b.
    fn map(&self, place: Place, x: &[f32]) -> Vec<f32> {
        let x = Matrix::new(x, x.len() / place.inputs, place.inputs);
        let weight = Matrix::new(&self.values[place.weight()], place.outputs, place.inputs);
        let _span = x.span(Operation::ForwardProduct, place.outputs);
        new_product(self.engine, x, weight.t(), Into::Bias(&self.values[place.bias()]))
    }
}

/// The backward pass of a sublayer: what its gradients come from, and what has come of them.
struct Backward<'a> {
    parameters: Parameters<'a>,
    connection: &'a RowConnection,
    norm: Range<usize>,
    x: &'a [f32],
    d_packed: Gradient,
    dx: Vec<f32>,
}

impl<'a> Backward<'a> {
    /// Goes back through what follows the function of the sublayer, whose result was `y`. The second result is the
    /// gradient of `y`.
    fn begin(
        parameters: Parameters<'a>,
        (connection, norm): (&'a RowConnection, Range<usize>),
        (x, y): (&'a [f32], &[f32]),
        gradient: &[f32],
        packed: &Tensor,
    ) -> (Self, Vec<f32>) {
        let mut d_packed = Gradient::of(packed);
        let of_norm = &parameters.values[norm.clone()];
        let (dx, dy) = connection.leave_backward(x, y, gradient, of_norm, &mut d_packed[norm.clone()]);
        let backward = Self {
            parameters,
            connection,
            norm,
            x,
            d_packed,
            dx,
        };
        (backward, dy)
    }

    /// The gradients of a map: dW = dyᵀ x and db = Σ dy go to their places, dx = dy W is what comes back.
    fn map(&mut self, place: Place, x: &[f32], dy: &[f32]) -> Vec<f32> {
        self.parameter_gradients(place, x, dy);
        let (dy, weight) = self.input_gradient(place, dy);
        let _span = dy.span(Operation::InputGradientProduct, place.inputs);
        new_product(self.parameters.engine, dy, weight, Into::Set)
    }

    /// The factors of dy W.
    fn input_gradient<'b>(&self, place: Place, dy: &'b [f32]) -> (Matrix<'b>, Matrix<'a>) {
        let weight = &self.parameters.values[place.weight()];
        (
            Matrix::new(dy, dy.len() / place.outputs, place.outputs),
            Matrix::new(weight, place.outputs, place.inputs),
        )
    }

    fn parameter_gradients(&mut self, place: Place, x: &[f32], dy: &[f32]) {
        let rows = dy.len() / place.outputs;
        let (x, dy_no) = (Matrix::new(x, rows, place.inputs), Matrix::new(dy, rows, place.outputs));
        let into = if self.d_packed.is_new() { Into::Set } else { Into::Add };
        let output = Output {
            values: &mut self.d_packed[place.weight()],
            stride: place.inputs,
        };
        {
            let _span = dy_no.span(Operation::WeightGradientProduct, place.inputs);
            product(self.parameters.engine, output, dy_no.t(), x, into);
        }
        let _span = span(Operation::BiasGradient);
        add_rows(dy, &mut self.d_packed[place.bias()]);
    }

    /// Goes back through the first map of the sublayer, which saw `input`, or `x` itself, and what precedes it. The
    /// results are the gradients of `x` and of the packed parameters.
    fn end(
        mut self,
        first: Place,
        input: Option<&[f32]>,
        dy: &[f32],
        (x, packed): (&Tensor, &Tensor),
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        if let Some(input) = input {
            let d_input = self.map(first, input, dy);
            let (norm, d_norm) = (
                &self.parameters.values[self.norm.clone()],
                &mut self.d_packed[self.norm.clone()],
            );
            self.connection
                .enter_backward(self.x, &d_input, norm, d_norm, &mut self.dx);
        } else {
            self.parameter_gradients(first, self.x, dy);
            let (dy, weight) = self.input_gradient(first, dy);
            let _span = dy.span(Operation::InputGradientProduct, first.inputs);
            let output = Output {
                values: &mut self.dx,
                stride: first.inputs,
            };
            product(self.parameters.engine, output, dy, weight, Into::Add);
        }
        Ok((tensor(self.dx, x)?, self.d_packed.finish(packed)?))
    }
}

fn tensor(values: Vec<f32>, like: &Tensor) -> Result<Option<Tensor>> {
    Tensor::from_vec(values, like.shape(), &Device::Cpu).map(Some)
}

/// See [`super::feed_forward`].
pub(super) struct FeedForward {
    layout: FeedForwardLayout,
    activation: Activation,
    inner_dropout: Option<Dropout>,
    connection: RowConnection,
    engine: Engine,
    with_gradient: bool,
    kept: Kept<KeptFeedForward>,
}

struct KeptFeedForward {
    input: Option<Vec<f32>>,
    /// Before the activation, where its derivative needs that.
    before: Option<Vec<f32>>,
    inner: Vec<f32>,
    y: Vec<f32>,
}

impl FeedForward {
    pub(super) fn new(layout: FeedForwardLayout, options: &FeedForwardOptions, with_gradient: bool) -> Self {
        Self {
            layout,
            activation: options.activation,
            inner_dropout: options.inner_dropout.filter(|dropout| dropout.is_active()).cloned(),
            connection: RowConnection::new(&options.connection, layout.width),
            engine: options.compute.engine(),
            with_gradient,
            kept: Kept::none(),
        }
    }

    /// Multiplies rows of the inner width by their masks.
    fn drop_inner(&self, rows: &mut [f32]) {
        let Some(dropout) = &self.inner_dropout else { return };
        let width = self.layout.inner;
        vectorized!({
            let mut factors = vec![0f32; width];
            for (index, row) in rows.chunks_exact_mut(width).enumerate() {
                dropout.fill_row(index, &mut factors);
                row.iter_mut().zip(&factors).for_each(|(x, factor)| *x *= factor);
            }
        });
    }

    fn run(&self, x: &[f32], values: &[f32]) -> (Vec<f32>, KeptFeedForward) {
        let parameters = Parameters {
            values,
            engine: self.engine,
        };
        let norm = &values[self.layout.norm()];
        let input = self.connection.enter(x, norm);
        let mut inner = parameters.map(self.layout.inner_map(), input.as_deref().unwrap_or(x));
        let of_activation = span(Operation::Activation);
        let before = (self.with_gradient && self.activation.needs_input()).then(|| inner.clone());
        self.activation.apply(&mut inner);
        self.drop_inner(&mut inner);
        drop(of_activation);
        let y = parameters.map(self.layout.outer_map(), &inner);
        let result = self.connection.leave(x, &y, norm);
        let kept = KeptFeedForward {
            input,
            before,
            inner,
            y,
        };
        (result, kept)
    }
}

impl CustomOp2 for FeedForward {
    fn name(&self) -> &'static str {
        "feed-forward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        packed: &CpuStorage,
        of_packed: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (result, kept) = self.run(slice(x, of_x)?, slice(packed, of_packed)?);
        if self.with_gradient {
            self.kept.put(kept);
        }
        Ok((CpuStorage::F32(result), of_x.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        packed: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (x_values, values, gradient) = (Values::of(x)?, Values::of(packed)?, Values::of(&gradient)?);
        let kept = self.kept.take().unwrap_or_else(|| self.run(&x_values, &values).1);
        let parameters = Parameters {
            values: &values,
            engine: self.engine,
        };
        let around = (&self.connection, self.layout.norm());
        let (mut backward, dy) = Backward::begin(parameters, around, (&x_values, &kept.y), &gradient, packed);
        let mut d_inner = backward.map(self.layout.outer_map(), &kept.inner, &dy);
        let of_activation = span(Operation::Activation);
        self.drop_inner(&mut d_inner);
        let at = kept.before.as_ref().unwrap_or(&kept.inner);
        self.activation.backward(&mut d_inner, at);
        drop(of_activation);
        backward.end(self.layout.inner_map(), kept.input.as_deref(), &d_inner, (x, packed))
    }
}

/// See [`super::self_attention_sublayer`].
pub(super) struct SelfAttention {
    layout: SelfAttentionLayout,
    sentences: Sentences,
    attention: Attention,
    connection: RowConnection,
    engine: Engine,
    with_gradient: bool,
    kept: Kept<KeptSelfAttention>,
}

struct KeptSelfAttention {
    input: Option<Vec<f32>>,
    qkv: Vec<f32>,
    context: Vec<f32>,
    y: Vec<f32>,
}

impl SelfAttention {
    pub(super) fn new(
        layout: SelfAttentionLayout,
        sentences: &Sentences,
        causal: bool,
        options: &AttentionSublayerOptions,
        with_gradient: bool,
    ) -> Self {
        Self {
            layout,
            sentences: sentences.clone(),
            attention: Attention::new(options.heads, options.scale, causal, options.weights_dropout),
            connection: RowConnection::new(&options.connection, layout.width),
            engine: options.compute.engine(),
            with_gradient,
            kept: Kept::none(),
        }
    }

    fn sides(&self) -> Sides<'_> {
        Sides {
            queries: &self.sentences,
            keys: &self.sentences,
            width: self.layout.width,
        }
    }

    fn run(&self, x: &[f32], values: &[f32]) -> (Vec<f32>, KeptSelfAttention) {
        let parameters = Parameters {
            values,
            engine: self.engine,
        };
        let norm = &values[self.layout.norm()];
        let input = self.connection.enter(x, norm);
        let qkv = parameters.map(self.layout.qkv(), input.as_deref().unwrap_or(x));
        let context = self.attention.of_self(&qkv, self.sides());
        let y = parameters.map(self.layout.output(), &context);
        let result = self.connection.leave(x, &y, norm);
        let kept = KeptSelfAttention { input, qkv, context, y };
        (result, kept)
    }
}

impl CustomOp2 for SelfAttention {
    fn name(&self) -> &'static str {
        "self-attention-sublayer"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        packed: &CpuStorage,
        of_packed: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (result, kept) = self.run(slice(x, of_x)?, slice(packed, of_packed)?);
        if self.with_gradient {
            self.kept.put(kept);
        }
        Ok((CpuStorage::F32(result), of_x.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        packed: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (x_values, values, gradient) = (Values::of(x)?, Values::of(packed)?, Values::of(&gradient)?);
        let kept = self.kept.take().unwrap_or_else(|| self.run(&x_values, &values).1);
        let parameters = Parameters {
            values: &values,
            engine: self.engine,
        };
        let around = (&self.connection, self.layout.norm());
        let (mut backward, dy) = Backward::begin(parameters, around, (&x_values, &kept.y), &gradient, packed);
        let d_context = backward.map(self.layout.output(), &kept.context, &dy);
        let d_qkv = self.attention.of_self_backward(&kept.qkv, &d_context, self.sides());
        backward.end(self.layout.qkv(), kept.input.as_deref(), &d_qkv, (x, packed))
    }
}

/// See [`super::cross_attention_sublayer`].
pub(super) struct CrossAttention {
    layout: CrossAttentionLayout,
    sentences: Sentences,
    memory_sentences: Sentences,
    attention: Attention,
    connection: RowConnection,
    engine: Engine,
    with_gradient: bool,
    kept: Kept<KeptCrossAttention>,
}

struct KeptCrossAttention {
    input: Option<Vec<f32>>,
    q: Vec<f32>,
    kv: Vec<f32>,
    context: Vec<f32>,
    y: Vec<f32>,
}

impl CrossAttention {
    pub(super) fn new(
        layout: CrossAttentionLayout,
        sentences: &Sentences,
        memory_sentences: &Sentences,
        options: &AttentionSublayerOptions,
        with_gradient: bool,
    ) -> Self {
        Self {
            layout,
            sentences: sentences.clone(),
            memory_sentences: memory_sentences.clone(),
            attention: Attention::new(options.heads, options.scale, false, options.weights_dropout),
            connection: RowConnection::new(&options.connection, layout.width),
            engine: options.compute.engine(),
            with_gradient,
            kept: Kept::none(),
        }
    }

    fn sides(&self) -> Sides<'_> {
        Sides {
            queries: &self.sentences,
            keys: &self.memory_sentences,
            width: self.layout.width,
        }
    }

    fn run(&self, x: &[f32], memory: &[f32], values: &[f32]) -> (Vec<f32>, KeptCrossAttention) {
        let parameters = Parameters {
            values,
            engine: self.engine,
        };
        let norm = &values[self.layout.norm()];
        let input = self.connection.enter(x, norm);
        let q = parameters.map(self.layout.q(), input.as_deref().unwrap_or(x));
        let kv = parameters.map(self.layout.kv(), memory);
        let context = self.attention.of_memory(&q, &kv, self.sides());
        let y = parameters.map(self.layout.output(), &context);
        let result = self.connection.leave(x, &y, norm);
        let kept = KeptCrossAttention {
            input,
            q,
            kv,
            context,
            y,
        };
        (result, kept)
    }
}

impl CustomOp3 for CrossAttention {
    fn name(&self) -> &'static str {
        "cross-attention-sublayer"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        memory: &CpuStorage,
        of_memory: &Layout,
        packed: &CpuStorage,
        of_packed: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, memory) = (slice(x, of_x)?, slice(memory, of_memory)?);
        let (result, kept) = self.run(x, memory, slice(packed, of_packed)?);
        if self.with_gradient {
            self.kept.put(kept);
        }
        Ok((CpuStorage::F32(result), of_x.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        memory: &Tensor,
        packed: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (x_values, memory_values) = (Values::of(x)?, Values::of(memory)?);
        let (values, gradient) = (Values::of(packed)?, Values::of(&gradient)?);
        let kept = self
            .kept
            .take()
            .unwrap_or_else(|| self.run(&x_values, &memory_values, &values).1);
        let parameters = Parameters {
            values: &values,
            engine: self.engine,
        };
        let around = (&self.connection, self.layout.norm());
        let (mut backward, dy) = Backward::begin(parameters, around, (&x_values, &kept.y), &gradient, packed);
        let d_context = backward.map(self.layout.output(), &kept.context, &dy);
        let (dq, d_kv) = self
            .attention
            .of_memory_backward(&kept.q, &kept.kv, &d_context, self.sides());
        let d_memory = backward.map(self.layout.kv(), &memory_values, &d_kv);
        let (dx, d_packed) = backward.end(self.layout.q(), kept.input.as_deref(), &dq, (x, packed))?;
        Ok((dx, tensor(d_memory, memory)?, d_packed))
    }
}
