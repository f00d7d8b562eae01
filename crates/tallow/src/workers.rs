//! How much of the machine is used.

use crate::Result;
use crate::config::Config;
use crate::error::bail;
use candle_core::Device;

/// The cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Refuses a number of workers that cannot share an update on this device.
///
/// # Errors
/// When it cannot.
pub fn check_workers(config: &Config, device: &Device) -> Result<()> {
    match config.train.workers.fault_on_gpu() {
        Some(fault) if !device.is_cpu() => bail!("{fault}"),
        _ => Ok(()),
    }
}

/// How many workers share an update of a model with this many numbers.
pub fn workers(config: &Config, device: &Device, elements: usize) -> usize {
    let cores = if device.is_cpu() {
        cores() / config.train.threads_per_worker
    } else {
        1
    };
    config.train.workers.resolve(cores, elements)
}
