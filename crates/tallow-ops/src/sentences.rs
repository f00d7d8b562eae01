//! Batches without padding.

use candle_core::{Result, Tensor, bail};
use std::ops::Range;
use std::sync::Arc;

/// The division of a batch's rows into sentences. Sentences follow each other without padding; attention kernels call
/// this "packed" or "varlen" sequences. There are no positions without a token, so no operation spends time on padding,
/// and a sentence cannot see the others of its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentences(Arc<Division>);

#[derive(Debug, PartialEq, Eq)]
struct Division {
    lengths: Vec<usize>,
    /// The first row of each sentence.
    starts: Vec<usize>,
    /// The sentence of each row, and the row's position in it.
    places: Vec<(u32, u32)>,
    longest: usize,
}

impl Sentences {
    /// Makes sentences of these lengths, in this order.
    ///
    /// # Errors
    /// When there is no sentence, or a sentence has no row.
    pub fn new(lengths: &[usize]) -> Result<Self> {
        if lengths.is_empty() || lengths.contains(&0) {
            bail!("a batch of sentences with the lengths {lengths:?}: one is missing or empty");
        }
        let places = lengths
            .iter()
            .enumerate()
            .flat_map(|(sentence, length)| (0..*length).map(move |position| (sentence as u32, position as u32)))
            .collect();
        let starts = lengths.iter().scan(0, |end, length| {
            let start = *end;
            *end += length;
            Some(start)
        });
        Ok(Self(Arc::new(Division {
            starts: starts.collect(),
            places,
            longest: lengths.iter().copied().max().unwrap_or(0),
            lengths: lengths.to_vec(),
        })))
    }

    /// The number of sentences.
    pub fn count(&self) -> usize {
        self.0.lengths.len()
    }

    /// The number of rows of all sentences.
    pub fn rows(&self) -> usize {
        self.0.places.len()
    }

    /// The number of rows of each sentence.
    pub fn lengths(&self) -> &[usize] {
        &self.0.lengths
    }

    /// The number of rows of the longest sentence.
    pub fn longest(&self) -> usize {
        self.0.longest
    }

