//! Verification of a model directory.

use crate::directory::Unopened;
use crate::formats::hugging_face::{
    CONFIG_FILE, GENERATION_FILE, LOGITS_BIAS, WEIGHTS_KEY, contradictions, to_generation_config,
};
use crate::{Architecture, MarianFiles, ModelError, Opened, Params, SearchSettings, is_marian_mt, open, read_json};
use candle_core::Device;
use std::path::Path;

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The subject of the check, and the property that holds if there is no fault.
    pub what: String,
    /// All faults that the check found.
    pub faults: Vec<String>,
}

impl Check {
    /// Makes a check of a subject and its faults.
    pub fn new(what: impl Into<String>, faults: Vec<String>) -> Self {
        Self {
            what: what.into(),
            faults,
        }
    }
}

/// Verifies the config and the weights of a directory. It checks that they can be read and fit each other, that all ids
/// agree, that every number is finite, and that the embedding of `<pad>` is zero, as CTranslate2 assumes.
///
/// For a Marian toolkit model, the same checks are done on its `.npz`.
pub fn verify(directory: &Path) -> Vec<Check> {
    if MarianFiles::are_at(directory) {
        return verify_marian(directory);
    }
    let opened = Unopened::read(directory).and_then(|found| {
        let copies = contradictions(&found.weights, &found.architecture)?;
        Ok((found.to_model(&Device::Cpu)?, copies))
    });
    let (opened, (copies, contradictions)) = match opened {
        Ok(opened) => opened,
        Err(ModelError::Config { faults, .. }) => return vec![Check::new(CONFIG_FILE, faults)],
        Err(ModelError::Weights { path, faults }) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            return vec![
                Check::new(format!("{CONFIG_FILE}: every setting is known"), Vec::new()),
                Check::new(name, faults),
            ];
        }
        Err(ModelError::Damaged { path, reason }) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            return vec![Check::new(name, vec![reason])];
        }
        Err(error) => return vec![Check::new("model", vec![error.to_string()])],
    };
    let Opened {
        architecture,
        params,
        weights_file: weights,
        ..
    } = &opened;
    let tensors: usize = params.iter().map(|parameter| parameter.parts.len()).sum();
    let model = &architecture.model;
    let is_int8 = read_json(&directory.join(CONFIG_FILE)).is_ok_and(|config| config[WEIGHTS_KEY] == "int8");
    let kind = match (is_int8, is_marian_mt(architecture)) {
        (true, _) => "Tallow (8-bit weights)",
        (false, true) => "MarianMT",
        (false, false) => "Tallow",
    };
    let mut checks = vec![
        Check::new(
            format!(
                "{CONFIG_FILE}: a {kind} model, {}+{} layers of width {}, {} and {} pieces",
                model.encoder_layers,
                model.decoder_layers,
                model.d_model,
                architecture.source_vocabulary,
                architecture.target_vocabulary
            ),
            Vec::new(),
        ),
        Check::new(
            format!("{GENERATION_FILE}: its ids are those of {CONFIG_FILE}"),
            generation_faults(directory, architecture),
        ),
        Check::new(
            format!("{weights}: {tensors} tensors have the names and shapes of {CONFIG_FILE}"),
            Vec::new(),
        ),
        Check::new(
            format!("{weights}: all {} numbers are finite", params.elements()),
            infinite_numbers(&opened),
        ),
        Check::new(
            format!("{weights}: the embedding of <pad> is zero"),
            pad_row_faults(params),
        ),
    ];
    if copies > 0 {
        let what = format!("{weights}: copies of tensors and computed tables have the right numbers");
        checks.push(Check::new(what, contradictions));
    }
    checks
}

/// Verifies a Marian toolkit model.
fn verify_marian(directory: &Path) -> Vec<Check> {
    let opened = match open(directory, &Device::Cpu) {
        Ok(opened) => opened,
        Err(ModelError::Config { path, faults }) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            return vec![Check::new(name, faults)];
        }
        Err(error) => return vec![Check::new("model", vec![error.to_string()])],
    };
    let (weights, architecture) = (&opened.weights_file, &opened.architecture);
    let model = &architecture.model;
    vec![
        Check::new(
            format!(
                "{weights}: a Marian model, {}+{} layers of width {}, {} and {} pieces, and <pad>",
                model.encoder_layers,
                model.decoder_layers,
                model.d_model,
                architecture.source_vocabulary - 1,
                architecture.target_vocabulary - 1
            ),
            Vec::new(),
        ),
        Check::new(
            format!("{weights}: all {} numbers are finite", opened.params.elements()),
            infinite_numbers(&opened),
        ),
    ]
}

type Values = Vec<f32>;

/// The faults of each parameter.
fn in_parameters(params: &Params, fault: impl Fn(&crate::Parameter, Values) -> Option<String>) -> Vec<String> {
    let of = |parameter: &crate::Parameter| {
        let values = parameter.var.as_tensor().flatten_all().and_then(|flat| flat.to_vec1());
        match values {
            Ok(values) => fault(parameter, values),
            Err(error) => Some(format!("{}: {error}", parameter.name)),
        }
    };
    params.iter().filter_map(of).collect()
}

fn infinite_numbers(opened: &Opened) -> Vec<String> {
    let fault = |name: &str, values: &[f32]| {
        let count = values.iter().filter(|value| !value.is_finite()).count();
        match count {
            0 => None,
            1 => Some(format!("{name}: 1 number is not")),
            more => Some(format!("{name}: {more} numbers are not")),
        }
    };
    let mut faults = in_parameters(&opened.params, |parameter, values| fault(&parameter.name, &values));
    let bias = opened.logits_bias.as_ref().map(|bias| bias.flatten_all()?.to_vec1());
    match bias.transpose() {
        Ok(bias) => faults.extend(fault(LOGITS_BIAS, &bias.unwrap_or_default())),
        Err(error) => faults.push(format!("{LOGITS_BIAS}: {error}")),
    }
    faults
}

/// The faults of the embedding of `<pad>` with which the decoder starts: it should be zero.
pub fn pad_row_faults(params: &Params) -> Vec<String> {
    const STARTS: [&str; 2] = ["model.shared.weight", "model.decoder.embed_tokens.weight"];
    in_parameters(params, |parameter, values| {
        // Other embeddings of `<pad>` are never used.
        let row = parameter
            .frozen_row
            .filter(|_| STARTS.contains(&parameter.name.as_str()))?;
        let width = values.len() / (row + 1);
        let is_zero = values[row * width..].iter().all(|value| *value == 0.0);
        (!is_zero).then(|| {
            format!(
                "{}: row {row} is not zero; transformers starts decoding with it, CTranslate2 and Marian with zeros",
                parameter.name
            )
        })
    })
}

/// Keys of `generation_config.json` that contradict the architecture.
fn generation_faults(directory: &Path, architecture: &Architecture) -> Vec<String> {
    let found = match read_json(&directory.join(GENERATION_FILE)) {
        Ok(found) => found,
        // Older models lack this file.
        Err(ModelError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(ModelError::Damaged { reason, .. }) => return vec![reason],
        Err(error) => return vec![error.to_string()],
    };
    let expected = to_generation_config(architecture, SearchSettings::new(1, 1));
    let keys = [
        "pad_token_id",
        "eos_token_id",
        "decoder_start_token_id",
        "forced_eos_token_id",
    ];
    let differs = |key: &&str| !found[*key].is_null() && found[*key] != expected[*key];
    let fault = |key: &str| format!("{key}: {} instead of {}", found[key], expected[key]);
    keys.into_iter().filter(differs).map(fault).collect()
}
