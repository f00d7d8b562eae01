//! The parameters that a prepared model is made of: those of a model in memory, or those in files.

use crate::directory::Unopened;
use crate::formats::hugging_face::{LOGITS_BIAS, stored_name};
use crate::inventory::{ParameterPlan, inventory};
use crate::{Architecture, ModelError, Positions, Tie, Transformer};
use candle_core::Tensor;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use tallow_ops::inference::with_values;

/// The origin of parameters.
#[derive(Clone, Debug)]
pub(super) enum Parameters {
    /// The tensors of a model, by the names of `inventory.rs`, and its bias of the logits.
    Tensors(BTreeMap<String, Tensor>, Option<Tensor>),
    /// Files whose tensors have been checked.
    Files(Arc<Unopened>, Arc<BTreeMap<String, ParameterPlan>>),
}

/// A matrix that is used row by row, where it lies.
#[derive(Clone, Debug)]
pub(super) enum Table {
    Tensor(Tensor),
    Stored(Arc<Unopened>, String),
}

impl Table {
    /// Calls a function with the values.
    pub(super) fn with<R>(&self, with: impl FnOnce(&[f32]) -> R) -> Result<R, ModelError> {
        Ok(match self {
            Self::Tensor(table) => with_values(table, with)?,
            Self::Stored(files, name) => with(&files.weights.values(name)?),
        })
    }

    /// Calls a function that reads single rows of the table. Of a matrix of 8-bit integers, only these are converted.
    pub(super) fn with_rows<R>(&self, with: impl FnOnce(&Rows) -> R) -> Result<R, ModelError> {
        match self {
            Self::Stored(files, name) if files.weights.is_rounded(name) => {
                Ok(with(&|row| files.weights.scaled_row(name, row).map(Cow::Owned)))
            }
            _ => {
                let width = self.width()?;
                self.with(|values| {
                    with(&|row| {
                        let start = row.checked_mul(width)?;
                        Some(Cow::Borrowed(values.get(start..start.checked_add(width)?)?))
                    })
                })
            }
        }
    }

    /// The length of a row.
    fn width(&self) -> Result<usize, ModelError> {
        Ok(match self {
            Self::Tensor(table) => table.dim(1)?,
            Self::Stored(files, name) => {
                let shape = files.weights.shape(name).unwrap_or_default();
                shape.last().copied().unwrap_or_default()
            }
        })
    }
}

/// The row of a number, if the table has it.
pub(super) type Rows<'a> = dyn Fn(usize) -> Option<Cow<'a, [f32]>> + 'a;

impl Parameters {
    /// The parameters of a model in memory.
    pub(super) fn of_model(model: &Transformer) -> Self {
        let shape = &model.architecture().model;
        let mut tensors = BTreeMap::new();
        let mut insert = |name: String, tensor: &Tensor| drop(tensors.insert(name, tensor.clone()));
        for (stack, input) in [("encoder", &model.source), ("decoder", &model.target)] {
            insert(embedding(shape.tie, stack), &input.table_vd);
            if let (Positions::Learned, Some(positions)) = (shape.positions, &input.positions) {
                insert(positions_of(stack), positions);
            }
        }
        if shape.tie == Tie::None {
            insert("lm_head.weight".into(), &model.output_vd);
        }
        for (number, (attention, feed_forward)) in model.encoder.layers.iter().enumerate() {
            let prefix = format!("model.encoder.layers.{number}");
            insert(format!("{prefix}.self_attn"), &attention.packed);
            feed_forward
                .iter()
                .for_each(|layer| insert(format!("{prefix}.feed_forward"), &layer.packed));
        }
        for (number, layer) in model.decoder.layers.iter().enumerate() {
            let prefix = format!("model.decoder.layers.{number}");
            insert(format!("{prefix}.self_attn"), &layer.self_attention.packed);
            if let Some(cross) = &layer.cross_attention {
                insert(format!("{prefix}.encoder_attn"), &cross.packed);
            }
            if let Some(feed_forward) = &layer.feed_forward {
                insert(format!("{prefix}.feed_forward"), &feed_forward.packed);
            }
        }
        for (stack, norm) in [
            ("encoder", &model.encoder.last_norm),
            ("decoder", &model.decoder.last_norm),
        ] {
            norm.iter()
                .for_each(|norm| insert(format!("model.{stack}.layer_norm"), norm));
        }
        Self::Tensors(tensors, model.logits_bias.clone())
    }

