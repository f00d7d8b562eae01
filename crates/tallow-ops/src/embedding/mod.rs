//! Token embedding with scale, positions and dropout.

mod cpu;
mod reference;

use crate::values::is_plain;
use crate::{Dropout, dropout};
use candle_core::{Result, Tensor, bail};

/// dropout(table\[ids\] * scale + positions): the input of a Transformer (Vaswani et al. 2017, sections 3.4 and 3.5).
///
/// # Shapes
/// `ids`: u32 `[b, t]`; `table`: `[v, d]`; `positions`: `[t, d]`; the result: `[b, t, d]`.
///
/// # Errors
/// When the shapes do not fit or an id lies outside the table.
pub fn embed(
    ids: &Tensor,
    table: &Tensor,
    scale: f64,
    positions: Option<&Tensor>,
    drop: Option<&Dropout>,
) -> Result<Tensor> {
    let (batch, length) = ids.dims2()?;
    let (_, width) = table.dims2()?;
    if let Some(positions) = positions
        && positions.dims() != [length, width]
    {
        bail!(
            "embed: the positions {:?} are not [{length}, {width}]",
            positions.dims()
        );
    }
    if is_plain(table) && length > 0 && positions.is_none_or(is_plain) {
        if let Some(drop) = drop {
            drop.check(&[batch, length, width], (batch, 1, length))?;
        }
        let operation = cpu::Embed {
            ids: ids.flatten_all()?.to_vec1()?,
            scale: scale as f32,
            dropout: drop.filter(|drop| drop.is_active()).cloned(),
        };
        return match positions {
            Some(positions) => table.apply_op2(positions, operation),
            None => table.apply_op2(
                &Tensor::zeros((length, width), table.dtype(), table.device())?,
                operation,
            ),
        };
    }
    dropout(&reference::embed(ids, table, scale, positions)?, drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn literal_with_gradient() -> Result<()> {
        let device = &Device::Cpu;
        let table = Var::new(&[[1f32, 2.], [3., 4.], [5., 6.]], device)?;
        let ids = Tensor::new(&[[2u32, 0], [2, 2]], device)?;
        let positions = Tensor::new(&[[0.5f32, 0.], [0., 0.25]], device)?;
        let y = embed(&ids, &table, 2.0, Some(&positions), None)?;
        assert_eq!(
            y.to_vec3::<f32>()?,
            [[[10.5, 12.], [2., 4.25]], [[10.5, 12.], [10., 12.25]]]
        );
        let gradients = y.sum_all()?.backward()?;
        let gradient = gradients.get(&table).map(|g| g.to_vec2::<f32>()).transpose()?;
        assert_eq!(gradient, Some(vec![vec![2., 2.], vec![0., 0.], vec![6., 6.]]));
        Ok(())
    }

    #[test]
    fn ids_outside_the_table() -> Result<()> {
        let table = Tensor::zeros((3, 2), candle_core::DType::F32, &Device::Cpu)?;
        assert!(embed(&Tensor::new(&[[3u32]], &Device::Cpu)?, &table, 1.0, None, None).is_err());
        Ok(())
    }
}
