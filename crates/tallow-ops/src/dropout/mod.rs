//! Dropout (Srivastava et al. 2014) from counter-based random numbers.

mod cpu;
mod reference;

use crate::random::WIDE;
use crate::values::is_plain;
use crate::{Key, Purpose};
use candle_core::{Result, Tensor, bail};
use std::sync::Arc;

/// The dropout masks of one forward pass: what they are keyed by, and which sentences the batch holds.
///
/// A mask depends on the seed, the update, the site in the model, the sentence and the position in it, never on the
/// rows beside it or on the padding: however an update is split over workers, it drops the same values.
#[derive(Clone, Debug)]
pub struct DropoutStream {
    key: Key,
    sentences: Arc<[u64]>,
}

impl DropoutStream {
    /// The masks of an update. `sentences` number the rows of the batch, unique within the update.
    pub fn new(seed: u64, update: u64, sentences: impl Into<Arc<[u64]>>) -> Self {
        Self {
            key: Key::new(seed, Purpose::Dropout).fold(update),
            sentences: sentences.into(),
        }
    }

    /// The dropout of one place in the model. Sites that share a number share their masks.
    pub fn at(&self, site: u64, rate: f32) -> Dropout {
        Dropout {
            key: self.key.fold(site),
            sentences: self.sentences.clone(),
            rate,
        }
    }
}

/// Dropout at one site: values become zero with probability `rate`, the others grow by 1 / (1 - rate).
#[derive(Clone, Debug)]
pub struct Dropout {
    key: Key,
    sentences: Arc<[u64]>,
    rate: f32,
}

/// Values decided by the blocks of the generator that are computed side by side, 16 bits each.
const WIDE_VALUES: usize = 8 * WIDE;
/// Bits of a row number that count positions; the head number stands above them.
const POSITION_BITS: u32 = 20;

impl Dropout {
    /// Values whose 16 random bits lie below this are dropped, so the rate is exact to 1/65536.
    fn threshold(&self) -> u16 {
        (f64::from(self.rate) * 65_536.0).round().clamp(0.0, 65_535.0) as u16
    }

    /// What kept values are multiplied by.
    fn scale(&self) -> f32 {
        (65_536.0 / (65_536.0 - f64::from(self.threshold()))) as f32
    }

    /// Writes the factors (0 or the scale) of one row. `head` is 0 where there are no heads.
    ///
    /// Value `j` of a row is decided by half `h` of word `w` of block `16 c + i`, where `j = 128 c + 32 w + 16 h + i`.
    #[inline(always)]
    pub(crate) fn fill_row(&self, row: usize, head: usize, position: usize, factors: &mut [f32]) {
        let row_number = ((head as u32) << POSITION_BITS) | position as u32;
        let law = (self.threshold(), self.scale());
        for (c, chunk) in factors.chunks_mut(WIDE_VALUES).enumerate() {
            let place = ((c * WIDE) as u32, row_number, self.sentences[row]);
            if let Ok(chunk) = <&mut [f32; WIDE_VALUES]>::try_from(&mut *chunk) {
                self.key.fill_mask(place, law, chunk);
            } else {
                let mut wide = [0f32; WIDE_VALUES];
                self.key.fill_mask(place, law, &mut wide);
                chunk.copy_from_slice(&wide[..chunk.len()]);
            }
        }
    }

    /// Checks that this dropout fits rows of sentences, heads and positions.
    pub(crate) fn check(&self, dims: &[usize], (batch, heads, positions): (usize, usize, usize)) -> Result<()> {
        if !(0.0..1.0).contains(&self.rate) {
            bail!("dropout: the rate {} is not in [0, 1)", self.rate);
        }
        if batch != self.sentences.len() {
            bail!(
                "dropout: x {dims:?} has not the {} sentences of the stream",
                self.sentences.len()
            );
        }
        if positions > 1 << POSITION_BITS || heads > 1 << (32 - POSITION_BITS) {
            bail!("dropout: x {dims:?} has more heads or positions than random numbers are kept for");
        }
        Ok(())
    }

    /// Whether it drops anything at all: not at a rate that rounds to zero.
    pub(crate) fn is_active(&self) -> bool {
        self.threshold() > 0
    }
}

