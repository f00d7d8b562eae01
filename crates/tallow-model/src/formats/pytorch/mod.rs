//! Files of PyTorch's `save`: a zip archive with a pickle and the storages that it refers to. Before PyTorch 1.6, a
//! file had several pickles followed by the storages.

mod pickle;

use super::archive;
use super::bytes::FileBytes;
use super::failed_download::failed_download;
use super::weights::{Entry, Weights, contiguous};
use candle_core::DType;
use pickle::{Id, Value, Values};
use std::collections::{BTreeMap, HashMap};

/// The first pickle of files in the older form: the number 0x1950a86a20f9469cfc6c.
const OLDER: [u8; 15] = [
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.',
];

/// A limit that no tensor of a model exceeds, because many tensors in a pickle may share one list of dimensions.
const MOST_DIMENSIONS: usize = 8;

/// The place of each storage in a file, by key: first byte and length.
type Storages = HashMap<String, (usize, usize)>;

/// Reads the tensors of a `state_dict` that PyTorch's `save` has written, without executing any of its code.
///
/// # Errors
/// A description of the fault.
pub(super) fn read(bytes: FileBytes) -> Result<Weights, String> {
    let entries = entries(&bytes).map_err(|fault| failed_download(&bytes).map_or(fault, str::to_owned))?;
    Ok(Weights::new(bytes, entries))
}

