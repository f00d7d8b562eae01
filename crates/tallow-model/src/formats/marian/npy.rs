//! Arrays in NumPy's format; an `.npz` has one for each tensor.

use crate::formats::weights::{Entry, contiguous};
use candle_core::DType;

const MAGIC: &[u8] = b"\x93NUMPY";
/// A limit that no array of a model exceeds.
const MOST_DIMENSIONS: usize = 8;

/// Reads the header of the array at `bytes[start..start + size]`, and returns the place of its numbers.
///
/// # Errors
/// A description of the fault.
pub(super) fn entry(bytes: &[u8], start: usize, size: usize) -> Result<Entry, String> {
    let damaged = || "it is no array of NumPy".to_owned();
    let array = bytes
        .get(start..)
        .and_then(|rest| rest.get(..size))
        .ok_or_else(damaged)?;
    let rest = array.strip_prefix(MAGIC).ok_or_else(damaged)?;
    let ([version, _], rest) = rest.split_first_chunk::<2>().ok_or_else(damaged)?;
    // Since version 2, the length of the header has four bytes.
    let (length, rest) = match version {
        1 => {
            let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(damaged)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        _ => {
            let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
    };
    let header = rest.get(..length).ok_or_else(damaged)?;
    let header = std::str::from_utf8(header).map_err(|_| damaged())?;
    let numbers = rest.len() - length;
    let type_name = value(header, "descr").and_then(quoted).ok_or_else(damaged)?;
    let shape = value(header, "shape").and_then(sizes).ok_or_else(damaged)?;
    if shape.len() > 1 && !value(header, "fortran_order").is_some_and(|value| value.starts_with("False")) {
        return Err("its numbers lie column by column, which Marian does not do".to_owned());
    }
    let width: usize = type_name
        .get(2..)
        .and_then(|width| width.parse().ok())
        .ok_or_else(damaged)?;
    let claimed = shape.iter().try_fold(width, |bytes, size| bytes.checked_mul(*size));
    if claimed != Some(numbers) {
        return Err(format!(
            "its shape {shape:?} of {type_name} does not fit the {numbers} bytes that it has"
        ));
    }
    Ok(Entry {
        dtype: match type_name {
            "<f4" => Some(DType::F32),
            "<f2" => Some(DType::F16),
            _ => None,
        },
        type_name: type_name.to_owned(),
        start: start + (size - numbers),
        strides: contiguous(&shape),
        shape,
        file: 0,
        scales: None,
    })
}

/// The text of a key's value in a header, which is a Python dictionary.
fn value<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{key}'"))?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

fn quoted(text: &str) -> Option<&str> {
    Some(text.strip_prefix('\'')?.split_once('\'')?.0)
}

fn sizes(text: &str) -> Option<Vec<usize>> {
    let (sizes, _) = text.strip_prefix('(')?.split_once(')')?;
    let sizes = sizes.trim().trim_end_matches(',');
    if sizes.is_empty() {
        return Some(Vec::new());
    }
    let sizes: Option<Vec<usize>> = sizes.split(',').map(|size| size.trim().parse().ok()).collect();
    sizes.filter(|sizes| sizes.len() <= MOST_DIMENSIONS)
}

/// Writes an array in NumPy's format, version 1.0.
pub(super) fn written(dtype: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    let sizes = match sizes.as_slice() {
        [only] => format!("{only},"),
        several => several.join(", "),
    };
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({sizes}), }}");
    // The data begin at a multiple of 64 bytes.
    let unpadded = 10 + header.len() + 1;
    header.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
    header.push('\n');
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.into_bytes());
    npy.extend(bytes);
    npy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let array = written("<f4", &[2, 3], &[7; 24]);
        let bytes = [&b"before"[..], &array].concat();
        let entry = entry(&bytes, 6, array.len()).unwrap();
        assert_eq!((entry.shape, entry.dtype), (vec![2, 3], Some(DType::F32)));
        assert_eq!(bytes[entry.start..], [7; 24]);
        assert_eq!(super::entry(&written("|i1", &[5], &[0; 5]), 0, 133).unwrap().shape, [5]);
    }

    #[test]
    fn damaged_arrays_are_refused() {
        let fine = written("<f4", &[2, 3], &[7; 24]);
        let refused = |bytes: &[u8]| entry(bytes, 0, bytes.len()).unwrap_err();
        for length in 0..fine.len() {
            refused(&fine[..length]);
        }
        // False sizes: more numbers than there are, and so many that their product overflows.
        for shape in [&[2, 4][..], &[1 << 40, 3], &[usize::MAX, usize::MAX], &[]] {
            let array = written("<f4", shape, &[7; 24]);
            assert!(refused(&array).contains("does not fit"), "{shape:?}");
        }
        let mut columns = fine.clone();
        let place = columns.windows(5).position(|word| word == b"False").unwrap();
        columns[place..place + 5].copy_from_slice(b"True ");
        assert!(refused(&columns).contains("column"));
        assert!(entry(&fine, 10, fine.len()).is_err() && entry(&fine, usize::MAX, 5).is_err());
    }
}