/// Applies dropout; `None` is the identity.
///
/// # Shapes
/// `x`: `[b, t, d]`, or `[b, h, t, s]` for attention weights; `b` is the number of sentences of the stream.
///
/// # Errors
/// When the rate is not in `[0, 1)` or the shape does not fit.
pub fn dropout(x: &Tensor, dropout: Option<&Dropout>) -> Result<Tensor> {
    let Some(dropout) = dropout else { return Ok(x.clone()) };
    let (batch, heads, positions) = match *x.dims() {
        [b, t, _] => (b, 1, t),
        [b, h, t, _] => (b, h, t),
        _ => bail!("dropout: x {:?} is neither [b, t, d] nor [b, h, t, s]", x.dims()),
    };
    dropout.check(x.dims(), (batch, heads, positions))?;
    if !dropout.is_active() {
        return Ok(x.clone());
    }
    if is_plain(x) {
        return x.apply_op1(cpu::Masked {
            dropout: dropout.clone(),
            heads,
            positions,
        });
    }
    reference::dropout(x, dropout, heads, positions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn ones(shape: &[usize]) -> Tensor {
        Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn rate_and_scale() -> Result<()> {
        let stream = DropoutStream::new(1, 2, vec![0, 1, 2, 3]);
        for rate in [0.1f32, 0.5] {
            let y = dropout(&ones(&[4, 50, 300]), Some(&stream.at(5, rate)))?
                .flatten_all()?
                .to_vec1::<f32>()?;
            let dropped = y.iter().filter(|y| **y == 0.0).count() as f32 / y.len() as f32;
            assert!((dropped - rate).abs() < 0.01, "{dropped}");
            assert!(y.iter().all(|y| *y == 0.0 || (*y - 1.0 / (1.0 - rate)).abs() < 1e-4));
        }
        Ok(())
    }

    #[test]
    fn masks_belong_to_sentences_not_to_batches() -> Result<()> {
        let whole = dropout(
            &ones(&[3, 7, 20]),
            Some(&DropoutStream::new(1, 2, vec![4, 5, 6]).at(1, 0.3)),
        )?;
        // Sentence 5 alone, padded differently.
        let alone = dropout(&ones(&[1, 9, 20]), Some(&DropoutStream::new(1, 2, vec![5]).at(1, 0.3)))?;
        assert_eq!(
            whole.get(1)?.to_vec2::<f32>()?,
            alone.get(0)?.narrow(0, 0, 7)?.to_vec2::<f32>()?
        );
        assert_ne!(whole.get(0)?.to_vec2::<f32>()?, whole.get(1)?.to_vec2::<f32>()?);

        let whole = dropout(
            &ones(&[2, 3, 5, 6]),
            Some(&DropoutStream::new(1, 2, vec![4, 5]).at(1, 0.3)),
        )?;
        let alone = dropout(
            &ones(&[1, 3, 8, 9]),
            Some(&DropoutStream::new(1, 2, vec![5]).at(1, 0.3)),
        )?;
        assert_eq!(
            whole.get(1)?.to_vec3::<f32>()?,
            alone.get(0)?.narrow(1, 0, 5)?.narrow(2, 0, 6)?.to_vec3::<f32>()?
        );
        Ok(())
    }

    #[test]
    fn every_part_of_the_key_matters() -> Result<()> {
        let mask = |seed, update, site| -> Result<Vec<f32>> {
            let stream = DropoutStream::new(seed, update, vec![0]);
            dropout(&ones(&[1, 4, 40]), Some(&stream.at(site, 0.5)))?
                .flatten_all()?
                .to_vec1()
        };
        let base = mask(1, 1, 1)?;
        assert_eq!(base, mask(1, 1, 1)?);
        for other in [mask(2, 1, 1)?, mask(1, 2, 1)?, mask(1, 1, 2)?] {
            assert_ne!(base, other);
        }
        Ok(())
    }

    #[test]
    fn bad_rates_and_shapes() {
        let stream = DropoutStream::new(1, 1, vec![0]);
        for rate in [1.0, -0.1, f32::NAN] {
            assert!(dropout(&ones(&[1, 1, 1]), Some(&stream.at(0, rate))).is_err());
        }
        assert!(dropout(&ones(&[2, 1, 1]), Some(&stream.at(0, 0.1))).is_err());
        assert!(dropout(&ones(&[1, 1]), Some(&stream.at(0, 0.1))).is_err());
    }
}
