//! Table lookup, scale, positions and dropout in one pass, and the gradient in another.

use crate::gather::Gradient;
use crate::profile::{Operation, span};
use crate::values::{Values, slice};
use crate::{Dropout, Sentences};
use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Tensor, bail};

/// dropout(table\[ids\] * scale + positions), where the positions of each sentence start at 0.
pub(super) struct Embed {
    pub(super) ids: Vec<u32>,
    pub(super) sentences: Sentences,
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
        let (pieces, width) = of_table.shape().dims2()?;
        let (table, positions) = (slice(table, of_table)?, slice(positions, of_positions)?);
        if let Some(id) = self.ids.iter().find(|id| **id as usize >= pieces) {
            bail!("embed: id {id} is not in a table of {pieces} rows");
        }
        let mut result = vec![0f32; self.ids.len() * width];
        vectorized!({
            let mut factors = vec![1f32; width];
            for (index, (id, y)) in self.ids.iter().zip(result.chunks_exact_mut(width)).enumerate() {
                if let Some(dropout) = &self.dropout {
                    dropout.fill_row(index, &mut factors);
                }
                let (_, position) = self.sentences.place(index);
                let row = &table[*id as usize * width..][..width];
                let of_position = &positions[position * width..][..width];
                for (((y, x), p), factor) in y.iter_mut().zip(row).zip(of_position).zip(&factors) {
                    *y = (x * self.scale + p) * factor;
                }
            }
        });
        Ok((CpuStorage::F32(result), Shape::from((self.ids.len(), width))))
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
                if let Some(dropout) = &self.dropout {
                    dropout.fill_row(index, &mut factors);
                }
                let (_, position) = self.sentences.place(index);
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
