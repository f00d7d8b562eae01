use crate::Sentences;
use candle_core::{Result, Tensor};

pub(super) fn embed(
    ids: &Tensor,
    table: &Tensor,
    scale: f64,
    positions: Option<&Tensor>,
    sentences: &Sentences,
) -> Result<Tensor> {
    let scaled = (table.index_select(ids, 0)? * scale)?;
    let Some(positions) = positions else { return Ok(scaled) };
    let indices: Vec<u32> = sentences.positions().collect();
    let indices = Tensor::from_vec(indices, sentences.rows(), ids.device())?;
    scaled + positions.index_select(&indices, 0)?
}
