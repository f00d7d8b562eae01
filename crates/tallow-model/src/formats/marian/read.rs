//! Reader of Marian's `.npz`.

use super::names::{is_table, marian_name};
use super::npy;
use super::options::{self, Model};
use crate::directory::{file_error, shortened};
use crate::formats::archive;
use crate::formats::bytes::FileBytes;
use crate::formats::failed_download::failed_download;
use crate::formats::weights::Weights;
use crate::inventory::inventory;
use crate::{Architecture, ModelError, Norm, Opened, Params};
use candle_core::{DType, Device, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The name of the array that holds the options.
const OPTIONS: &str = "special:model.yml";
/// The name of the bias on the logits.
const BIAS: &str = "decoder_ff_logit_out_b";
/// The names of the output layer: in Marian since 2019, and before.
const OUTPUT: [&str; 2] = ["decoder_ff_logit_out_Wt", "decoder_ff_logit_out_W"];

/// A file of weights whose tensors agree with its options.
pub(crate) struct MarianModel {
    path: PathBuf,
    weights: Weights,
    model: Model,
}

/// The layout of a tensor in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// A vector: `[1, n]`.
    Vector,
    /// A weight: `[in, out]`.
    Turned,
    /// An embedding table: one row for each piece but `<pad>`.
    Table,
    /// A transposed table: one column for each piece but `<pad>`.
    TurnedTable,
}

impl MarianModel {
    /// Reads a file and checks its tensors.
    ///
    /// # Errors
    /// When it is damaged, when its options are not supported, and when a tensor is missing, misshapen or surplus; all
    /// faults are listed.
    pub(crate) fn read(path: &Path) -> Result<Self, ModelError> {
        let bytes = FileBytes::open(path).map_err(file_error(path))?;
        let damaged = |reason: String| ModelError::Damaged {
            path: path.to_path_buf(),
            reason,
        };
        let refused = |faults: Vec<String>| ModelError::Config {
            path: path.to_path_buf(),
            faults: shortened(faults),
        };
        let (weights, text) = weights_and_options(bytes).map_err(damaged)?;
        let model = options::read(&text).map_err(refused)?;
        let found = Self {
            path: path.to_path_buf(),
            weights,
            model,
        };
        let faults = found.faults();
        if faults.is_empty() {
            Ok(found)
        } else {
            Err(refused(faults))
        }
    }

    pub(crate) fn architecture(&self) -> &Architecture {
        &self.model.architecture
    }

    /// The name and layout in the file of a tensor of the model.
    fn place(&self, name: &str, rank: usize) -> Option<(String, Layout)> {
        let is_pre = self.model.architecture.model.norm == Norm::Pre;
        if name == "lm_head.weight" {
            let [new, old] = OUTPUT;
            return Some(match self.weights.shape(old) {
                Some(_) => (old.to_owned(), Layout::TurnedTable),
                None => (new.to_owned(), Layout::Table),
            });
        }
        if is_table(name) {
            let name = if self.model.shared_table {
                "model.shared.weight"
            } else {
                name
            };
            return Some((marian_name(name, is_pre)?, Layout::Table));
        }
        let layout = if rank == 1 { Layout::Vector } else { Layout::Turned };
        Some((marian_name(&self.tied(name), is_pre)?, layout))
    }

    /// The name of a decoder tensor in the layer that holds it, if its own layer is a copy.
    fn tied(&self, name: &str) -> String {
        const DECODER: &str = "model.decoder.layers.";
        let parts = name.strip_prefix(DECODER).and_then(|rest| rest.split_once('.'));
        let layer = parts.and_then(|(layer, rest)| {
            let number = self.model.decoder_layers.get(layer.parse::<usize>().ok()?)?;
            Some(format!("{DECODER}{}.{rest}", number - 1))
        });
        layer.unwrap_or_else(|| name.to_owned())
    }

