//! Marian's own file of weights, `model.npz`, as CTranslate2's `ct2-marian-converter` reads it: the door to other programs
//! for models that Hugging Face's MarianMT cannot express.

use crate::directory::file_error;
use crate::{ActivationKind, Architecture, ModelError, Norm, Opened, Positions, Tie};
use candle_core::{DType, Device, IndexOp, Tensor};
use std::io::{Cursor, Write};
use std::path::Path;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

/// The file's name.
pub const NPZ_FILE: &str = "model.npz";

/// Settings that Marian's options, as far as CTranslate2 follows them, have no words for.
pub fn npz_faults(architecture: &Architecture) -> Vec<String> {
    let model = &architecture.model;
    let checks = [
        (
            model.positions == Positions::Sinusoidal,
            "model.positions: only \"sinusoidal\" can be expressed",
        ),
        (
            model.activation != ActivationKind::Gelu,
            "model.activation: its \"gelu\" is another function; only \"relu\" and \"silu\" can be expressed",
        ),
        (
            model.scale_attention,
            "model.scale_attention: only true can be expressed",
        ),
        (
            model.scale_embedding,
            "model.scale_embedding: only true can be expressed",
        ),
        (
            model.decoder_heads() == model.heads,
            "model.decoder_heads: only as many as model.heads can be expressed",
        ),
    ];
    let faults = checks.into_iter().filter(|(is_fine, _)| !is_fine);
    faults.map(|(_, fault)| fault.to_owned()).collect()
}

/// Writes `model.npz` into a directory. Like Marian's, it has no row for `<pad>`.
///
/// # Errors
/// [`ModelError::Architecture`] with all of [`npz_faults`]; and when the file cannot be written.
pub fn save_npz(directory: &Path, opened: &Opened) -> Result<(), ModelError> {
    let faults = npz_faults(&opened.architecture);
    if !faults.is_empty() {
        return Err(ModelError::Architecture(faults));
    }
    let path = directory.join(NPZ_FILE);
    let zip_error = |error: zip::result::ZipError| file_error(&path)(error.into());
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut add = |name: &str, npy: Vec<u8>| -> Result<(), ModelError> {
        archive.start_file(format!("{name}.npy"), options).map_err(zip_error)?;
        archive.write_all(&npy).map_err(file_error(&path))
    };
    for (name, tensor) in tensors(opened)? {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
        add(&name, npy("<f4", tensor.dims(), &bytes))?;
    }
    let mut options_text = options_of(&opened.architecture).into_bytes();
    options_text.push(0);
    add("special:model.yml", npy("|i1", &[options_text.len()], &options_text))?;
    let bytes = archive.finish().map_err(zip_error)?.into_inner();
    std::fs::write(&path, bytes).map_err(file_error(&path))
}

