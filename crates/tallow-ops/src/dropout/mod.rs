//! Dropout (Srivastava et al. 2014) from counter-based random numbers.

mod cpu;
mod reference;

use crate::backend::Backend;
use crate::random::WIDE;
use crate::{Key, Purpose, Sentences};
use candle_core::{Result, Tensor, bail};
use std::sync::Arc;

/// The dropout masks of one forward pass: their key and the sentences of the batch.
///
/// A mask depends on the seed, the update, the site in the model, the sentence and the position in it. It does not
/// depend on the other sentences, so the same values are dropped however an update is split over workers.
#[derive(Clone, Debug)]
pub struct DropoutStream {
    key: Key,
    numbers: Arc<[u64]>,
}

impl DropoutStream {
    /// The masks of an update. `numbers` identify the sentences of the batch and are unique within the update.
    pub fn new(seed: u64, update: u64, numbers: impl Into<Arc<[u64]>>) -> Self {
        Self {
            key: Key::new(seed, Purpose::Dropout).fold(update),
            numbers: numbers.into(),
        }
    }

    /// The dropout at one site in the model, for values of these sentences. Sites with the same number have the same
    /// masks.
    pub fn at(&self, site: u64, rate: f32, sentences: &Sentences) -> Dropout {
        Dropout {
            key: self.key.fold(site),
            numbers: self.numbers.clone(),
            sentences: sentences.clone(),
            rate,
        }
    }
}

/// Dropout at one site: values become zero with probability `rate`, and the others are multiplied by 1 / (1 - rate).
#[derive(Clone, Debug)]
pub struct Dropout {
    key: Key,
    numbers: Arc<[u64]>,
    sentences: Sentences,
    rate: f32,
}

/// The number of values decided by the generator's blocks that are computed side by side, 16 bits each.
const WIDE_VALUES: usize = 8 * WIDE;
/// The bits of a row number that hold the position; the bits above hold the head.
const POSITION_BITS: u32 = 20;

impl Dropout {
    /// Values whose 16 random bits lie below this are dropped, so the rate is exact to 1/65536.
    fn threshold(&self) -> u16 {
        (f64::from(self.rate) * 65_536.0).round().clamp(0.0, 65_535.0) as u16
    }

    /// The factor of kept values.
    fn scale(&self) -> f32 {
        (65_536.0 / (65_536.0 - f64::from(self.threshold()))) as f32
    }

    /// Writes the factors (0 or the scale) of one row of hidden states.
    #[inline(always)]
    pub(crate) fn fill_row(&self, row: usize, factors: &mut [f32]) {
        let (sentence, position) = self.sentences.place(row);
        self.fill(sentence, 0, position, factors);
    }

    /// Writes the factors of a position of a sentence. `head` is 0 if there are no heads.
    ///
    /// Half `h` of word `w` of block `16 c + i` decides value `j` of a row, where `j = 128 c + 32 w + 16 h + i`.
    #[inline(always)]
    pub(crate) fn fill(&self, sentence: usize, head: usize, position: usize, factors: &mut [f32]) {
        let row_number = ((head as u32) << POSITION_BITS) | position as u32;
        let law = (self.threshold(), self.scale());
        for (c, chunk) in factors.chunks_mut(WIDE_VALUES).enumerate() {
            let place = ((c * WIDE) as u32, row_number, self.numbers[sentence]);
            if let Ok(chunk) = <&mut [f32; WIDE_VALUES]>::try_from(&mut *chunk) {
                self.key.fill_mask(place, law, chunk);
            } else {
                let mut wide = [0f32; WIDE_VALUES];
                self.key.fill_mask(place, law, &mut wide);
                chunk.copy_from_slice(&wide[..chunk.len()]);
            }
        }
    }

    /// Writes the factors of row `index` of a tensor for [`dropout`].
    #[inline(always)]
    fn fill_row_of(&self, dims: &[usize], index: usize, factors: &mut [f32]) {
        match *dims {
            [_, heads, queries, _] => {
                let (head_row, position) = (index / queries, index % queries);
                self.fill(head_row / heads, head_row % heads, position, factors);
            }
            _ => self.fill_row(index, factors),
        }
    }

    /// Checks that this dropout fits hidden states.
    ///
    /// # Shapes
    /// `dims`: `[n, d]`.
    pub(crate) fn check_rows(&self, dims: &[usize]) -> Result<()> {
        if !matches!(dims, [rows, _] if *rows == self.sentences.rows()) {
            bail!(
                "dropout: x {dims:?} does not have the {} rows of its sentences",
                self.sentences.rows()
            );
        }
        self.check(1)
    }

    /// Checks that this dropout fits the attention weights of these queries.
    pub(crate) fn check_weights(&self, queries: &Sentences, heads: usize) -> Result<()> {
        if *queries != self.sentences {
            bail!(
                "dropout: queries of {queries:?} are not its sentences {:?}",
                self.sentences
            );
        }
        self.check(heads)
    }

