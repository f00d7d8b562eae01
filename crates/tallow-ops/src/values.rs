//! The elements of tensors in main memory, for kernels.

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};
use std::ops::Deref;

/// The elements of a storage that a layout covers; the layout must have no gaps.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("a kernel was given something else than contiguous f32 values"),
    }
}

/// Read access to the elements of a tensor.
pub(crate) struct Values<'a> {
    /// The lock on the tensor's storage; its type is private to Candle.
    storage: Box<dyn Deref<Target = Storage> + 'a>,
    layout: &'a Layout,
}

impl<'a> Values<'a> {
    /// Opens a tensor that [`Backend::Cpu`](crate::backend::Backend::Cpu) supports.
    pub(crate) fn of(x: &'a Tensor) -> Result<Self> {
        let (storage, layout) = x.storage_and_layout();
        match &*storage {
            Storage::Cpu(cpu) => slice(cpu, layout).map(|_| ())?,
            _ => bail!("a kernel for main memory was given a tensor elsewhere"),
        }
        Ok(Self {
            storage: Box::new(storage),
            layout,
        })
    }
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &**self.storage {
            // `of` has checked this already.
            Storage::Cpu(cpu) => slice(cpu, self.layout).unwrap_or(&[]),
            _ => &[],
        }
    }
}
