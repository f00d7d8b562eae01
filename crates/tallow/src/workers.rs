//! The use of the machine's cores.

use crate::Result;
use crate::config::Config;
use crate::error::bail;
use candle_core::Device;

/// The number of cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Refuses a number of workers that cannot share an update on this device.
///
/// # Errors
/// When the number does not fit.
pub fn check_workers(config: &Config, device: &Device) -> Result<()> {
    match config.train.workers.fault_on_gpu() {
        Some(fault) if !device.is_cpu() => bail!("{fault}"),
        _ => Ok(()),
    }
}

/// The number of workers that share an update of a model with this many parameters.
pub fn workers(config: &Config, device: &Device, elements: usize) -> usize {
    workers_on(cores(), config, device, elements)
}

/// The number of workers of a process that may use so many cores.
pub(crate) fn workers_on(cores: usize, config: &Config, device: &Device, elements: usize) -> usize {
    let cores = if device.is_cpu() {
        cores / config.train.threads_per_worker
    } else {
        1
    };
    config.train.workers.resolve(cores, gradient_elements(config, elements))
}

/// The numbers of gradients that a worker keeps, for a model with this many parameters. One that adds up several
/// batches has the sums so far beside the gradients of the present batch.
fn gradient_elements(config: &Config, elements: usize) -> usize {
    match config.train.accumulate {
        0 | 1 => elements,
        _ => 2 * elements,
    }
}
