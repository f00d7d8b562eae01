//! The choice of the implementation of an operation.
//!
//! An operation calls [`Backend::of`] with its operands and matches on the result. To add a kind of kernel, add a
//! variant here; the compiler then lists all operations that have to handle it.

use crate::path::{Path, path};
use candle_core::{DType, Tensor};

/// The implementation of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// The kernel of this crate for contiguous f32 in main memory, `cpu.rs`.
    Cpu,
    /// Candle's operations, `reference.rs`, on any device and for any type.
    Reference,
}

impl Backend {
    /// The fastest implementation that supports all of these operands.
    pub(crate) fn of(operands: &[&Tensor]) -> Self {
        let is_in_memory = |x: &&Tensor| x.device().is_cpu() && x.dtype() == DType::F32 && x.is_contiguous();
        match path() {
            Path::Fast | Path::Avx2 | Path::Baseline if operands.iter().all(is_in_memory) => Self::Cpu,
            _ => Self::Reference,
        }
    }

    /// This implementation if it supports the request, else the reference, which supports everything.
    pub(crate) fn if_able(self, is_able: bool) -> Self {
        if is_able { self } else { Self::Reference }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::with_path;
    use candle_core::{Device, Result};

    #[test]
    fn kernels_take_what_they_can_work_on() -> Result<()> {
        let plain = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let wide = Tensor::zeros((2, 3), DType::F64, &Device::Cpu)?;
        assert_eq!(Backend::of(&[&plain, &plain]), Backend::Cpu);
        assert_eq!(Backend::of(&[&plain, &wide]), Backend::Reference);
        assert_eq!(Backend::of(&[&plain.t()?]), Backend::Reference);
        assert_eq!(Backend::of(&[&plain]).if_able(false), Backend::Reference);
        let forced = |path| with_path(path, || Backend::of(&[&plain]));
        assert_eq!(forced(Path::Baseline), Backend::Cpu);
        assert_eq!(forced(Path::Reference), Backend::Reference);
        Ok(())
    }
}