    fn check(&self, heads: usize) -> Result<()> {
        if !(0.0..1.0).contains(&self.rate) {
            bail!("dropout: the rate {} is not in [0, 1)", self.rate);
        }
        if self.numbers.len() != self.sentences.count() {
            bail!(
                "dropout: {} sentences, where the stream has {}",
                self.sentences.count(),
                self.numbers.len()
            );
        }
        if self.sentences.longest() > 1 << POSITION_BITS || heads > 1 << (32 - POSITION_BITS) {
            bail!("dropout: more heads or positions than random numbers are kept for");
        }
        Ok(())
    }

    /// Whether it drops any values: false at a rate that rounds to zero.
    pub(crate) fn is_active(&self) -> bool {
        self.threshold() > 0
    }
}

/// Applies dropout; `None` is the identity.
///
/// # Shapes
/// `x`: `[n, d]`, rows of the dropout's sentences; or attention weights `[b, h, t, s]`, where `t` is the length of the
/// longest sentence.
///
/// # Errors
/// When the rate is not in `[0, 1)` or the shape does not fit.
pub fn dropout(x: &Tensor, dropout: Option<&Dropout>) -> Result<Tensor> {
    let Some(dropout) = dropout else { return Ok(x.clone()) };
    match *x.dims() {
        [_, _] => dropout.check_rows(x.dims())?,
        [b, h, t, _] if (b, t) == (dropout.sentences.count(), dropout.sentences.longest()) => dropout.check(h)?,
        _ => bail!(
            "dropout: x {:?} is neither rows nor attention weights of {} sentences of up to {}",
            x.dims(),
            dropout.sentences.count(),
            dropout.sentences.longest()
        ),
    }
    if !dropout.is_active() {
        return Ok(x.clone());
    }
    match Backend::of(&[x]) {
        Backend::Cpu => x.apply_op1(cpu::Masked(dropout.clone())),
        Backend::Reference => reference::dropout(x, dropout),
    }
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
        let (stream, sentences) = (DropoutStream::new(1, 2, vec![0, 1, 2, 3]), Sentences::new(&[50; 4])?);
        for rate in [0.1f32, 0.5] {
            let y = dropout(&ones(&[200, 300]), Some(&stream.at(5, rate, &sentences)))?
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
        let at = |numbers: Vec<u64>, lengths: &[usize]| -> Result<Dropout> {
            Ok(DropoutStream::new(1, 2, numbers).at(1, 0.3, &Sentences::new(lengths)?))
        };
        let whole = dropout(&ones(&[17, 20]), Some(&at(vec![4, 5, 6], &[3, 7, 7])?))?;
        let alone = dropout(&ones(&[7, 20]), Some(&at(vec![5], &[7])?))?;
        let rows = |start: usize| whole.narrow(0, start, 7)?.to_vec2::<f32>();
        assert_eq!(rows(3)?, alone.to_vec2::<f32>()?);
        assert_ne!(rows(10)?, rows(3)?);

        let whole = dropout(&ones(&[2, 3, 5, 6]), Some(&at(vec![4, 5], &[2, 5])?))?;
        let alone = dropout(&ones(&[1, 3, 5, 9]), Some(&at(vec![5], &[5])?))?;
        assert_eq!(
            whole.get(1)?.to_vec3::<f32>()?,
            alone.get(0)?.narrow(2, 0, 6)?.to_vec3::<f32>()?
        );
        Ok(())
    }

    #[test]
    fn every_part_of_the_key_matters() -> Result<()> {
        let mask = |seed, update, site| -> Result<Vec<f32>> {
            let stream = DropoutStream::new(seed, update, vec![0]);
            dropout(&ones(&[4, 40]), Some(&stream.at(site, 0.5, &Sentences::new(&[4])?)))?
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
    fn bad_rates_and_shapes() -> Result<()> {
        let (stream, one) = (DropoutStream::new(1, 1, vec![0]), Sentences::new(&[1])?);
        assert!(dropout(&ones(&[1, 1]), Some(&stream.at(0, 0.1, &one))).is_ok());
        for rate in [1.0, -0.1, f32::NAN] {
            assert!(dropout(&ones(&[1, 1]), Some(&stream.at(0, rate, &one))).is_err());
        }
        for shape in [&[2, 1][..], &[1], &[1, 1, 1], &[2, 1, 1, 1], &[1, 1, 2, 1]] {
            assert!(
                dropout(&ones(shape), Some(&stream.at(0, 0.1, &one))).is_err(),
                "{shape:?}"
            );
        }
        // More sentences than the stream has numbers for.
        let two = Sentences::new(&[1, 1])?;
        assert!(dropout(&ones(&[2, 1]), Some(&stream.at(0, 0.1, &two))).is_err());
        Ok(())
    }
}
