//! The model directory: `config.json`, `generation_config.json` and `model.safetensors`. Older directories have
//! `pytorch_model.bin` instead of the latter; in directories of large models, either may be split into several files.

use crate::formats::hugging_face::Storage;
use crate::formats::hugging_face::{
    self, CONFIG_FILE, GENERATION_FILE, LOGITS_BIAS, WEIGHTS_FILE, is_redundant, read_weights, stored_name,
};
use crate::formats::marian::{self, MarianFiles, MarianModel};
use crate::formats::safetensors::SCALES;
use crate::formats::weights::Weights;
use crate::{Architecture, InferenceCompute, ModelError, Params, PreparedTransformer, Transformer, read_json};
use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use tallow_ops::inference::quantise_row;

pub(crate) fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> ModelError + '_ {
    move |source| ModelError::File {
        path: path.to_path_buf(),
        source,
    }
}

/// Default search settings: the recommendations of `generation_config.json` to every program that opens the model.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchSettings {
    /// Hypotheses kept at every step.
    pub beam: usize,
    /// Maximum number of target tokens, `</s>` included.
    pub max_length: usize,
    /// Exponent of the length in the divisor of a hypothesis' log-probability.
    pub length_penalty: f64,
    /// No sequence of this many tokens occurs twice in a translation; 0 allows all.
    pub no_repeat_ngram: usize,
    /// Heads of the decoder's cross-attention, as pairs of a layer and a head, whose mean aligns target tokens with
    /// source tokens; without any, programs choose.
    pub alignment_heads: Vec<(usize, usize)>,
}

impl SearchSettings {
    /// Settings of a beam search whose scores are normalised per token.
    pub fn new(beam: usize, max_length: usize) -> Self {
        Self {
            beam,
            max_length,
            length_penalty: 1.0,
            no_repeat_ngram: 0,
            alignment_heads: Vec::new(),
        }
    }
}

/// Writes a model into a directory, and creates the directory if it does not exist.
///
/// # Errors
/// When a file cannot be written.
pub fn save(
    directory: &Path,
    architecture: &Architecture,
    params: &Params,
    logits_bias: Option<&Tensor>,
    search: SearchSettings,
) -> Result<(), ModelError> {
    save_as(directory, architecture, params, logits_bias, search, Storage::F32)
}

/// [`save`] with weights in another form.
///
/// # Errors
/// When a weight that is to be rounded is not finite, or a file cannot be written.
pub fn save_as(
    directory: &Path,
    architecture: &Architecture,
    params: &Params,
    logits_bias: Option<&Tensor>,
    search: SearchSettings,
    storage: Storage,
) -> Result<(), ModelError> {
    std::fs::create_dir_all(directory).map_err(file_error(directory))?;
    write_json(
        &directory.join(CONFIG_FILE),
        &hugging_face::to_config(architecture, storage),
    )?;
    let generation = hugging_face::to_generation_config(architecture, search);
    write_json(&directory.join(GENERATION_FILE), &generation)?;
    let mut tensors = BTreeMap::new();
    for (name, tensor) in params.parts()? {
        if storage == Storage::Int8 && is_matrix(&name, &tensor) {
            let (numbers, scales) = rounded(&name, &tensor)?;
            tensors.insert(format!("{name}{SCALES}"), scales);
            tensors.insert(name, numbers);
        } else {
            tensors.insert(name, bytes(&tensor)?);
        }
    }
    let bias = match logits_bias {
        Some(bias) => bias.clone(),
        None => Tensor::zeros((1, architecture.target_vocabulary), DType::F32, &Device::Cpu)?,
    };
    tensors.insert(LOGITS_BIAS.to_string(), bytes(&bias)?);
    let views: Result<Vec<(&str, TensorView)>, _> = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), data)?)))
        .collect();
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let path = directory.join(WEIGHTS_FILE);
    let serialised = views
        .and_then(|views| safetensors::serialize(views, Some(metadata)))
        .map_err(|error| ModelError::Weights {
            path: path.clone(),
            faults: vec![error.to_string()],
        })?;
    std::fs::write(&path, serialised).map_err(file_error(&path))
}

