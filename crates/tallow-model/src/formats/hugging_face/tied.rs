//! Tied tensors, which have several names. Different programs store them under different names.

use crate::formats::weights::Weights;
use crate::{Architecture, ModelError, Positions, Tie, sinusoidal};
use candle_core::{DType, Device, Tensor};

/// The names of the tied matrix over the vocabulary; the parameter's own name comes first.
fn group(tie: Tie) -> &'static [&'static str] {
    match tie {
        Tie::All => &[
            "model.shared.weight",
            "model.encoder.embed_tokens.weight",
            "model.decoder.embed_tokens.weight",
            "lm_head.weight",
        ],
        Tie::Output => &["model.decoder.embed_tokens.weight", "lm_head.weight"],
        Tie::None => &[],
    }
}

/// Tables of computed positions, which other programs write all the same.
const POSITIONS: [&str; 2] = [
    "model.encoder.embed_positions.weight",
    "model.decoder.embed_positions.weight",
];

/// Whether other programs write a tensor of this name although it repeats another tensor or is computed.
pub(crate) fn is_redundant(name: &str) -> bool {
    // This holds for any tying: `model.shared.weight` may be left over.
    group(Tie::All).contains(&name) || POSITIONS.contains(&name)
}

/// The name of a tensor in a file: its own, or the name of a tensor that it is tied to.
pub(crate) fn stored_name<'a>(name: &'a str, weights: &Weights, tie: Tie) -> &'a str {
    let names = group(tie);
    if weights.shape(name).is_some() || names.first() != Some(&name) {
        return name;
    }
    let has = |other: &&&str| weights.shape(other).is_some();
    names.iter().find(has).copied().unwrap_or(name)
}

/// The greatest allowed difference between a table of positions and the true sines and cosines: half a unit in the last
/// place of a number near 1 in BF16.
const ROUNDING: f32 = 1.0 / 512.0 + 1e-5;

/// Compares the copies of parameters in a file with the parameters. Returns the number of copies, and a fault for each
/// copy that differs.
pub(crate) fn contradictions(
    weights: &Weights,
    architecture: &Architecture,
) -> Result<(usize, Vec<String>), ModelError> {
    let (mut copies, mut faults) = (0, Vec::new());
    let names = group(architecture.model.tie);
    if let Some(first) = names.first() {
        let used = stored_name(first, weights, architecture.model.tie);
        for copy in names
            .iter()
            .filter(|name| **name != used && weights.shape(name).is_some())
        {
            copies += 1;
            let same = weights.unreadable_type(copy).is_none()
                && weights.shape(copy) == weights.shape(used)
                && numbers(&weights.read(copy)?)? == numbers(&weights.read(used)?)?;
            if !same {
                faults.push(format!(
                    "{copy} is not {used}, to which config.json ties it; it is not used here, but other programs may use it"
                ));
            }
        }
    }
    if architecture.model.positions == Positions::Sinusoidal {
        for name in POSITIONS {
            let Some(shape) = weights.shape(name) else { continue };
            copies += 1;
            if !is_sinusoidal(weights, name, shape, architecture.model.d_model)? {
                faults.push(format!(
                    "{name} has other numbers than the sines and cosines of positions; it is not used here, but other \
                     programs may use it"
                ));
            }
        }
    }
    Ok((copies, faults))
}

fn is_sinusoidal(weights: &Weights, name: &str, shape: &[usize], d_model: usize) -> Result<bool, ModelError> {
    if weights.unreadable_type(name).is_some() || shape.len() != 2 || shape[1] != d_model {
        return Ok(false);
    }
    let table = sinusoidal(0, shape[0], d_model, DType::F32, &Device::Cpu)?;
    let (found, expected) = (numbers(&weights.read(name)?)?, numbers(&table)?);
    Ok(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= ROUNDING))
}

fn numbers(tensor: &Tensor) -> Result<Vec<f32>, candle_core::Error> {
    tensor.flatten_all()?.to_vec1()
}
