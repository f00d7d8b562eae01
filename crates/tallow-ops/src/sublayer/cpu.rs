//! The fused sublayers: all their steps and all their gradients on plain slices, with the intermediate values in memory
//! that Candle's graph does not know.

use super::connection::RowConnection;
use super::layout::{CrossAttentionLayout, FeedForwardLayout, Place, SelfAttentionLayout};
use super::{AttentionSublayerOptions, FeedForwardOptions};
use crate::attention::{Attention, Lengths};
use crate::gather::Gradient;
use crate::product::{Engine, Into, Matrix, Output, new_product, product};
use crate::profile::{Operation, span};
use crate::values::{Values, slice};
use crate::{Activation, Dropout};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Values that the forward pass leaves for the backward pass.
struct Kept<T>(Mutex<Option<T>>);

impl<T> Kept<T> {
    fn none() -> Self {
        Self(Mutex::new(None))
    }

    fn put(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

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

    /// The gradients of a map: dW = dyᵀ x and db = Σ dy go to their places, dx = dy W is what comes back.
    fn map_backward(&self, place: Place, x: &[f32], dy: &[f32], gradient: &mut Gradient) -> Vec<f32> {
        self.parameter_gradients(place, x, dy, gradient);
        let rows = dy.len() / place.outputs;
        let weight = Matrix::new(&self.values[place.weight()], place.outputs, place.inputs);
        let dy = Matrix::new(dy, rows, place.outputs);
        let _span = dy.span(Operation::InputGradientProduct, place.inputs);
        new_product(self.engine, dy, weight, Into::Set)
    }

    /// As [`Self::map_backward`], but dx is added to what is there.
    fn map_backward_into(&self, place: Place, x: &[f32], dy: &[f32], gradient: &mut Gradient, dx: &mut [f32]) {
        self.parameter_gradients(place, x, dy, gradient);
        let rows = dy.len() / place.outputs;
        let weight = Matrix::new(&self.values[place.weight()], place.outputs, place.inputs);
        let output = Output {
            values: dx,
            stride: place.inputs,
        };
        let dy = Matrix::new(dy, rows, place.outputs);
        let _span = dy.span(Operation::InputGradientProduct, place.inputs);
        product(self.engine, output, dy, weight, Into::Add);
    }

    fn parameter_gradients(&self, place: Place, x: &[f32], dy: &[f32], gradient: &mut Gradient) {
        let rows = dy.len() / place.outputs;
        let dy_no = Matrix::new(dy, rows, place.outputs);
        let into = if gradient.is_new() { Into::Set } else { Into::Add };
        let output = Output {
            values: &mut gradient[place.weight()],
            stride: place.inputs,
        };
        {
            let _span = dy_no.span(Operation::WeightGradientProduct, place.inputs);
            let x = Matrix::new(x, rows, place.inputs);
            product(self.engine, output, dy_no.t(), x, into);
        }
        let _span = span(Operation::BiasGradient);
        let d_bias = &mut gradient[place.bias()];
        vectorized!({
            for row in dy.chunks_exact(place.outputs) {
                d_bias.iter_mut().zip(row).for_each(|(sum, dy)| *sum += dy);
            }
        });
    }

    /// The gradient of `x` through the first map of a sublayer, added to `dx`; the map saw `input`, or `x` itself.
    fn enter_backward(
        &self,
        first: Place,
        norm: Range<usize>,
        to: Entry,
        dy: &[f32],
        gradient: &mut Gradient,
        dx: &mut [f32],
    ) {
        match to.input {
            None => self.map_backward_into(first, to.x, dy, gradient, dx),
            Some(input) => {
                let d_input = self.map_backward(first, input, dy, gradient);
                let d_norm = &mut gradient[norm.clone()];
                to.connection
                    .enter_backward(to.x, &d_input, &self.values[norm], d_norm, dx);
            }
        }
    }
}

/// How a sublayer was entered.
#[derive(Clone, Copy)]
struct Entry<'a> {
    connection: &'a RowConnection,
    x: &'a [f32],
    /// What its first map saw, where that was not `x`.
    input: Option<&'a [f32]>,
}

fn tensor(values: Vec<f32>, like: &Tensor) -> Result<Option<Tensor>> {
    Tensor::from_vec(values, like.shape(), &Device::Cpu).map(Some)
}

/// See [`super::feed_forward`].
pub(super) struct FeedForward {
    layout: FeedForwardLayout,
    activation: Activation,
    positions: usize,
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
    pub(super) fn new(
        layout: FeedForwardLayout,
        positions: usize,
        options: &FeedForwardOptions,
        with_gradient: bool,
    ) -> Self {
        Self {
            layout,
            activation: options.activation,
            positions,
            inner_dropout: options.inner_dropout.filter(|dropout| dropout.is_active()).cloned(),
            connection: RowConnection::new(&options.connection, positions, layout.width),
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
                dropout.fill_row(index / self.positions, 0, index % self.positions, &mut factors);
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
        let norm = self.layout.norm();
        let mut d_packed = Gradient::of(packed);
        let d_norm = &mut d_packed[norm.clone()];
        let (mut dx, dy) = self
            .connection
            .leave_backward(&x_values, &kept.y, &gradient, &values[norm.clone()], d_norm);
        let mut d_inner = parameters.map_backward(self.layout.outer_map(), &kept.inner, &dy, &mut d_packed);
        let of_activation = span(Operation::Activation);
        self.drop_inner(&mut d_inner);
        let at = kept.before.as_ref().unwrap_or(&kept.inner);
        self.activation.backward(&mut d_inner, at);
        drop(of_activation);
        let entry = Entry {
            connection: &self.connection,
            x: &x_values,
            input: kept.input.as_deref(),
        };
        parameters.enter_backward(self.layout.inner_map(), norm, entry, &d_inner, &mut d_packed, &mut dx);
        Ok((tensor(dx, x)?, d_packed.finish(packed)?))
    }
}

/// See [`super::self_attention_sublayer`].
pub(super) struct SelfAttention {
    layout: SelfAttentionLayout,
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
        options: &AttentionSublayerOptions,
        with_gradient: bool,
        positions: usize,
    ) -> Self {
        Self {
            layout,
            attention: Attention::new(options.heads, options.scale, options.mask, options.weights_dropout),
            connection: RowConnection::new(&options.connection, positions, layout.width),
            engine: options.compute.engine(),
            with_gradient,
            kept: Kept::none(),
        }
    }

