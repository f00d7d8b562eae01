//! The output layer over some pieces only: those that the sentences of a batch may be translated with.

use super::parameters::Table;
use super::state::Buffers;
use crate::ModelError;
use tallow_ops::inference::{BestOfRows, BestPieces, InferenceCompute, InputRows, PreparedLinear, RowRequest};

/// The pieces of the sentences of a batch, and the output layer over all of them.
///
/// The softmax of a row is over the pieces of its own sentence, in their order, so that it does not depend on the other
/// sentences.
#[derive(Debug)]
pub(super) struct Restriction {
    /// The pieces of all sentences, ascending.
    pieces: Vec<u32>,
    output: PreparedLinear,
    /// For each sentence, the places of its pieces in `pieces`, ascending.
    sentences: Vec<Vec<u32>>,
    /// For each row, its sentence.
    rows: Vec<u32>,
}

impl Restriction {
    /// Packs the rows of the output layer that the sentences need.
    pub(super) fn new(
        candidates: &[Vec<u32>],
        table: &Table,
        bias: Option<&[f32]>,
        (classes, width): (usize, usize),
        compute: InferenceCompute,
    ) -> Result<Self, ModelError> {
        let mut pieces: Vec<u32> = candidates.iter().flatten().copied().collect();
        pieces.sort_unstable();
        pieces.dedup();
        if pieces.last().is_some_and(|piece| *piece as usize >= classes) || candidates.iter().any(Vec::is_empty) {
            return Err(ModelError::Batch(
                "a sentence without pieces, or with pieces that cannot be predicted".into(),
            ));
        }
        let place = |piece: &u32| pieces.binary_search(piece).unwrap_or_default() as u32;
        let places = |own: &Vec<u32>| {
            let mut places: Vec<u32> = own.iter().map(place).collect();
            places.sort_unstable();
            places.dedup();
            places
        };
        let mut weight = Vec::with_capacity(pieces.len() * width);
        table.with_rows(|rows| {
            for piece in &pieces {
                weight.extend_from_slice(&rows(*piece as usize).unwrap_or_default());
            }
        })?;
        let bias: Option<Vec<f32>> = bias.map(|bias| pieces.iter().map(|piece| bias[*piece as usize]).collect());
        Ok(Self {
            output: PreparedLinear::new(&weight, bias.as_deref(), width, compute),
            sentences: candidates.iter().map(places).collect(),
            rows: (0..candidates.len() as u32).collect(),
            pieces,
        })
    }

    /// Chooses hypotheses: the new row `i` continues the old row `rows[i]`.
    pub(super) fn select(&mut self, rows: &[u32]) {
        self.rows = rows.iter().map(|row| self.rows[*row as usize]).collect();
    }

    /// Computes the logits of all rows and calls a function with each row's own: pieces and logits.
    fn each(
        &self,
        (x, width): (&[f32], usize),
        (buffers, logits): (&mut Buffers, &mut Vec<f32>),
        mut with: impl FnMut(usize, &[u32], &[f32]),
    ) {
        self.output
            .apply(&mut InputRows::new(x, width, &mut buffers.rows), logits);
        let (mut pieces, mut own) = (Vec::new(), Vec::new());
        for (number, (row, sentence)) in logits.chunks_exact(self.pieces.len()).zip(&self.rows).enumerate() {
            let places = &self.sentences[*sentence as usize];
            pieces.clear();
            pieces.extend(places.iter().map(|place| self.pieces[*place as usize]));
            own.clear();
            own.extend(places.iter().map(|place| row[*place as usize]));
            with(number, &pieces, &own);
        }
    }

    /// The logits of all pieces, `[rows, v]`: minus infinity for those that a row must not use.
    pub(super) fn logits(
        &self,
        x: (&[f32], usize),
        scratch: (&mut Buffers, &mut Vec<f32>),
        vocabulary: usize,
    ) -> Vec<f32> {
        let mut all = vec![f32::NEG_INFINITY; self.rows.len() * vocabulary];
        self.each(x, scratch, |row, pieces, logits| {
            for (piece, logit) in pieces.iter().zip(logits) {
                all[row * vocabulary + *piece as usize] = *logit;
            }
        });
        all
    }

    /// The best pieces of every row among its own. Pieces that are asked for and are not among them have no
    /// probability.
    pub(super) fn best(
        &self,
        x: (&[f32], usize),
        scratch: (&mut Buffers, &mut Vec<f32>),
        count: usize,
        requests: &[RowRequest],
    ) -> Vec<Option<BestPieces>> {
        let mut answers = Vec::with_capacity(self.rows.len());
        self.each(x, scratch, |row, pieces, logits| {
            let request = &requests[row];
            // Places instead of pieces; a place beyond all stands for a piece that the row does not have.
            let place = |piece: &u32| pieces.binary_search(piece).map_or(u32::MAX, |place| place as u32);
            let forbidden: Vec<u32> = request.forbidden.iter().map(place).collect();
            let reported: Vec<u32> = request.reported.iter().map(place).collect();
            let request = [RowRequest {
                forbidden: &forbidden,
                reported: &reported,
            }];
            let mut best = BestOfRows::new(count, &request);
            best.add(0, logits, (logits.len(), logits.len()));
            let mut answer = best.finish().pop().flatten();
            for (place, _) in answer.iter_mut().flat_map(|answer| &mut answer.best) {
                *place = pieces[*place as usize];
            }
            answers.push(answer);
        });
        answers
    }
}
