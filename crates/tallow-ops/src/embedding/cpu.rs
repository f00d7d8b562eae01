//! Rows of the table, scaled, with positions and dropout, in one pass; and the gradient in another.

use crate::Dropout;
use crate::gather::Gradient;
use crate::profile::{Operation, span};
use crate::values::{Values, slice};
use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor, bail};

/// dropout(table\[ids\] * scale + positions), of `ids` in rows of as many as there are positions.
pub(super) struct Embed {
    pub(super) ids: Vec<u32>,
    pub(super) scale: f32,
    pub(super) dropout: Option<Dropout>,
}

impl CustomOp2 for Embed {
    fn name(&self) -> &'static str {
        "embed"
    }

    fn cpu_fwd(
        &self,
        table: &CpuStorage,
        of_table: &Layout,
        positions: &CpuStorage,
        of_positions: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _span = span(Operation::Embedding);
        let ((pieces, width), (length, _)) = (of_table.shape().dims2()?, of_positions.shape().dims2()?);
        let (table, positions) = (slice(table, of_table)?, slice(positions, of_positions)?);
        if let Some(id) = self.ids.iter().find(|id| **id as usize >= pieces) {
            bail!("embed: id {id} is not in a table of {pieces} rows");
        }
        let mut result = vec![0f32; self.ids.len() * width];
        vectorized!({
            let mut factors = vec![1f32; width];
            for (index, (id, y)) in self.ids.iter().zip(result.chunks_exact_mut(width)).enumerate() {
                let position = index % length;
                if let Some(dropout) = &self.dropout {
                    dropout.fill_row(index / length, 0, position, &mut factors);
                }
                let row = &table[*id as usize * width..][..width];
                let of_position = &positions[position * width..][..width];
                for (((y, x), p), factor) in y.iter_mut().zip(row).zip(of_position).zip(&factors) {
                    *y = (x * self.scale + p) * factor;
                }
            }
        });
        let shape = Shape::from((self.ids.len() / length, length, width));
        Ok((CpuStorage::F32(result), shape))
    }

    fn bwd(
        &self,
        table: &Tensor,
        positions: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let _span = span(Operation::Embedding);
        let (length, width) = positions.dims2()?;
        let gradient = gradient.contiguous()?;
        let dy = Values::of(&gradient)?;
        let dy = &*dy;
        let mut d_table = Gradient::of(table);
        let mut d_positions = vec![0f32; length * width];
        vectorized!({
            let mut factors = vec![1f32; width];
            for (index, (id, dy)) in self.ids.iter().zip(dy.chunks_exact(width)).enumerate() {
                let position = index % length;
                if let Some(dropout) = &self.dropout {
                    dropout.fill_row(index / length, 0, position, &mut factors);
                }
                let row = &mut d_table[*id as usize * width..][..width];
                let of_position = &mut d_positions[position * width..][..width];
                for (((row, p), dy), factor) in row.iter_mut().zip(of_position).zip(dy).zip(&factors) {
                    *row += dy * factor * self.scale;
                    *p += dy * factor;
                }
            }
        });
        let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), &Device::Cpu).map(Some);
        Ok((d_table.finish(table)?, tensor(d_positions, positions)?))
    }
}
