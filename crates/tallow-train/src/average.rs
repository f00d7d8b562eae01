//! Averages of checkpoints (Vaswani et al. 2017, section 6.1).

use crate::TrainError;
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::path::Path;
use tallow_model::{Opened, Params, WEIGHTS_FILE};

/// The key, among the sums, of the constants added to the logits.
const LOGITS_BIAS: &str = "final_logits_bias";

/// The mean of several model directories of one architecture: of their weights, and of the constants added to their
/// logits.
///
/// # Errors
/// When there is no directory, one cannot be opened, or two differ in their architecture.
pub fn average<P: AsRef<Path>>(directories: &[P], device: &Device) -> Result<Opened, TrainError> {
    let Some(first) = directories.first() else {
        return Err(TrainError::Average("there are no checkpoints to average".into()));
    };
    let architecture = tallow_model::read_architecture(first.as_ref())?;
    // Summed in f64, so that the order of the directories does not change the bits of the f32 result.
    let mut sums: HashMap<String, Tensor> = HashMap::new();
    for directory in directories {
        let opened = tallow_model::open(directory.as_ref(), &Device::Cpu)?;
        if opened.architecture != architecture {
            return Err(TrainError::Average(format!(
                "{} and {} are not models of one architecture",
                first.as_ref().display(),
                directory.as_ref().display()
            )));
        }
        let bias = match opened.logits_bias {
            Some(bias) => bias,
            None => Tensor::zeros((1, architecture.target_vocabulary), DType::F32, &Device::Cpu)?,
        };
        let parts = opened
            .params
            .parts()?
            .into_iter()
            .chain([(LOGITS_BIAS.to_string(), bias)]);
        for (name, tensor) in parts {
            let tensor = tensor.to_dtype(DType::F64)?;
            let sum = match sums.remove(&name) {
                Some(sum) => (sum + tensor)?,
                None => tensor,
            };
            sums.insert(name, sum);
        }
    }
    let count = directories.len() as f64;
    let mean = |name: &str| match sums.get(name) {
        Some(sum) => Ok((sum / count)?.to_dtype(DType::F32)?),
        None => Err(tallow_model::ModelError::NoParameter(name.into())),
    };
    let params = Params::from_parts(&architecture, device, |name, _| mean(name))?;
    let logits_bias = Some(mean(LOGITS_BIAS)?.to_device(device)?);
    Ok(Opened {
        architecture,
        params,
        logits_bias,
        weights_file: WEIGHTS_FILE.to_owned(),
    })
}
