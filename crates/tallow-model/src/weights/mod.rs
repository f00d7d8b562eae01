//! Files of named tensors: `model.safetensors`, and `pytorch_model.bin` as older models have it; either may be split.
//!
//! A file is read whole; opening it checks that every tensor lies inside it, so that nothing larger than the file is ever
//! asked for, whatever it claims. That the tensors of a model do not share their numbers, `directory.rs` checks.

mod index;
mod pickle;
mod pytorch;

pub(crate) use index::read_weights;
pub use index::{PYTORCH_INDEX_FILE, WEIGHTS_FILES, WEIGHTS_INDEX_FILE, shard_names};

use crate::stand_in::stand_in;
use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The tensors of a file, or of several.
#[derive(Debug)]
pub(crate) struct Weights {
    files: Vec<Vec<u8>>,
    entries: BTreeMap<String, Entry>,
}

/// Where a tensor lies in its file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The name that its format gives the type of its numbers.
    type_name: String,
    /// The type, if it can be read.
    dtype: Option<DType>,
    shape: Vec<usize>,
    /// The byte at which its first number lies.
    start: usize,
    /// From one number to the next along each dimension, in numbers.
    strides: Vec<usize>,
    /// Which of the files.
    file: usize,
}

/// Numbers per step along each dimension of a tensor that lies in one piece.
fn contiguous(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(shape[i].max(1));
    }
    strides
}

impl Weights {
    /// The tensors of a safetensors file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn safetensors(bytes: Vec<u8>) -> Result<Self, String> {
        // Checks the header against the length of the file, and every tensor against its shape.
        SafeTensors::deserialize(&bytes).map_err(|error| fault_of_safetensors(&bytes, &error))?;
        let (header, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|error| fault_of_safetensors(&bytes, &error))?;
        let data = header + size_of::<u64>();
        let entry = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
            let dtype = match info.dtype {
                Dtype::F32 => Some(DType::F32),
                Dtype::F16 => Some(DType::F16),
                Dtype::BF16 => Some(DType::BF16),
                _ => None,
            };
            let entry = Entry {
                type_name: format!("{:?}", info.dtype),
                dtype,
                shape: info.shape.clone(),
                start: data + info.data_offsets.0,
                strides: contiguous(&info.shape),
                file: 0,
            };
            (name, entry)
        };
        let entries = metadata.tensors().into_iter().map(entry).collect();
        Ok(Self {
            files: vec![bytes],
            entries,
        })
    }

    /// The tensors of what PyTorch's `save` has written of a `state_dict`, without running anything of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn pytorch(bytes: Vec<u8>) -> Result<Self, String> {
        let entries = pytorch::entries(&bytes).map_err(|fault| stand_in(&bytes).map_or(fault, str::to_owned))?;
        Ok(Self {
            files: vec![bytes],
            entries,
        })
    }

    /// The tensors of all parts together; no name occurs twice.
    pub(crate) fn joined(parts: impl IntoIterator<Item = Self>) -> Self {
        let (mut files, mut entries) = (Vec::new(), BTreeMap::new());
        for part in parts {
            let first = files.len();
            let moved = |(name, entry): (String, Entry)| {
                let file = first + entry.file;
                (name, Entry { file, ..entry })
            };
            entries.extend(part.entries.into_iter().map(moved));
            files.extend(part.files);
        }
        Self { files, entries }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The shape of a tensor, if there is one of this name.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Bytes of a tensor, if there is one of this name that can be read.
    pub(crate) fn size(&self, name: &str) -> Option<usize> {
        let entry = self.entries.get(name)?;
        // Both formats have checked that the tensor, as large as it says, lies in the file.
        Some(entry.dtype?.size_in_bytes() * entry.shape.iter().product::<usize>())
    }

    /// Bytes of the file, or of all together.
    pub(crate) fn file_size(&self) -> usize {
        self.files.iter().map(Vec::len).sum()
    }

    /// The type of a tensor that cannot be read, if it is one.
    pub(crate) fn unreadable_type(&self, name: &str) -> Option<&str> {
        let entry = self.entries.get(name)?;
        entry.dtype.is_none().then_some(entry.type_name.as_str())
    }

    /// Reads a tensor, as f32.
    ///
    /// # Errors
    /// If there is none of this name or type.
    pub(crate) fn read(&self, name: &str) -> Result<Tensor, candle_core::Error> {
        let missing = || candle_core::Error::Msg(format!("{name} cannot be read"));
        let entry = self.entries.get(name).ok_or_else(missing)?;
        let dtype = entry.dtype.ok_or_else(missing)?;
        let width = dtype.size_in_bytes();
        let bytes = &self.files[entry.file][entry.start..];
        let tensor = if entry.strides == contiguous(&entry.shape) {
            let size = width * entry.shape.iter().product::<usize>();
            Tensor::from_raw_buffer(&bytes[..size], dtype, &entry.shape, &Device::Cpu)?
        } else {
            let gathered = gather(bytes, width, &entry.shape, &entry.strides);
            Tensor::from_raw_buffer(&gathered, dtype, &entry.shape, &Device::Cpu)?
        };
        tensor.to_dtype(DType::F32)
    }
}

/// What is wrong with a safetensors file, in words that say what to do about it.
fn fault_of_safetensors(bytes: &[u8], error: &SafeTensorError) -> String {
    if let Some(other) = stand_in(bytes) {
        return other.to_owned();
    }
    let cut = |whole: u64| {
        format!(
            "it is cut off: {} of its {whole} bytes are here; download it again",
            bytes.len()
        )
    };
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    let header = u64::from_le_bytes(*length);
    match error {
        SafeTensorError::HeaderTooSmall | SafeTensorError::HeaderTooLarge => {
            "it is no safetensors file; download it again".to_owned()
        }
        SafeTensorError::InvalidHeaderLength => "it is cut off inside its header; download it again".to_owned(),
        SafeTensorError::MetadataIncompleteBuffer => {
            let header = usize::try_from(header).ok().and_then(|header| rest.get(..header));
            let tensors: Map<String, Value> = serde_json::from_slice(header.unwrap_or_default()).unwrap_or_default();
            let ends = tensors.values().filter_map(|tensor| tensor["data_offsets"][1].as_u64());
            let whole = ends
                .max()
                .unwrap_or_default()
                .saturating_add(8 + header.map_or(0, <[u8]>::len) as u64);
            if whole > bytes.len() as u64 {
                cut(whole)
            } else {
                format!(
                    "it has {} bytes, but tensors for {whole} only; download it again",
                    bytes.len()
                )
            }
        }
        other => format!("it is damaged ({other}); download it again"),
    }
}

/// The numbers of a tensor that does not lie in one piece, in their order.
fn gather(bytes: &[u8], width: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let count = shape.iter().product();
    let mut gathered = Vec::with_capacity(count * width);
    let mut index = vec![0; shape.len()];
    for _ in 0..count {
        let place: usize = index.iter().zip(strides).map(|(i, stride)| i * stride).sum();
        gathered.extend_from_slice(&bytes[place * width..(place + 1) * width]);
        for (i, size) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *size {
                break;
            }
            *i = 0;
        }
    }
    gathered
}
