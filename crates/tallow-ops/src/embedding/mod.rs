//! Token embedding with scale, positions and dropout.

mod cpu;
mod reference;

use crate::backend::Backend;
use crate::{Dropout, Sentences, dropout};
use candle_core::{Result, Tensor, bail};

/// dropout(table\[ids\] * scale + positions): the input of a Transformer (Vaswani et al. 2017, sections 3.4 and 3.5).
///
/// # Shapes
/// `ids`: u32 `[n]`, the tokens of `sentences`; `table`: `[v, d]`; `positions`: `[t, d]`, the vectors that are added to
/// the tokens at positions 0, 1, .. of every sentence, where `t` is at least the length of the longest; the result:
/// `[n, d]`.
///
/// # Errors
/// When the shapes do not fit or an id lies outside the table.
pub fn embed(
    ids: &Tensor,
    table: &Tensor,
    scale: f64,
    positions: Option<&Tensor>,
    sentences: &Sentences,
    drop: Option<&Dropout>,
) -> Result<Tensor> {
    let (rows, (_, width)) = (ids.dims1()?, table.dims2()?);
    if rows != sentences.rows() {
        bail!("embed: {rows} ids for {} rows of sentences", sentences.rows());
    }
    if let Some(positions) = positions
        && (positions.rank() != 2 || positions.dim(0)? < sentences.longest() || positions.dim(1)? != width)
    {
        bail!(
            "embed: the positions {:?} are not [{} or more, {width}]",
            positions.dims(),
            sentences.longest()
        );
    }
    let operands: Vec<&Tensor> = [Some(table), positions].into_iter().flatten().collect();
    match Backend::of(&operands) {
        Backend::Cpu => {
            if let Some(drop) = drop {
                drop.check_rows(&[rows, width])?;
            }
            let operation = cpu::Embed {
                ids: ids.to_vec1()?,
                sentences: sentences.clone(),
                scale: scale as f32,
                dropout: drop.filter(|drop| drop.is_active()).cloned(),
            };
            match positions {
                Some(positions) => table.apply_op2(positions, operation),
                None => table.apply_op2(
                    &Tensor::zeros((sentences.longest(), width), table.dtype(), table.device())?,
                    operation,
                ),
            }
        }
        Backend::Reference => dropout(&reference::embed(ids, table, scale, positions, sentences)?, drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn literal_with_gradient() -> Result<()> {
        let device = &Device::Cpu;
        let table = Var::new(&[[1f32, 2.], [3., 4.], [5., 6.]], device)?;
        let (ids, sentences) = (Tensor::new(&[2u32, 0, 2], device)?, Sentences::new(&[2, 1])?);
        let positions = Tensor::new(&[[0.5f32, 0.], [0., 0.25]], device)?;
        let y = embed(&ids, &table, 2.0, Some(&positions), &sentences, None)?;
        assert_eq!(y.to_vec2::<f32>()?, [[10.5, 12.], [2., 4.25], [10.5, 12.]]);
        let gradients = y.sum_all()?.backward()?;
        let gradient = gradients.get(&table).map(|g| g.to_vec2::<f32>()).transpose()?;
        assert_eq!(gradient, Some(vec![vec![2., 2.], vec![0., 0.], vec![4., 4.]]));
        Ok(())
    }

    #[test]
    fn what_does_not_fit() -> Result<()> {
        let table = Tensor::zeros((3, 2), candle_core::DType::F32, &Device::Cpu)?;
        let run = |ids: &[u32], positions: Option<&Tensor>, lengths: &[usize]| {
            let ids = Tensor::new(ids, &Device::Cpu)?;
            embed(&ids, &table, 1.0, positions, &Sentences::new(lengths)?, None)
        };
        assert!(run(&[2, 1], Some(&table), &[2]).is_ok());
        assert!(run(&[3], None, &[1]).is_err(), "an id outside the table");
        assert!(run(&[0, 1], None, &[1, 2]).is_err(), "fewer ids than rows");
        assert!(
            run(&[0; 4], Some(&table), &[4]).is_err(),
            "fewer positions than the longest sentence has"
        );
        Ok(())
    }
}
