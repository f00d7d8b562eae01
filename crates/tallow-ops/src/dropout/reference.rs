use super::Dropout;
use candle_core::{Result, Tensor};

/// Multiplies by a complete mask in memory.
pub(super) fn dropout(x: &Tensor, dropout: &Dropout) -> Result<Tensor> {
    let width = x.dims().last().copied().unwrap_or(0);
    let mut factors = vec![0f32; x.elem_count()];
    if width > 0 {
        for (index, row) in factors.chunks_exact_mut(width).enumerate() {
            dropout.fill_row_of(x.dims(), index, row);
        }
    }
    x * Tensor::from_vec(factors, x.shape(), x.device())?.to_dtype(x.dtype())?
}
