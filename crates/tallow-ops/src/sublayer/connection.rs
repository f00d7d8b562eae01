//! Residual connection, dropout and normalisation on rows of values.

use super::{Connection, NormPlace};
use crate::Dropout;
use crate::layer_norm::{moments, normalise, normalise_backward, row_gradient};
use crate::profile::{Operation, span};

/// The connection of a sublayer whose rows are tokens of `width` values. It works on blocks of rows. The number of a
/// block's first row, `first`, determines its dropout mask.
#[derive(Clone)]
pub(crate) struct RowConnection {
    place: NormPlace,
    residual: bool,
    epsilon: f32,
    dropout: Option<Dropout>,
    width: usize,
}

impl RowConnection {
    pub(crate) fn new(options: &Connection, width: usize) -> Self {
        Self {
            place: options.place,
            residual: options.residual,
            epsilon: options.epsilon as f32,
            dropout: options.dropout.filter(|dropout| dropout.is_active()).cloned(),
            width,
        }
    }

    /// Writes the dropout mask of a row; without dropout, `factors` stay unchanged.
    #[inline(always)]
    fn fill_mask(&self, index: usize, factors: &mut [f32]) {
        if let Some(dropout) = &self.dropout {
            dropout.fill_row(index, factors);
        }
    }

    /// The input of the sublayer's function: `x` itself, or in a pre-norm sublayer normalised `x`, which is appended to
    /// `input`.
    pub(crate) fn enter<'a>(&self, x: &'a [f32], norm: &[f32], input: &'a mut Vec<f32>) -> &'a [f32] {
        if !self.enters_normalised() {
            return x;
        }
        let _span = span(Operation::Connection);
        let so_far = input.len();
        normalise(x, norm, self.epsilon, input);
        &input[so_far..]
    }

    /// Whether [`Self::enter`] normalises its input.
    pub(crate) fn enters_normalised(&self) -> bool {
        self.place == NormPlace::Pre
    }

    /// Adds the gradient of `x` that comes through [`Self::enter`].
    pub(crate) fn enter_backward(&self, x: &[f32], d_input: &[f32], norm: &[f32], d_norm: &mut [f32], dx: &mut [f32]) {
        let _span = span(Operation::ConnectionGradient);
        normalise_backward(x, d_input, norm, self.epsilon, d_norm, dx);
    }

    /// Appends x + dropout(y), or dropout(y) alone without a residual connection, normalised in a post-norm sublayer.
    pub(crate) fn leave(&self, first: usize, (x, y): (&[f32], &[f32]), norm: &[f32], result: &mut Vec<f32>) {
        let _span = span(Operation::Connection);
        let width = self.width;
        let (scale, shift) = norm.split_at(norm.len() / 2);
        let kept = if self.residual { 1f32 } else { 0.0 };
        result.reserve(x.len());
        vectorized!({
            let (mut factors, mut sum) = (vec![1f32; width], vec![0f32; width]);
            for (index, (x, y)) in x.chunks_exact(width).zip(y.chunks_exact(width)).enumerate() {
                self.fill_mask(first + index, &mut factors);
                for (((sum, x), y), factor) in sum.iter_mut().zip(x).zip(y).zip(&factors) {
                    *sum = kept * x + y * factor;
                }
                if self.place != NormPlace::Post {
                    result.extend_from_slice(&sum);
                    continue;
                }
                let (mean, inverse) = moments(&sum, self.epsilon);
                let rows = sum.iter().zip(scale).zip(shift);
                result.extend(rows.map(|((sum, scale), shift)| (sum - mean) * inverse * scale + shift));
            }
        });
    }

    /// Appends the gradient of `x` (without the path through the function) and of `y`, and adds the gradient of `norm`.
    /// The sums that were normalised are computed again.
    pub(crate) fn leave_backward(
        &self,
        first: usize,
        (x, y): (&[f32], &[f32]),
        gradient: &[f32],
        (norm, d_norm): (&[f32], &mut [f32]),
        (dx_all, dy_all): (&mut Vec<f32>, &mut Vec<f32>),
    ) {
        let _span = span(Operation::ConnectionGradient);
        let width = self.width;
        dx_all.reserve(x.len());
        dy_all.reserve(x.len());
        let scale = &norm[..norm.len() / 2];
        let (d_scale, d_shift) = d_norm.split_at_mut(norm.len() / 2);
        let kept = if self.residual { 1f32 } else { 0.0 };
        vectorized!({
            let (mut factors, mut sum) = (vec![1f32; width], vec![0f32; width]);
            let (mut scratch, mut dx) = (vec![0f32; 3 * width], vec![0f32; width]);
            let rows = x
                .chunks_exact(width)
                .zip(y.chunks_exact(width))
                .zip(gradient.chunks_exact(width));
            for (index, ((x, y), gradient)) in rows.enumerate() {
                self.fill_mask(first + index, &mut factors);
                if self.place != NormPlace::Post {
                    dx.copy_from_slice(gradient);
                } else {
                    for (((sum, x), y), factor) in sum.iter_mut().zip(x).zip(y).zip(&factors) {
                        *sum = kept * x + y * factor;
                    }
                    row_gradient(
                        &sum,
                        gradient,
                        scale,
                        self.epsilon,
                        &mut dx,
                        d_scale,
                        d_shift,
                        &mut scratch,
                    );
                }
                dx_all.extend(dx.iter().map(|dx| kept * dx));
                dy_all.extend(dx.iter().zip(&factors).map(|(dx, factor)| dx * factor));
            }
        });
    }
}