    /// The parameters in files.
    pub(super) fn of_files(files: Arc<Unopened>) -> Self {
        let plans = inventory(&files.architecture).into_iter();
        let plans = plans.map(|plan| (plan.name.clone(), plan)).collect();
        Self::Files(files, Arc::new(plans))
    }

    /// The values of a parameter, all its parts one after another.
    pub(super) fn get(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let missing = || ModelError::NoParameter(name.into());
        match self {
            Self::Tensors(tensors, _) => Ok(tensors.get(name).ok_or_else(missing)?.flatten_all()?.to_vec1()?),
            Self::Files(files, plans) => {
                let plan = plans.get(name).ok_or_else(missing)?;
                let mut values = Vec::with_capacity(plan.shape.iter().product());
                for part in &plan.parts {
                    values.extend_from_slice(&of_part(files, &part.name)?);
                }
                Ok(values)
            }
        }
    }

    /// A parameter of one part that need not be copied.
    pub(super) fn table(&self, name: &str) -> Result<Table, ModelError> {
        match self {
            Self::Tensors(tensors, _) => {
                let table = tensors.get(name).ok_or_else(|| ModelError::NoParameter(name.into()))?;
                Ok(Table::Tensor(table.clone()))
            }
            Self::Files(files, _) => {
                let stored = stored_name(name, &files.weights, files.architecture.model.tie);
                if files.weights.is_rounded(stored) {
                    return Ok(Table::Stored(files.clone(), stored.to_owned()));
                }
                match files.weights.values(stored)? {
                    Cow::Borrowed(_) => Ok(Table::Stored(files.clone(), stored.to_owned())),
                    // Values of another type are converted once.
                    Cow::Owned(_) => Ok(Table::Tensor(files.weights.read(stored)?)),
                }
            }
        }
    }

    /// A constant that is added to the logits; `None` if it is zero.
    pub(super) fn logits_bias(&self) -> Result<Option<Vec<f32>>, ModelError> {
        let bias = match self {
            Self::Tensors(_, bias) => bias.as_ref().map(Tensor::flatten_all).transpose()?,
            Self::Files(files, _) => match files.weights.shape(LOGITS_BIAS) {
                Some(_) => Some(files.weights.read(LOGITS_BIAS)?.flatten_all()?),
                None => None,
            },
        };
        let bias = bias.map(|bias| bias.to_vec1::<f32>()).transpose()?;
        Ok(bias.filter(|bias| bias.iter().any(|value| *value != 0.0)))
    }
}

fn of_part<'a>(files: &'a Unopened, name: &str) -> Result<Cow<'a, [f32]>, ModelError> {
    let stored = stored_name(name, &files.weights, files.architecture.model.tie);
    Ok(files.weights.values(stored)?)
}

/// The name of the embedding table of a stack.
pub(super) fn embedding(tie: Tie, stack: &str) -> String {
    match tie {
        Tie::All => "model.shared.weight".into(),
        Tie::Output | Tie::None => format!("model.{stack}.embed_tokens.weight"),
    }
}

/// The name of the table of learned positions of a stack.
pub(super) fn positions_of(stack: &str) -> String {
    format!("model.{stack}.embed_positions.weight")
}

/// The name of the matrix of the output layer.
pub(super) fn output(architecture: &Architecture) -> String {
    match architecture.model.tie {
        Tie::None => "lm_head.weight".into(),
        tie => embedding(tie, "decoder"),
    }
}
