//! The choice of a device.

use crate::Error;
use crate::Result;
use candle_core::Device;
use std::fmt;
use std::str::FromStr;

/// A device by its name: `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not `cpu`, `cuda` or `cuda:N`");
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => number.parse().map(Self::Cuda).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// When this build has no CUDA, or there is no such GPU.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(_) if !cfg!(feature = "cuda") => Err(Error::NoDevice(
                "this program was built without CUDA: build it with the feature `cuda` (scripts/cuda-build.sh does so on \
                 any machine)"
                    .into(),
            )),
            Self::Cuda(number) => match Device::new_cuda(number) {
                Ok(device) => Ok(device),
                Err(error) => {
                    // The lines after the first say where in Candle it happened.
                    let error = error.to_string();
                    let reason = error.lines().next().unwrap_or_default();
                    Err(Error::NoDevice(format!(
                        "CUDA device {number} cannot be used: {reason}. Is its driver installed?"
                    )))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Cpu));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        for bad in ["gpu", "cuda:", "cuda:x", "cpu:1", ""] {
            assert!(bad.parse::<DeviceChoice>().unwrap_err().contains("cuda:N"));
        }
    }
}
