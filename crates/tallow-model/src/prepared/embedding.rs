//! Embeddings and positions of tokens, on plain rows.

use super::parameters::{Parameters, Rows, Table, embedding, positions_of};
use crate::transformer::computed;
use crate::{Architecture, ModelError, Positions};
use candle_core::{DType, Device};

/// The number of computed positions that are ready; further ones are computed when they are needed.
const READY_POSITIONS: usize = 128;

/// The input side of a stack.
#[derive(Debug)]
pub(super) struct Embedding {
    table: Table,
    width: usize,
    scale: f32,
    kind: Positions,
    /// Vectors of the first positions, `[positions, d]`; empty without positions.
    positions: Vec<f32>,
}

impl Embedding {
    pub(super) fn of(parameters: &Parameters, architecture: &Architecture, stack: &str) -> Result<Self, ModelError> {
        let (model, width) = (&architecture.model, architecture.model.d_model);
        Ok(Self {
            table: parameters.table(&embedding(model.tie, stack))?,
            width,
            scale: if model.scale_embedding {
                (width as f64).sqrt() as f32
            } else {
                1.0
            },
            kind: model.positions,
            positions: match model.positions {
                Positions::None => Vec::new(),
                Positions::Learned => parameters.get(&positions_of(stack))?,
                kind => computed_positions(kind, 0, READY_POSITIONS, width)?,
            },
        })
    }

    /// Replaces `x` by the vectors of tokens at their positions.
    ///
    /// # Errors
    /// When an id is outside the vocabulary, or a position beyond the learned ones.
    pub(super) fn embed(&self, tokens: impl Iterator<Item = (u32, usize)>, x: &mut Vec<f32>) -> Result<(), ModelError> {
        self.table.with_rows(|table| self.embed_from(table, tokens, x))?
    }

    fn embed_from(
        &self,
        table: &Rows,
        tokens: impl Iterator<Item = (u32, usize)>,
        x: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        let width = self.width;
        let mut beyond: Option<(usize, Vec<f32>)> = None;
        x.clear();
        for (token, position) in tokens {
            let vector = table(token as usize)
                .ok_or_else(|| ModelError::Batch(format!("the id {token} is not among those of the vocabulary")))?;
            if self.kind == Positions::None {
                x.extend(vector.iter().map(|x| x * self.scale));
                continue;
            }
            let ready = self.positions.get(position * width..(position + 1) * width);
            let added = match (ready, &beyond) {
                (Some(added), _) => added,
                (None, Some((known, added))) if *known == position => added,
                (None, _) => &beyond.insert((position, self.position_beyond(position)?)).1,
            };
            x.extend(vector.iter().zip(added).map(|(x, position)| x * self.scale + position));
        }
        Ok(())
    }

    fn position_beyond(&self, position: usize) -> Result<Vec<f32>, ModelError> {
        if self.kind == Positions::Learned {
            return Err(ModelError::TooLong {
                length: position + 1,
                limit: self.positions.len() / self.width,
            });
        }
        computed_positions(self.kind, position, 1, self.width)
    }
}

fn computed_positions(kind: Positions, start: usize, count: usize, width: usize) -> Result<Vec<f32>, ModelError> {
    let vectors = computed(kind, (start, count, width), (DType::F32, &Device::Cpu))?;
    Ok(vectors.map_or(Ok(Vec::new()), |vectors| vectors.flatten_all()?.to_vec1())?)
}