fn write_json(path: &Path, value: &Value) -> Result<(), ModelError> {
    std::fs::write(path, format!("{value:#}\n")).map_err(file_error(path))
}

/// The type, the shape and the bytes of a tensor.
type Stored = (Dtype, Vec<usize>, Vec<u8>);

fn values_of(tensor: &Tensor) -> Result<Vec<f32>, ModelError> {
    let values = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    Ok(values.flatten_all()?.to_vec1::<f32>()?)
}

/// A tensor in little-endian bytes of f32.
fn bytes(tensor: &Tensor) -> Result<Stored, ModelError> {
    let values = values_of(tensor)?;
    Ok((
        Dtype::F32,
        tensor.dims().to_vec(),
        values.into_iter().flat_map(f32::to_le_bytes).collect(),
    ))
}

/// Whether a tensor is the matrix of a product or a table of embeddings. Positions are few, and are added to.
fn is_matrix(name: &str, tensor: &Tensor) -> bool {
    tensor.rank() == 2 && name.ends_with(".weight") && !name.contains("embed_positions")
}

/// A matrix in 8-bit integers, and the scales of its rows.
fn rounded(name: &str, tensor: &Tensor) -> Result<(Stored, Stored), ModelError> {
    let (rows, width) = tensor.dims2()?;
    let (mut numbers, mut scales) = (Vec::with_capacity(rows * width), Vec::with_capacity(4 * rows));
    for row in values_of(tensor)?.chunks_exact(width.max(1)) {
        let (of_row, scale) = quantise_row(row);
        if scale.is_nan() {
            return Err(ModelError::NotFinite(name.to_owned()));
        }
        numbers.extend(of_row.into_iter().map(i8::cast_unsigned));
        scales.extend(scale.to_le_bytes());
    }
    Ok((
        (Dtype::I8, vec![rows, width], numbers),
        (Dtype::F32, vec![rows], scales),
    ))
}

/// Reads the architecture of a model in a directory, without its weights. Only Marian toolkit models have their
/// description in the file of weights, which is read then.
///
/// # Errors
/// When `config.json` is missing, is not JSON, or describes something unsupported; all faults are listed.
pub fn read_architecture(directory: &Path) -> Result<Architecture, ModelError> {
    if MarianFiles::are_at(directory) {
        let model = MarianModel::read(&marian::weights(directory)?)?;
        return Ok(model.architecture().clone());
    }
    let path = directory.join(CONFIG_FILE);
    let config = read_json(&path)?;
    hugging_face::from_config(&config).map_err(|faults| ModelError::Config { path, faults })
}

/// A model read from a directory.
#[derive(Debug)]
pub struct Opened {
    /// The architecture of the model.
    pub architecture: Architecture,
    /// The parameters.
    pub params: Params,
    /// A constant that is added to the logits; `None` if it is zero.
    pub logits_bias: Option<Tensor>,
    /// The name of the file that held the weights.
    pub weights_file: String,
}

impl Opened {
    /// Makes the model for inference.
    ///
    /// # Errors
    /// Those of the tensor operations.
    pub fn for_inference(&self) -> Result<Transformer, ModelError> {
        Transformer::for_inference(&self.architecture, &self.params, self.logits_bias.clone())
    }
}

/// Opens a model directory, or a Marian toolkit model: its directory or its `.npz`. In a model directory, the first
/// existing file of [`WEIGHTS_FILES`] counts. No code in PyTorch's files is executed.
///
/// # Errors
/// When a file is missing or damaged, or tensors are missing, misshapen or surplus; all faults are listed.
///
/// [`WEIGHTS_FILES`]: crate::WEIGHTS_FILES
pub fn open(directory: &Path, device: &Device) -> Result<Opened, ModelError> {
    if MarianFiles::are_at(directory) {
        return MarianModel::read(&marian::weights(directory)?)?.open(device);
    }
    Unopened::read(directory)?.to_model(device)
}

