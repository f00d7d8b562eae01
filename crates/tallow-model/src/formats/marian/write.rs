//! Writer of `model.npz` for CTranslate2's `ct2-marian-converter`. Through CTranslate2, other programs can run models
//! that Hugging Face's MarianMT cannot express.

use super::names::{is_table, marian_name};
use super::{NPZ_FILE, npy};
use crate::directory::file_error;
use crate::formats::hugging_face::checks_of_parts;
use crate::{ActivationKind, Architecture, ModelError, Norm, Opened, Positions, Tie};
use candle_core::{DType, Device, IndexOp, Tensor};
use std::io::{Cursor, Write};
use std::path::Path;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

/// Settings that Marian's options cannot express, as far as CTranslate2 reads them.
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
        (model.norm != Norm::None, "model.norm: \"none\" cannot be expressed"),
        (
            model.scale_embedding,
            "model.scale_embedding: only true can be expressed",
        ),
        (
            model.decoder_heads() == model.heads,
            "model.decoder_heads: only as many as model.heads can be expressed",
        ),
    ];
    let checks = checks.into_iter().chain(checks_of_parts(model));
    let faults = checks.filter(|(is_fine, _)| !is_fine);
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
        add(&name, npy::written("<f4", tensor.dims(), &bytes))?;
    }
    let mut options_text = options_of(&opened.architecture).into_bytes();
    options_text.push(0);
    add(
        "special:model.yml",
        npy::written("|i1", &[options_text.len()], &options_text),
    )?;
    let bytes = archive.finish().map_err(zip_error)?.into_inner();
    std::fs::write(&path, bytes).map_err(file_error(&path))
}

/// The options that describe the model in Marian's terms.
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
        // The output layer is not an embedding table: `[in, out]` like every weight, without `<pad>`.
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
