use candle_core::{Result, Tensor};

pub(super) fn embed(ids: &Tensor, table: &Tensor, scale: f64, positions: Option<&Tensor>) -> Result<Tensor> {
    let (batch, length) = ids.dims2()?;
    let rows = table.index_select(&ids.flatten_all()?, 0)?;
    let scaled = (rows * scale)?.reshape((batch, length, table.dim(1)?))?;
    match positions {
        Some(positions) => scaled.broadcast_add(positions),
        None => Ok(scaled),
    }
}