/// The places of a file's tensors.
fn entries(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, String> {
    match bytes.strip_prefix(&OLDER) {
        Some(rest) => older(bytes, rest),
        None if bytes.starts_with(b"PK") => zipped(bytes),
        None if OLDER.starts_with(bytes) => Err("it is cut off; download it again".to_owned()),
        None => Err("it is neither form of a file of PyTorch".to_owned()),
    }
}

fn zipped(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, String> {
    const PICKLE: &str = "data.pkl";
    let places = archive::places(bytes, "PyTorch")?;
    // All files are in one folder, whose name does not matter.
    let folder = places
        .keys()
        .filter_map(|name| name.strip_suffix(PICKLE))
        .find(|folder| folder.is_empty() || folder.ends_with('/'))
        .ok_or("it has no data.pkl")?;
    let contents = |name: &str| {
        let (start, size) = places.get(&format!("{folder}{name}"))?;
        bytes.get(*start..start + size)
    };
    if contents("byteorder").is_some_and(|order| order == b"big") {
        return Err("its numbers are big-endian, which is not supported".to_owned());
    }
    let (values, root, _) = Values::run(contents(PICKLE).unwrap_or_default())?;
    let storages = places
        .iter()
        .filter_map(|(name, place)| Some((name.strip_prefix(folder)?.strip_prefix("data/")?.to_owned(), *place)));
    tensors(&values, root, &storages.collect())
}

fn older(bytes: &[u8], rest: &[u8]) -> Result<BTreeMap<String, Entry>, String> {
    // The protocol version and the description of the machine.
    let (_, _, rest) = Values::run(rest)?;
    let (_, _, rest) = Values::run(rest)?;
    let (values, root, rest) = Values::run(rest)?;
    let (keys, list, mut rest) = Values::run(rest)?;
    let widths = widths(&values);
    let mut storages = Storages::new();
    for key in keys.sequence(list).ok_or("it has no list of storages")? {
        let key = keys.text(*key).ok_or("the key of a storage is no text")?;
        let cut = || format!("it is cut off in the storage {key:?}; download it again");
        let (count, data) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
        let width = widths
            .get(key)
            .ok_or_else(|| format!("nothing says what the storage {key:?} holds"))?;
        let size = usize::try_from(u64::from_le_bytes(*count))
            .ok()
            .and_then(|count| count.checked_mul(*width))
            .filter(|size| *size <= data.len())
            .ok_or_else(cut)?;
        storages.insert(key.to_owned(), (bytes.len() - data.len(), size));
        rest = &data[size..];
    }
    tensors(&values, root, &storages)
}

/// The bytes of a number and its type, if it can be read, by the class of its storage.
fn number_type(class: &str) -> Option<(usize, Option<DType>)> {
    Some(match class.strip_prefix("torch.")? {
        "FloatStorage" => (4, Some(DType::F32)),
        "HalfStorage" => (2, Some(DType::F16)),
        "BFloat16Storage" => (2, Some(DType::BF16)),
        "DoubleStorage" | "LongStorage" => (8, None),
        "IntStorage" => (4, None),
        "ShortStorage" => (2, None),
        "CharStorage" | "ByteStorage" | "BoolStorage" => (1, None),
        _ => return None,
    })
}

/// The description of a storage in a pickle: its class and its key.
fn storage(values: &Values, persistent_id: Id) -> Option<(&str, &str)> {
    let [kind, class, key, _location, _count, ..] = values.sequence(persistent_id)? else {
        return None;
    };
    match (values.text(*kind), values.get(*class)) {
        (Some("storage"), Value::Global(class)) => Some((class, values.text(*key)?)),
        _ => None,
    }
}

/// The bytes of a number in each storage, by key.
fn widths(values: &Values) -> HashMap<&str, usize> {
    let described = values.all().filter_map(|value| match value {
        Value::Storage(id) => storage(values, *id),
        _ => None,
    });
    described
        .filter_map(|(class, key)| Some((key, number_type(class)?.0)))
        .collect()
}

/// The tensors of a `state_dict`.
fn tensors(values: &Values, root: Id, storages: &Storages) -> Result<BTreeMap<String, Entry>, String> {
    let Value::Dict(items) = values.get(root) else {
        return Err("it holds no dictionary of tensors".to_owned());
    };
    let mut entries = BTreeMap::new();
    for (key, value) in items {
        let (Some(name), Value::Tensor(tensor)) = (values.text(*key), values.get(*value)) else {
            return Err("it holds something besides named tensors; save the state_dict of a model".to_owned());
        };
        let entry = entry(values, tensor, storages).map_err(|reason| format!("{name}: {reason}"))?;
        entries.insert(name.to_owned(), entry);
    }
    Ok(entries)
}

fn entry(values: &Values, tensor: &[Id; 4], storages: &Storages) -> Result<Entry, String> {
    let [of, offset, shape, strides] = tensor;
    let Value::Storage(persistent_id) = values.get(*of) else {
        return Err("it has no storage".to_owned());
    };
    let (class, key) = storage(values, *persistent_id).ok_or("its storage is not described as PyTorch does")?;
    let (width, dtype) =
        number_type(class).ok_or_else(|| format!("its storage is a {class}, which is not supported"))?;
    let (start, size) = storages
        .get(key)
        .ok_or_else(|| format!("its storage {key:?} is missing"))?;
    let sizes = |id: &Id| -> Option<Vec<usize>> {
        let sizes = values.sequence(*id).filter(|sizes| sizes.len() <= MOST_DIMENSIONS)?;
        sizes.iter().map(|size| values.size(*size)).collect()
    };
    let damaged = "its shape is damaged";
    let (shape, strides) = sizes(shape).zip(sizes(strides)).ok_or(damaged)?;
    let offset = values.size(*offset).ok_or(damaged)?;
    if shape.len() != strides.len() {
        return Err(damaged.to_owned());
    }
    let beyond = || format!("its shape {shape:?} does not fit its storage");
    // The tensor must end within its storage. It must also have at most as many numbers as the storage: a tensor that
    // uses numbers several times could be larger than the file.
    let count = shape
        .iter()
        .try_fold(1usize, |count, size| count.checked_mul(*size))
        .ok_or_else(beyond)?;
    let reach = shape.iter().zip(&strides).try_fold(offset, |reach, (size, stride)| {
        size.saturating_sub(1).checked_mul(*stride)?.checked_add(reach)
    });
    let reach = reach.and_then(|last| last.checked_add(1)).ok_or_else(beyond)?;
    if count > size / width || (count > 0 && reach > size / width) {
        return Err(beyond());
    }
    let is_whole = count == 0
        || strides
            .iter()
            .zip(&shape)
            .zip(contiguous(&shape))
            .all(|((a, size), b)| *size == 1 || *a == b);
    Ok(Entry {
        type_name: class.to_owned(),
        dtype,
        start: if count > 0 { start + offset * width } else { *start },
        // The stride of a dimension of size one does not matter.
        strides: if is_whole { contiguous(&shape) } else { strides },
        shape,
        file: 0,
        scales: None,
    })
}
