//! Zip archives whose files are not compressed, as PyTorch and NumPy write them.

use std::collections::BTreeMap;
use std::io::Cursor;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

/// The place of each file in an archive, by name: first byte and length.
///
/// # Errors
/// A description of the fault. `writer` is the program that writes such archives.
pub(super) fn places(bytes: &[u8], writer: &str) -> Result<BTreeMap<String, (usize, usize)>, String> {
    let wrong = |error: ZipError| error.to_string();
    // The directory of an archive is at its end.
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| match error {
        ZipError::InvalidArchive(_) => "it is cut off or damaged; download it again".to_owned(),
        other => other.to_string(),
    })?;
    let mut places = BTreeMap::new();
    for i in 0..archive.len() {
        let file = archive.by_index_raw(i).map_err(wrong)?;
        if file.compression() != CompressionMethod::Stored || file.encrypted() {
            return Err(format!("a file in it is compressed, which {writer} does not do"));
        }
        let start = file.data_start().and_then(|start| usize::try_from(start).ok());
        let size = usize::try_from(file.size()).ok();
        let place = start
            .zip(size)
            .filter(|(start, size)| start.checked_add(*size).is_some_and(|end| end <= bytes.len()));
        let name = String::from_utf8_lossy(file.name_raw()).into_owned();
        places.insert(name, place.ok_or("a file in it reaches beyond its end")?);
    }
    Ok(places)
}
