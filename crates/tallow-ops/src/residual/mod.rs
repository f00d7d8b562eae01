//! The connection around every sublayer: dropout, addition and (after the sublayer) normalisation.

mod cpu;

use crate::backend::Backend;
use crate::sublayer::RowConnection;
use crate::{Connection, Dropout, NormPlace, dropout, layer_norm};
use candle_core::{Result, Tensor, bail};

/// x + dropout(y): the connection of a pre-norm Transformer.
///
/// # Shapes
/// `x`, `y` and the result: `[n, d]`.
///
/// # Errors
/// When the shapes differ.
pub fn residual(x: &Tensor, y: &Tensor, drop: Option<&Dropout>) -> Result<Tensor> {
    x + dropout(y, drop)?
}

/// layer_norm(x + dropout(y)): the connection of a post-norm Transformer (Vaswani et al. 2017, section 3.1).
///
/// # Shapes
/// `x`, `y` and the result: `[n, d]`; `scale_shift`: `[2, d]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn residual_norm(
    x: &Tensor,
    y: &Tensor,
    drop: Option<&Dropout>,
    scale_shift: &Tensor,
    epsilon: f64,
) -> Result<Tensor> {
    let (_, width) = x.dims2()?;
    if y.dims() != x.dims() || scale_shift.dims() != [2, width] {
        bail!(
            "residual_norm: x {:?}, y {:?} and scale and shift {:?} do not fit",
            x.dims(),
            y.dims(),
            scale_shift.dims()
        );
    }
    match Backend::of(&[x, y, scale_shift]) {
        Backend::Cpu => {
            if let Some(drop) = drop {
                drop.check_rows(x.dims())?;
            }
            let connection = Connection {
                place: NormPlace::Post,
                residual: true,
                epsilon,
                dropout: drop,
            };
            let operation = cpu::ResidualNorm(RowConnection::new(&connection, width));
            x.apply_op3(y, scale_shift, operation)
        }
        Backend::Reference => layer_norm(&residual(x, y, drop)?, scale_shift, epsilon),
    }
}