/// An array in NumPy's format, version 1.0.
fn npy(dtype: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
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

/// Marian's options that say what the model is.
fn options_of(architecture: &Architecture) -> String {
    let model = &architecture.model;
    let is_pre = model.norm == Norm::Pre;
    let (before, after, top) = if is_pre { ("n", "da", "n") } else { ("", "dan", "") };
    let activation = match model.activation {
        ActivationKind::Silu => "swish",
        ActivationKind::Relu | ActivationKind::Gelu => "relu",
    };
    format!(
        "type: transformer\ndim-emb: {}\nenc-depth: {}\ndec-depth: {}\ntransformer-heads: {}\ntransformer-dim-ffn: {}\n\
         transformer-decoder-dim-ffn: {}\ntransformer-ffn-depth: 2\ntransformer-decoder-ffn-depth: 2\n\
         transformer-ffn-activation: {activation}\ntransformer-preprocess: \"{before}\"\n\
         transformer-postprocess: \"{after}\"\ntransformer-postprocess-top: \"{top}\"\ntransformer-postprocess-emb: d\n\
         transformer-decoder-autoreg: self-attention\ntransformer-no-projection: false\n\
         transformer-train-position-embeddings: false\ntransformer-guided-alignment-layer: last\n\
         tied-embeddings-all: {}\ntied-embeddings: {}\ntied-embeddings-src: false\n\
         dim-vocabs:\n  - {}\n  - {}\nskip: false\n",
        model.d_model,
        model.encoder_layers,
        model.decoder_layers,
        model.heads,
        model.feed_forward,
        model.decoder_feed_forward(),
        model.tie == Tie::All,
        model.tie != Tie::None,
        architecture.source_vocabulary - 1,
        architecture.target_vocabulary - 1,
    )
}

/// All tensors under Marian's names, in its layout: weights as `[in, out]`, vectors as `[1, n]`.
fn tensors(opened: &Opened) -> Result<Vec<(String, Tensor)>, ModelError> {
    let architecture = &opened.architecture;
    let is_pre = architecture.model.norm == Norm::Pre;
    let mut tensors = Vec::new();
    for (name, tensor) in opened.params.parts()? {
        let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let tensor = match tensor.rank() {
            1 => tensor.unsqueeze(0)?,
            _ if is_table(&name) => tensor.i(..tensor.dim(0)? - 1)?.contiguous()?,
            _ => tensor.t()?.contiguous()?,
        };
        // The output layer is no table of embeddings: [in, out] like every weight, without <pad>.
        let tensor = match name.as_str() {
            "lm_head.weight" => tensor.i((.., ..tensor.dim(1)? - 1))?.contiguous()?,
            _ => tensor,
        };
        tensors.push((marian_name(&name, is_pre).ok_or(ModelError::NoParameter(name))?, tensor));
    }
    if let Some(bias) = &opened.logits_bias {
        let bias = bias.to_device(&Device::Cpu)?.i((.., ..architecture.classes()))?;
        tensors.push(("decoder_ff_logit_out_b".to_owned(), bias.contiguous()?));
    }
    Ok(tensors)
}

fn is_table(name: &str) -> bool {
    name == "model.shared.weight" || name.ends_with("embed_tokens.weight")
}

/// Marian's name of a tensor.
fn marian_name(name: &str, is_pre: bool) -> Option<String> {
    match name {
        "model.shared.weight" => return Some("Wemb".to_owned()),
        "lm_head.weight" => return Some("decoder_ff_logit_out_W".to_owned()),
        _ => {}
    }
    let (stack, rest) = name.strip_prefix("model.")?.split_once('.')?;
    if rest == "embed_tokens.weight" {
        return Some(format!("{stack}_Wemb"));
    }
    let norm = |kind: &str| match kind {
        "weight" => Some("ln_scale"),
        "bias" => Some("ln_bias"),
        _ => None,
    };
    if let Some(kind) = rest.strip_prefix("layer_norm.") {
        return Some(format!("{stack}_top_{}", norm(kind)?));
    }
    let (layer, rest) = rest.strip_prefix("layers.")?.split_once('.')?;
    let prefix = format!("{stack}_l{}", layer.parse::<usize>().ok()? + 1);
    let (part, kind) = rest.rsplit_once('.')?;
    let letter = if kind == "weight" { 'W' } else { 'b' };
    let place = if is_pre { "_pre" } else { "" };
    let sublayer = |part: &str| match part {
        "self_attn" => Some("self"),
        "encoder_attn" => Some("context"),
        _ => None,
    };
    Some(match part {
        "fc1" => format!("{prefix}_ffn_{letter}1"),
        "fc2" => format!("{prefix}_ffn_{letter}2"),
        "final_layer_norm" => format!("{prefix}_ffn_ffn_{}{place}", norm(kind)?),
        _ => match (part.split_once('.'), part.strip_suffix("_layer_norm")) {
            (Some((of, projection)), _) => {
                let projection = projection.strip_suffix("_proj")?.replace("out", "o");
                format!("{prefix}_{}_{letter}{projection}", sublayer(of)?)
            }
            (None, Some(of)) => format!("{prefix}_{}_Wo_{}{place}", sublayer(of)?, norm(kind)?),
            (None, None) => return None,
        },
    })
}
