//! Safetensors files.

use super::bytes::FileBytes;
use super::failed_download::failed_download;
use super::weights::{Entry, Weights, contiguous};
use candle_core::DType;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Reads the tensors of a safetensors file.
///
/// # Errors
/// A description of the fault.
pub(super) fn read(bytes: FileBytes) -> Result<Weights, String> {
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
            scales: None,
        };
        (name, entry)
    };
    let mut entries: BTreeMap<String, Entry> = metadata.tensors().into_iter().map(entry).collect();
    attach_scales(&mut entries);
    Ok(Weights::new(bytes, entries))
}

/// What is added to the name of a matrix of 8-bit integers to get the name of its scales.
pub(crate) const SCALES: &str = ".scales";

/// Makes matrices of 8-bit integers readable that have a scale for each row beside them.
fn attach_scales(entries: &mut BTreeMap<String, Entry>) {
    let scaled = |(name, entry): (&String, &Entry)| {
        let scales = entries.get(&format!("{name}{SCALES}"))?;
        let [rows, _] = entry.shape[..] else { return None };
        let fits = entry.type_name == "I8" && scales.dtype == Some(DType::F32) && scales.shape == [rows];
        fits.then(|| (name.clone(), scales.start))
    };
    let found: Vec<(String, usize)> = entries.iter().filter_map(scaled).collect();
    for (name, start) in found {
        entries.remove(&format!("{name}{SCALES}"));
        if let Some(entry) = entries.get_mut(&name) {
            entry.scales = Some(start);
            // One byte for each number.
            entry.dtype = Some(DType::U8);
        }
    }
}

/// Describes the fault of a safetensors file, and what to do about it.
fn fault_of_safetensors(bytes: &[u8], error: &SafeTensorError) -> String {
    if let Some(other) = failed_download(bytes) {
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
