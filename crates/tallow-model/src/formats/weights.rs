//! Named tensors in the bytes of files of any format: their places and their numbers.
//!
//! Opening a file checks that every tensor lies inside the file, so no allocation is larger than
//! the file, whatever sizes it claims. `directory.rs` checks that the tensors of a model do not share numbers.

use super::bytes::FileBytes;
use candle_core::{DType, Device, Tensor};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The tensors of one or several files.
#[derive(Debug)]
pub(crate) struct Weights {
    files: Vec<FileBytes>,
    entries: BTreeMap<String, Entry>,
}

/// The place of a tensor in its file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The name of the number type in the format.
    pub(super) type_name: String,
    /// The type, if it can be read.
    pub(super) dtype: Option<DType>,
    pub(super) shape: Vec<usize>,
    /// The position of the first number, in bytes.
    pub(super) start: usize,
    /// The distance between neighbouring numbers along each dimension, counted in numbers.
    pub(super) strides: Vec<usize>,
    /// The index of the file.
    pub(super) file: usize,
    /// If the numbers are 8-bit integers: the position, in bytes, of the scales of the rows, in f32.
    pub(super) scales: Option<usize>,
}

/// The strides of a contiguous tensor, counted in numbers.
pub(super) fn contiguous(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(shape[i].max(1));
    }
    strides
}

impl Weights {
    /// Makes weights of a file's bytes; `entries` gives the places of the tensors.
    pub(super) fn new(bytes: FileBytes, entries: BTreeMap<String, Entry>) -> Self {
        Self {
            files: vec![bytes],
            entries,
        }
    }

    /// Joins the tensors of all parts; no name may occur twice.
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

    /// The shape of the tensor of this name, if it exists.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// The size of the tensor of this name in bytes, if it exists and can be read.
    pub(crate) fn size(&self, name: &str) -> Option<usize> {
        let entry = self.entries.get(name)?;
        // Every format has checked that the whole tensor lies in the file.
        Some(entry.dtype?.size_in_bytes() * entry.shape.iter().product::<usize>())
    }

    /// The size of all files in bytes.
    pub(crate) fn file_size(&self) -> usize {
        self.files.iter().map(|file| file.len()).sum()
    }

    /// The type of the tensor of this name, if the tensor exists but cannot be read.
    pub(crate) fn unreadable_type(&self, name: &str) -> Option<&str> {
        let entry = self.entries.get(name)?;
        entry.dtype.is_none().then_some(entry.type_name.as_str())
    }

    /// Reads a tensor, as f32.
    ///
    /// # Errors
    /// If no tensor has this name, or its type is not supported.
    pub(crate) fn read(&self, name: &str) -> Result<Tensor, candle_core::Error> {
        let missing = || candle_core::Error::Msg(format!("{name} cannot be read"));
        let entry = self.entries.get(name).ok_or_else(missing)?;
        let dtype = entry.dtype.ok_or_else(missing)?;
        if let Some(scales) = entry.scales {
            return Tensor::from_vec(self.scaled(entry, scales), entry.shape.as_slice(), &Device::Cpu);
        }
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

    /// The numbers of a tensor, as f32: those in the file itself, if it has them in this form.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn values(&self, name: &str) -> Result<Cow<'_, [f32]>, candle_core::Error> {
        if let Some(values) = self.entries.get(name).and_then(|entry| self.in_place(entry)) {
            return Ok(Cow::Borrowed(values));
        }
        Ok(Cow::Owned(self.read(name)?.flatten_all()?.to_vec1()?))
    }

    /// Whether the tensor of this name is a matrix of 8-bit integers.
    pub(crate) fn is_rounded(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.scales.is_some())
    }

    /// A row of a matrix of 8-bit integers, as f32, if there are both.
    pub(crate) fn scaled_row(&self, name: &str, row: usize) -> Option<Vec<f32>> {
        let entry = self.entries.get(name)?;
        let [rows, width] = entry.shape[..] else { return None };
        if row >= rows {
            return None;
        }
        let bytes = &self.files[entry.file];
        let scale = bytes.get(entry.scales? + size_of::<f32>() * row..)?.first_chunk()?;
        let scale = f32::from_le_bytes(*scale);
        let numbers = bytes.get(entry.start + row * width..)?.get(..width)?;
        Some(
            numbers
                .iter()
                .map(|byte| f32::from(byte.cast_signed()) * scale)
                .collect(),
        )
    }

    /// The numbers of a matrix of 8-bit integers, each multiplied by the scale of its row.
    fn scaled(&self, entry: &Entry, scales: usize) -> Vec<f32> {
        let width = entry.shape.last().copied().unwrap_or_default().max(1);
        let bytes = &self.files[entry.file];
        let numbers = &bytes[entry.start..][..entry.shape.iter().product()];
        let scales = bytes[scales..]
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes));
        let of_row = |(row, scale): (&[u8], f32)| {
            row.iter()
                .map(move |byte| f32::from(byte.cast_signed()) * scale)
                .collect()
        };
        numbers
            .chunks_exact(width)
            .zip(scales)
            .flat_map::<Vec<f32>, _>(of_row)
            .collect()
    }

    /// The numbers of a contiguous f32 tensor in the file.
    fn in_place(&self, entry: &Entry) -> Option<&[f32]> {
        let is_plain = entry.dtype == Some(DType::F32) && entry.strides == contiguous(&entry.shape);
        let size = size_of::<f32>() * entry.shape.iter().product::<usize>();
        let bytes = self.files[entry.file].get(entry.start..)?.get(..size)?;
        if !is_plain || cfg!(target_endian = "big") {
            return None;
        }
        bytemuck::try_cast_slice(bytes).ok()
    }
}

/// The numbers of a tensor that is not contiguous, in the order of a contiguous one.
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
