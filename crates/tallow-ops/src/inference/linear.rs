//! Affine maps whose weights are packed once.

use crate::Compute;
use crate::product::{Engine, Into, Matrix, Prepared, append_product, int8, new_product};

/// The arithmetic of the products of a model that is prepared for inference. Softmax, normalisation, residuals and
/// biases are f32 in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum InferenceCompute {
    /// 32-bit floating point.
    #[default]
    F32,
    /// Weights and activations rounded to bfloat16, if the processor has a unit for it; f32 otherwise.
    Bf16,
    /// Weights rounded to 8-bit integers with a scale for each output, activations with a scale for each row, and exact
    /// sums: the same bits on every processor.
    Int8,
}

impl InferenceCompute {
    /// The name of the instructions for such products on this machine; `None` if it computes them in f32 instead.
    pub fn unit_name(self) -> Option<&'static str> {
        match self {
            Self::F32 => Some(crate::instruction_set()),
            Self::Bf16 => Compute::Bf16.unit_name(),
            Self::Int8 => Some(int8::unit_name()),
        }
    }
}

/// y = x Wᵀ + b, with a weight in the form that its engine wants.
pub struct PreparedLinear {
    weight: Form,
    bias: Option<Vec<f32>>,
    inputs: usize,
    outputs: usize,
}

enum Form {
    /// Packed for kernels of this repository.
    Packed(Prepared<'static>),
    /// As it is, `[o, i]`, for the crate `gemm`.
    Plain(Engine, Vec<f32>),
    /// In 8-bit integers.
    Int8(int8::Weights),
}

impl Form {
    fn of_floats(compute: Compute, weight_oi: &[f32], (outputs, inputs): (usize, usize)) -> Self {
        let engine = compute.engine();
        match Prepared::packed(engine, Matrix::new(weight_oi, outputs, inputs).t()) {
            Some(packed) => Self::Packed(packed),
            None => Self::Plain(engine, weight_oi.to_vec()),
        }
    }
}

impl std::fmt::Debug for PreparedLinear {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "PreparedLinear({} -> {})", self.inputs, self.outputs)
    }
}

/// Memory for rows of activations in 8-bit integers.
#[derive(Debug, Default)]
pub struct Scratch(int8::Rows);

/// The left operand of products: rows of activations.
#[derive(Debug)]
pub struct InputRows<'a> {
    values: &'a [f32],
    width: usize,
    scratch: &'a mut Scratch,
    /// Whether `scratch` holds these rows.
    is_rounded: bool,
}

impl<'a> InputRows<'a> {
    /// Rows of `width` values.
    pub fn new(values: &'a [f32], width: usize, scratch: &'a mut Scratch) -> Self {
        Self {
            values,
            width,
            scratch,
            is_rounded: false,
        }
    }

    /// The rows in 8-bit integers, which are rounded only once.
    fn rounded(&mut self) -> &int8::Rows {
        if !self.is_rounded {
            self.scratch.0.quantise(self.values, self.width);
            self.is_rounded = true;
        }
        &self.scratch.0
    }
}

impl PreparedLinear {
    /// Packs a weight.
    ///
    /// # Shapes
    /// `weight_oi`: `[o, i]` with `i` = `inputs`; `bias`: `[o]`.
    ///
    /// # Panics
    /// When the lengths do not fit.
    pub fn new(weight_oi: &[f32], bias: Option<&[f32]>, inputs: usize, compute: InferenceCompute) -> Self {
        let outputs = weight_oi.len() / inputs.max(1);
        assert_eq!(weight_oi.len(), outputs * inputs, "a weight of whole rows");
        assert!(bias.is_none_or(|bias| bias.len() == outputs), "a bias for every output");
        let weight = match compute {
            InferenceCompute::F32 => Form::of_floats(Compute::F32, weight_oi, (outputs, inputs)),
            InferenceCompute::Bf16 => Form::of_floats(Compute::Bf16, weight_oi, (outputs, inputs)),
            InferenceCompute::Int8 => Form::Int8(int8::Weights::quantise(weight_oi, outputs, inputs)),
        };
        Self {
            weight,
            bias: bias.map(<[f32]>::to_vec),
            inputs,
            outputs,
        }
    }

    /// The size of the weight in memory, in bytes.
    pub fn bytes(&self) -> usize {
        match &self.weight {
            Form::Packed(weight) => weight.bytes(),
            Form::Plain(_, weight) => size_of_val(weight.as_slice()),
            Form::Int8(weights) => weights.bytes(),
        }
    }

    /// The width of the results.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Replaces `y` by the map of every row: `[n, o]`.
    ///
    /// # Panics
    /// When the width of the rows differs from the inputs of the map.
    pub fn apply(&self, x: &mut InputRows, y: &mut Vec<f32>) {
        assert_eq!(x.width, self.inputs, "the width of the rows");
        y.clear();
        let bias = self.bias.as_deref();
        let into = bias.map_or(Into::Set, Into::Bias);
        let floats = Matrix::new(x.values, x.values.len() / x.width.max(1), x.width);
        match &self.weight {
            Form::Packed(weight) => append_product(y, floats, weight, into),
            Form::Plain(engine, weight) => {
                let weight = Matrix::new(weight, self.outputs, self.inputs).t();
                *y = new_product(*engine, floats, weight, into);
            }
            Form::Int8(weights) => int8::append_product(y, x.rounded(), weights, bias),
        }
    }
}