    /// The rows of each sentence, in the order of the batch.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
        let bounds = self.0.starts.iter().zip(&self.0.lengths);
        bounds.map(|(start, length)| *start..start + length)
    }

    /// The rows of consecutive sentences.
    pub(crate) fn rows_of(&self, sentences: &Range<usize>) -> Range<usize> {
        let start = |sentence: usize| self.0.starts.get(sentence).copied().unwrap_or(self.rows());
        start(sentences.start)..start(sentences.end)
    }

    /// The rows of each of some consecutive sentences, counted from the first row of the first one.
    pub(crate) fn places(&self, sentences: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let first = self.rows_of(sentences).start;
        let ranges = self.ranges().skip(sentences.start).take(sentences.len());
        ranges.map(move |range| range.start - first..range.end - first)
    }

    /// Cuts the sentences into runs of at most `limit` rows, in these sentences and also in `others`, which has the
    /// same number of sentences. A run has at least one sentence, however long.
    pub(crate) fn runs(&self, others: &Self, limit: usize) -> Vec<Range<usize>> {
        let mut runs = Vec::new();
        let mut start = 0;
        for end in 1..=self.count() {
            let longer = start..end + 1;
            let fits = |side: &Self| side.rows_of(&longer).len() <= limit;
            if end == self.count() || !fits(self) || !fits(others) {
                runs.push(start..end);
                start = end;
            }
        }
        runs
    }

    /// The sentence of a row, and the row's position in it.
    #[inline(always)]
    pub(crate) fn place(&self, row: usize) -> (usize, usize) {
        let (sentence, position) = self.0.places[row];
        (sentence as usize, position as usize)
    }

    /// The position of every row in its sentence.
    pub(crate) fn positions(&self) -> impl Iterator<Item = u32> {
        self.0.places.iter().map(|(_, position)| *position)
    }

    /// Arranges the rows in a rectangle, for operations that need one. Shorter sentences are padded with the first row,
    /// whose numbers are as finite as the others of the batch. The caller must hide the padding.
    ///
    /// # Shapes
    /// `x`: `[n, d]`; the result: `[b, longest, d]`.
    ///
    /// # Errors
    /// When the number of rows of `x` differs from that of these sentences.
    pub fn pad(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        if rows != self.rows() {
            bail!(
                "{:?} does not have the {} rows of {} sentences",
                x.dims(),
                self.rows(),
                self.count()
            );
        }
        let shape = (self.count(), self.longest(), width);
        if self.is_rectangle() {
            return x.reshape(shape);
        }
        let indices: Vec<u32> = self
            .ranges()
            .flat_map(|range| {
                let padding = self.longest() - range.len();
                (range.start as u32..range.end as u32).chain(std::iter::repeat_n(0, padding))
            })
            .collect();
        let indices = Tensor::from_vec(indices, self.count() * self.longest(), x.device())?;
        x.index_select(&indices, 0)?.reshape(shape)
    }

    /// The rows of a rectangle without its padding: the inverse of [`Self::pad`].
    ///
    /// # Shapes
    /// `x`: `[b, longest, d]`; the result: `[n, d]`.
    ///
    /// # Errors
    /// When `x` does not have the shape of that rectangle.
    pub(crate) fn unpad(&self, x: &Tensor) -> Result<Tensor> {
        let (count, longest, width) = x.dims3()?;
        if (count, longest) != (self.count(), self.longest()) {
            bail!(
                "{:?} is not a rectangle of {} sentences of up to {}",
                x.dims(),
                self.count(),
                self.longest()
            );
        }
        let flat = x.reshape((count * longest, width))?;
        if self.is_rectangle() {
            return Ok(flat);
        }
        let of_row = |(sentence, position): &(u32, u32)| sentence * longest as u32 + position;
        let indices: Vec<u32> = self.0.places.iter().map(of_row).collect();
        flat.index_select(&Tensor::from_vec(indices, self.rows(), x.device())?, 0)
    }

    fn is_rectangle(&self) -> bool {
        self.count() * self.longest() == self.rows()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_division_written_out() -> Result<()> {
        let sentences = Sentences::new(&[2, 1, 3])?;
        assert_eq!((sentences.count(), sentences.rows(), sentences.longest()), (3, 6, 3));
        assert_eq!(sentences.ranges().collect::<Vec<_>>(), [0..2, 2..3, 3..6]);
        let places: Vec<_> = (0..6).map(|row| sentences.place(row)).collect();
        assert_eq!(places, [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)]);
        assert_eq!(sentences.positions().collect::<Vec<_>>(), [0, 1, 0, 0, 1, 2]);
        assert_eq!((sentences.rows_of(&(0..2)), sentences.rows_of(&(1..3))), (0..3, 2..6));
        assert_eq!(sentences.places(&(1..3)).collect::<Vec<_>>(), [0..1, 1..4]);
        assert!(Sentences::new(&[]).is_err() && Sentences::new(&[1, 0]).is_err());
        Ok(())
    }

    #[test]
    fn runs_keep_their_limit() -> Result<()> {
        let (short, long) = (Sentences::new(&[2, 1, 3, 9, 1])?, Sentences::new(&[1, 1, 5, 1, 1])?);
        assert_eq!(short.runs(&short, 3), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(short.runs(&short, 100), vec![0..5; 1]);
        assert_eq!(short.runs(&long, 6), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(long.runs(&long, 1), [0..1, 1..2, 2..3, 3..4, 4..5]);
        Ok(())
    }

    #[test]
    fn rectangles_and_back() -> Result<()> {
        let x = Tensor::new(&[[1f32, 2.], [3., 4.], [5., 6.]], &Device::Cpu)?;
        let ragged = Sentences::new(&[1, 2])?;
        let padded = ragged.pad(&x)?;
        assert_eq!(padded.to_vec3::<f32>()?, [[[1., 2.], [1., 2.]], [[3., 4.], [5., 6.]]]);
        assert_eq!(ragged.unpad(&padded)?.to_vec2::<f32>()?, x.to_vec2::<f32>()?);
        let even = Sentences::new(&[1, 1, 1])?;
        assert_eq!(even.pad(&x)?.dims(), [3, 1, 2]);
        assert_eq!(even.unpad(&even.pad(&x)?)?.to_vec2::<f32>()?, x.to_vec2::<f32>()?);
        assert!(ragged.pad(&padded.get(0)?).is_err() && even.unpad(&padded).is_err());
        Ok(())
    }
}