    fn run(&self, x: &[f32], lengths: Lengths, values: &[f32]) -> (Vec<f32>, KeptSelfAttention) {
        let parameters = Parameters {
            values,
            engine: self.engine,
        };
        let norm = &values[self.layout.norm()];
        let input = self.connection.enter(x, norm);
        let qkv = parameters.map(self.layout.qkv(), input.as_deref().unwrap_or(x));
        let context = self.attention.of_self(&qkv, lengths);
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
        let (sentences, positions, width) = of_x.shape().dims3()?;
        let lengths = Lengths::of_self(sentences, positions, width);
        let (result, kept) = self.run(slice(x, of_x)?, lengths, slice(packed, of_packed)?);
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
        let (sentences, positions, width) = x.dims3()?;
        let lengths = Lengths::of_self(sentences, positions, width);
        let gradient = gradient.contiguous()?;
        let (x_values, values, gradient) = (Values::of(x)?, Values::of(packed)?, Values::of(&gradient)?);
        let kept = self
            .kept
            .take()
            .unwrap_or_else(|| self.run(&x_values, lengths, &values).1);
        let parameters = Parameters {
            values: &values,
            engine: self.engine,
        };
        let norm = self.layout.norm();
        let mut d_packed = Gradient::of(packed);
        let d_norm = &mut d_packed[norm.clone()];
        let (mut dx, dy) = self
            .connection
            .leave_backward(&x_values, &kept.y, &gradient, &values[norm.clone()], d_norm);
        let d_context = parameters.map_backward(self.layout.output(), &kept.context, &dy, &mut d_packed);
        let d_qkv = self.attention.of_self_backward(&kept.qkv, &d_context, lengths);
        let entry = Entry {
            connection: &self.connection,
            x: &x_values,
            input: kept.input.as_deref(),
        };
        parameters.enter_backward(self.layout.qkv(), norm, entry, &d_qkv, &mut d_packed, &mut dx);
        Ok((tensor(dx, x)?, d_packed.finish(packed)?))
    }
}

/// See [`super::cross_attention_sublayer`].
pub(super) struct CrossAttention {
    layout: CrossAttentionLayout,
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
        options: &AttentionSublayerOptions,
        with_gradient: bool,
        positions: usize,
    ) -> Self {
        Self {
            layout,
            attention: Attention::new(options.heads, options.scale, options.mask, options.weights_dropout),
            connection: RowConnection::new(&options.connection, positions, layout.width),
            engine: options.compute.engine(),
            with_gradient,
            kept: Kept::none(),
        }
    }

    fn run(&self, x: &[f32], memory: &[f32], lengths: Lengths, values: &[f32]) -> (Vec<f32>, KeptCrossAttention) {
        let parameters = Parameters {
            values,
            engine: self.engine,
        };
        let norm = &values[self.layout.norm()];
        let input = self.connection.enter(x, norm);
        let q = parameters.map(self.layout.q(), input.as_deref().unwrap_or(x));
        let kv = parameters.map(self.layout.kv(), memory);
        let context = self.attention.of_memory(&q, &kv, lengths);
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
        let lengths = Lengths::of_memory(of_x.shape().dims3()?, of_memory.shape().dims3()?.1);
        let (x, memory) = (slice(x, of_x)?, slice(memory, of_memory)?);
        let (result, kept) = self.run(x, memory, lengths, slice(packed, of_packed)?);
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
        let lengths = Lengths::of_memory(x.dims3()?, memory.dim(1)?);
        let gradient = gradient.contiguous()?;
        let (x_values, memory_values) = (Values::of(x)?, Values::of(memory)?);
        let (values, gradient) = (Values::of(packed)?, Values::of(&gradient)?);
        let kept = self
            .kept
            .take()
            .unwrap_or_else(|| self.run(&x_values, &memory_values, lengths, &values).1);
        let parameters = Parameters {
            values: &values,
            engine: self.engine,
        };
        let norm = self.layout.norm();
        let mut d_packed = Gradient::of(packed);
        let d_norm = &mut d_packed[norm.clone()];
        let (mut dx, dy) = self
            .connection
            .leave_backward(&x_values, &kept.y, &gradient, &values[norm.clone()], d_norm);
        let d_context = parameters.map_backward(self.layout.output(), &kept.context, &dy, &mut d_packed);
        let (dq, d_kv) = self
            .attention
            .of_memory_backward(&kept.q, &kept.kv, &d_context, lengths);
        let d_memory = parameters.map_backward(self.layout.kv(), &memory_values, &d_kv, &mut d_packed);
        let entry = Entry {
            connection: &self.connection,
            x: &x_values,
            input: kept.input.as_deref(),
        };
        parameters.enter_backward(self.layout.q(), norm, entry, &dq, &mut d_packed, &mut dx);
        Ok((tensor(dx, x)?, tensor(d_memory, memory)?, d_packed.finish(packed)?))
    }
}
