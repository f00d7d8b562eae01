//! The parameters of a model: an ordered list of named variables.

use crate::inventory::{Initial, ParameterPlan, inventory};
use crate::{Architecture, Initialisation, ModelError};
use candle_core::{DType, Device, Tensor, Var};
use std::collections::BTreeMap;
use tallow_ops::{Key, Purpose};

/// A tensor inside a packed parameter, with its name in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The name in `model.safetensors`.
    pub name: String,
    /// The shape in `model.safetensors`.
    pub shape: Vec<usize>,
}

/// A trainable tensor.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The name inside the model.
    pub name: String,
    /// The variable.
    pub var: Var,
    /// The tensors of files that it packs, concatenated along the first dimension.
    pub parts: Vec<Part>,
    /// A row that gets no gradient: the embedding of `<pad>`. It is zero in models that Tallow has trained from
    /// scratch.
    pub frozen_row: Option<usize>,
}

impl Parameter {
    /// Splits a tensor of this parameter's shape (its value, its gradient or an average) into its parts in files.
    ///
    /// # Errors
    /// When the tensor has another shape.
    pub fn split(&self, packed: &Tensor) -> Result<Vec<(String, Tensor)>, ModelError> {
        let flat = packed.detach().reshape(self.var.shape())?.flatten_all()?;
        let mut start = 0;
        let mut split = |part: &Part| {
            let count = part.shape.iter().product();
            let tensor = flat.narrow(0, start, count)?.reshape(part.shape.as_slice())?;
            start += count;
            Ok((part.name.clone(), tensor))
        };
        self.parts.iter().map(&mut split).collect()
    }
}

/// All parameters of a model, in a fixed order.
#[derive(Clone, Debug)]
pub struct Params {
    entries: Vec<Parameter>,
    index: BTreeMap<String, usize>,
}

impl Params {
    /// Makes new parameters, which are functions of seed and name. Matrices have the distribution of `initialisation`,
    /// embeddings N(0, 1/d).
    ///
    /// # Errors
    /// When the architecture is invalid.
    pub fn initialise(
        architecture: &Architecture,
        initialisation: Initialisation,
        seed: u64,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let key = Key::new(seed, Purpose::Initialisation);
        Self::build(architecture, device, |plan| {
            let mut values = Vec::with_capacity(plan.shape.iter().product());
            for part in &plan.parts {
                let gain = initialisation.gain(&architecture.model, &part.name);
                let drawn = initial_values(part.initial, &part.shape, key.fold_name(&part.name));
                values.extend(drawn.into_iter().map(|value| value * gain));
            }
            if let Some(row) = plan.frozen_row {
                let width = plan.shape[1];
                values[row * width..(row + 1) * width].fill(0.0);
            }
            Ok(Tensor::from_vec(values, plan.shape.as_slice(), &Device::Cpu)?.to_dtype(dtype)?)
        })
    }

    /// Makes parameters from given parts: `part(name, shape)` returns each part.
    ///
    /// # Errors
    /// When the architecture is invalid or a part fails.
    pub fn from_parts(
        architecture: &Architecture,
        device: &Device,
        part: impl Fn(&str, &[usize]) -> Result<Tensor, ModelError>,
    ) -> Result<Self, ModelError> {
        Self::build(architecture, device, |plan| {
            let parts: Result<Vec<Tensor>, ModelError> = plan
                .parts
                .iter()
                .map(|p| Ok(part(&p.name, &p.shape)?.flatten_all()?))
                .collect();
            Ok(Tensor::cat(&parts?, 0)?.reshape(plan.shape.as_slice())?)
        })
    }

    fn build(
        architecture: &Architecture,
        device: &Device,
        value: impl Fn(&ParameterPlan) -> Result<Tensor, ModelError>,
    ) -> Result<Self, ModelError> {
        let faults = architecture.validate();
        if !faults.is_empty() {
            return Err(ModelError::Architecture(faults));
        }
        let mut entries = Vec::new();
        for plan in inventory(architecture) {
            let var = Var::from_tensor(&value(&plan)?.to_device(device)?)?;
            let parts = plan
                .parts
                .into_iter()
                .map(|p| Part {
                    name: p.name,
                    shape: p.shape,
                })
                .collect();
            entries.push(Parameter {
                name: plan.name,
                var,
                parts,
                frozen_row: plan.frozen_row,
            });
        }
        let index = entries
            .iter()
            .enumerate()
            .map(|(i, entry)| (entry.name.clone(), i))
            .collect();
        Ok(Self { entries, index })
    }

    /// The parameters, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.entries.iter()
    }

    /// The number of parameters.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of trained numbers.
    pub fn elements(&self) -> usize {
        self.entries.iter().map(|entry| entry.var.elem_count()).sum()
    }

    /// The parameter with this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, name: &str) -> Result<&Parameter, ModelError> {
        let index = self
            .index
            .get(name)
            .ok_or_else(|| ModelError::NoParameter(name.into()))?;
        Ok(&self.entries[*index])
    }

    /// Makes a second set of variables with the same values.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn copy(&self) -> Result<Self, ModelError> {
        let copy = |entry: &Parameter| {
            Ok(Parameter {
                var: Var::from_tensor(&entry.var.copy()?)?,
                ..entry.clone()
            })
        };
        Ok(Self {
            entries: self.entries.iter().map(copy).collect::<Result<_, ModelError>>()?,
            index: self.index.clone(),
        })
    }

    /// Copies the values of another set for the same architecture.
    ///
    /// # Errors
    /// When the sets differ in names or shapes.
    pub fn assign(&self, other: &Params) -> Result<(), ModelError> {
        for entry in &self.entries {
            entry.var.set(other.get(&entry.name)?.var.as_tensor())?;
        }
        Ok(())
    }

    /// All parts with their names in files.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn parts(&self) -> Result<Vec<(String, Tensor)>, ModelError> {
        let mut parts = Vec::new();
        for entry in &self.entries {
            parts.extend(entry.split(entry.var.as_tensor())?);
        }
        Ok(parts)
    }
}

fn initial_values(initial: Initial, shape: &[usize], key: Key) -> Vec<f32> {
    let count = shape.iter().product();
    match initial {
        Initial::Constant(value) => vec![value as f32; count],
        Initial::Normal(deviation) => key.normal(count).into_iter().map(|x| (x * deviation) as f32).collect(),
        Initial::Xavier => {
            let fans: usize = shape.iter().sum();
            let width = (6.0 / fans as f64).sqrt();
            key.uniform(count)
                .into_iter()
                .map(|x| ((2.0 * x - 1.0) * width) as f32)
                .collect()
        }
    }
}