/// Opens a model as [`open`] does and prepares it for search. On the CPU, the weights of a model directory are packed
/// where they lie in the file, without a copy in between.
///
/// # Errors
/// Those of [`open`].
pub fn open_prepared(
    directory: &Path,
    device: &Device,
    compute: InferenceCompute,
) -> Result<PreparedTransformer, ModelError> {
    if device.is_cpu() && !MarianFiles::are_at(directory) {
        return PreparedTransformer::of_files(Unopened::read(directory)?, compute);
    }
    open(directory, device)?.for_inference()?.prepare(compute)
}

/// The files of a model directory.
#[derive(Debug)]
pub(crate) struct Unopened {
    pub(crate) architecture: Architecture,
    pub(crate) weights: Weights,
    weights_file: &'static str,
}

impl Unopened {
    /// Reads the files and checks that the weights fit the config.
    pub(crate) fn read(directory: &Path) -> Result<Self, ModelError> {
        let architecture = read_architecture(directory)?;
        let (weights, weights_file) = read_weights(directory)?;
        check(&weights, &architecture).map_err(|faults| ModelError::Weights {
            path: directory.join(weights_file),
            faults,
        })?;
        Ok(Self {
            architecture,
            weights,
            weights_file,
        })
    }

    /// Makes the model from the files.
    pub(crate) fn to_model(&self, device: &Device) -> Result<Opened, ModelError> {
        let (weights, tie) = (&self.weights, self.architecture.model.tie);
        let params = Params::from_parts(&self.architecture, device, |name, _| {
            Ok(weights.read(stored_name(name, weights, tie))?)
        })?;
        let is_zero = |bias: &Tensor| -> Result<bool, ModelError> {
            Ok(bias.flatten_all()?.to_vec1::<f32>()?.iter().all(|value| *value == 0.0))
        };
        let logits_bias = match weights.shape(LOGITS_BIAS) {
            Some(_) => Some(weights.read(LOGITS_BIAS)?),
            None => None,
        };
        let logits_bias = match logits_bias {
            Some(bias) if !is_zero(&bias)? => Some(bias.to_device(device)?),
            _ => None,
        };
        Ok(Opened {
            architecture: self.architecture.clone(),
            params,
            logits_bias,
            weights_file: self.weights_file.to_owned(),
        })
    }
}

/// Compares the names and shapes of the tensors in a file with those of an architecture.
fn check(weights: &Weights, architecture: &Architecture) -> Result<(), Vec<String>> {
    let mut expected: BTreeMap<String, Vec<usize>> = crate::inventory::inventory(architecture)
        .into_iter()
        .flat_map(|plan| plan.parts)
        .map(|part| (part.name, part.shape))
        .collect();
    expected.insert(LOGITS_BIAS.into(), vec![1, architecture.target_vocabulary]);
    let mut faults = Vec::new();
    for (name, shape) in &expected {
        let name = stored_name(name, weights, architecture.model.tie);
        match weights.shape(name) {
            // Without a bias, nothing is added to the logits.
            None if name == LOGITS_BIAS => {}
            None => faults.push(format!("{name} is missing")),
            Some(other) if other != shape => {
                faults.push(format!("{name} has the shape {other:?} instead of {shape:?}"));
            }
            Some(_) => {
                if let Some(unreadable) = weights.unreadable_type(name) {
                    faults.push(format!(
                        "{name} holds {unreadable}; only F32, F16, BF16, and I8 with scales can be read"
                    ));
                }
            }
        }
    }
    let sizes = expected
        .keys()
        .filter_map(|name| weights.size(stored_name(name, weights, architecture.model.tie)));
    let sum = sizes.fold(0usize, usize::saturating_add);
    if faults.is_empty() && sum > weights.file_size() {
        faults.push(format!(
            "its tensors have {sum} bytes, the file only {}: they lie one over another",
            weights.file_size()
        ));
    }
    for name in weights.names() {
        if !expected.contains_key(name) && !is_redundant(name) {
            faults.push(format!("{name} does not belong to this model"));
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(shortened(faults))
    }
}

/// The first faults of a long list, and the number of the others.
pub(crate) fn shortened(mut faults: Vec<String>) -> Vec<String> {
    const SHOWN: usize = 12;
    if faults.len() > SHOWN {
        let more = faults.len() - SHOWN;
        faults.truncate(SHOWN);
        faults.push(format!("and {more} more"));
    }
    faults
}
