//! Files in the two forms in which PyTorch's `save` writes a `state_dict`.

use candle_core::Tensor;
use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

type Named = [(String, Tensor)];

fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.bytes());
}

fn number(pickle: &mut Vec<u8>, number: usize) {
    pickle.push(b'J');
    pickle.extend((number as u32).to_le_bytes());
}

fn numbers(pickle: &mut Vec<u8>, list: &[usize]) {
    pickle.push(b'(');
    list.iter().for_each(|n| number(pickle, *n));
    pickle.push(b't');
}

fn values(tensor: &Tensor) -> Vec<u8> {
    let values = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
    values
        .expect("numbers")
        .into_iter()
        .flat_map(f32::to_le_bytes)
        .collect()
}

/// The pickle of a dictionary of tensors. Each tensor has a storage of its own, whose key is the tensor's number.
fn dictionary(tensors: &Named) -> Vec<u8> {
    const EMPTY: &[u8] = b"ccollections\nOrderedDict\n)R";
    let mut pickle = [b"\x80\x02", EMPTY, b"("].concat();
    for (key, (name, tensor)) in tensors.iter().enumerate() {
        text(&mut pickle, name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(b"ctorch\nFloatStorage\n");
        text(&mut pickle, &key.to_string());
        text(&mut pickle, "cpu");
        number(&mut pickle, tensor.elem_count());
        pickle.extend(b"tQ");
        number(&mut pickle, 0);
        numbers(&mut pickle, tensor.dims());
        numbers(&mut pickle, tensor.stride());
        pickle.push(0x89);
        pickle.extend([EMPTY, b"tR"].concat());
    }
    pickle.extend(b"u.");
    pickle
}

/// The form since PyTorch 1.6: a zip archive.
pub(super) fn zipped(tensors: &Named) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, contents: &[u8]| {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        archive.start_file(format!("archive/{name}"), options).expect("a file");
        archive.write_all(contents).expect("memory");
    };
    add("data.pkl", &dictionary(tensors));
    add("byteorder", b"little");
    for (key, (_, tensor)) in tensors.iter().enumerate() {
        add(&format!("data/{key}"), &values(tensor));
    }
    archive.finish().expect("an archive").into_inner()
}

/// The form before PyTorch 1.6: pickles, then the storages.
pub(super) fn older(tensors: &Named) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    // The version of the protocol, and a description of the machine.
    file.extend(b"\x80\x02M\xe9\x03.\x80\x02}.");
    file.extend(dictionary(tensors));
    file.extend(b"\x80\x02](");
    (0..tensors.len()).for_each(|key| text(&mut file, &key.to_string()));
    file.extend(b"e.");
    for (_, tensor) in tensors {
        file.extend((tensor.elem_count() as u64).to_le_bytes());
        file.extend(values(tensor));
    }
    file
}