    /// Tensors that are missing, misshapen or surplus.
    fn faults(&self) -> Vec<String> {
        let mut faults = BTreeSet::new();
        let mut known = BTreeSet::new();
        let bias = vec![1, self.model.architecture.classes()];
        let mut check = |name: String, shape: Vec<usize>, is_needed: bool| {
            match self.weights.shape(&name) {
                None if is_needed => drop(faults.insert(format!("{name} is missing"))),
                Some(found) if found != shape => {
                    faults.insert(format!("{name} has the shape {found:?} instead of {shape:?}"));
                }
                None | Some(_) => {
                    if let Some(kind) = self.weights.unreadable_type(&name) {
                        faults.insert(format!("{name} holds {kind}; only f4 and f2 can be read"));
                    }
                }
            }
            known.insert(name);
        };
        check(BIAS.to_owned(), bias, false);
        for part in inventory(&self.model.architecture)
            .into_iter()
            .flat_map(|plan| plan.parts)
        {
            match self.place(&part.name, part.shape.len()) {
                Some((name, layout)) => check(name, layout.shape(&part.shape), true),
                None => check(part.name, part.shape, true),
            }
        }
        let surplus = self.weights.names().filter(|name| !known.contains(*name));
        let surplus = surplus.map(|name| format!("{name} does not belong to this model"));
        let surplus: Vec<String> = surplus.collect();
        faults.into_iter().chain(surplus).collect()
    }

    /// Makes the model. `<pad>` gets a row of zeros, because Marian too begins a translation with zeros.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub(crate) fn open(self, device: &Device) -> Result<Opened, ModelError> {
        let architecture = self.model.architecture.clone();
        let params = Params::from_parts(&architecture, device, |name, shape| {
            let (stored, layout) = self
                .place(name, shape.len())
                .ok_or_else(|| ModelError::NoParameter(name.to_owned()))?;
            Ok(layout.of_model(self.weights.read(&stored)?)?)
        })?;
        let bias = match self.weights.shape(BIAS) {
            Some(_) => Some(self.weights.read(BIAS)?),
            None => None,
        };
        let is_zero = |bias: &Tensor| -> Result<bool, ModelError> {
            Ok(bias.flatten_all()?.to_vec1::<f32>()?.iter().all(|value| *value == 0.0))
        };
        let logits_bias = match bias {
            Some(bias) if !is_zero(&bias)? => {
                let pad = Tensor::zeros((1, 1), DType::F32, &Device::Cpu)?;
                Some(Tensor::cat(&[&bias, &pad], 1)?.to_device(device)?)
            }
            _ => None,
        };
        Ok(Opened {
            architecture,
            params,
            logits_bias,
            weights_file: self.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        })
    }
}

impl Layout {
    /// The shape in the file of a tensor that has the given shape in the model.
    fn shape(self, shape: &[usize]) -> Vec<usize> {
        match (self, shape) {
            (Self::Turned, [out, inputs]) => vec![*inputs, *out],
            (Self::Table, [pieces, width]) => vec![pieces - 1, *width],
            (Self::TurnedTable, [pieces, width]) => vec![*width, pieces - 1],
            _ => [&[1], shape].concat(),
        }
    }

    /// Converts a tensor of the file to the model's layout.
    fn of_model(self, stored: Tensor) -> Result<Tensor, candle_core::Error> {
        let stored = match self {
            Self::Vector => return stored.flatten_all(),
            Self::Table => stored,
            Self::Turned | Self::TurnedTable => stored.t()?.contiguous()?,
        };
        if self == Self::Turned {
            return Ok(stored);
        }
        let pad = Tensor::zeros((1, stored.dim(1)?), DType::F32, &Device::Cpu)?;
        Tensor::cat(&[&stored, &pad], 0)
    }
}

/// Reads the tensors of a file and the text of its options.
fn weights_and_options(bytes: FileBytes) -> Result<(Weights, String), String> {
    if let Some(other) = failed_download(&bytes) {
        return Err(other.to_owned());
    }
    let (mut entries, mut options, mut sum) = (BTreeMap::new(), None, 0usize);
    for (file, (start, size)) in archive::places(&bytes, "Marian")? {
        let name = file.strip_suffix(".npy").unwrap_or(&file);
        let entry = npy::entry(&bytes, start, size).map_err(|reason| format!("{name}: {reason}"))?;
        // No array is larger than its file, but several may claim the same bytes.
        sum = sum.saturating_add(size);
        if name == OPTIONS {
            options = bytes.get(entry.start..start + size).map(<[u8]>::to_vec);
        } else if !name.starts_with("special:") {
            entries.insert(name.to_owned(), entry);
        }
    }
    if sum > bytes.len() {
        return Err(format!(
            "its arrays have {sum} bytes, the file only {}: they lie one over another",
            bytes.len()
        ));
    }
    let options = options.ok_or_else(|| format!("it has no {OPTIONS}, which says what the model is"))?;
    // The text ends with a zero byte, and more bytes may follow.
    let text = options.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8(text.to_vec()).map_err(|_| format!("{OPTIONS} is not UTF-8"))?;
    Ok((Weights::new(bytes, entries), text))
}
